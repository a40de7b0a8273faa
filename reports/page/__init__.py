"""The page of a report: one HTML file that needs nothing else."""

from reports.page.render import render

__all__ = ["render"]
