from __future__ import annotations

import os
import sys
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from kairos_core import Settings
from kairos_core.errors import ConfigurationError
from loadtests.__main__ import main
from loadtests.attack.campaign import Campaign
from loadtests.attack.rounds import Plan, read_round
from loadtests.attack.workload import WEIGHTS, Mix
from loadtests.faults.arenas import GIVEN
from loadtests.faults.schedule import faults_on
from loadtests.faults.way import way_to
from loadtests.history import NOTHING, Error, Kind, Outcome, Recorder, Seen
from loadtests.judging.judge import judge_round
from loadtests.judging.verdict import Status
from loadtests.load.__main__ import main as load
from loadtests.subjects.interface import AlreadyExists, Conflict, NotFound, OutcomeUnknown, Stored, Told, Unavailable
from loadtests.subjects.outside import Outside, class_named, has, not_judged, told_of
from loadtests.subjects.recorded import Recorded
from loadtests.subjects.register import NOBODY, digest_of, payload
from loadtests.subjects.registry import make_ready
from tests.docs.markdown import ROOT, program
from tests.rude_subjects import Whispering

if TYPE_CHECKING:
    from pathlib import Path

    from loadtests.attack.attacker import Start
    from loadtests.faults.arenas import Arena
    from loadtests.judging.verdict import Verdict
    from loadtests.subjects.recorded import Answer

OWN = "docs.examples.own_subject"
EXAMPLE = ROOT / "docs" / "examples" / "own_subject"
TUTORIAL = "docs/your_own_state_manager.md"
# Neither example has a method touch.
HOT = Mix(sessions=3, weights={kind: weight for kind, weight in WEIGHTS.items() if kind != "TOUCH"})
METHODS = """
class Sessions:
    def create(self, session_id, text): ...
    def get(self, session_id): ...
    def update(self, session_id, held, text): ...
    def delete(self, session_id, held): ...
    def close(self): ...
"""
WITHOUT_TWO = METHODS.replace("update", "write").replace("close", "end")


@pytest.fixture
def attacked(arena: Arena, start: Start, tmp_path: Path) -> Any:
    """A function that attacks a subject and judges it: the verdict, and the round."""

    def attack(subject: str, **options: Any) -> tuple[Verdict, Any]:
        plan = Plan(
            **{
                "folder": tmp_path,
                "subject": subject,
                "instances": 4,
                "watchers": 0,
                "duration_s": 0.5,
                "mix": HOT,
                "quiet_s": 20.0,
                **options,
            }
        )
        with Campaign(arena, start) as campaign:
            folder = campaign.run_round(plan)
        seen = read_round(folder)
        return judge_round(folder, seen), seen

    return attack


def test_the_naive_one_is_caught(attacked: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The tutorial's first state manager, which reads, compares and writes in three steps, is accused, and shown."""
    # Where the machine is busy with something else, its steps may not have met yet.
    for number in range(1, 20):
        verdict, _ = attacked(f"{OWN}.naive:Sessions", number=number)
        assert verdict.not_judged
        if verdict.status == Status.VIOLATION:
            break
    assert Status.VIOLATION == verdict.status, verdict.reasons
    folder = tmp_path / "rounds" / f"{number:03d}"
    assert (folder / "violation.svg").read_text().startswith("<svg")
    assert 1 == main(["judge", str(folder)])
    assert 0 == main(["show", str(folder), "--session", str(verdict.violations[0].session)])
    told = capsys.readouterr().out
    assert "one writer: Both made the same version" in told
    assert all(f"not judged: {one}" in " ".join(told.split()) for one in verdict.not_judged)
    assert verdict.violations[0].first.words in told


def test_the_mended_one_is_valid_also_where_replies_are_lost(attacked: Any, arena: Arena) -> None:
    """The tutorial's second one is not accused, and what it cannot know it does not say; nothing unjudged is passed."""
    with way_to(arena.settings.redis_url) as arena.proxy:
        for number in range(1, 20):
            (fault,) = [one for one in faults_on("mine:Sessions", number, GIVEN) if one.name == "replies dropped"]
            fault.parameters |= {"hold_s": 0.3, "share": 0.2}
            plan = {"number": number, "fault": fault, "fault_after_s": 0.1, "after_s": 0.1}
            verdict, seen = attacked(f"{OWN}.mended:Sessions", **plan)
            assert Status.VALID == verdict.status, (verdict.reasons, verdict.violations)
            # Of writes that were applied: that is what the caller must not take for a refusal.
            if seen.fault.exercised and verdict.counts["adopted"]:
                break
    assert seen.fault.exercised, seen.fault.proof
    assert verdict.counts["adopted"] > 0
    assert any("audit (G7, G13)" in one for one in verdict.not_judged)
    assert any("watchers are told (G8)" in one for one in verdict.not_judged)


def test_what_no_subject_may_answer_is_never_valid(attacked: Any) -> None:
    """G6: an error that says nothing of its write, and an answer of another kind, leave all undecided, and are told."""
    verdict, _ = attacked(
        "tests.rude_subjects:Rude", mix=Mix(sessions=3, weights={"CREATE": 1, "UPDATE": 5, "DELETE": 1})
    )
    assert Status.UNDECIDED == verdict.status
    reasons = "\n".join(verdict.reasons)
    assert "the subject's update() raised ValueError: no password here (" in reasons
    assert "the subject's delete() answered 1, where True or False is promised (" in reasons
    assert "answered what no subject may answer" in reasons


def test_one_that_cannot_be_made_says_so_in_a_line(attacked: Any) -> None:
    """A class that raises when it is called ends the attack with its words, not with a traceback."""
    with pytest.raises(ConfigurationError, match=r":Dead: could not be made: PermissionError: no store for me$"):
        attacked("tests.rude_subjects:Dead")


@pytest.mark.parametrize(
    ("text", "name", "words"),
    [
        (METHODS, "elsewhere:Sessions", "there is no module elsewhere; is it in this folder"),
        ("import nowhere_to_be_found", "mine:Sessions", "there is no module nowhere_to_be_found"),
        ("1 / 0", "mine:Sessions", "mine:Sessions: cannot be imported: ZeroDivisionError: division by zero"),
        (METHODS, "mine:Session", "the module mine has no class Session"),
        ("def Sessions(): ...", "mine:Sessions", "has no class, but something else, of the name Sessions"),
        (WITHOUT_TWO, "mine:Sessions", "no method update(session_id, held, text), close()"),
        (METHODS.replace("_id, held):", "_id):"), "mine:Sessions", "cannot be called as delete(session_id, held): too"),
        (METHODS.replace("def get", "async def get"), "mine:Sessions", "get is a coroutine function"),
        (METHODS + "    def touch(self): ...", "mine:Sessions", "cannot be called as touch(session_id)"),
        (METHODS, "nobodys", "there is no nobodys; there are kairos, "),
    ],
)  # fmt: skip
@pytest.mark.parametrize(("run", "words_before"), [(main, ["attack"]), (load, ["run", "baseline"])])
def test_what_is_no_subject_is_an_error_in_one_line(
    text: str,
    name: str,
    words: str,
    run: Any,
    words_before: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Before anything is started: which module, class or method is missing, and exit status 2."""
    (tmp_path / "mine.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", "")
    monkeypatch.delitem(sys.modules, "mine", raising=False)
    assert 2 == run([*words_before, "--subject", name])
    told = capsys.readouterr()
    assert words in told.err
    assert (1, "") == (told.err.count("\n"), told.out)
    sys.modules.pop("mine", None)


def test_the_processes_can_import_what_this_one_can(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module of the folder that one is in is found in the processes, too, which run elsewhere; PYTHONPATH stays."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", "/elsewhere")
    make_ready("kairos")
    assert "/elsewhere" == os.environ["PYTHONPATH"]
    make_ready(f"{OWN}.naive:Sessions")
    first, *more = os.environ["PYTHONPATH"].split(os.pathsep)
    assert "/elsewhere" == first
    assert str(tmp_path) in more


def answering(answer: Any) -> Outside:
    """A subject that answers, or raises, always the same."""
    made: Any = partial(Whispering, answer=answer)
    return Outside(made, Settings())


def recorded_once(answer: Any, kind: Kind, tmp_path: Path) -> tuple[Answer, list[str]]:
    """What becomes of an attempt on a subject that answers so, and what is noted of it."""
    subject = answering(answer)
    with Recorder(tmp_path / "1.history", 1) as recorder:
        recorded = Recorded(subject, recorder, "r")
        made = recorded.delete(1, None) if kind == Kind.DELETE else getattr(recorded, kind.name.lower())(1)
    return made, told_of(subject)


@pytest.mark.parametrize(
    ("kind", "answer", "outcome", "error", "noted"),
    [
        (Kind.CREATE, Stored(3, 1, "x"), Outcome.OK, Error.NONE, ""),
        (Kind.CREATE, (3, 1, "x"), Outcome.UNKNOWN, Error.OTHER, "create() answered (3, 1, 'x'), where a Stored"),
        (Kind.CREATE, Stored(3, 0, "x"), Outcome.UNKNOWN, Error.OTHER, "create() answered Stored(life=3, version=0"),
        (
            Kind.CREATE,
            Stored(3, True, "x"),
            Outcome.UNKNOWN,
            Error.OTHER,
            "create() answered Stored(life=3, version=True",
        ),
        (Kind.CREATE, Stored(3, 1, b"x"), Outcome.UNKNOWN, Error.OTHER, "create() answered Stored"),  # type: ignore[arg-type]
        (Kind.CREATE, None, Outcome.UNKNOWN, Error.OTHER, "create() answered None, where a Stored"),
        (Kind.CREATE, AlreadyExists(), Outcome.REFUSED, Error.EXISTS, ""),
        (Kind.CREATE, OutcomeUnknown(), Outcome.UNKNOWN, Error.OUTCOME_UNKNOWN, ""),
        (Kind.CREATE, ConnectionError("gone"), Outcome.UNKNOWN, Error.OTHER, "create() raised ConnectionError: gone"),
        (Kind.GET, None, Outcome.OK, Error.NONE, ""),
        (Kind.GET, Unavailable(), Outcome.REFUSED, Error.UNAVAILABLE, ""),
        (Kind.GET, 7, Outcome.UNKNOWN, Error.OTHER, "get() answered 7, where a Stored"),
        (Kind.MUTATE, None, Outcome.REFUSED, Error.NOT_FOUND, ""),
        (Kind.MUTATE, Stored(3, 1, "x"), Outcome.OK, Error.NONE, ""),
        (Kind.DELETE, True, Outcome.OK, Error.NONE, ""),
        (Kind.DELETE, False, Outcome.REFUSED, Error.NOT_FOUND, ""),
        (Kind.DELETE, NotFound(), Outcome.REFUSED, Error.NOT_FOUND, ""),
        (Kind.DELETE, Conflict(Stored(3, 5, "x")), Outcome.REFUSED, Error.CONFLICT, ""),
        (Kind.DELETE, 1, Outcome.UNKNOWN, Error.OTHER, "delete() answered 1, where True or False"),
        (Kind.TOUCH, True, Outcome.OK, Error.NONE, ""),
        (Kind.TOUCH, None, Outcome.UNKNOWN, Error.OTHER, "touch() answered None, where True or False"),
    ],
)
def test_what_a_subject_answers_is_taken_for_no_more_than_it_says(
    kind: Kind, answer: Any, outcome: Outcome, error: Error, noted: str, tmp_path: Path
) -> None:
    """G6: what it promises is recorded as what it is; whatever else it answers or raises is unknown, and noted."""
    made, notes = recorded_once(answer, kind, tmp_path)
    assert (outcome, error) == (made.outcome, made.error)
    assert noted in "".join(notes)
    assert bool(noted) == bool(notes)


def test_a_text_that_nobody_wrote_is_seen_as_nobodys() -> None:
    """A state that is made up, cut short or of another session is evidence, not an error of the harness."""
    whole = payload("s", 77)
    assert NOBODY == answering(Stored(3, 1, "")).create("s", 77).seen.writer
    held = answering(Stored(3, 2, msgspec.json.encode(whole).decode())).get("s")
    assert held is not None
    assert Seen((3, 2), 77, digest_of(whole)) == held.seen


@pytest.mark.parametrize(
    ("answer", "kind", "noted"),
    [
        (Told("s", Stored(3, 2, "x")), Kind.TOLD, ""),
        (Told("s", Stored(3, 3, ""), is_removed=True), Kind.TOLD_REMOVED, ""),
        (None, None, ""),
        (Stored(3, 2, "x"), None, "receive() answered Stored"),
        (OSError("gone"), None, "receive() raised OSError: gone"),
    ],
)
def test_what_a_watch_is_told(answer: Any, kind: Kind | None, noted: str) -> None:
    """G8: a notice has the version that it says, a removal no content; a watch that fails is noted."""
    subject = answering(answer)
    with subject.watch() as watcher:
        notice = watcher.receive(0.0)
    assert kind == (notice.kind if notice else None)
    if notice is not None:
        assert answer.stored[:2] == notice.seen.stamp
        assert (notice.seen.digest == NOTHING.digest) == answer.is_removed
    assert noted in "".join(told_of(subject))
    assert bool(noted) == bool(told_of(subject))


def test_what_is_not_judged_follows_from_what_a_subject_has() -> None:
    """What nobody can see of a subject is named; a subject that is here leaves nothing out on this account."""
    assert [] == not_judged("kairos") == not_judged("watch_multi")
    without, with_both = not_judged(f"{OWN}.naive:Sessions"), not_judged("tests.rude_subjects:Whispering")
    assert {"has no method watch", "has no method touch"} == {one.partition("the subject ")[2] for one in without[1:3]}
    assert [one for one in without if "no method" not in one] == with_both
    assert has("tests.rude_subjects:Whispering", "watch")
    assert Whispering is class_named("tests.rude_subjects:Whispering")


def test_the_tutorial_shows_the_files() -> None:
    """Each program of the tutorial stands in one of the example's files, word for word, and the first one is whole."""
    files = [path.read_text(encoding="utf-8") for path in sorted(EXAMPLE.glob("*.py"))]
    shown = [
        program("Sessions in Redis as many services begin", file=TUTORIAL),
        program("redis.call('HMGET'", file=TUTORIAL),
        program("def _ask", file=TUTORIAL),
    ]
    assert [text for text in shown if not any(text.strip() in file for file in files)] == []
    assert shown[0] in files
