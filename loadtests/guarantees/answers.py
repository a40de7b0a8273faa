"""Directed checks of what a caller is told where answers do not come, and by when (G6, G10)."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

from kairos_core import OutcomeUnknown, RedisStateManager, StoreUnavailable
from kairos_core.transport import run
from loadtests.guarantees.finding import Facts, Finding, directed
from loadtests.guarantees.on_the_way import drop_replies, through
from loadtests.guarantees.writes import outcome, said, titled
from loadtests.states import sample_state

if TYPE_CHECKING:
    from collections.abc import Callable

    from kairos_core import KairosError, Settings

# A call that is not answered takes all of it.
_TIMEOUT_S = 1.0
# And what a busy machine may add, before a call counts as one that does not end.
_PATIENCE_S = 4.0


@directed("G6", "Does an error say whether the write was applied?")
def no_answer_is_unknown(settings: Settings) -> Finding:
    """A write that is applied and never answered, and one that cannot be sent."""
    facts = Facts()
    with through(settings, _TIMEOUT_S) as (proxy, manager), RedisStateManager.connect(settings) as other:
        state = other.create_session(sample_state("a"))
        drop_replies(proxy, 10**6)
        answer = outcome(lambda: manager.update_session(state))
        stored = other.get_session("a")
        is_unknown = isinstance(answer, OutcomeUnknown) and not answer.definite
        facts.note(
            is_unknown and stored and stored.version == 2,
            f"applied and never answered (stored is {said(stored)}): {said(answer)}",
        )
        if isinstance(answer, OutcomeUnknown):
            settled = outcome(lambda: other.resolve(answer.operation_id))
            facts.note(settled is True, f"resolve: {said(settled)}")
        proxy.close()
        answer = outcome(lambda: manager.update_session(state))
        facts.note(isinstance(answer, StoreUnavailable) and answer.definite, f"never sent: {said(answer)}")
    return facts.finding


@directed("G6", "Does a write that was settled as not applied stay so, also if it arrives later?")
def a_write_given_up_never_happens(settings: Settings) -> Finding:
    """Writes of each kind that are settled first, and sent then."""
    facts = Facts()
    with RedisStateManager.connect(settings) as manager:
        link, commands = manager._operations.link, manager._operations.commands  # noqa: SLF001 - to send one later
        state = manager.create_session(sample_state("a"))
        for what, late in (
            ("create", commands.create(sample_state("b"), "created")),
            ("update", commands.update(titled(state, "late"), "updated")),
            ("delete", commands.delete("a", None, "deleted")),
        ):
            settled = manager.resolve(late.operation_id or "")
            answer: Any = outcome(lambda late=late: run(link.call(late)))  # type: ignore[misc]
            held = settled is False and isinstance(answer, StoreUnavailable) and answer.definite
            facts.note(held, f"{what}: settled as {settled}, then {said(answer)}")
        facts.note(manager.get_session("a") == state, f"a is {said(manager.get_session('a'))}")
        facts.note(manager.get_session("b") is None, f"b is {said(manager.get_session('b'))}")
    return facts.finding


@directed("G10", "Does every call end by its deadline, where the server takes it and says nothing?")
def every_call_ends(settings: Settings) -> Finding:
    """A read and a write whose answers are swallowed, on connections that stay open."""
    facts = Facts()
    with through(settings, _TIMEOUT_S) as (proxy, manager), RedisStateManager.connect(settings) as other:
        state = other.create_session(sample_state("a"))
        proxy.on_reply = lambda _: b""
        calls: dict[str, Callable[[], object]] = {
            "get": lambda: manager.get_session("a"),
            "update": lambda: manager.update_session(state),
        }
        for what, call in calls.items():
            answers: list[KairosError] = []
            # Not waited for any longer than this.
            caller = threading.Thread(target=lambda call=call, to=answers: to.append(outcome(call)), daemon=True)
            start = time.monotonic()
            caller.start()
            caller.join(_TIMEOUT_S + _PATIENCE_S)
            taken_s = time.monotonic() - start
            said_ = said(answers[0]) if answers else "no end"
            # Definite where not even a connection could be made, which takes answers, too.
            facts.note(
                answers and isinstance(answers[0], StoreUnavailable | OutcomeUnknown),
                f"{what}: {said_} after {taken_s:.1f} s",
            )
            if not answers:
                break
    return facts.finding
