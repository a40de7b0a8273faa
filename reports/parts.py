"""The parts of a run: which there are, which of them are there already, and how those are measured that are not."""

from __future__ import annotations

import shutil
import sys
import time
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from kairos_core.errors import ConfigurationError
from kairos_core.settings import Settings, servers_given
from loadtests import ROOT
from loadtests.ending import COULD_NOT_RUN
from loadtests.environment import harness, new_namespace
from loadtests.measure import machine_facts
from loadtests.shown import short
from loadtests.whole import write_whole
from reports import evidence
from reports.children import MeasuringFailed, run_and_tell
from reports.evidence import Evidence
from reports.findings import PartRun
from reports.results import read_manifest

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

# Instead of a profile: what is there, of whatever profile it is, and nothing is measured.
STORED = "stored"
# What each part said, by its name.
SAID = "said"
# In a command: the run's folder.
_RUN = "RUN"
# Of what a part said that ended without a result.
_TAIL_LINES = 15
_MINUTE_S = 60.0


class Part(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A part of a run; see `parts.toml`.

    Attributes:
        name: its name.
        command: what follows `python -m`, with `RUN` for the run's folder.
        results: the files that it leaves where it came to its end.
        seconds: it takes on a quiet machine.
        left_out: why it is not run on servers that are given; empty: it is.
    """

    name: str
    command: str
    results: list[str]
    seconds: float
    left_out: str = ""

    @property
    def shown(self) -> str:
        """The command as one types it, but for the run's folder."""
        return f"python -m {self.command}"

    def words(self, folder: Path) -> list[str]:
        """The command as it is run."""
        words = [word.replace(_RUN, str(folder)) for word in self.command.split()]
        return [sys.executable, "-u", "-m", *words, "--end-with-stdin"]

    def has_results(self, folder: Path) -> bool:
        """Whether all that it leaves at its end is there."""
        return all((folder / name).is_file() for name in self.results)

    def remove(self, folder: Path) -> None:
        """Remove what is there of it."""
        shutil.rmtree(folder / self.name, ignore_errors=True)
        for name in self.results:
            (folder / name).unlink(missing_ok=True)


@cache
def profiles() -> dict[str, list[Part]]:
    """The parts of each profile, in the order in which they are run."""
    text = (ROOT / "reports" / "parts.toml").read_bytes()
    return msgspec.toml.decode(text, type=dict[str, list[Part]])


def load(folder: str | Path, profile: str = "quick", *names: str) -> Evidence:
    """What is in a run's folder; what is not there yet of these parts is measured first, in other processes.

    Args:
        folder: of the run.
        profile: how much is measured; `stored`: nothing, and what is there may be of any.
        names: of parts, or of what several begin with, such as `load`; none: all that the profile has.

    Raises:
        ConfigurationError: there is no such part, what is there is of another profile or another version, or the
            servers that were given cannot be reached.
        MeasuringFailed: none of it came to a result.
    """
    folder = Path(folder).resolve()
    if profile == STORED or not measure_missing(folder, profile, print, names):
        _tell_stored(folder, "" if profile == STORED else f": delete {short(folder)} to measure anew")
    return Evidence(folder)


def _tell_stored(folder: Path, advice: str) -> None:
    try:
        when = f"of {read_manifest(folder)['started_at']}, "
    except (ConfigurationError, KeyError):
        when = ""
    print(f"stored run {when}profile {profile_of(folder) or 'unknown'}{advice}")


def profile_of(folder: Path) -> str | None:
    """Of which profile a run is, as far as it says.

    Raises:
        ConfigurationError: it is of another version.
    """
    if (folder / "manifest.json").exists():
        return str(read_manifest(folder)["profile"])
    commands = {(part.name, part.command) for part in records(folder).values()}
    for name, parts in profiles().items():
        if commands & {(part.name, part.shown) for part in parts}:
            return name
    return None


def records(folder: Path) -> dict[str, PartRun]:
    """What `parts.json` says, by the names of the parts.

    Raises:
        ConfigurationError: it cannot be read.
    """
    try:
        found = msgspec.json.decode((folder / evidence.PARTS).read_bytes(), type=list[PartRun])
    except FileNotFoundError:
        return {}
    except (OSError, msgspec.MsgspecError) as error:
        raise ConfigurationError("--run", f"{folder}: {evidence.PARTS} cannot be read: {error}") from error
    return {one.name: one for one in found}


def _note(folder: Path, one: PartRun) -> None:
    """Write what became of a part, or that it has begun: all of the file, or nothing."""
    known = [*(records(folder) | {one.name: one}).values()]
    write_whole(folder / evidence.PARTS, msgspec.json.format(msgspec.json.encode(known)) + b"\n")


def note_missing(folder: Path, profile: str) -> None:
    """Note the parts of a profile that are not there and of which nothing is noted: so that they are missed."""
    for part in profiles().get(profile, []):
        if part.name not in records(folder) and not part.has_results(folder):
            _note(folder, PartRun(name=part.name, command=part.shown))


def is_whole(folder: Path, part: Part) -> bool:
    """Whether a part is there: its results are, and it did not leave them half way.

    That it has begun is noted before, and how it ended afterwards; of a run that was put together by hand nothing is.
    """
    one = records(folder).get(part.name)
    return part.has_results(folder) and (one is None or one.status is not None)


def _is_missing(folder: Path, part: Part) -> bool:
    """Whether it is to be measured: it is not there, was not left out, and was not tried in vain."""
    one = records(folder).get(part.name)
    return not is_whole(folder, part) and not (one is not None and (one.left_out or one.tail))


def measure_missing(
    folder: Path, profile: str, say: Callable[[str], object], names: Sequence[str] = (), *, then_s: float = 0.0
) -> list[str]:
    """Measure what is not there yet; the names of what was measured.

    A part that ends without a result is noted, and the others are measured all the same. Where it is interrupted, what
    was measured whole stays; the half of a part does not, nor does the folder of a new run without any.

    Args:
        folder: of the run.
        profile: how much.
        say: told of progress, a line at a time.
        names: of parts, or of what several begin with; none: all.
        then_s: what comes afterwards takes so long, for the time that is left.

    Raises:
        ConfigurationError, MeasuringFailed: as of `load`.
    """
    asked = _asked(profile, names)
    found = profile_of(folder)
    if found not in (None, profile):
        raise ConfigurationError("--profile", f"{profile} was asked for, and {folder} holds a run of {found}")
    missing = [part for part in asked if _is_missing(folder, part)]
    if not missing:
        return []
    is_new = not folder.exists() or not any(folder.iterdir())
    try:
        _reach()
        folder.mkdir(parents=True, exist_ok=True)
        missing = [part for part in missing if not _left_out(folder, part)]
        _measure(folder, missing, say, then_s)
        _must_be_something(folder, profile)
    except BaseException:
        _keep_what_is_whole(folder, profile, say, is_new=is_new)
        raise
    return [part.name for part in missing]


def _keep_what_is_whole(folder: Path, profile: str, say: Callable[[str], object], *, is_new: bool) -> None:
    """Say how to go on from what was measured; remove the folder of a new run in which that is nothing."""
    whole = [part.name for part in profiles()[profile] if is_whole(folder, part)]
    if whole:
        shown = short(folder)
        say(f"kept in {shown}: {', '.join(whole)}; .venv/bin/python -m reports --run {shown} --measure goes on with it")
    elif is_new:
        shutil.rmtree(folder, ignore_errors=True)


def _must_be_something(folder: Path, profile: str) -> None:
    if not any(is_whole(folder, part) for part in profiles()[profile]):
        raise MeasuringFailed(COULD_NOT_RUN)


def _asked(profile: str, names: Sequence[str]) -> list[Part]:
    """The parts of a profile that are asked for.

    Raises:
        ConfigurationError: there is no such profile, or no such part in any.
    """
    if profile not in profiles():
        raise ConfigurationError("profile", f"{profile}: there is {', '.join(profiles())}")
    known = {part.name: part for parts in profiles().values() for part in parts}
    for name in names:
        if not any(_is_of(part, name) for part in known.values()):
            raise ConfigurationError("part", f"{name}: there is {', '.join(known)}")
    return [part for part in profiles()[profile] if not names or any(_is_of(part, name) for name in names)]


def _is_of(part: Part, name: str) -> bool:
    return part.name == name or part.name.startswith(f"{name}/")


def _reach() -> None:
    """Reach the servers that were given, before each part tries it and fails.

    Raises:
        ConfigurationError: names the setting and the cause in one line.
    """
    Settings.from_env()
    if servers_given():
        with harness(new_namespace("report")):
            pass


def _left_out(folder: Path, part: Part) -> bool:
    if not (part.left_out and servers_given()):
        return False
    _note(folder, PartRun(name=part.name, command=part.shown, left_out=part.left_out))
    return True


def _measure(folder: Path, missing: Sequence[Part], say: Callable[[str], object], then_s: float) -> None:
    """Measure one after the other; tell how long it will take, from how long the first of them took."""
    began = time.monotonic()
    expected_s = 0.0
    for number, part in enumerate(missing, 1):
        # A busy machine takes longer than one that does nothing else.
        slowness = max(1.0, (time.monotonic() - began) / expected_s) if expected_s else 1.0
        left_s = sum(one.seconds for one in missing[number - 1 :]) + then_s
        say(
            f"part {number} of {len(missing)}: {part.name}, about {_minutes(part.seconds * slowness)}"
            f" of {_minutes(left_s * slowness)} left"
        )
        _measure_one(folder, part, say)
        expected_s += part.seconds


def _minutes(seconds: float) -> str:
    return f"{seconds / _MINUTE_S:.0f} min" if seconds >= 1.5 * _MINUTE_S else f"{seconds:.0f} s"


def _measure_one(folder: Path, part: Part, say: Callable[[str], object]) -> None:
    """Measure a part, and note how it ended."""
    part.remove(folder)
    said = folder / SAID / f"{part.name.replace('/', '-')}.txt"
    said.parent.mkdir(exist_ok=True)
    _note(folder, PartRun(name=part.name, command=part.shown))
    # As it is when it begins: a run that is gone on with later may be of another tree by then.
    commit = machine_facts()["commit"]
    began = time.monotonic()
    try:
        status = run_and_tell(part.words(folder), said, lambda line: say(f"  {line}"))
    except BaseException:
        part.remove(folder)
        raise
    seconds = round(time.monotonic() - began, 1)
    tail: list[str] = []
    if not part.has_results(folder):
        lines = said.read_text(encoding="utf-8", errors="replace").splitlines()
        tail = lines[-_TAIL_LINES:] or ["it said nothing"]
        say(f"  {part.name} ended without a result, with status {status}")
    ended = PartRun(name=part.name, command=part.shown, status=status, seconds=seconds, tail=tail, commit=commit)
    _note(folder, ended)
