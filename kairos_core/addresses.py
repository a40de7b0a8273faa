"""Where the store is: one server, servers under Sentinel, or a cluster. No I/O.

    redis://user:password@host:6379/0                                     one server (also rediss://, unix://)
    redis+sentinel://user:password@host:26379,host:26379/service/0        the primary that the sentinels name
    redis+cluster://user:password@host:6379,host:6379                     a cluster, found from any of its nodes

`rediss+sentinel://` and `rediss+cluster://` speak TLS to every server. Options of redis-py may follow as a query. User
and password are the store's; sentinels that want their own get them as `sentinel_username` and `sentinel_password`.
"""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

ONE_SERVER = ("redis", "rediss", "unix")
SENTINEL = ("redis+sentinel", "rediss+sentinel")
CLUSTER = ("redis+cluster", "rediss+cluster")
SCHEMES = (*ONE_SERVER, *SENTINEL, *CLUSTER)

_PORTS = {"sentinel": 26379, "cluster": 6379}
_HIGHEST_PORT = 65_535


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


def parse(url: str) -> Address:
    """Take an address apart.

    Raises:
        ValueError: says what is wrong, and quotes nothing of an address, which may hold a password in any place.
    """
    scheme, _, rest = url.partition("://")
    if scheme in ONE_SERVER:
        return Address(url)
    if scheme not in SCHEMES:
        raise ValueError(f"must begin with {' or '.join(s + '://' for s in SCHEMES)}")
    plain, _, kind = scheme.partition("+")
    # What urlsplit takes for a port is checked by `_endpoint`: there may be several.
    parts = urlsplit(f"{plain}://{rest}")
    user_info, at, hosts = parts.netloc.rpartition("@")
    endpoints = tuple(_endpoint(text, _PORTS[kind]) for text in hosts.split(","))
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    sentinel_user, sentinel_password = query.pop("sentinel_username", ""), query.pop("sentinel_password", "")
    options = f"?{urlencode(query)}" if query else ""
    path = [part for part in parts.path.split("/") if part]
    service = ""
    if kind == "sentinel":
        if not path:
            raise ValueError("names no service: redis+sentinel://host:port,host:port/SERVICE is needed")
        service = unquote(path.pop(0))
    database = path.pop(0) if path else "0"
    if path or not database.isdecimal() or (kind == "cluster" and int(database)):
        raise ValueError("has an odd path: the number of a database (on a cluster, 0) is needed")
    first = _netloc(endpoints[0])
    sentinel_login = (
        f"{quote(sentinel_user, safe='')}:{quote(sentinel_password, safe='')}@" if sentinel_password else ""
    )
    return Address(
        f"{plain}://{user_info}{at}{first}/{database}{options}",
        endpoints,
        service,
        f"{plain}://{sentinel_login}{first}/0{options}" if kind == "sentinel" else "",
    )


def _endpoint(text: str, default_port: int) -> Endpoint:
    host, colon, port = text.rpartition(":")
    if not colon or port.endswith("]"):
        host, port = text, str(default_port)
    host = host.removeprefix("[").removesuffix("]")
    if not host or not port.isdecimal() or not 0 < int(port) <= _HIGHEST_PORT:
        raise ValueError("has an odd list of servers: host:port,host:port is needed")
    return Endpoint(host, int(port))


def _netloc(endpoint: Endpoint) -> str:
    host = f"[{endpoint.host}]" if ":" in endpoint.host else endpoint.host
    return f"{host}:{endpoint.port}"
