from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from loadtests.load.facts import Memory
from loadtests.load.findings import Speed
from loadtests.load.verdict import judge_load
from tests.made_load import Answer, made, quick, scenario, target

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from loadtests.load.facts import Load
    from loadtests.load.plan import Step
    from loadtests.scenarios import Scenario

STEP_S = 6.0


def growing() -> Scenario:
    """A load of four steps, each twice as high as the one before."""
    targets = [target(is_knee=True)]
    return scenario(duration_s=4 * STEP_S, think_s=0.2, life_turns=2_000, steps=4, step_factor=2.0, targets=targets)


def up_to(step: int, beyond: Answer) -> Callable[[Step, random.Random], Answer]:
    """A system that takes so many steps."""
    return lambda one, rng: quick(one, rng) if one.due_ns / 1e9 < step * STEP_S else beyond


def waits(one: Step, rng: random.Random) -> Answer:
    """A system in whose third step more and more waits, but not for so long that the limit is reached."""
    within_s = one.due_ns / 1e9 - 2 * STEP_S
    return quick(one, rng)._replace(waiting_us=max(1.0, within_s * 2_000))


@pytest.mark.parametrize(
    ("beyond", "words"),
    [
        (Answer(service_us=30_000), "p95 is 30.0"),
        (Answer(outcome="error"), "p95 is never"),
        (Answer(outcome="dropped"), "p95 is never"),
    ],
)
def test_the_knee_is_the_last_step_that_is_taken(beyond: Answer, words: str) -> None:
    """A knee that was found is a PASS, and what failed behind it fails nothing."""
    verdict = judge_load(*made(growing(), up_to(2, beyond)))
    found = verdict.targets[0]
    assert (Speed.PASS, Speed.PASS, []) == (verdict.verdict, found.verdict, verdict.reasons)
    assert [True, True, False, False] == [step.is_taken for step in verdict.knee]
    assert found.measured == verdict.knee[1].offered_per_s == pytest.approx(100, rel=0.2)
    assert words in found.sentence
    assert "at least" not in found.sentence


def test_failures_before_the_knee_fail() -> None:
    """In the steps that the system takes, nothing may fail."""
    rare = made(growing(), lambda _, rng: Answer(outcome="error" if rng.random() < 0.01 else "ok"))
    verdict = judge_load(*rare)
    assert (Speed.PASS, Speed.FAIL) == (verdict.targets[0].verdict, verdict.verdict)


def test_waiting_that_grows_ends_the_search() -> None:
    """A step through which waiting grows is not taken, though its percentile is still below the limit."""
    verdict = judge_load(*made(growing(), waits))
    assert verdict.knee[2].percentile_ms < 20.0
    assert "waiting grows" in verdict.knee[2].why
    assert [True, True, False] == [step.is_taken for step in verdict.knee[:3]]


def test_a_knee_that_one_process_alone_cannot_see() -> None:
    """Where none is told of another's writes, a knee of deliveries is left out, and all of the time is looked at."""
    wanted = scenario(targets=[target(operation="delivery", is_knee=True)])
    verdict = judge_load(*made(wanted, lambda _, __: Answer(outcome="error"), places=1))
    assert (["delivery p95"], []) == (verdict.unjudged, verdict.knee)
    assert Speed.FAIL in {line.verdict for line in verdict.lines}


def test_the_top_is_a_bound() -> None:
    """Where all steps are taken, the knee is at least the last."""
    found = judge_load(*made(growing())).targets[0]
    assert (Speed.PASS, True) == (found.verdict, found.sentence.startswith("at least"))


def test_a_step_that_a_higher_one_disproves() -> None:
    """A system that takes more takes less, too: what disturbed a step below is not its knee, and nothing is told."""
    first = made(growing(), lambda step, _: Answer(service_us=30_000 if step.due_ns < 6e9 else 500))
    verdict = judge_load(*first)
    assert (Speed.INCONCLUSIVE, False, True) == (
        verdict.targets[0].verdict,
        verdict.knee[0].is_taken,
        verdict.knee[1].is_taken,
    )
    assert "which is more, was" in verdict.targets[0].sentence


def test_not_even_the_first() -> None:
    """A system that does not take the first step fails."""
    verdict = judge_load(*made(growing(), up_to(0, Answer(service_us=30_000))))
    assert (Speed.FAIL, Speed.FAIL, None) == (verdict.verdict, verdict.targets[0].verdict, verdict.targets[0].measured)


def test_a_step_that_is_not_done_is_not_taken() -> None:
    """A system that does less than was offered does not take it, though what it does is quick."""
    one = made(growing())
    for second in range(12, 18):
        for name in [name for name in one.load.seconds[second] if name.startswith("turn") and second % 4 == 0]:
            del one.load.seconds[second][name]
    verdict = judge_load(*one)
    assert "are done" in verdict.knee[2].why


def _busy(found: Load, second: int) -> None:
    found.parts[1].cpu[second : second + 6] = [0.95] * 6


@pytest.mark.parametrize("how", ["busy", "late"])
def test_a_generator_that_offers_no_more_ends_the_search(how: str) -> None:
    """What the generator could not offer says nothing of the system: the knee is at least what was taken before."""
    late = up_to(2, Answer(lag_us=80_000, service_us=30_000)) if how == "late" else quick
    one = made(growing(), late)
    if how == "busy":
        _busy(one.load, 12)
    verdict = judge_load(*one)
    found = verdict.targets[0]
    assert (Speed.PASS, []) == (verdict.verdict, verdict.reasons)
    assert found.measured == verdict.knee[1].offered_per_s
    assert "the generator could offer no more" in found.sentence


def test_a_generator_that_offers_nothing() -> None:
    """Where not even the first step could be offered, the run shows nothing."""
    one = made(growing())
    _busy(one.load, 1)
    verdict = judge_load(*one)
    assert Speed.INVALID == verdict.verdict
    assert "could not offer even the first step" in verdict.reasons[0]


@pytest.mark.parametrize(
    ("grown_kb", "expected"), [(0, "PASS"), (900, "PASS"), (2_400, "PASS"), (2_600, "FAIL"), (90_000, "FAIL")]
)
def test_memory_may_not_grow(grown_kb: int, expected: str) -> None:
    """More than so much in the last tenth of the time fails; a few moments that are high do not, nor the beginning."""
    one = made(scenario(duration_s=60.0, think_s=2.0, max_growth=0.05, targets=[]))
    memory = one.load.memories[0]
    memory.at_s = [float(second) for second in range(72)]
    memory.kb = [50_000 + grown_kb * second // 60 for second in range(72)]
    # A ramp that grows to where it should be, a single high moment, and what is only measured after the end.
    memory.kb[:6] = [1_000] * 6
    memory.kb[56] = memory.kb[7] = 900_000
    memory.kb[62:] = [900_000] * 10
    near_begin, near_end = 50_000 + grown_kb * 9 / 60, 50_000 + grown_kb * 57 / 60
    is_over = near_end / near_begin - 1 > 0.05
    verdict = judge_load(*one)
    line = next(line for line in verdict.lines if line.what == "memory of valkey")
    assert (("FAIL" if is_over else "PASS"), []) == (line.verdict, verdict.reasons)
    assert expected == line.verdict or grown_kb == 2_600


def test_little_memory_may_grow() -> None:
    """Growth of less than 1 MB is told, and not counted."""
    one = made(scenario(max_growth=0.05, targets=[]))
    at_s = [second / 4 for second in range(60)]
    one.load.memories.append(Memory(name="small", pid=2, at_s=at_s, kb=[2_000] * 40 + [2_900] * 20))
    line = next(line for line in judge_load(*one).lines if line.what == "memory of small")
    assert (Speed.PASS, True) == (line.verdict, "less than 1 MB" in line.sentence)
    one.load.memories[-1].kb[40:] = [3_100] * 20
    assert Speed.FAIL == judge_load(*one).verdict


def test_memory_that_was_hardly_looked_at() -> None:
    """Of a few moments nothing is told, and the limit is shown in the line's unit all the same."""
    one = made(scenario(max_growth=0.05, targets=[]))
    for memory in one.load.memories:
        memory.at_s, memory.kb = memory.at_s[::5], memory.kb[::5]
    verdict = judge_load(*one)
    assert Speed.INCONCLUSIVE == verdict.verdict
    assert {(5.0, "%")} == {(line.limit, line.unit) for line in verdict.lines if line.what.startswith("memory of ")}


@pytest.mark.parametrize(("name", "expected"), [("postgres 7", "PASS"), ("worker 2", "INCONCLUSIVE")])
def test_what_was_not_there_all_the_time(name: str, expected: str) -> None:
    """A helper of PostgreSQL's comes and goes; of any other process that did, nothing is told."""
    one = made(scenario(max_growth=0.05, targets=[]))
    at_s = [moment / 4 for moment in range(20, 56)]
    one.load.memories.append(Memory(name=name, pid=2, at_s=at_s, kb=[2_000 * second for second in range(36)]))
    assert expected == judge_load(*one).verdict
    one.load.memories[-1].at_s[:6] = [1.5, 1.75, 2.0, 2.25, 2.5, 2.75]
    assert Speed.FAIL == judge_load(*one).verdict


@pytest.mark.parametrize(("waiting", "keys", "expected"), [(0, 25, "PASS"), (1, 25, "FAIL"), (0, 26, "FAIL")])
def test_nothing_may_be_left(waiting: int, keys: int, expected: str) -> None:
    """At the end the outboxes are empty, and of the keys there are those of before, of what lives, and of the lanes."""
    one = made(scenario(max_growth=0.05, targets=[]))
    one.load.left, one.load.lane_keys = 2, 3
    one.load.moments[-1].waiting, one.load.moments[-1].keys = waiting, keys
    assert expected == judge_load(*one).verdict
