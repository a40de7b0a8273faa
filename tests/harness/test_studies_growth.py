from __future__ import annotations

import json
import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import TYPE_CHECKING

import msgspec
import pytest

from kairos_core import RedisStateManager
from kairos_core.errors import ConfigurationError
from kairos_core.layout import Layout
from loadtests import at_once
from loadtests.environment import as_administrator
from loadtests.orders import Helper, OrderError
from loadtests.states import sample_state
from loadtests.studies import contention, instances
from loadtests.studies.study import FORMAT, Bench, Point, Result, ask
from loadtests.subjects.managed import Managed
from loadtests.throughput import Words
from loadtests.waiting import wait_for
from reports import studies, study_bars, study_tables
from reports.statistics import Verdict

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from kairos_core import Settings
    from loadtests.subjects.register import Held, Shown

BENCH = Bench("quick", lambda _: None, lambda *_: None, lambda _: None)
HERE = "tests.harness.test_studies_growth"


def test_writers_of_one_session_are_measured(settings: Settings) -> None:
    """Every subject is there for every number of writers, and only check_then_set may have lost something."""
    points = contention.points(BENCH, as_administrator(settings), (1, 3), 1, 0.1)
    assert {(name, count) for name in (*contention.COMPARED, *contention.READ_FIRST) for count in (1, 3)} == {
        (point.subject, point.x) for point in points
    }
    for point in points:
        values = point.values
        assert values["useful_per_s"] > 0
        assert values["attempts_per_write"] >= 1
        assert 0 <= values["slowest_share"] <= 1
        assert 1 / int(point.x) <= values["jain"] <= 1 + 1e-9
        assert 0 == values["lost"] or point.subject == "check_then_set"
        if point.x == 1:
            assert 1 == values["attempts_per_write"] == values["slowest_share"] == values["jain"]


class Cheating(Managed):
    """Says of every third write that it was made, and makes none."""

    count = 0

    def mutate(self, session_id: str, token: int, shown: Shown, known: Held | None = None) -> Held:
        """A write, or what looks like one."""
        self.count += 1
        held = self.get(session_id)
        if self.count % 3 or held is None:
            return super().mutate(session_id, token, shown, known)
        shown(held.seen)
        return held


def test_a_subject_that_counts_without_writing_is_found_out(settings: Settings) -> None:
    """What was acknowledged is looked for in what is stored."""
    others = {"cheating": f"{HERE}:Cheating.connect"}
    with pytest.raises(contention.WritesLostError, match=r"cheating: \d+ writes were acknowledged, and \d+ are stored"):
        contention.points(BENCH, as_administrator(settings), (2,), 1, 0.2, [], others)


def test_a_writer_that_is_killed_is_an_error(settings: Settings) -> None:
    """What the others then do is no number for three."""
    settings = as_administrator(settings)
    register = Managed.connect(settings)
    with ExitStack() as stack:
        stack.callback(register.close)
        helpers = at_once.helpers_of("loadtests.writing", 3, settings, stack)
        at_once.connect(helpers, run="killed", subjects=["kairos"], others={})
        other = stack.enter_context(RedisStateManager.connect(settings))

        def kill() -> None:
            wait_for("a write", lambda: (state := other.get_session("killed-0")) and state.version > 1)
            helpers[1].process.kill()

        with ThreadPoolExecutor(1) as pool:
            killed = pool.submit(kill)
            with pytest.raises(OrderError, match=r"loadtests\.writing ended with status -9"):
                contention.contended(helpers, "kairos", register, "killed", 1.0)
            killed.result()


def test_instances_are_measured(settings: Settings) -> None:
    """Each way is there for each number of processes, and the ceiling is above them."""
    points = instances.points(BENCH, as_administrator(settings), (1, 2), 1, 0.2)
    places = [(name, count) for count in (1, 2) for name in ("kairos", "kairos_changed", "bare", "ceiling")]
    assert set(places) == {(point.subject, point.x) for point in points}
    assert len(places) == len(points)
    for point in points:
        assert 0 < point.values["updates_per_s"]
        assert 0 < point.values["generator_us_per_update"]
        assert 0 < point.values["server_us_per_update"]
        assert 0 < point.values["generator_cores"]
        assert 0 < point.values["server_cores"]
        assert 0 < point.values["share_of_ceiling"]
    assert 1 == max(point.values["share_of_ceiling"] for point in points if point.subject == "ceiling")


def test_an_update_that_was_not_made_ends_the_process(settings: Settings) -> None:
    """A reply that is no update's, or not of the next version, is no update."""
    with RedisStateManager.connect(settings) as manager:
        words = Words(settings, Layout(settings.namespace, settings.lanes), manager.create_session(sample_state("w")))
    words.check([0, 1, 2, 3, 4])
    for reply in ([1, 1, 3], [0, 1, 2, 3, 4], [2], [3, 10]):
        with pytest.raises(AssertionError, match="an update of version 2 was answered"):
            words.check(reply)


class Late(Helper):
    """A process that says how late it began."""

    def __init__(self, *late_s: float) -> None:
        self.late_s = list(late_s)

    def tell(self, do: str, **_: object) -> None:
        """Be told to write."""
        assert "write" == do

    def answer(self) -> dict[str, object]:
        """How late it was this time."""
        return {"late_s": self.late_s.pop(0) if len(self.late_s) > 1 else self.late_s[0]}


def test_writers_leave_ctrl_c_to_who_started_them(settings: Settings) -> None:
    """They are in sessions of their own, so that none tells where it was, and end by themselves when they are told."""
    with ExitStack() as stack:
        helpers = at_once.helpers_of("loadtests.writing", 3, as_administrator(settings), stack)
        assert [helper.process.pid for helper in helpers] == [os.getsid(helper.process.pid) for helper in helpers]
    assert [0, 0, 0] == [helper.process.returncode for helper in helpers]


def test_processes_that_did_not_begin_together_are_an_error() -> None:
    """It is tried again, with a preparation of its own, and then given up."""
    prepared: list[int] = []

    def prepare(attempt: int) -> dict[str, int]:
        prepared.append(attempt)
        return {}

    assert 1 == at_once.at_once([Late(0.0), Late(0.9, 0.0)], "write", 0.1, prepare)[1]
    assert [0, 1] == prepared
    with pytest.raises(at_once.StartedLateError, match=r"one of 2 processes began 0\.90 s late"):
        at_once.at_once([Late(0.0), Late(0.9)], "write", 0.1)


@pytest.mark.parametrize(("shares", "expected"), [([5, 5, 5, 5], 1.0), ([8, 0, 0, 0], 0.25), ([0, 0], 0.0)])
def test_jain(shares: Sequence[int], expected: float) -> None:
    """The index is 1 where all have as much, and 1 / n where one has all."""
    assert expected == pytest.approx(contention.jain(shares))


def made(study: str, values: Mapping[tuple[str, int], Sequence[Mapping[str, float]]]) -> Result:
    """A result as a file would hold it: of each subject and place the values of each repetition."""
    points = [
        Point(subject=subject, x=x, repetition=number, values=dict(one))
        for (subject, x), many in values.items()
        for number, one in enumerate(many, 1)
    ]
    return Result(
        format=FORMAT,
        study=study,
        question="Which one?",
        axis="writers",
        profile="quick",
        repetitions=max(point.repetition for point in points),
        points=points,
        facts={},
        started_at="",
        finished_at="",
        notes=["A note."],
    )


def contended(ratios: Sequence[float], shares: Sequence[float] = (0.8, 0.81, 0.82)) -> Result:
    """A result of `contention` with these ratios to watch_multi."""
    ours = [{"useful_per_s": 100 * ratio, "slowest_share": share} for ratio, share in zip(ratios, shares, strict=False)]
    return made("contention", {("kairos", 8): ours, ("watch_multi", 8): [{"useful_per_s": 100.0}] * len(ours)})


@pytest.mark.parametrize(
    ("ratios", "expected"),
    [
        ((3.5, 3.6, 3.7), Verdict.PASS),
        ((2.5, 2.6, 2.7), Verdict.FAIL),
        ((2.0, 3.5, 5.0), Verdict.INCONCLUSIVE),
    ],
)
def test_a_bar_is_judged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], ratios: Sequence[float], expected: Verdict
) -> None:
    """It is met where even the lower bound is above it, and missed where even the upper one is not."""
    assert expected == studies.report([contended(ratios)], tmp_path)
    printed = " ".join(capsys.readouterr().out.split())
    assert f"{expected.value} contention: useful_per_s of kairos ÷ watch_multi at 8" in printed
    assert "PASS contention: slowest_share of kairos at 8" in printed
    assert "A note." in (tmp_path / "studies.txt").read_text(encoding="utf-8")


@pytest.mark.parametrize("missing", [("watch_multi", 2), ("kairos", 3), ("watch_multi", None)])
def test_a_missing_point_is_an_error(tmp_path: Path, missing: tuple[str, int | None]) -> None:
    """What is not there is not judged, and nobody takes that for a bar that is met."""
    whole = contended((3.5, 3.6, 3.7))
    subject, number = missing
    points = [point for point in whole.points if point.subject != subject or number not in (None, point.repetition)]
    part = msgspec.structs.replace(whole, points=points)
    with pytest.raises(study_bars.PointMissingError, match=f"of {subject} at 8"):
        studies.report([part], tmp_path)


def test_too_few_repetitions_are_an_error(tmp_path: Path) -> None:
    """Two say nothing of their spread."""
    with pytest.raises(study_bars.PointMissingError, match="2 runs; 3 are the fewest"):
        studies.report([contended((3.5, 3.6))], tmp_path)


def test_the_tables_hold_all_that_was_seen() -> None:
    """Each subject at each place, with the median and the spread; ratios within the repetitions."""
    places = {
        (subject, count): [
            {"updates_per_s": speed * count / (1 + 0.1 * (count - 1)) * luck} for luck in (0.99, 1, 1.01)
        ]
        for subject, speed in (("kairos", 300.0), ("bare", 200.0))
        for count in range(1, 9)
    }
    result = made("instances", places)
    (table, ratios, along, growth) = study_tables.tables_of(result)
    assert [("kairos", str(count)) for count in range(1, 9)] == [row[:2] for row in table.rows[:8]]
    assert ("bare", "1", "200 (198 to 202)") == table.rows[8]
    assert [(str(count), "1.5") for count in range(1, 9)] == ratios.rows
    assert ("2", "1.82", "1.82") == along.rows[0]
    assert ["kairos", "bare"] == [row[0] for row in growth.rows]
    assert growth.rows[0][2].startswith("0.1 (")
    assert "<td>kairos</td>" in table._repr_html_()


def test_what_a_subject_does_is_one_column() -> None:
    """Facts are told in words, once."""
    values = {"p50_ms": 1.0, "does_state": 1.0, "does_audit": 0.0, "bar_of_kairos_p50": 2.0}
    (table, _) = study_tables.tables_of(made("instead", {("kairos", 1): [values], ("other", 1): [values]}))
    assert ("subject", "writers", "p50_ms", "does") == table.head
    assert ("kairos", "1", "1", "state") == table.rows[0]


def test_the_command_tells_by_its_status(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """0: met. 1: missed. 2: it could not be told, or is not there."""
    monkeypatch.setattr("sys.argv", ["studies", "--folder", str(tmp_path)])
    assert 2 == studies.main()
    assert "holds no result" in capsys.readouterr().err
    for ratios, status in (((3.5, 3.6, 3.7), 0), ((2.5, 2.6, 2.7), 1), ((2.0, 3.5, 5.0), 2)):
        text = json.dumps(msgspec.to_builtins(contended(ratios)))
        (tmp_path / "contention.json").write_text(text, encoding="utf-8")
        assert status == studies.main()
        assert (status == 2) == ("measure again, on a quieter machine" in capsys.readouterr().out)
    (tmp_path / "contention.json").write_text(text.replace("slowest_share", "another"), encoding="utf-8")
    assert 2 == studies.main()
    with pytest.raises(ConfigurationError, match="instead cannot be read"):
        studies.read_all(tmp_path, ["instead"])


def test_many_others_are_a_row_each() -> None:
    """A table does not grow wider with them, and none is left out."""
    others = [f"other-{number}" for number in range(9)]
    result = made("instead", {(name, 1): [{"p50_ms": 2.0}] for name in ("kairos", *others)})
    assert [("1", other, "1") for other in others] == study_tables.ratios(result).rows


def test_a_point_that_is_there_twice_is_an_error(tmp_path: Path) -> None:
    """Of two measurements of one point nobody knows which is meant: the better one is not taken."""
    whole = contended((2.0, 2.1, 2.2))
    better = contended((4.0, 4.1, 4.2)).points
    with pytest.raises(study_bars.PointMissingError, match="useful_per_s of kairos at 8 twice"):
        studies.report([msgspec.structs.replace(whole, points=[*whole.points, *better])], tmp_path)


@pytest.mark.parametrize("sign", [-1.0, 0.0])
def test_what_has_no_ratio_is_an_error(tmp_path: Path, sign: float) -> None:
    """Two negative values make a fine ratio, and no measurement."""
    ours = [{"useful_per_s": sign * 400, "slowest_share": share} for share in (0.8, 0.81, 0.82)]
    wrong = made("contention", {("kairos", 8): ours, ("watch_multi", 8): [{"useful_per_s": sign * 100}] * 3})
    with pytest.raises(study_bars.PointMissingError, match="not above 0"):
        studies.report([wrong], tmp_path)


def test_a_file_of_another_study_is_refused(tmp_path: Path) -> None:
    """A study is what its file is called: else its bars would be left out, or met by another's points."""
    (tmp_path / "instances.json").write_bytes(msgspec.json.encode(contended((3.5, 3.6, 3.7))))
    with pytest.raises(ConfigurationError, match=r"instances\.json is of the study contention"):
        studies.read_all(tmp_path, [])


def test_a_study_that_never_ended_is_missed(tmp_path: Path) -> None:
    """A run that was interrupted is not judged by the studies that it came to."""
    (tmp_path / "contention.json").write_bytes(msgspec.json.encode(contended((3.5, 3.6, 3.7))))
    assert ["contention"] == [one.study for one in studies.read_all(tmp_path, [])]
    ask(tmp_path, ["instances", "contention"])
    with pytest.raises(ConfigurationError, match="instances cannot be read"):
        studies.read_all(tmp_path, [])
    assert ["contention"] == [one.study for one in studies.read_all(tmp_path, ["contention"])]
    (tmp_path / "asked.json").write_text('["contention')
    with pytest.raises(ConfigurationError, match=r"asked\.json cannot be read"):
        studies.read_all(tmp_path, [])


def test_a_bar_of_no_study_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bar with a slip of the pen in its study would never be judged."""
    (tmp_path / "reports").mkdir()
    bar = 'study = "contentoin"\nvalue = "useful_per_s"\nsubject = "kairos"\nx = 8\nabove = 3.0\n'
    (tmp_path / "reports" / "targets.toml").write_text(f"[[study]]\n{bar}")
    monkeypatch.setattr(study_bars, "ROOT", tmp_path)
    with pytest.raises(ConfigurationError, match="there is no study contentoin"):
        study_bars.bars(["contention"])
