"""Which server a command goes to, and what follows when that server was lost or says that another has it. No I/O.

Each lane has a slot: on a cluster, slots are spread over the nodes; elsewhere one server has them all. A route that
does not know where a slot is has a question, to be put to one of its candidates, and learns from the answer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from kairos_core.addresses import Endpoint

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kairos_core.addresses import Address

SLOTS = 16_384
_HIGHEST_PORT = 65_535
# Refusals that say that the server is not, or no longer, the one to ask.
_NOT_THE_PRIMARY = frozenset(["READONLY", "MASTERDOWN", "CLUSTERDOWN", "LOADING"])


class Route(Protocol):
    """Where each slot's primary is, as far as is known.

    Attributes:
        is_cluster: whether channels and keys belong to slots of different servers.
        is_final: whether no other server can take the place of one.
        must_prove: whether a server is asked, when a connection to it is made, if it is a primary.
        question: the words to ask a candidate with.
    """

    is_cluster: bool
    is_final: bool
    must_prove: bool
    question: tuple[str, ...]

    def node(self, slot: int) -> Endpoint | None:
        """The primary of a slot; None where it has to be asked for."""

    def candidates(self) -> Sequence[Endpoint]:
        """Whom to ask, in this order."""

    def learn(self, reply: Any, asked: Endpoint) -> bool:
        """Take an answer in; False where it does not tell."""

    def suspect(self, node: Endpoint) -> None:
        """A connection to this server failed, or it is no primary: ask it last, and anew for what it had."""

    def moved(self, slot: int, node: Endpoint) -> None:
        """A server says that this one has the slot now."""


class OneServer:
    """The server that the address names, whatever happens."""

    is_cluster = False
    is_final = True
    must_prove = False
    question: tuple[str, ...] = ()

    def __init__(self, node: Endpoint) -> None:
        self._node = node

    def node(self, slot: int) -> Endpoint | None:  # noqa: ARG002 - it has them all
        """The one server."""
        return self._node

    def candidates(self) -> Sequence[Endpoint]:
        """Nobody has to be asked."""
        return ()

    def learn(self, reply: Any, asked: Endpoint) -> bool:  # noqa: ARG002
        """There is nothing to learn."""
        return False

    def suspect(self, node: Endpoint) -> None:
        """There is no other to go to."""

    def moved(self, slot: int, node: Endpoint) -> None:
        """One server says this only if it is part of a cluster, and then its address is the wrong one."""


class BySentinel:
    """The primary that the sentinels name."""

    is_cluster = False
    is_final = False
    # A sentinel may name a server that was demoted a moment ago.
    must_prove = True

    def __init__(self, sentinels: Sequence[Endpoint], service: str) -> None:
        self.question: tuple[str, ...] = ("SENTINEL", "GET-MASTER-ADDR-BY-NAME", service)
        self._sentinels = tuple(sentinels)
        self._suspects: set[Endpoint] = set()
        self._primary: Endpoint | None = None

    def node(self, slot: int) -> Endpoint | None:  # noqa: ARG002 - it has them all
        """The primary, if it is known."""
        return self._primary

    def candidates(self) -> Sequence[Endpoint]:
        """The sentinels, each in its turn: one may know no better than before; those that failed last come last."""
        return sorted(self._sentinels, key=self._suspects.__contains__)

    def learn(self, reply: Any, asked: Endpoint) -> bool:
        """Take in the address that a sentinel named; None is the answer of one that does not know the service."""
        try:
            host, port = reply
            primary = _endpoint(host.decode(), port)
        except (TypeError, ValueError, AttributeError, OverflowError):
            return False
        self._sentinels = (*(sentinel for sentinel in self._sentinels if sentinel != asked), asked)
        self._suspects.discard(asked)
        self._primary = primary
        return True

    def suspect(self, node: Endpoint) -> None:
        """Ask the sentinels before the next command; or, where it is one of them, ask it last."""
        if node == self._primary:
            self._primary = None
        if node in self._sentinels:
            self._suspects.add(node)

    def moved(self, slot: int, node: Endpoint) -> None:
        """Servers under Sentinel do not say this."""


class ByCluster:
    """The primaries of a cluster's slots."""

    is_cluster = True
    is_final = False
    must_prove = False
    question: tuple[str, ...] = ("CLUSTER", "SLOTS")

    def __init__(self, seeds: Sequence[Endpoint]) -> None:
        self._seeds = tuple(seeds)
        self._table: list[Endpoint | None] = [None] * SLOTS
        self._suspects: set[Endpoint] = set()
        self._answers = 0

    def node(self, slot: int) -> Endpoint | None:
        """The primary of a slot, if it is known."""
        return self._table[slot]

    def candidates(self) -> Sequence[Endpoint]:
        """Every node that is known, the primaries each in its turn; those that failed last come last.

        One that was cut off from the others knows no better than before: it must not be asked first for ever.
        """
        primaries = list(dict.fromkeys(node for node in self._table if node is not None))
        turn = self._answers % len(primaries) if primaries else 0
        known = dict.fromkeys([*primaries[turn:], *primaries[:turn], *self._suspects, *self._seeds])
        return sorted(known, key=self._suspects.__contains__)

    def learn(self, reply: Any, asked: Endpoint) -> bool:
        """Take in a list of [first slot, last slot, [host, port, ...] of the primary, its replicas ...]."""
        table: list[Endpoint | None] = [None] * SLOTS
        try:
            for first, last, primary, *_ in reply:
                # A node that does not know its own name leaves it out: it is the one that was asked.
                host = primary[0].decode() if primary[0] else ""
                node = _endpoint(host if host not in ("", "?") else asked.host, primary[1])
                if not 0 <= first <= last < SLOTS:
                    return False
                table[first : last + 1] = [node] * (last + 1 - first)
        except (TypeError, ValueError, AttributeError, LookupError, OverflowError):
            return False
        if not any(table):
            return False
        self._table = table
        self._answers += 1
        self._suspects.clear()
        return True

    def suspect(self, node: Endpoint) -> None:
        """Ask for its slots again before the next command to them."""
        self._suspects.add(node)
        self._table = [None if found == node else found for found in self._table]

    def moved(self, slot: int, node: Endpoint) -> None:
        """Take a server's word for one slot."""
        self._table[slot] = node


def route_to(address: Address, one_server: Endpoint) -> Route:
    """The route for an address; `one_server` is where it leads if it names but one."""
    if address.service:
        return BySentinel(address.endpoints, address.service)
    if address.endpoints:
        return ByCluster(address.endpoints)
    return OneServer(one_server)


def not_the_primary(code: str) -> bool:
    """Whether a refusal says that the server is not, or not now, a primary that can be written to."""
    return code in _NOT_THE_PRIMARY


def redirection(text: str, asked: Endpoint) -> tuple[int, Endpoint] | None:
    """The slot and the node of a MOVED or ASK refusal; None where it names none.

    >>> redirection("MOVED 3999 127.0.0.1:6381", Endpoint("10.0.0.1", 6379))
    (3999, Endpoint(host='127.0.0.1', port=6381))
    >>> redirection("ASK 3999 :6381", Endpoint("10.0.0.1", 6379))
    (3999, Endpoint(host='10.0.0.1', port=6381))
    """
    words = text.split()
    try:
        _, slot, place = words
        host, _, port = place.rpartition(":")
        number = int(slot)
        node = _endpoint(host.removeprefix("[").removesuffix("]") or asked.host, port)
    except ValueError:
        return None
    if not 0 <= number < SLOTS or node.host == "?":
        return None
    return number, node


def _endpoint(host: str, port: Any) -> Endpoint:
    """A server as another names it; raise ValueError where that cannot be: port 0 would stand for a Unix socket."""
    number = int(port)
    if not host or not 0 < number <= _HIGHEST_PORT:
        raise ValueError("no server can be there")
    return Endpoint(host, number)
