"""Directed checks of the guarantees: what a random run would not show, or not soon.

Each is a function from settings to a `CheckResult`, and is asked for at a `Desk`, which runs it in a process of its
own, of a core that is broken in one way if need be. They start no server but those that they break, and leave keys in
the settings' namespace.
"""

from __future__ import annotations

from loadtests.guarantees.answers import a_write_given_up_never_happens, every_call_ends, no_answer_is_unknown
from loadtests.guarantees.desk import CheckError, Desk
from loadtests.guarantees.ends import an_end_is_an_event, writes_put_the_end_off
from loadtests.guarantees.finding import Directed
from loadtests.guarantees.ground import (
    fsync_is_only_claimed_where_it_is,
    replicated_is_only_claimed_where_it_is,
    unsafe_ground_is_refused,
)
from loadtests.guarantees.records import (
    a_killed_drain,
    a_refused_row_is_a_dead_letter,
    a_session_row_never_goes_back,
)
from loadtests.guarantees.recoveries import a_recovery_brings_back_what_was_lost
from loadtests.guarantees.watching import (
    a_deaf_watcher_notices,
    a_watcher_across_a_lost_connection,
    a_watcher_never_goes_back,
    a_watcher_notices_a_gap,
)
from loadtests.guarantees.writes import (
    a_full_outbox_refuses,
    a_refused_write_leaves_no_trace,
    a_stale_writer_is_refused,
    a_write_leaves_one_of_each,
    a_write_sent_again,
    one_round_trip,
    receipts_run_out,
    what_is_known_is_no_answer,
)

__all__ = ["GUARANTEES", "CheckError", "Desk", "Directed"]

# The cheap ones first.
GUARANTEES: dict[str, Directed] = {
    check.name: check
    for check in (
        a_stale_writer_is_refused,
        what_is_known_is_no_answer,
        one_round_trip,
        a_refused_write_leaves_no_trace,
        a_write_leaves_one_of_each,
        a_write_sent_again,
        receipts_run_out,
        a_write_given_up_never_happens,
        a_full_outbox_refuses,
        writes_put_the_end_off,
        a_watcher_across_a_lost_connection,
        a_watcher_never_goes_back,
        a_watcher_notices_a_gap,
        a_session_row_never_goes_back,
        a_refused_row_is_a_dead_letter,
        a_killed_drain,
        a_recovery_brings_back_what_was_lost,
        no_answer_is_unknown,
        every_call_ends,
        a_deaf_watcher_notices,
        an_end_is_an_event,
        unsafe_ground_is_refused,
        fsync_is_only_claimed_where_it_is,
        replicated_is_only_claimed_where_it_is,
    )
}
