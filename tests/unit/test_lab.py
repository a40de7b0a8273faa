from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from reports.findings import FaultCell, FaultRow, Law, LoadRow, Report, Target, Validity
from reports.judging.words import figure
from reports.lab import Answer, answers, show, tables
from reports.lab.saving import without_outputs
from reports.statistics import Verdict
from reports.tables import SIGNS, Table
from tests.made_report import made_report

if TYPE_CHECKING:
    from collections.abc import Callable, Sized

    from reports.lab import Judged


def of(**changes: Any) -> Report:
    """A report with other rows."""
    return msgspec.structs.replace(made_report(), **changes)


def changed(rows: list[Any], place: int = 0, **changes: Any) -> list[Any]:
    """Rows of which one is another."""
    return [msgspec.structs.replace(row, **changes) if at == place else row for at, row in enumerate(rows)]


def latency_targets(report: Report) -> list[Any]:
    """The targets that were judged of latencies."""
    return [one for one in report.targets if one.source == "latency" and one.verdict is not None]


def fault(verdict: Verdict, hit: int = 1) -> dict[str, Any]:
    """A fault that was tried."""
    cell = FaultCell(fault="Valkey killed", guarantee="G2", verdict=verdict, rounds=hit, operations=100)
    row = FaultRow(
        fault="Valkey killed",
        arena="fsync",
        rounds=2,
        hit=hit,
        operations=100,
        recovery_s=0.5,
        expected_losses=0,
        file="f",
    )
    return {"fault_cells": [cell], "faults": [row]}


def unfair(file: str) -> Validity:
    """Something that is not as it has to be."""
    return Validity(what="the machine", seen="two of them", limit="one", is_valid=False, file=file)


def test_a_missed_target_is_named_with_its_limit() -> None:
    """FAIL says which target was missed, what was measured and what it must be."""
    report = made_report()
    (first, *rest) = latency_targets(report)
    missed = msgspec.structs.replace(first, verdict=Verdict.FAIL, value=first.limit * 2, what="get_session p95")
    answer = answers.latency(of(targets=[missed, *rest], validity=[]))
    assert "FAIL" == answer.word
    assert answer.sentences[0].startswith("Missed: get_session p95, ")
    assert f"{first.limit:,g}" in answer.sentences[0]


def test_targets_that_are_met_name_the_nearest() -> None:
    """PASS says how many targets there are and which is the nearest to its limit."""
    (first, *_) = latency_targets(made_report())
    easy = msgspec.structs.replace(
        first, verdict=Verdict.PASS, is_below=True, limit=10.0, value=1.0, what="the easy one"
    )
    near = msgspec.structs.replace(easy, value=9.0, what="the near one")
    rate = msgspec.structs.replace(easy, is_below=False, value=20.0, what="the rate")
    answer = answers.latency(of(targets=[easy, near, rate], validity=[]))
    assert "PASS" == answer.word
    (sentence, *_) = answer.sentences
    assert "3 of 3 targets are met; the nearest is the near one, 9.00 ms (< 10 ms), 1.1 times below." == sentence


def test_a_difference_below_0_is_not_the_nearest() -> None:
    """What is below 0 is no number of times below its limit: it is not said to be, nor to be the nearest to it."""
    (first, *_) = latency_targets(made_report())
    below = msgspec.structs.replace(first, verdict=Verdict.PASS, limit=0.06, value=-0.01, what="the difference")
    near = msgspec.structs.replace(below, value=0.05, what="the near one")
    assert "below 0" == below.margin
    assert "the nearest is the near one, " in answers.latency(of(targets=[below, near], validity=[])).sentences[0]


def test_what_is_not_judged_is_neither_met_nor_missed() -> None:
    """Where a profile judges none of it, the answer says so, and that is no PASS."""
    study = msgspec.structs.replace(latency_targets(made_report())[0], source="study", verdict=None)
    answer = answers.scaling(of(targets=[study], laws=[]))
    assert "shown, not judged" == answer.word
    assert ["1 is shown and not judged: this profile measures too little."] == answer.sentences


def test_what_cannot_be_trusted_comes_before_what_was_missed() -> None:
    """A run that was unfair to itself is INVALID, whatever its targets say; what is unfair elsewhere does not count."""
    missed = [msgspec.structs.replace(one, verdict=Verdict.FAIL) for one in latency_targets(made_report())]
    assert "INVALID" == answers.latency(of(targets=missed, validity=[unfair("latency")])).word
    assert "FAIL" == answers.latency(of(targets=missed, validity=[unfair("load/capacity/load_verdict.json")])).word
    assert "INVALID" == answers.load(of(targets=[], validity=[unfair("load/capacity/load_verdict.json")])).word


def test_a_violation_comes_before_everything() -> None:
    """A guarantee that does not hold is FAIL, also in a run that cannot be trusted; it is named."""
    guarantees = made_report().guarantees
    trail = next(place for place, one in enumerate(guarantees) if one.number == "G7")
    broken = changed(guarantees, trail, verdict=Verdict.FAIL, violations=3)
    answer = answers.audit(of(guarantees=broken, validity=[unfair("load/audit_outage")]))
    assert "FAIL" == answer.word
    assert any(sentence.startswith("G7 does not hold") for sentence in answer.sentences)
    # The trail is the business of another notebook than the state.
    assert "FAIL" != answers.consistency(of(guarantees=broken)).word
    assert "FAIL" == answers.consistency(of(guarantees=changed(guarantees, 0, verdict=Verdict.FAIL))).word


def test_what_a_killed_store_lost_is_said_where_it_is_asked() -> None:
    """Writes that are gone are told by the notebook that asks whether any is, also where that is no violation."""
    lost = changed(made_report().faults, expected_losses=7)
    assert any(
        one.startswith("7 acknowledged writes went") for one in answers.consistency(of(faults=lost[:1])).sentences
    )
    none = changed(made_report().faults, expected_losses=0)[:1]
    assert not any("writes went" in one for one in answers.consistency(of(faults=none)).sentences)


def test_a_load_whose_history_is_wrong_fails() -> None:
    """A load test that is fast and wrong is wrong."""
    wrong = changed(made_report().loads, correctness="VIOLATION")
    assert "FAIL" == answers.load(of(loads=wrong, targets=[], validity=[])).word


@pytest.mark.parametrize(("note", "told"), [("At least 850 steps/s: it could offer no more.",) * 2, ("", "850 /s.")])
def test_the_knee_is_told_where_it_is_asked_for(note: str, told: str) -> None:
    """Where the knee is has no limit to be judged by, so the answer says where it is."""
    knee = Target(
        source="load",
        what="capacity: steps a second",
        unit="/s",
        value=850.0,
        limit=0.0,
        is_below=False,
        verdict=None,
        file="load/capacity/load_verdict.json",
        note=note,
    )
    assert f"capacity: steps a second: {told}" in answers.load(of(targets=[knee], validity=[])).sentences


def test_faults_that_held_and_faults_that_never_hit() -> None:
    """A fault that broke a guarantee is FAIL, one that never hit is named and no PASS."""
    assert "PASS" == answers.faults(of(**fault(Verdict.PASS))).word
    failed = answers.faults(of(**fault(Verdict.FAIL)))
    assert "FAIL" == failed.word
    assert "G2 did not hold in: Valkey killed." == failed.sentences[0]
    idle = answers.faults(of(**fault(Verdict.INCONCLUSIVE, hit=0)))
    assert "INCONCLUSIVE" == idle.word
    assert "Valkey killed (fsync)" in idle.sentences[0]


def test_laws_are_told_in_words() -> None:
    """A fitted law says what one instance does and where more do less; of Kairos it is said why there is no fit."""
    fitted = Law(
        subject="kairos", one_per_s=(5_000.0, 1.0, 2.0), contention=(0.1, 0, 1), coherency=(0, 0, 0), peak=4.2, file=""
    )
    none = msgspec.structs.replace(fitted, note="too few levels")
    answer = answers.scaling(of(targets=[], laws=[fitted, none, msgspec.structs.replace(none, subject="ceiling")]))
    assert [
        "Kairos: one instance does 5,000 updates a second, and beyond 4.2 instances more do less."
    ] == answer.sentences[:1]
    assert ["Kairos: no law was fitted, too few levels."] == answer.sentences[1:]


@pytest.mark.parametrize("ask", [answers.scaling, answers.faults, answers.load])
def test_of_nothing_nothing_follows(ask: Callable[[Report | Judged], Answer]) -> None:
    """Without a row there is no PASS."""
    nothing = of(
        targets=[], guarantees=[], validity=[], loads=[], laws=[], faults=[], fault_cells=[], counterexample=None
    )
    answer = ask(nothing)
    assert "INCONCLUSIVE" == answer.word
    assert ["Nothing of it was measured in this run."] == answer.sentences


def test_each_word_has_a_sign() -> None:
    """An answer is never told by colour alone, and what it shows is escaped."""
    for word in (*SIGNS, "worse", "better", "no difference shown", "it could not be told", "shown, not judged"):
        answer = Answer(word, ["a < b"])
        assert str(answer) == f"{answer.sign} {word}\na < b"
        assert f"<strong>{answer.sign} {word}</strong><p>a &lt; b</p>" in answer._repr_html_()


def test_tables_show_the_rows_of_the_report() -> None:
    """Each row of a report becomes a row of a table, with its numbers and units."""
    report = made_report()
    made: list[tuple[Table, Sized]] = [
        (tables.targets(report.targets), report.targets),
        (tables.validity(report.validity), report.validity),
        (tables.latencies(report.latencies), report.latencies),
        (tables.guarantees(report.guarantees), report.guarantees),
        (tables.mutants(report.mutants), report.mutants),
        (tables.loads(report.loads), report.loads),
        (tables.outcomes(report.loads), report.loads),
        (tables.faults(report.faults), report.faults),
        (tables.laws(report.laws), report.laws),
    ]
    for table, rows in made:
        assert len(rows) == len(table.rows)
        assert {len(table.head)} >= {len(row) for row in table.rows}


def test_the_matrix_has_a_cell_for_each_pair() -> None:
    """Each fault is a row and each guarantee a column, in the order of their numbers; what was not tried is a dash."""
    cells = [
        FaultCell(fault=name, guarantee=guarantee, verdict=Verdict.PASS, rounds=1, operations=1)
        for name, guarantee in (("a", "G10"), ("b", "G2"))
    ]
    table = tables.matrix(cells)
    assert ("fault", "G2", "G10") == table.head
    assert [("a", "–", "✔ PASS"), ("b", "✔ PASS", "–")] == table.rows


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (None, "ms", "–"),
        (0.1234, "ms", "0.123 ms"),
        (12.34, "×", "12.3 ×"),
        (12_345.6, "/s", "12,346 /s"),
        (0, "", "0"),
    ],
)
def test_numbers_are_as_exact_as_they_are_known(value: float | None, unit: str, text: str) -> None:
    """A number has the digits that say something, and its unit."""
    assert text == figure(value, unit)


def test_what_is_shown_together_stands_below_each_other() -> None:
    """Tables, sentences and lists of them are shown in one cell; of nothing it is said that there is nothing."""
    table = Table(("a",), [("1",)])
    both = show([table, None], "a < b")
    assert both._repr_html_() == f"{table._repr_html_()}\n<p>a &lt; b</p>"
    assert "a\n1\n\na < b" == str(both)
    assert "Nothing was measured" in show([], None)._repr_html_()


def test_a_saved_notebook_keeps_no_output() -> None:
    """What JupyterLab saves has no output, no count and nothing of the kernel; other files are saved as they are."""
    code = {"cell_type": "code", "source": "1", "outputs": [1], "execution_count": 3, "metadata": {"execution": {}}}
    text = {"cell_type": "markdown", "source": "a", "metadata": {"tags": ["kept"]}}
    kernel = {"language_info": {"name": "python", "version": "3"}}
    content: dict[str, Any] = {"cells": [code, text], "metadata": kernel}
    without_outputs({"type": "notebook", "content": content}, path="a")
    assert {**code, "outputs": [], "execution_count": None, "metadata": {}} == content["cells"][0]
    assert {"tags": ["kept"]} == text["metadata"]
    assert {"name": "python"} == content["metadata"]["language_info"]
    without_outputs({"type": "file", "content": "text"})


def test_a_load_test_without_an_outage_has_none_to_show() -> None:
    """Only where PostgreSQL was away a table tells what waited."""
    row: LoadRow = made_report().loads[0]
    rows = [msgspec.structs.replace(row, outage_s=seconds) for seconds in (None, 8.25)]
    assert [(row.name, "8.2 s", f"{row.most_waiting:,}", f"{row.longest_lag_s:.1f} s")] == tables.outages(rows).rows
