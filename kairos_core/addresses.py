"""Where the store is: one server, servers under Sentinel, or a cluster. No I/O.

    redis://user:password@host:6379/0                                     one server (also rediss://, unix://)
    redis+sentinel://user:password@host:26379,host:26379/service/0        the primary that the sentinels name
    redis+cluster://user:password@host:6379,host:6379                     a cluster, found from any of its nodes

`rediss://`, `rediss+sentinel://` and `rediss+cluster://` speak TLS to every server and verify its certificate and name,
against the authorities that the system trusts, or against those of a file: `?ssl_ca_certs=/path/to/ca.pem` (a client's
own certificate: `ssl_certfile`, `ssl_keyfile`). These, and other options of redis-py, may follow as a query. User
and password are the store's; sentinels that want their own get them as `sentinel_username` and `sentinel_password`. An
IPv6 address stands in brackets.
"""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import parse_qsl, quote, unquote, urlencode

ONE_SERVER = ("redis", "rediss", "unix")
SENTINEL = ("redis+sentinel", "rediss+sentinel")
CLUSTER = ("redis+cluster", "rediss+cluster")
SCHEMES = (*ONE_SERVER, *SENTINEL, *CLUSTER)

_PORTS = {"sentinel": 26379, "cluster": 6379}
# Where they are looked for, if nobody says.
DEFAULT_STORE = "redis://127.0.0.1:6379/0"
DEFAULT_TRAIL = "postgresql://127.0.0.1:5432/postgres"
HIGHEST_PORT = 65_535
_SERVER = re.compile(r"(?:\[([^\s\[\]]+)\]|([^\s\[\]:]+))(?::([0-9]{1,5}))?")
_DATABASE = re.compile("[0-9]{1,9}")
# Options that are the store's and mean something else, or nothing, to a sentinel.
_NOT_FOR_SENTINELS = frozenset(["db", "username", "password"])


class Endpoint(NamedTuple):
    """Where one server listens: a host and a port, or the path of a Unix socket and port 0."""

    host: str
    port: int


class Address(NamedTuple):
    """An address, taken apart.

    Attributes:
        url: what redis-py connects with; of several servers it names the first.
        endpoints: the sentinels, or the nodes from which a cluster is found; empty for one server.
        service: the name under which sentinels know the primary; empty elsewhere.
        sentinel_url: what redis-py connects to sentinels with; empty elsewhere.
    """

    url: str
    endpoints: tuple[Endpoint, ...] = ()
    service: str = ""
    sentinel_url: str = ""

    def __repr__(self) -> str:
        # a repr ends up in logs; the addresses may hold passwords
        return f"Address(endpoints={self.endpoints!r}, service={self.service!r})"


def parse(url: str) -> Address:
    """Take an address apart.

    Raises:
        ValueError: says what is wrong, and quotes nothing of an address, which may hold a password in any place.
    """
    scheme, _, rest = url.partition("://")
    if scheme in ONE_SERVER:
        path = rest.partition("?")[0].partition("#")[0].partition("/")[2]
        if scheme != "unix" and path and not (path.isascii() and path.isdecimal()):
            # redis-py would take it for database 0.
            raise ValueError("has an odd path: the number of a database is needed, as in redis://host:6379/0")
        return Address(url)
    if scheme not in SCHEMES:
        raise ValueError(f"must begin with {' or '.join(s + '://' for s in SCHEMES)}")
    plain, _, kind = scheme.partition("+")
    # Not by urlsplit: it takes what stands before the path for one host, and quotes it where it finds it odd.
    place, _, query = rest.partition("?")
    if "#" in rest:
        raise ValueError("has a # (in a password, it must be percent-encoded)")
    netloc, _, path = place.partition("/")
    user_info, at, hosts = netloc.rpartition("@")
    endpoints = tuple(_endpoint(text, _PORTS[kind]) for text in hosts.split(","))
    options = dict(parse_qsl(query, keep_blank_values=True))
    sentinel_user, sentinel_password = options.pop("sentinel_username", ""), options.pop("sentinel_password", "")
    parts = path.removesuffix("/").split("/")
    service = ""
    if kind == "sentinel":
        service = unquote(parts.pop(0))
        if not service:
            raise ValueError("names no service: redis+sentinel://host:port,host:port/SERVICE is needed")
    # As redis-py has it, the option comes before the path.
    in_path = "/".join(parts) or "0"
    database = options.pop("db", in_path)
    if not (_DATABASE.fullmatch(in_path) and _DATABASE.fullmatch(database)) or (kind == "cluster" and int(database)):
        raise ValueError("has an odd path: the number of a database (on a cluster, 0) is needed")
    first = _netloc(endpoints[0])
    sentinel_login = (
        f"{quote(sentinel_user, safe='')}:{quote(sentinel_password, safe='')}@" if sentinel_password else ""
    )
    for_sentinels = {name: value for name, value in options.items() if name not in _NOT_FOR_SENTINELS}
    return Address(
        f"{plain}://{user_info}{at}{first}/{database}{_query(options)}",
        endpoints,
        service,
        f"{plain}://{sentinel_login}{first}/0{_query(for_sentinels)}" if kind == "sentinel" else "",
    )


def _endpoint(text: str, default_port: int) -> Endpoint:
    found = _SERVER.fullmatch(text)
    host, port = (found[1] or found[2], int(found[3] or default_port)) if found else ("", 0)
    if port > HIGHEST_PORT:
        raise ValueError(f"has a port beyond {HIGHEST_PORT}")
    if not port:
        raise ValueError("has an odd list of servers: host:port,host:port is needed")
    return Endpoint(host, port)


def _query(options: dict[str, str]) -> str:
    return f"?{urlencode(options)}" if options else ""


def _netloc(endpoint: Endpoint) -> str:
    host = f"[{endpoint.host}]" if ":" in endpoint.host else endpoint.host
    return f"{host}:{endpoint.port}"
