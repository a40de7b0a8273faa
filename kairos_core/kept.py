"""A folder in which embedded servers keep their data from one run to the next.

One process at a time has it: the lock is held by the servers themselves, so that it lasts as long as they do, also
where whoever started them was killed. What a server of another version wrote is refused, and not touched.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from kairos_core.errors import ConfigurationError

if TYPE_CHECKING:
    import contextlib
    import pwd

OPTION = "--data"
# Of what is in the folder. 1: `valkey` has an append-only file, `postgres/data` is a cluster.
FORMAT = 1
_FACTS = "kairos.json"
# The same before it is whole; what an earlier run left of it is written over.
_NEW_FACTS = f"{_FACTS}.new"
_LOCK = "kairos.lock"


class Kept(NamedTuple):
    """The folder, which this process has.

    Attributes:
        valkey: where Valkey's data is.
        postgres: where PostgreSQL's is.
        lock: file descriptor that the servers inherit; the folder is in use for as long as one has it.
    """

    valkey: Path
    postgres: Path
    lock: int


class _Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What is written in the folder.

    Attributes:
        format: see FORMAT.
        valkey: major version of the Valkey that wrote here.
        postgresql: likewise.
    """

    format: int
    valkey: int
    postgresql: int


def keep(folder: Path, versions: tuple[int, int], stack: contextlib.ExitStack) -> Kept:
    """Take the folder, or make it.

    Args:
        folder: its path.
        versions: major versions of Valkey and of PostgreSQL that are to work in it.
        stack: closes this process's part of the lock at the end.

    Raises:
        ConfigurationError: it cannot be made, is in use, is something else, or of another version.
    """
    try:
        return _keep(folder, versions, stack)
    except (FileExistsError, NotADirectoryError):
        raise ConfigurationError(OPTION, f"{folder} is no folder: name a new or an empty one") from None
    except OSError as error:
        raise ConfigurationError(OPTION, f"{folder}: {error.strerror or error}") from error


def _keep(folder: Path, versions: tuple[int, int], stack: contextlib.ExitStack) -> Kept:
    if not folder.exists():
        folder.mkdir(parents=True, exist_ok=True)
        # Whatever the umask: PostgreSQL's account must be able to pass through; what is inside is closed to others.
        folder.chmod(0o711)
    facts = folder / _FACTS
    if not facts.exists() and not {one.name for one in folder.iterdir()} <= {_LOCK, _NEW_FACTS}:
        raise ConfigurationError(OPTION, f"{folder} has other files in it: name a new or an empty folder")
    lock = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    stack.callback(os.close, lock)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise ConfigurationError(
            OPTION, f"{folder} is in use by another `kairos up`: end that one, or name another folder"
        ) from None
    wanted = _Facts(format=FORMAT, valkey=versions[0], postgresql=versions[1])
    if facts.exists():
        _check(folder, facts.read_bytes(), wanted)
    else:
        # Made whole or not at all.
        new = folder / _NEW_FACTS
        new.write_bytes(msgspec.json.encode(wanted) + b"\n")
        new.rename(facts)
    kept = Kept(folder / "valkey", folder / "postgres", lock)
    kept.valkey.mkdir(mode=0o700, exist_ok=True)
    kept.postgres.mkdir(mode=0o700, exist_ok=True)
    return kept


def _check(folder: Path, text: bytes, wanted: _Facts) -> None:
    try:
        found = msgspec.json.decode(text, type=_Facts)
    except msgspec.DecodeError:
        raise ConfigurationError(OPTION, f"{folder / _FACTS} cannot be read: name another folder") from None
    if found != wanted:
        raise ConfigurationError(
            OPTION,
            f"{folder} is of {_named(found)}, and this is {_named(wanted)}: name another folder, or use that version",
        )


def _named(facts: _Facts) -> str:
    return f"Valkey {facts.valkey} and PostgreSQL {facts.postgresql} (format {facts.format})"


def check_open(path: Path, account: pwd.struct_passwd) -> None:
    """See whether an account may come to a path, of which the last parts need not be there yet.

    Raises:
        ConfigurationError: it may not.
    """
    for above in path.resolve().parents:
        if above.is_dir() and not above.stat().st_mode & 0o001:
            raise ConfigurationError(
                OPTION,
                f"{above} is closed to the account {account.pw_name}, which PostgreSQL runs as where root starts it:"
                " name a folder that it may pass through",
            )


def give(kept: Kept, account: pwd.struct_passwd) -> None:
    """Let an account have PostgreSQL's part.

    Raises:
        ConfigurationError: it could not reach it.
    """
    check_open(kept.postgres, account)
    if kept.postgres.stat().st_uid != account.pw_uid:
        for folder, folders, files in os.walk(kept.postgres):
            for name in (*folders, *files):
                os.chown(Path(folder) / name, account.pw_uid, account.pw_gid)
        # Last, as this is what the next run looks at: one that was cut off is done again.
        os.chown(kept.postgres, account.pw_uid, account.pw_gid)


def unfinished(cluster: Path) -> Path:
    """Where a cluster is made, to be put in its place when it is whole; what an earlier run left there is removed."""
    path = cluster.with_name(f"{cluster.name}.new")
    shutil.rmtree(path, ignore_errors=True)
    return path
