"""A state manager from outside, behind the interface of all subjects: found by name, checked, and never trusted."""

from __future__ import annotations

import importlib
import inspect
import os
import sys
import time
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, Self

import msgspec

from kairos_core.errors import ConfigurationError
from kairos_core.session import SyncState, SyncStatus, to_json
from loadtests.history import Error, Kind, Seen
from loadtests.subjects.interface import Conflict, NotFound, Stored, Told
from loadtests.subjects.register import NOBODY, Held, Notice, Refused, Shown, Unknown, digest_of, payload, token_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from kairos_core import Settings

_SETTING = "SUBJECT"
# With what each method is called.
_METHODS = {
    "create": ("session_id", "text"),
    "get": ("session_id",),
    "update": ("session_id", "held", "text"),
    "delete": ("session_id", "held"),
    "close": (),
}
_OPTIONAL = {"touch": ("session_id",), "watch": ()}
_decode = msgspec.json.Decoder(SyncState).decode
# An error's own words, in a line that people read.
_LONGEST = 160
# Of different errors, so many are told; who raises a new one each time is told of well enough.
_MOST_SURPRISES = 8
# Of one that has failed: it is asked again and again, until the round is over.
_DEAF_S = 0.05


def is_outside(subject: str) -> bool:
    """Whether a subject is named as `package.module:Class`."""
    return ":" in subject


def class_named(subject: str) -> type[Any]:
    """The class that `package.module:Class` names, which can be called as all subjects are.

    Raises:
        ConfigurationError: in one line, what is missing or wrong.
    """
    module_name, _, name = subject.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        where = "is it in this folder, or in one that PYTHONPATH names?"
        raise ConfigurationError(_SETTING, f"{subject}: there is no module {error.name}; {where}") from error
    except Exception as error:
        raise ConfigurationError(_SETTING, f"{subject}: cannot be imported: {_words(error)}") from error
    there = getattr(module, name, None)
    if not inspect.isclass(there):
        what = "has no class" if there is None else "has no class, but something else, of the name"
        raise ConfigurationError(_SETTING, f"{subject}: the module {module_name} {what} {name}")
    _check(subject, there)
    return there


def _check(subject: str, there: type[Any]) -> None:
    missing = [name for name in _METHODS if not callable(getattr(there, name, None))]
    if missing:
        calls = ", ".join(f"{name}({', '.join(_METHODS[name])})" for name in missing)
        raise ConfigurationError(_SETTING, f"{subject}: it has no method {calls}; see loadtests/subjects/interface.py")
    for name, words in {"__init__": ("settings",), **_METHODS, **_OPTIONAL}.items():
        method = getattr(there, name, None)
        if method is None:
            continue
        if inspect.iscoroutinefunction(method):
            raise ConfigurationError(_SETTING, f"{subject}: {name} is a coroutine function, and has to block")
        _check_call(subject, name, method, words)


def _check_call(subject: str, name: str, method: Any, words: tuple[str, ...]) -> None:
    try:
        inspect.signature(method).bind(None, *words)
    except TypeError as error:
        call = f"{name}({', '.join(words)})"
        raise ConfigurationError(_SETTING, f"{subject}: it cannot be called as {call}: {error}") from error
    except ValueError:
        # Of what is not written in Python, nobody knows how it is called.
        return


def has(subject: str, method: str) -> bool:
    """Whether a subject from outside has one of the methods that it need not have."""
    return callable(getattr(class_named(subject), method, None))


def not_judged(subject: str) -> list[str]:
    """What is not judged of a subject from outside, each with its reason; of any other, nothing is left out here."""
    if not is_outside(subject):
        return []
    left = ["the audit (G7, G13): the harness knows of none of this subject"]
    if not has(subject, "watch"):
        left.append("what watchers are told (G8): the subject has no method watch")
    if not has(subject, "touch"):
        left.append("putting the end off (G9): the subject has no method touch")
    left.append("when a session that nobody writes ends (G9): its time to live is longer than the run")
    return left


def share_import_path() -> None:
    """Let the processes that are started from here import what this one can: the folder that it was started in, too."""
    here = str(Path.cwd())
    paths = [*os.environ.get("PYTHONPATH", "").split(os.pathsep), sys.path[0] or here, here]
    os.environ["PYTHONPATH"] = os.pathsep.join(dict.fromkeys(filter(None, paths)))


class Outside:
    """A state manager from outside as a subject; what it should not have done is noted, and its outcome unknown.

    Args:
        there: its class.
        settings: what it is called with.

    Attributes:
        surprises: what it should not have done, in words, and how often it did.

    Raises:
        ConfigurationError: it could not be made.
    """

    def __init__(self, there: type[Any], settings: Settings) -> None:
        self.surprises: dict[str, int] = {}
        self._timeout_s = settings.timeout_s
        try:
            self._manager = there(settings)
        except Exception as error:
            name = f"{there.__module__}:{there.__qualname__}"
            raise ConfigurationError(_SETTING, f"{name}: could not be made: {_words(error)}") from error

    def create(self, session_id: str, token: int, status: SyncStatus = SyncStatus.RUNNING) -> Held:
        """See `Register`."""
        return self._held(session_id, self._stored("create", session_id, _text(session_id, token, status)))

    def get(self, session_id: str) -> Held | None:
        """See `Register`."""
        stored = self._call("get", session_id)
        if stored is None:
            return None
        return self._held(session_id, self._checked("get", stored))

    def update(self, held: Held, token: int, status: SyncStatus = SyncStatus.RUNNING) -> Held:
        """See `Register`."""
        session_id, stored = held.state
        text = _text(session_id, token, status)
        return self._held(session_id, self._stored("update", session_id, stored, text))

    def mutate(self, session_id: str, token: int, shown: Shown, known: Held | None = None) -> Held:
        """See `Register`: as whoever uses such a manager would do it."""
        del known
        deadline = time.monotonic() + self._timeout_s
        while True:
            found = self.get(session_id)
            if found is None:
                raise NotFound
            shown(found.seen)
            try:
                return self.update(found, token)
            except Conflict:
                if time.monotonic() > deadline:
                    raise

    def delete(self, session_id: str, token: int, held: Held | None) -> bool:
        """See `Register`."""
        del token
        try:
            return self._flag("delete", session_id, None if held is None else held.state[1])
        except NotFound:
            return False

    def touch(self, session_id: str) -> bool:
        """See `Register`."""
        try:
            return self._flag("touch", session_id)
        except NotFound:
            return False

    def watch(self) -> _Watching:
        """See `Register`."""
        return _Watching(self._manager.watch, self._surprise)

    def close(self) -> None:
        """Close the connections, as far as that goes."""
        try:
            self._manager.close()
        except Exception as error:  # noqa: BLE001 - nothing is judged any more
            self._surprise(f"close() raised {_words(error)}")

    def _call(self, method: str, *arguments: Any) -> Any:
        try:
            return getattr(self._manager, method)(*arguments)
        except (Refused, Unknown):
            raise
        except Exception as error:
            self._surprise(f"{method}() raised {_words(error)}")
            raise Unknown(Error.OTHER) from error

    def _stored(self, method: str, *arguments: Any) -> Stored:
        return self._checked(method, self._call(method, *arguments))

    def _checked(self, method: str, answer: Any) -> Stored:
        is_right = isinstance(answer, Stored) and [type(part) for part in answer] == [int, int, str]
        if not is_right or answer.life < 1 or answer.version < 1:
            self._wrong(method, answer, "a Stored of two numbers from 1 on and a text")
        return Stored(*answer)

    def _flag(self, method: str, *arguments: Any) -> bool:
        answer = self._call(method, *arguments)
        if not isinstance(answer, bool):
            self._wrong(method, answer, "True or False")
        return answer

    def _wrong(self, method: str, answer: Any, promised: str) -> NoReturn:
        self._surprise(f"{method}() answered {_shortened(repr(answer))}, where {promised} is promised")
        raise Unknown(Error.OTHER)

    def _surprise(self, words: str) -> None:
        if words in self.surprises or len(self.surprises) < _MOST_SURPRISES:
            self.surprises[words] = self.surprises.get(words, 0) + 1

    @staticmethod
    def _held(session_id: str, stored: Stored) -> Held:
        return Held(_seen(stored), (session_id, stored))


class _Watching:
    """A watch from outside; one that fails has heard nothing since, and that is noted."""

    def __init__(self, make: Callable[[], Any], surprise: Callable[[str], None]) -> None:
        self._make = make
        self._surprise = surprise
        self._watch: Any = None

    def __enter__(self) -> Self:
        try:
            self._watch = self._make().__enter__()
        except Exception as error:  # noqa: BLE001 - noted: it is deaf from now on
            self._surprise(f"watch() raised {_words(error)}")
        return self

    def __exit__(self, *_: object) -> None:
        try:
            if self._watch is not None:
                self._watch.__exit__(None, None, None)
        except Exception as error:  # noqa: BLE001 - nothing is heard any more
            self._surprise(f"the end of watch() raised {_words(error)}")

    def receive(self, timeout_s: float) -> Notice | None:
        """See `Watcher`."""
        try:
            told = None if self._watch is None else self._watch.receive(timeout_s)
        except Exception as error:  # noqa: BLE001 - noted
            self._surprise(f"receive() raised {_words(error)}")
            told = None
            time.sleep(_DEAF_S)
        if self._watch is None:
            time.sleep(timeout_s)
        received_ns = time.monotonic_ns()
        if told is None:
            return None
        if not isinstance(told, Told) or not isinstance(told.stored, Stored):
            self._surprise(f"receive() answered {_shortened(repr(told))}, where a Told is promised")
            return None
        kind, seen = (Kind.TOLD, _seen(told.stored))
        if told.is_removed:
            kind, seen = Kind.TOLD_REMOVED, Seen(seen.stamp)
        return Notice(told.session_id, kind, seen, received_ns, received_ns)


def told_of(register: object) -> list[str]:
    """What a subject from outside did that it should not have done, in sentences; of any other, nothing."""
    surprises: dict[str, int] = getattr(register, "surprises", {})
    return [f"the subject's {words} ({count} times)" for words, count in surprises.items()]


def _text(session_id: str, token: int, status: SyncStatus) -> str:
    return to_json(payload(session_id, token, status)).decode()


def _seen(stored: Stored) -> Seen:
    """What a text says of itself: one that nobody wrote is seen as that of nobody."""
    stamp = (stored.life, stored.version)
    try:
        state = _decode(stored.text)
    except msgspec.MsgspecError:
        return Seen(stamp, NOBODY, zlib.crc32(stored.text.encode()) or 1)
    return Seen(stamp, token_of(state.metadata.get("writer")), digest_of(state))


def _words(error: Exception) -> str:
    name = type(error).__qualname__
    module = type(error).__module__
    name = name if module == "builtins" else f"{module}.{name}"
    text = " ".join(str(error).split())
    return _shortened(f"{name}: {text}" if text else name)


def _shortened(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
