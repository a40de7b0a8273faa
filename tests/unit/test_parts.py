from __future__ import annotations

import os
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest

from kairos_core.errors import ConfigurationError
from loadtests import __main__ as loadtests_main
from loadtests.load import __main__ as load_main
from loadtests.measure import PROFILES, machine_facts
from loadtests.profiles import profiles as validations
from loadtests.scenarios import offered
from loadtests.studies.registry import STUDIES
from loadtests.studies.study import PROFILES as EXTENTS
from reports import parts
from reports.children import MeasuringFailed
from reports.parts import STORED, Part, is_whole, load, measure_missing, profile_of, records

if TYPE_CHECKING:
    from collections.abc import Callable

    from reports.findings import PartRun


def a_part(name: str, how: str = "well", left_out: str = "") -> Part:
    """A part that is done at once."""
    command, results = f"tests.a_part RUN {name} {how}", [f"{name}/first", f"{name}/second"]
    return Part(name=name, command=command, results=results, seconds=60.0, left_out=left_out)


@pytest.fixture
def profile(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Part]]:
    """Sets the parts of `quick`."""

    def of(*found: Part) -> list[Part]:
        monkeypatch.setattr(parts, "profiles", lambda: {"quick": [*found], "full": [a_part("other")]})
        return [*found]

    # Servers that are given are another matter, below.
    for name in ("KAIROS_REDIS_URL", "KAIROS_POSTGRES_URL"):
        monkeypatch.delenv(name, raising=False)
    return of


def order(folder: Path) -> list[str]:
    """The parts that were run, in their order."""
    return (folder / "order").read_text().split()


def note(folder: Path, one: PartRun, **changes: object) -> None:
    """Change what is noted of a part."""
    changed = msgspec.structs.replace(one, **changes)
    (folder / "parts.json").write_bytes(msgspec.json.encode([*(records(folder) | {one.name: changed}).values()]))


def test_what_is_missing_is_measured_and_nothing_else(profile: Callable[..., list[Part]], tmp_path: Path) -> None:
    """A run is completed: what is there stays as it is, what is not is measured once, in the order of the profile."""
    profile(a_part("a"), a_part("load/b", "badly"), a_part("c"))
    assert ["load/b"] == measure_missing(tmp_path, "quick", str, ["load"])
    (tmp_path / "load" / "b" / "mine").touch()
    said: list[str] = []
    assert ["a", "c"] == measure_missing(tmp_path, "quick", said.append)
    assert [] == measure_missing(tmp_path, "quick", said.append)
    assert ["load/b", "a", "c"] == order(tmp_path)
    assert (tmp_path / "load" / "b" / "mine").exists()
    heads = [line for line in said if line.startswith("part")]
    assert "part 1 of 2: a, about 60 s of 2 min left" == heads[0]
    assert re.fullmatch("part 2 of 2: c, about 60 s of 60 s left", heads[1])
    assert {"a": 0, "load/b": 1, "c": 0} == {name: one.status for name, one in records(tmp_path).items()}
    assert "python -m tests.a_part RUN a well" == records(tmp_path)["a"].command
    assert {machine_facts()["commit"]} == {one.commit for one in records(tmp_path).values()}


def test_a_run_without_notes_is_whole_by_its_files(profile: Callable[..., list[Part]], tmp_path: Path) -> None:
    """A folder that was put together by hand is a run, too: what is there is not measured again."""
    profile(a_part("a"), a_part("b"))
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "first").touch()
    (tmp_path / "a" / "second").touch()
    assert ["b"] == measure_missing(tmp_path, "quick", str)


def test_a_part_without_a_result_is_noted_and_not_tried_again(
    profile: Callable[..., list[Part]], tmp_path: Path
) -> None:
    """A part that fails keeps no other from being measured; what it said last is noted, and it is not tried again."""
    profile(a_part("a", "vainly"), a_part("b"))
    said: list[str] = []
    measure_missing(tmp_path, "quick", said.append)
    found = records(tmp_path)["a"]
    assert (2, "kairos: it cannot be done") == (found.status, found.tail[-1])
    assert "  kairos: it cannot be done" in said
    assert [] == measure_missing(tmp_path, "quick", str)
    assert ["a", "b"] == order(tmp_path)


def test_a_run_of_nothing_leaves_no_folder(profile: Callable[..., list[Part]], tmp_path: Path) -> None:
    """Where no part comes to a result, measuring has failed, and the folder of the new run is gone."""
    profile(a_part("a", "vainly"))
    with pytest.raises(MeasuringFailed):
        measure_missing(tmp_path / "run", "quick", str)
    assert [] == [*tmp_path.iterdir()]


def test_half_a_part_is_measured_anew(profile: Callable[..., list[Part]], tmp_path: Path) -> None:
    """A part that has begun and never ended is measured from its beginning, be all of its files there or only some."""
    whole, half = profile(a_part("a"), a_part("b"))
    measure_missing(tmp_path, "quick", str)
    note(tmp_path, records(tmp_path)["a"], status=None)
    (tmp_path / "b" / "second").unlink()
    (tmp_path / "b" / "left").touch()
    assert [False, False] == [is_whole(tmp_path, one) for one in (whole, half)]
    assert ["a", "b"] == measure_missing(tmp_path, "quick", str)
    assert not (tmp_path / "b" / "left").exists()


def interrupted_at(word: str, said: list[str]) -> Callable[[str], None]:
    """Keeps what is said, and is interrupted where a line has the word."""

    def say(line: str) -> None:
        said.append(line)
        if word in line:
            raise KeyboardInterrupt

    return say


def test_what_is_whole_survives_an_interruption(profile: Callable[..., list[Part]], tmp_path: Path) -> None:
    """After an interruption the half of a part and its process are gone; what is whole is kept, and one can go on."""
    folder = tmp_path / "run"
    profile(a_part("a"), a_part("b", "slowly"))
    said: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        measure_missing(folder, "quick", interrupted_at("half done", said))
    assert said[-1].startswith(f"kept in {folder}: a; ")
    assert f"python -m reports --run {folder} --measure goes on" in said[-1]
    assert not (folder / "b").exists()
    process = int(next(line for line in reversed(said) if "begun as" in line).split()[-1])
    deadline = time.monotonic() + 10
    while Path(f"/proc/{process}").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    with pytest.raises(ProcessLookupError):
        os.kill(process, 0)
    profile(a_part("a"), a_part("b"))
    assert ["b"] == measure_missing(folder, "quick", str)


def test_an_interruption_before_anything_is_whole_leaves_nothing(
    profile: Callable[..., list[Part]], tmp_path: Path
) -> None:
    """Half of the first part is nothing: the new run's folder is removed. A folder that had something in it is not."""
    profile(a_part("a", "slowly"))
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "mine").touch()
    for folder in (tmp_path / "new", tmp_path / "old"):
        with pytest.raises(KeyboardInterrupt):
            measure_missing(folder, "quick", interrupted_at("half done", []))
    assert ["old"] == [path.name for path in tmp_path.iterdir()]
    assert not (tmp_path / "old" / "a").exists()


def test_servers_that_cannot_be_reached_are_named_before_anything_is_run(
    profile: Callable[..., list[Part]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given servers are tried once, before the parts: one error that names the setting, no folder, no part run."""
    profile(a_part("a"))
    monkeypatch.setenv("KAIROS_REDIS_URL", "redis://127.0.0.1:1/0")
    monkeypatch.setenv("KAIROS_POSTGRES_URL", "postgresql://127.0.0.1:1/postgres")
    said: list[str] = []
    with pytest.raises(ConfigurationError, match=r"^KAIROS_POSTGRES_URL: .*refused"):
        measure_missing(tmp_path / "run", "quick", said.append)
    assert ([], []) == (said, [*tmp_path.iterdir()])


def test_what_given_servers_cannot_bear_is_left_out(
    profile: Callable[..., list[Part]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A part that stops a server is not run on servers that are given: that is noted, and is no failure."""
    profile(a_part("a"), a_part("b", left_out="it stops PostgreSQL"))
    monkeypatch.setattr(parts, "servers_given", lambda: True)
    monkeypatch.setattr(parts, "_reach", lambda: None)
    assert ["a"] == measure_missing(tmp_path, "quick", str)
    assert ("it stops PostgreSQL", None) == (records(tmp_path)["b"].left_out, records(tmp_path)["b"].status)
    assert [] == measure_missing(tmp_path, "quick", str)


def test_a_notebook_gets_what_it_asks_for(
    profile: Callable[..., list[Part]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`load` measures the parts that it is asked for, once, and then says that it shows a stored run."""
    profile(a_part("a"), a_part("b"))
    assert tmp_path == load(tmp_path, "quick", "b").folder
    assert ["b"] == order(tmp_path)
    assert "stored" not in capsys.readouterr().out
    load(tmp_path, "quick", "b")
    assert capsys.readouterr().out.startswith("stored run profile quick: delete ")
    load(tmp_path, STORED)
    assert ["b"] == order(tmp_path)
    assert "quick" == profile_of(tmp_path)


def test_a_run_of_another_profile_is_refused(profile: Callable[..., list[Part]], tmp_path: Path) -> None:
    """What was measured quickly is not shown as a full run, nor completed to one; a part or profile must be known."""
    profile(a_part("a"))
    load(tmp_path, "quick")
    with pytest.raises(ConfigurationError, match=r"full was asked for, and .* holds a run of quick"):
        load(tmp_path, "full")
    with pytest.raises(ConfigurationError, match=r"^part: x: there is a, other"):
        load(tmp_path, "quick", "x")
    with pytest.raises(ConfigurationError, match=r"^profile: slow: there is quick, full"):
        load(tmp_path, "slow")
    assert ["a"] == order(tmp_path)


def test_each_part_is_a_command_that_there_is() -> None:
    """Each command of `parts.toml` is understood by what it calls, with a profile, scenario or study that there is."""
    for part in (part for found in parts.profiles().values() for part in found):
        _, _, _, module, *arguments = part.words(Path("run"))
        if module == "loadtests.measure":
            assert arguments[2] in PROFILES
        elif module == "loadtests":
            assert vars(loadtests_main._parser().parse_args(arguments))["profile"] in validations()
        elif module == "loadtests.load":
            assert vars(load_main._parser().parse_args(arguments))["scenario"] in offered()
        else:
            names = arguments[: arguments.index("--profile")]
            assert set(names) <= set(STUDIES)
            assert [f"studies/{name}.json" for name in names] == part.results
            assert arguments[len(names) + 1] in EXTENTS


def test_a_report_takes_as_long_as_it_is_said_to() -> None:
    """A quick report is measured within 5 minutes and 20 seconds, a full one within half an hour; 40 s are the page."""
    assert sum(part.seconds for part in parts.profiles()["quick"]) <= 320
    assert sum(part.seconds for part in parts.profiles()["full"]) <= 1_800
