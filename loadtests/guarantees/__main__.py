"""Answers orders for directed checks until standard input closes: see `desk.py`."""

from __future__ import annotations

from loadtests.guarantees import GUARANTEES
from loadtests.guarantees.desk import serve

if __name__ == "__main__":
    serve(GUARANTEES)
