"""Servers and workers of the harness's own: how they are started, reached, disturbed and ended."""
