"""Figures of a run: one file for each kind; what they have in common is in `style.py`."""
