"""Judges a run: from what it left behind to what a report says; one file for each kind of finding. Pure decisions.

What is read, `reports.evidence` reads; what is said, `reports.findings` names.
"""

from reports.judging.report import judged

__all__ = ["judged"]
