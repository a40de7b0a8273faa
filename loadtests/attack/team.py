"""The processes of a campaign: started when they are needed, kept over its rounds, replaced where one was killed."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import msgspec

from kairos_core.errors import ConfigurationError
from loadtests.attack.attacker import Process, started

if TYPE_CHECKING:
    from kairos_core import Settings
    from loadtests.attack.attacker import Start
    from loadtests.attack.rounds import Plan

_CONNECT_TIMEOUT_S = 60.0


class _Key(NamedTuple):
    # Those that go by the proxy, and those that do not, are both kept: it takes seconds to start them.
    url: str
    role: str
    place: int


class Team:
    """All of a campaign's processes, on one subject at a time.

    Args:
        start: starts a process.
    """

    def __init__(self, start: Start = started) -> None:
        self._start = start
        self._there: dict[_Key, Process] = {}
        self._subject: object = None

    def man(self, settings: Settings, plan: Plan) -> list[Process]:
        """Those that a round needs, all alive and connected.

        Raises:
            Ended: one could not connect; why not, its log says.
            ConfigurationError: one could not connect, and says why.
        """
        subject = (plan.subject, plan.mutant, msgspec.structs.replace(settings, redis_url="redis://"))
        if subject != self._subject:
            self.close()
            self._subject = subject
        counts = {"instance": plan.instances, "watcher": plan.watchers, "reader": 1}
        wanted = [
            _Key(settings.redis_url, role, place) for role, count in counts.items() for place in range(1, count + 1)
        ]
        new = [key for key in wanted if key not in self._there or not self._there[key].is_alive]
        for key in new:
            if key in self._there:
                self._there.pop(key).close()
            self._there[key] = Process(
                settings,
                subject=plan.subject,
                role=key.role,
                place=key.place,
                # The reader is a witness: its core is not broken.
                mutant=None if key.role == "reader" else plan.mutant,
                log=plan.folder / "processes.log",
                start=self._start,
            )
        for key in new:
            answer = self._there[key].answer(_CONNECT_TIMEOUT_S)
            if "cause" in answer:
                raise ConfigurationError(answer["setting"], answer["cause"])
        return [self._there[key] for key in wanted]

    def close(self) -> None:
        """End all of them."""
        # All hear of it first, so that they end at the same time.
        for process in self._there.values():
            process.hang_up()
        for process in self._there.values():
            process.close()
        self._there.clear()
        self._subject = None
