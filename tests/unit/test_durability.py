from __future__ import annotations

import pickle
from typing import Any

import pytest

from kairos_core import Durability, DurabilityNotReached, InvalidState, Settings
from kairos_core.commands import Commands
from kairos_core.durability import CONFIG_WORDS, FSYNC_NEEDS, achieved, fsync_lacks, questions
from kairos_core.errors import ConfigurationError
from kairos_core.layout import Layout
from kairos_core.session import to_json, with_durability
from loadtests.states import sample_state

ALWAYS = [word.encode() for pair in FSYNC_NEEDS.items() for word in pair]
EVERYSEC = [word.replace(b"always", b"everysec") for word in ALWAYS]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("memory", Durability.MEMORY),
        ("fsync", Durability.FSYNC),
        ("replicated", Durability.replicated(1)),
        ("replicated:1", Durability.REPLICATED),
        ("replicated:2", Durability.replicated(2)),
        ("replicated:100", Durability("replicated", 100)),
    ],
)
def test_parse(text: str, expected: Durability) -> None:
    """G11: each level has a text, which reads back as the same; a Durability is its own."""
    assert expected == Durability.parse(text)
    assert expected == Durability.parse(str(expected))
    assert expected == Durability.parse(expected)


@pytest.mark.parametrize(
    "value",
    [
        "", "disk", "Memory", " fsync", "fsync ", "memory:", "memory:1", "fsync:1", "replicated:", "replicated:0",
        "replicated:101", "replicated:1000001", "replicated:-1", "replicated:+1", "replicated:1.0", "replicated: 1",
        "replicated:1:1", "replicated:²", "replicated:٣", "replicated:" + "9" * 5_000, ":1", b"memory", 1, None, True,
        ["memory"], Durability("replicated"), Durability("replicated", -1), Durability("replicated", 101),
        Durability("memory", 1), Durability("fsync", 1), Durability("replicated", True), Durability("memory", False),
        Durability("replicated", 1.0), Durability("replicated", "1"), Durability("replicated", None),  # type: ignore[arg-type]
        Durability("disk"), Durability(None), Durability(["memory"]),  # type: ignore[arg-type]
    ],
    ids=lambda value: repr(value)[:40],
)  # fmt: skip
def test_what_is_no_level_is_refused(value: Any) -> None:
    """G11: what is no level is refused as such, whether as a text, built by hand, or nothing of the kind."""
    with pytest.raises(InvalidState, match="durability: "):
        Durability.parse(value)


def test_no_level_is_refused_before_anything_is_sent() -> None:
    """G11: a call with what is no level ends where its command is built, for each kind of write."""
    commands = Commands(Settings(), Layout("kairos", 16))
    state = sample_state("a")
    for build in (
        lambda: commands.create(state, "created", "disk"),
        lambda: commands.update(state, "updated", "disk"),
        lambda: commands.delete("a", None, "deleted", "disk"),
    ):
        with pytest.raises(InvalidState, match="durability"):
            build()


@pytest.mark.parametrize("text", ["disk", "replicated:0", "memory:1", "replicated:two"])
def test_a_setting_that_is_no_level(text: str) -> None:
    """G11: a process does not start with a level that there is not, and says which variable it is."""
    with pytest.raises(ConfigurationError, match=r"KAIROS_DURABILITY: (?!durability)"):
        Settings.from_env({"KAIROS_DURABILITY": text})


def test_a_call_goes_before_the_manager() -> None:
    """G11: a write asks for the manager's level, unless the call has one of its own; memory needs no question."""
    layout = Layout("kairos", 16)
    state = sample_state("a")
    by_default, by_disk = Commands(Settings(), layout), Commands(Settings(durability="fsync"), layout)
    assert by_default.update(state, "updated").durability is None
    assert by_default.update(state, "updated", "replicated:2").durability == Durability.replicated(2)
    assert by_disk.create(state, "created").durability == Durability.FSYNC
    assert by_disk.delete("a", None, "deleted", Durability.REPLICATED).durability == Durability.REPLICATED
    assert by_disk.update(state, "updated", "memory").durability is None
    assert by_disk.get("a").durability is None


def test_questions() -> None:
    """G11: what follows a write waits no longer than it may, and never for ever, which 0 would mean."""
    assert () == questions(Durability.MEMORY, 1.0)
    assert (("WAIT", "2", "1500"),) == questions(Durability.replicated(2), 1.5)
    assert (("WAITAOF", "1", "0", "1500"), CONFIG_WORDS) == questions(Durability.FSYNC, 1.5)
    for wait_s in (0.0, 0.0001, -3.0):
        assert (("WAIT", "1", "1"),) == questions(Durability.REPLICATED, wait_s)


@pytest.mark.parametrize(
    ("wanted", "answers", "reached"),
    [
        (Durability.REPLICATED, [1], Durability.REPLICATED),
        (Durability.REPLICATED, [3], Durability.replicated(3)),
        (Durability.replicated(2), [2], Durability.replicated(2)),
        (Durability.FSYNC, [[1, 0], ALWAYS], Durability.FSYNC),
        (Durability.FSYNC, [[1, 2], ALWAYS], Durability.FSYNC),
    ],
)
def test_achieved(wanted: Durability, answers: list[Any], reached: Durability) -> None:
    """G11: what was reached is what the server counted, and may be more than was asked for."""
    assert (reached, "") == achieved(wanted, answers)


@pytest.mark.parametrize(
    ("wanted", "answers", "reached", "cause"),
    [
        (Durability.REPLICATED, [0], Durability.MEMORY, "0 of 1 replicas"),
        (Durability.replicated(3), [2], Durability.replicated(2), "2 of 3 replicas"),
        (Durability.FSYNC, [[0, 0], ALWAYS], Durability.MEMORY, "in time"),
        (Durability.FSYNC, [[1, 0], EVERYSEC], Durability.MEMORY, "appendfsync is everysec"),
        (Durability.FSYNC, [[1, 0], ALWAYS[:2]], Durability.MEMORY, "appendfsync is unknown"),
        (Durability.FSYNC, [[1, 0], []], Durability.MEMORY, "appendonly is unknown"),
        (Durability.FSYNC, [[1, 0], RuntimeError("NOPERM\nno  permission")], Durability.MEMORY, "NOPERM no permission"),
        (Durability.FSYNC, [RuntimeError("ERR appendonly"), ALWAYS], Durability.MEMORY, "ERR appendonly"),
        (Durability.REPLICATED, [TimeoutError()], Durability.MEMORY, "TimeoutError"),
        # What a server of another kind may say.
        (Durability.REPLICATED, [], Durability.MEMORY, "no sense"),
        (Durability.REPLICATED, [None], Durability.MEMORY, "no sense"),
        (Durability.REPLICATED, [b"1"], Durability.MEMORY, "no sense"),
        (Durability.REPLICATED, [[1]], Durability.MEMORY, "no sense"),
        (Durability.REPLICATED, [1, 1], Durability.MEMORY, "no sense"),
        (Durability.REPLICATED, [-1], Durability.MEMORY, "-1 of 1"),
        (Durability.FSYNC, [1, ALWAYS], Durability.MEMORY, "no sense"),
        (Durability.FSYNC, [[1], ALWAYS], Durability.MEMORY, "no sense"),
        (Durability.FSYNC, [[b"1", 0], ALWAYS], Durability.MEMORY, "in time"),
        (Durability.FSYNC, [[1, 0]], Durability.MEMORY, "no sense"),
        (Durability.FSYNC, [[1, 0], None], Durability.MEMORY, "no sense"),
        (Durability.FSYNC, [[1, 0], 1], Durability.MEMORY, "no sense"),
        (Durability.FSYNC, [[1, 0], ALWAYS[:3]], Durability.MEMORY, "no sense"),
        (Durability.FSYNC, [[1, 0], [1, 2]], Durability.MEMORY, "no sense"),
        (Durability.FSYNC, [[1, 0], [b"\xff", b"\xff"]], Durability.MEMORY, "no sense"),
    ],
)
def test_falling_short(wanted: Durability, answers: list[Any], reached: Durability, cause: str) -> None:
    """G11: fewer replicas, a disk that was late, an unsafe configuration and answers without sense all fall short."""
    found, said = achieved(wanted, answers)
    assert reached == found
    assert cause in said
    assert "\n" not in said


@pytest.mark.parametrize("name", FSYNC_NEEDS)
def test_each_part_of_the_configuration_counts(name: str) -> None:
    """G11: fsync takes all three settings of the server; each that differs is named with its value."""
    assert fsync_lacks(ALWAYS) == ""
    changed = FSYNC_NEEDS | {name: "other"}
    assert f"{name} is other" == fsync_lacks([word.encode() for pair in changed.items() for word in pair])


def test_what_was_reached_is_no_part_of_the_state() -> None:
    """G11: a state carries how safe its write is; it is not stored, not compared, and not passed on to what derives."""
    plain = sample_state("a")
    state = with_durability(sample_state("a"), Durability.replicated(2))
    assert (Durability.replicated(2), Durability.MEMORY) == (state.durability, plain.durability)
    assert plain == state
    assert to_json(plain) == to_json(state)
    assert state.replace(metadata={}).durability == Durability.MEMORY
    assert pickle.loads(pickle.dumps(plain)) == plain  # noqa: S301 - our own


def test_what_is_no_state_carries_nothing() -> None:
    """G11: of a deletion, True stays True."""
    assert with_durability(True, Durability.FSYNC) is True


def test_the_error_says_that_the_write_was_applied() -> None:
    """G6, G11: falling short is not definite, as something did happen, and says what, and what is lacking."""
    error = DurabilityNotReached(
        "a", "0" * 32, wanted=Durability.replicated(2), achieved=Durability.REPLICATED, result=True, cause="1 of 2"
    )
    assert not error.definite
    assert "applied" in str(error)
    assert "replicated:2" in str(error)
    assert "1 of 2" in str(error)
