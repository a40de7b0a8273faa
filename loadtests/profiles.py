"""How much is attempted: the profiles of `profiles.toml`."""

from __future__ import annotations

from importlib import resources

import msgspec


class Profile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How much a validation attempts.

    Attributes:
        instances, watchers: processes of a round.
        sessions: that they share.
        subject_s: how long each subject is attacked.
        round_s: how long a round with a fault lasts, at the least.
        rounds: how many, by the kind of arena.
        calm_seeds, calm_s: rounds without a fault, each with a seed of its own, and how long one lasts.
        attempts_at_least: with fewer in the rounds, the run has shown too little.
    """

    instances: int
    watchers: int
    sessions: int
    subject_s: float
    round_s: float
    rounds: dict[str, int]
    calm_seeds: int
    calm_s: float
    attempts_at_least: int


def profiles() -> dict[str, Profile]:
    """All profiles, by name."""
    text = resources.files("loadtests").joinpath("profiles.toml").read_text(encoding="utf-8")
    return msgspec.toml.decode(text, type=dict[str, Profile])
