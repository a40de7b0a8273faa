"""Load, faults, histories and the judge. It imports the core; reports and tests import it."""

from pathlib import Path

# Of the repository: there, `python -m` finds the harness also where it is not installed.
ROOT = Path(__file__).resolve().parents[1]
