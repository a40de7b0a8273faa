"""State managers of somebody's that do what no subject may do; see tests/validation/test_own_subject.py."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from kairos_core import Settings
    from loadtests.subjects.interface import Stored, Told


def mended(settings: Settings) -> Any:
    """The tutorial's second state manager, which is sound."""
    return import_module("docs.examples.own_subject.mended").Sessions(settings)


class Rude:
    """Its writes are sound, and of some of them it answers what it does not promise."""

    def __init__(self, settings: Settings) -> None:
        self._sessions = mended(settings)

    def create(self, session_id: str, text: str) -> Any:
        """As it should be."""
        return self._sessions.create(session_id, text)

    def get(self, session_id: str) -> Any:
        """As it should be."""
        return self._sessions.get(session_id)

    def update(self, session_id: str, held: Stored, text: str) -> Any:
        """Applied, and then an error that says nothing of that."""
        stored = self._sessions.update(session_id, held, text)
        if stored.version % 3 == 0:
            raise ValueError("no password here")
        return stored

    def delete(self, session_id: str, held: Stored | None) -> Any:
        """How many keys that were, where it should say whether."""
        return int(self._sessions.delete(session_id, held))

    def close(self) -> None:
        """As it should be."""
        self._sessions.close()


class Dead(Rude):
    """Cannot be made."""

    def __init__(self, settings: Settings) -> None:
        raise PermissionError(f"no store for\n{settings.namespace[:0]}me")


class Whispering:
    """Answers what it is made to answer, without a store."""

    def __init__(self, settings: Settings, answer: Any = None) -> None:
        del settings
        self.answer = answer

    def create(self, session_id: str, text: str) -> Any:
        """What it was made to answer."""
        del session_id, text
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def get(self, session_id: str) -> Any:
        """Likewise."""
        return self.create(session_id, "")

    def update(self, session_id: str, held: Stored, text: str) -> Any:
        """Likewise."""
        del held
        return self.create(session_id, text)

    def delete(self, session_id: str, held: Stored | None) -> Any:
        """Likewise."""
        del held
        return self.create(session_id, "")

    def touch(self, session_id: str) -> Any:
        """Likewise."""
        return self.create(session_id, "")

    def watch(self) -> Whispering:
        """It watches, too."""
        return self

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.answer = None

    def receive(self, timeout_s: float) -> Told | None:
        """Likewise."""
        del timeout_s
        told: Told | None = self.create("", "")
        return told

    def close(self) -> None:
        """Nothing is open."""
