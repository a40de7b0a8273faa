"""A directed check of recoveries (G12): what comes in between, at the moment at which it would do most harm."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from kairos_core import AuditWriter, RedisStateManager, VersionConflict
from loadtests.environment import admin
from loadtests.guarantees.finding import Facts, Finding, directed
from loadtests.guarantees.writes import outcome, said, titled
from loadtests.losses import Store, between, once, same
from loadtests.states import sample_state

if TYPE_CHECKING:
    from kairos_core import Settings


@directed("G12", "Is what was lost restored, and nothing that was deleted, overwritten or is there?")
def a_recovery_brings_back_what_was_lost(settings: Settings) -> Finding:
    """A deletion that waits to be recorded, and sessions that come, and come and go, while the audit is read."""
    facts = Facts()
    settings = msgspec.structs.replace(settings, lanes=1)
    with (
        admin(settings) as client,
        RedisStateManager.connect(settings) as manager,
        AuditWriter.connect(settings) as writer,
    ):
        writer.migrate()
        with Store(settings, client, manager, writer) as store:
            before = store.create("deleted", "lost", "came", "came-and-went")
            manager.delete_session("deleted")
            # Those that are not there: the lane's outbox keeps what is to be recorded.
            store.lose("lost", "came", "came-and-went")
            store.recover("deleted", patience_s=0.1)
            facts.note(manager.get_session("deleted") is None, f"deleted: {said(manager.get_session('deleted'))}")
            store.drain()
            came = []

            def meanwhile() -> None:
                came.append(manager.create_session(titled(sample_state("came"), "new")))
                manager.create_session(sample_state("came-and-went"))
                manager.delete_session("came-and-went")
                store.drain()

            with between(once(meanwhile)):
                report = store.recover()
            facts.note(same(before["lost"], manager.get_session("lost")), f"lost: {said(manager.get_session('lost'))}")
            stale = outcome(lambda: manager.update_session(before["lost"]))
            facts.note(isinstance(stale, VersionConflict), f"a writer from before: {said(stale)}")
            stored = manager.get_session("came")
            facts.note(stored is not None and [stored] == came, f"came: {stored and stored.metadata}")
            gone = manager.get_session("came-and-went")
            facts.note(gone is None, f"came and went: {said(gone)}")
            facts.note(report.restored == 1, f"{report.restored} restored")
    return facts.finding
