from __future__ import annotations

import json
import math
import shutil
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from kairos_core.errors import ConfigurationError
from reports.comparing import Compared, Word, compared, earlier, picture, sides, tables
from reports.comparing.__main__ import main
from reports.comparing.changes import Speed, turned
from reports.comparing.verdict import UNTOLD
from reports.results import Run
from reports.statistics import Comparison
from tests.made_run import made_run

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

LATER = "2030-01-01T00:00:00+00:00"
# What is Kairos' own in a benchmark.
OURS = ("kairos", "again", "slowed")


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run without load tests and studies, which are read for longer than the rest."""
    return made_run(
        tmp_path_factory.mktemp("runs") / "before", without=("load/audit_outage", "load/capacity", "studies")
    )


def copied(
    run: Path, folder: Path, *, slower: dict[str, float] | None = None, ours: Sequence[str] = OURS, **facts: Any
) -> Path:
    """A later run that is the same but for this: by how much an operation is slower, and facts of its machine."""
    shutil.copytree(run, folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["started_at"] = LATER
    manifest["machine"] |= facts
    (folder / "manifest.json").write_text(json.dumps(manifest))
    for file in folder.glob("latency/*.npz") if slower else ():
        arrays = dict(np.load(file))
        for operation, times in (slower or {}).items():
            for name in (f"{operation}/{subject}" for subject in ours):
                if name in arrays:
                    arrays[name] = np.rint(arrays[name] * times).astype(np.int64)
        np.savez(file, **arrays)
    return folder


def made_worse(run: Path, folder: Path, **wanted: Any) -> Path:
    """A later run that is the same but for its validation, in which something is wrong."""
    copied(run, folder)
    shutil.rmtree(folder / "validation")
    parts = ("latency", "load/audit_outage", "load/capacity", "studies")
    made = made_run(folder.with_name("made"), without=parts, **wanted)
    shutil.move(made / "validation", folder / "validation")
    return folder


def words(found: Compared) -> dict[str, Word]:
    """What became of each operation."""
    return {one.operation: one.word for one in found.speeds}


def test_a_slowdown_of_a_tenth_is_named(before: Path, tmp_path: Path) -> None:
    """Of a run in which updates take a tenth longer it is said that they are slower, and of nothing else."""
    found = compared(*sides(copied(before, tmp_path / "after", slower={"update_session": 1.1}), before))
    assert ["update_session"] == [name for name, word in words(found).items() if word is Word.WORSE]
    assert "worse" == found.answer.word
    assert found.answer.sentences[0].startswith("Worse: update_session takes 1.1")
    assert 1 == found.status


def test_what_became_faster_is_better(before: Path, tmp_path: Path) -> None:
    """A run whose reads take a tenth less is better, with status 0; and it tells what would have been seen."""
    found = compared(*sides(copied(before, tmp_path / "after", slower={"get_session": 0.9}), before))
    assert "better" == found.answer.word
    assert 0 == found.status
    assert "80 times in 100" in found.answer.sentences[-1]


def test_the_same_run_shows_no_difference(before: Path, tmp_path: Path) -> None:
    """A copy of a run is no better and no worse; which slowdown would have been seen is more than the least band."""
    found = compared(*sides(copied(before, tmp_path / "after"), before))
    assert "no difference shown" == found.answer.word
    assert 0 == found.status
    assert min(one.visible for one in found.speeds) > 1.03
    assert picture(found) is not None


def test_another_machine_is_said_first_and_no_time_is_judged(before: Path, tmp_path: Path) -> None:
    """Of another machine, or another redis-py, nothing follows from times, however much slower they are."""
    after = copied(before, tmp_path / "after", slower={"update_session": 2.0}, cpu="another", packages={"redis": "9.0"})
    found = compared(*sides(after, before))
    assert UNTOLD == found.answer.word
    assert 2 == found.status
    assert {"cpu", "redis"} == {one.what for one in found.unlike}
    assert "another" in found.answer.sentences[0]
    assert "another" in tables.every(found)[1].text()


def test_another_version_of_kairos_is_what_is_compared(before: Path, tmp_path: Path) -> None:
    """That the code is another one is no obstacle: commit and version of Kairos may differ."""
    packages = json.loads((before / "manifest.json").read_text())["machine"]["packages"] | {"kairos": "9.9"}
    assert [] == compared(*sides(copied(before, tmp_path / "after", commit="new", packages=packages), before)).unlike


def test_a_guarantee_that_broke_is_worse_on_any_machine(before: Path, tmp_path: Path) -> None:
    """A violation that was not there before is worse, also where the machine is another one."""
    after = made_worse(before, tmp_path / "after", has_violation=True)
    found = compared(*sides(after, before))
    assert "worse" == found.answer.word
    assert any("was PASS and is FAIL" in sentence for sentence in found.answer.sentences)
    manifest = json.loads((after / "manifest.json").read_text())
    manifest["machine"]["cpu"] = "another"
    (after / "manifest.json").write_text(json.dumps(manifest))
    found = compared(*sides(after, before))
    assert "worse" == found.answer.word
    assert any("cpu" in sentence for sentence in found.answer.sentences)


def test_a_mutant_that_is_no_longer_noticed_is_worse(before: Path, tmp_path: Path) -> None:
    """A broken variant that was caught and survives now is worse; the other way round it is better."""
    after = made_worse(before, tmp_path / "after", survived="local_cache")
    assert any(
        "mutant local_cache was caught and is SURVIVED" in one
        for one in compared(*sides(after, before)).answer.sentences
    )
    back = compared(*sides(before, after))
    assert {Word.BETTER} == {one.word for one in back.turned}


def test_a_run_that_cannot_be_trusted_compares_with_nothing(before: Path, tmp_path: Path) -> None:
    """Where an operation differed from itself no time is judged, however much slower it is."""
    after = copied(before, tmp_path / "after", slower={"get_session": 1.5}, ours=("kairos",))
    found = compared(*sides(after, before))
    assert UNTOLD == found.answer.word
    assert any("get_session" in sentence for sentence in found.answer.sentences)


def test_one_run_is_compared_with_itself(before: Path) -> None:
    """Without an earlier run every other process is compared with the rest: nothing was changed, nothing is shown."""
    found = compared(*sides(before))
    assert found.is_one
    assert all(one.now.runs == one.before.runs == 5 and math.isfinite(one.visible) for one in found.speeds)
    odd, even = (side.per_process("get_session", "kairos") for side in sides(before))
    assert Run(before).per_run("get_session", "kairos", "p50") == [
        one for pair in zip(odd, even, strict=True) for one in pair
    ]
    assert "no difference shown" == found.answer.word
    assert "nothing was changed" in tables.facts(found).caption
    assert "Nothing was changed" in str(found.answer)


def test_the_newest_earlier_run_of_the_same_profile_is_found(before: Path, tmp_path: Path) -> None:
    """The run before is the newest one beside it that is older and of its profile; others are left out."""
    first = tmp_path / "first"
    shutil.copytree(before, first)
    after = copied(before, tmp_path / "after")
    assert earlier(first) is None
    assert first == earlier(after)
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "manifest.json").write_text("{")
    manifest = json.loads((first / "manifest.json").read_text())
    full = copied(before, tmp_path / "full")
    (full / "manifest.json").write_text(json.dumps(manifest | {"profile": "full", "started_at": "2029-01-01T00:00:00"}))
    assert first == earlier(after)
    assert (first, after) == tuple(side.folder for side in sides(after))
    assert first == sides(after, first)[0].folder


def test_a_run_is_not_compared_with_itself_by_mistake(before: Path) -> None:
    """The same folder twice is refused: no difference would be found, and that would show nothing."""
    with pytest.raises(ConfigurationError, match="that is the run itself"):
        sides(before, before.parent / "." / before.name)


def test_a_folder_without_a_run_is_refused(before: Path, tmp_path: Path) -> None:
    """What is compared must be there."""
    for pair in ((tmp_path, ""), (before, tmp_path)):
        with pytest.raises(ConfigurationError):
            sides(*pair)


def ratio(value: float, spread: float = 1.005) -> Comparison:
    """One with its interval."""
    return Comparison(value, value / spread, value * spread, 10)


@pytest.mark.parametrize(
    ("now", "floor", "band", "word"),
    [
        (1.10, 1.10, 1.03, Word.WORSE),
        (1.10, None, 1.03, Word.WORSE),
        # One yardstick alone moves with the state of the machine.
        (1.10, 1.00, 1.03, Word.SAME),
        # Both moved, in opposite directions: the machine was in another state.
        (1.10, 0.90, 1.03, Word.UNCLEAR),
        (0.72, 1.09, 1.03, Word.UNCLEAR),
        (1.02, 1.02, 1.03, Word.SAME),
        # The operation differed from itself by more.
        (1.10, 1.10, 1.12, Word.SAME),
        (0.90, 0.90, 1.03, Word.BETTER),
        (0.90, 1.00, 1.03, Word.SAME),
    ],
)
def test_slower_takes_both_yardsticks_and_more_than_the_band(
    now: float, floor: float | None, band: float, word: Word
) -> None:
    """An operation is slower where it is beyond the band, its interval excludes 1, and the raw socket says so, too."""
    speed = Speed("get_session", ratio(1.0), ratio(now), band, None if floor is None else ratio(floor))
    assert word is speed.word


def test_a_raw_socket_that_had_room_for_the_change_does_not_refute_it() -> None:
    """Where the second yardstick is too noisy to tell, it is unclear; and what would have been seen follows from it."""
    speed = Speed("get_session", ratio(1.0), ratio(1.1), 1.03, ratio(1.0, 1.2))
    assert Word.UNCLEAR is speed.word
    assert speed.visible > 1.2


def test_an_interval_that_includes_one_shows_nothing() -> None:
    """However large the change, of noisy runs nothing follows; and they say that they are blind."""
    speed = Speed("get_session", ratio(1.0), ratio(1.5, 2.5), 1.03, None)
    assert Word.SAME is speed.word
    assert speed.visible > 2


@pytest.mark.parametrize(
    ("then", "now", "word"),
    [
        ("good", "good", None),
        ("good", "bad", Word.WORSE),
        ("bad", "good", Word.BETTER),
        ("good", "open", Word.UNCLEAR),
        ("open", "bad", Word.WORSE),
        ("open", "good", Word.SAME),
        ("bad", "bad", None),
    ],
)
def test_what_turned(then: str, now: str, word: Word | None) -> None:
    """What was right and is wrong is worse, what nobody knows any more is unclear, what is known now is no gain."""
    found = turned("it", then, now, good=frozenset({"good"}), open_=frozenset({"open"}))
    assert word == (found.word if found else None)


def test_the_command_ends_with_what_it_found(
    before: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`python -m reports.comparing` prints the tables and the verdict: status 1 is worse, 2 that there is no run."""
    after = copied(before, tmp_path / "after", slower={"update_session": 1.1})
    monkeypatch.setattr(sys, "argv", ["comparing", str(before), str(after)])
    assert 1 == main()
    told = capsys.readouterr().out
    assert "✘ worse" in told
    assert "update_session" in told
    monkeypatch.setattr(sys, "argv", ["comparing", str(before), str(tmp_path / "none")])
    assert 2 == main()
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("kairos: --run: ")


def test_what_breaks_is_no_worse(
    before: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An error of the comparison itself ends with 2: 1, Python's own status for one, would say that it became worse."""
    monkeypatch.setattr(sys, "argv", ["comparing", str(before), str(before)])
    monkeypatch.setattr("reports.comparing.__main__.sides", lambda *_: 1 / 0)
    assert 2 == main()
    assert "ZeroDivisionError" in capsys.readouterr().err
