"""An attack: processes that attempt and watch what a seed says, rounds of them, and what they leave behind."""
