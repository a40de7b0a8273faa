from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from kairos_core import RedisStateManager, SyncMode, SyncState, SyncStatus
from kairos_core.audit.outbox import Entry, Outbox
from kairos_core.expiry import Expiry
from kairos_core.layout import Layout
from loadtests.environment import admin
from loadtests.instances import Instance, RemoteError, RemoteManager
from loadtests.on_a_loop import ManagerOnALoop

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from kairos_core import Settings

EXAMPLES = int(os.environ.get("KAIROS_MODEL_EXAMPLES", "25"))
STEPS = int(os.environ.get("KAIROS_MODEL_STEPS", "40"))
names = st.sampled_from(["a", "b", "c"])
managers = st.sampled_from(["blocking", "asyncio", "process"])
contents = st.builds(
    lambda status, title, turns: {"status": status, "metadata": {"title": title, "turns": turns}},
    st.sampled_from(SyncStatus),
    st.text(max_size=5).filter(lambda text: "\0" not in text),
    st.integers(0, 9),
)


class Subjects:
    """Managers that work on one namespace, a watcher, and what looks at the outbox: kept over all examples."""

    def __init__(self, settings: Settings, worker_settings: Settings, instance: Instance) -> None:
        self.settings = settings
        self.managers: dict[str, Any] = {
            "blocking": RedisStateManager.connect(settings),
            "asyncio": ManagerOnALoop.connect(settings),
            "process": RemoteManager(instance),
        }
        self.outbox = Outbox.connect(worker_settings)
        self.expiry = Expiry.connect(worker_settings)
        self.client = admin(settings)
        self.layout = Layout(settings.namespace, settings.lanes)

    def close(self) -> None:
        """Close what was opened."""
        self.expiry.close()
        self.outbox.close()
        self.managers["asyncio"].close()
        self.managers["blocking"].close()
        self.client.close()


class Model(RuleBasedStateMachine):
    """Sessions as a plain dictionary, beside several managers: any of them must answer as the dictionary does."""

    subjects: Subjects

    def __init__(self) -> None:
        super().__init__()
        self.sessions: dict[str, SyncState] = {}
        self.former: list[SyncState] = []
        # (session, incarnation, version, is alive) of each write, in order.
        self.writes: list[tuple[str, int, int, bool]] = []

    @initialize(watcher=st.sampled_from(["blocking", "asyncio"]))
    def begin(self, watcher: str) -> None:
        """Begin with nothing stored, and watch."""
        for key in self.subjects.client.scan_iter(match=f"{self.subjects.settings.namespace}:{{*"):
            self.subjects.client.delete(key)
        self.watch = self.subjects.managers[watcher].watch_sessions()
        self.watch.__enter__()

    def teardown(self) -> None:
        """All that was written was heard and recorded, once and in order."""
        if not hasattr(self, "watch"):
            return
        try:
            assert self.writes == self._heard()
            assert self._by_session(self.writes) == self._by_session(self._recorded())
        finally:
            self.watch.close()

    def _heard(self) -> list[tuple[str, int, int, bool]]:
        heard: list[tuple[str, int, int, bool]] = []
        deadline = time.monotonic() + 10
        while len(heard) < len(self.writes) and time.monotonic() < deadline:
            update = self.watch.receive(0.5)
            if update is not None:
                heard.append((update.session_id, update.incarnation, update.version, update.state is not None))
        return heard

    def _recorded(self) -> list[tuple[str, int, int, bool]]:
        found = []
        for lane in range(self.subjects.settings.lanes):
            for entry in self.subjects.outbox.read(lane, 10_000):
                assert isinstance(entry, Entry)
                message = entry.message
                alive = message.kind in ("create", "update")
                found.append((message.session_id, message.incarnation, message.version, alive))
        return found

    @staticmethod
    def _by_session(writes: list[tuple[str, int, int, bool]]) -> dict[str, list[tuple[str, int, int, bool]]]:
        return {name: [write for write in writes if write[0] == name] for name in {write[0] for write in writes}}

    def _outcome(self, call: Callable[[], Any]) -> Any:
        """What a call returns, or the name of what it raises."""
        try:
            return call()
        except RemoteError as error:
            return error.name
        except Exception as error:  # noqa: BLE001 - whichever it is, it is compared
            return type(error).__name__

    def _wrote(self, state: SyncState) -> None:
        before = self.sessions.get(state.session_id)
        if before is not None:
            self.former.append(before)
        self.sessions[state.session_id] = state
        self.writes.append((state.session_id, state.incarnation, state.version, True))

    def _ended(self, name: str) -> None:
        ended = self.sessions.pop(name)
        self.former.append(ended)
        self.writes.append((name, ended.incarnation, ended.version + 1, False))

    @rule(by=managers, name=names, content=contents)
    def create(self, by: str, name: str, content: dict[str, Any]) -> None:
        """A session that exists is refused; a new one has a life of its own."""
        given = SyncState.new(name, SyncMode.GLOBAL, **content)
        found = self._outcome(lambda: self.subjects.managers[by].create_session(given))
        if name in self.sessions:
            assert "SessionExists" == found
            return
        latest = max([write[1] for write in self.writes if write[0] == name], default=0)
        assert (1, True) == (found.version, found.incarnation > latest)
        assert self._same(given, found)
        self._wrote(found)

    @rule(by=managers, name=names, content=contents)
    def update(self, by: str, name: str, content: dict[str, Any]) -> None:
        """The stored version is moved on by one."""
        held = self.sessions.get(name)
        if held is None:
            return
        given = held.replace(**content)
        found = self._outcome(lambda: self.subjects.managers[by].update_session(given))
        assert (held.incarnation, held.version + 1, held.created_at) == (*found.stamp, found.created_at)
        assert found.updated_at >= held.updated_at
        assert self._same(given, found)
        self._wrote(found)

    @rule(by=managers, data=st.data(), content=contents)
    def update_from_a_former_version(self, by: str, data: st.DataObject, content: dict[str, Any]) -> None:
        """A writer of a former version, or life, is refused."""
        if not self.former:
            return
        former = data.draw(st.sampled_from(self.former))
        found = self._outcome(lambda: self.subjects.managers[by].update_session(former.replace(**content)))
        assert ("VersionConflict" if former.session_id in self.sessions else "SessionNotFound") == found

    @rule(by=st.sampled_from(["blocking", "asyncio"]), name=names, turns=st.integers(0, 9), data=st.data())
    def mutate(self, by: str, name: str, turns: int, data: st.DataObject) -> None:
        """Read, changed and written, whatever was known of it."""
        before = [*self.sessions.values(), *self.former[-5:]]
        known = data.draw(st.sampled_from([None, *(state for state in before if state.session_id == name)]))

        def change(state: SyncState) -> SyncState:
            return state.replace(metadata={**state.metadata, "turns": turns})

        found = self._outcome(lambda: self.subjects.managers[by].mutate_session(name, change, known=known))
        if name not in self.sessions:
            assert "SessionNotFound" == found
            return
        held = self.sessions[name]
        assert (held.incarnation, held.version + 1) == found.stamp
        assert self._same(change(held), found)
        self._wrote(found)

    @rule(by=managers, name=names)
    def delete(self, by: str, name: str) -> None:
        """True once."""
        found = self._outcome(lambda: self.subjects.managers[by].delete_session(name))
        assert (name in self.sessions) is found
        if found:
            self._ended(name)

    @rule(by=managers, data=st.data())
    def delete_if_unchanged(self, by: str, data: st.DataObject) -> None:
        """Only the very version."""
        known = [*self.sessions.values(), *self.former[-5:]]
        if not known:
            return
        given = data.draw(st.sampled_from(known))
        name = given.session_id
        found = self._outcome(lambda: self.subjects.managers[by].delete_session(name, if_unchanged=given))
        stored = self.sessions.get(name)
        if stored is None:
            assert found is False
        elif stored.stamp == given.stamp:
            assert found is True
            self._ended(name)
        else:
            assert "VersionConflict" == found

    @rule(by=managers, name=names)
    def touch(self, by: str, name: str) -> None:
        """Whether it exists."""
        assert (name in self.sessions) is self._outcome(lambda: self.subjects.managers[by].touch_session(name))

    @rule(name=names)
    def its_time_comes(self, name: str) -> None:
        """The sweep ends it, once."""
        if name not in self.sessions:
            return
        keys = self.subjects.layout.keys_of(name)
        # All but the grace, and what the index says, are over.
        self.subjects.client.pexpire(keys.session, 1_000_000)
        self.subjects.client.zadd(self.subjects.layout.deadlines[keys.lane], {name: 1})
        assert 1 == self.subjects.expiry.sweep()
        self._ended(name)

    @rule(by=managers, name=names)
    def get(self, by: str, name: str) -> None:
        """What the dictionary has."""
        assert self.sessions.get(name) == self._outcome(lambda: self.subjects.managers[by].get_session(name))

    @rule(by=st.sampled_from(["blocking", "asyncio"]))
    def get_all(self, by: str) -> None:
        """All that the dictionary has."""
        found = self.subjects.managers[by].get_sessions(["a", "b", "c"])
        assert {name: self.sessions.get(name) for name in ("a", "b", "c")} == found

    @invariant()
    def nothing_is_due(self) -> None:
        """Nobody ends a session before its time."""
        if hasattr(self, "watch"):
            assert 0 == self.subjects.expiry.sweep()

    @staticmethod
    def _same(given: SyncState, found: SyncState) -> bool:
        """Whether a stored state is the given one in all that is the caller's."""
        ours = {name: getattr(found, name) for name in ("incarnation", "version", "created_at", "updated_at")}
        return given.replace(**ours) == found


@pytest.fixture
def subjects(settings: Settings, worker_settings: Settings) -> Iterator[Subjects]:
    """Managers of both colours, and one in another process."""
    with Instance(settings) as instance:
        found = Subjects(settings, worker_settings, instance)
        yield found
        found.close()


@pytest.mark.timeout(300)
def test_any_manager_answers_as_a_dictionary_does(subjects: Subjects) -> None:
    """G1, G3, G4, G8, G9: any instance serves any request, so several managers together answer as one dictionary.

    Blocking, asyncio and in another process. A watcher hears, and the outbox holds, each write once and in order.
    """
    model = type("BoundModel", (Model,), {"subjects": subjects})
    run_state_machine_as_test(
        model,
        settings=hypothesis_settings(
            max_examples=EXAMPLES,
            stateful_step_count=STEPS,
            deadline=None,
            # The subjects are the same in all examples, and begin each one empty.
            suppress_health_check=list(HealthCheck),
        ),
    )
