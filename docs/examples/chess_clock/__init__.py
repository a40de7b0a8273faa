"""A chess clock for two browsers that need not be at the same instance: an example of a service on Kairos."""
