"""What is guaranteed, in a sentence each: the one place for these texts in the code; the README has the same."""

from __future__ import annotations

GUARANTEES = {
    "G1": "of any number of rivals one wins, the rest learn the stored version",
    "G2": "what was answered is what every other instance reads next",
    "G3": "one round trip an operation, no state in an instance",
    "G4": "state, TTL, notification and record, or none of them",
    "G5": "a write sent twice takes effect once and answers as it did",
    "G6": "an error says whether the operation definitely did not happen",
    "G7": "every acknowledged write is exactly one row, or a dead letter with the reason",
    "G8": "a watcher never goes back and always ends at the final state",
    "G9": "a session ends an hour after its last write, and its end is an event like any other",
    "G10": "every call ends by its deadline, the outbox has a limit",
    "G11": "an acknowledged write is as safe as was asked for, or the error says that it was applied and is not",
    "G12": "what Redis lost comes back under a new incarnation, never over a live session, never one that was deleted",
    "G13": "the trail is complete and unaltered, and is what the store holds",
    "G14": "unsafe ground is refused",
}
