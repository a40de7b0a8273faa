from __future__ import annotations

import string
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from redis.connection import parse_url

from kairos_core import Settings
from kairos_core.addresses import Address, Endpoint, parse
from kairos_core.blocking import BlockingTransport
from kairos_core.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterator

relaxed = settings(deadline=None, database=None)

ODD = " !\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~\t\näß℀\x00€"
SECRET = "hunter2"  # noqa: S105 - made up


@pytest.mark.parametrize(
    "url", ["redis://h", "rediss://u:p@h:7/1", "unix:///run/valkey.sock?db=1", "redis://:a%2Fb@[::1]:6379/0"]
)
def test_one_server_is_left_to_redis_py(url: str) -> None:
    """An address of one server is passed on as it is."""
    assert Address(url) == parse(url)


@pytest.mark.parametrize(
    ("hosts", "endpoints"),
    [
        ("h", [("h", None)]),
        ("h:7", [("h", 7)]),
        ("a,b,c", [("a", None), ("b", None), ("c", None)]),
        ("a:1,b,c:65535", [("a", 1), ("b", None), ("c", 65535)]),
        ("10.0.0.1:7000,node-2.example.com:7001", [("10.0.0.1", 7000), ("node-2.example.com", 7001)]),
        ("[::1]", [("::1", None)]),
        ("[::1]:7", [("::1", 7)]),
        ("[::1],[2001:db8::2]:7,h", [("::1", None), ("2001:db8::2", 7), ("h", None)]),
        ("h:7,[fe80::1%eth0]:8", [("h", 7), ("fe80::1%eth0", 8)]),
    ],
)
@pytest.mark.parametrize(("scheme", "port", "path"), [("redis+cluster", 6379, ""), ("rediss+sentinel", 26379, "/s")])
def test_lists_of_servers(
    scheme: str, port: int, path: str, hosts: str, endpoints: list[tuple[str, int | None]]
) -> None:
    """Every server of a list is found, with its port or the usual one; what redis-py connects with names the first."""
    expected = tuple(Endpoint(host, given or port) for host, given in endpoints)
    for login in ("", "user:pass@", ":pass@", "user@"):
        address = parse(f"{scheme}://{login}{hosts}{path}")
        assert expected == address.endpoints
        found = parse_url(address.url)
        # redis-py takes this for a host's name, which need not have its case kept, nor a zone.
        assert expected[0] == (found["host"], found["port"])
        assert address.url.startswith(f"{scheme.partition('+')[0]}://{login}")


@pytest.mark.parametrize(
    ("path", "service", "database"),
    [
        ("/s", "s", 0),
        ("/s/", "s", 0),
        ("/s/0", "s", 0),
        ("/s/3", "s", 3),
        ("/s/15/", "s", 15),
        ("/my-primary", "my-primary", 0),
        ("/a%2Fb%20c/2", "a/b c", 2),
        ("/0/1", "0", 1),
        ("/s?db=4", "s", 4),
        ("/s/3?db=4", "s", 4),
    ],
)
def test_services(path: str, service: str, database: int) -> None:
    """A Sentinel address names the service, decoded, and the database, which no sentinel is asked for."""
    address = parse(f"redis+sentinel://h{path}")
    assert service == address.service
    assert database == parse_url(address.url).get("db", 0)
    assert 0 == parse_url(address.sentinel_url).get("db", 0)


@pytest.mark.parametrize("path", ["", "/", "/0", "/0/", "?db=0", "/00"])
def test_a_cluster_has_one_database(path: str) -> None:
    """A cluster's address names no service, and at most database 0."""
    address = parse(f"redis+cluster://h{path}")
    assert ("", "") == (address.service, address.sentinel_url)
    assert 0 == parse_url(address.url).get("db", 0)


@pytest.mark.parametrize("scheme", ["redis+sentinel", "redis+cluster"])
@given(user=st.text(ODD + string.ascii_letters, max_size=10), password=st.text(ODD + string.ascii_letters, min_size=1))
@relaxed
def test_passwords(scheme: str, user: str, password: str) -> None:
    """Percent-encoded, a user and a password may have any characters, and arrive as they were."""
    login = f"{quote(user, safe='')}:{quote(password, safe='')}"
    url = f"{scheme}://{login}@h:1,h:2/{'s' if 'sentinel' in scheme else ''}"
    address = parse(url)
    found = parse_url(address.url)
    assert (user, password) == (found.get("username", ""), found["password"])
    assert (Endpoint("h", 1), Endpoint("h", 2)) == address.endpoints
    assert url == Settings(redis_url=url).redis_url
    # None of it is for a sentinel.
    if address.sentinel_url:
        assert {"username", "password"}.isdisjoint(parse_url(address.sentinel_url))


@given(user=st.text(ODD, max_size=5), password=st.text(ODD + string.ascii_letters, min_size=1))
@relaxed
def test_passwords_of_sentinels(user: str, password: str) -> None:
    """What sentinels ask for is in the query, may have any characters, and goes to sentinels only."""
    query = f"sentinel_username={quote(user, safe='')}&sentinel_password={quote(password, safe='')}"
    address = parse(f"redis+sentinel://u:p@h/s/2?{query}&client_name=kairos")
    assert "sentinel" not in address.url.replace("sentinel_url", "")
    store, sentinel = parse_url(address.url), parse_url(address.sentinel_url)
    assert ("u", "p", 2, "kairos") == (store["username"], store["password"], store["db"], store["client_name"])
    assert (user, password, "kairos") == (
        sentinel.get("username", ""),
        sentinel["password"],
        sentinel["client_name"],
    )


def test_options() -> None:
    """redis-py's options are kept, also those with odd values; a login among them is the store's alone."""
    address = parse("rediss+sentinel://h/s?ssl_ca_certs=/a%20b%26c.pem&username=u&password=p&db=2&client_name=")
    store, sentinel = parse_url(address.url), parse_url(address.sentinel_url)
    assert ("/a b&c.pem", "u", "p", 2) == (store["ssl_ca_certs"], store["username"], store["password"], store["db"])
    assert "/a b&c.pem" == sentinel["ssl_ca_certs"]
    assert {"username", "password"}.isdisjoint(sentinel)
    assert (True, True) == (address.url.startswith("rediss:"), address.sentinel_url.startswith("rediss:"))


@pytest.mark.parametrize(
    ("url", "wrong"),
    [
        ("", "must begin"),
        ("h:6379", "must begin"),
        ("http://h", "must begin"),
        ("redis+:///", "must begin"),
        ("sentinel://h/s", "must begin"),
        ("unix+cluster:///run/s", "must begin"),
        ("redis+sentinel://", "odd list"),
        ("redis+cluster://", "odd list"),
        ("redis+cluster:///0", "odd list"),
        ("redis+cluster://:p@/0", "odd list"),
        ("redis+cluster://h,", "odd list"),
        ("redis+cluster://,h", "odd list"),
        ("redis+cluster://a,,b", "odd list"),
        ("redis+cluster://a, b", "odd list"),
        ("redis+cluster://a\tb", "odd list"),
        ("redis+cluster://h:", "odd list"),
        ("redis+cluster://:6379", "odd list"),
        ("redis+cluster://h:0", "odd list"),
        ("redis+cluster://h:65536", "a port beyond 65535"),
        ("redis+cluster://h:-1", "odd list"),
        ("redis+cluster://h:+1", "odd list"),
        ("redis+cluster://h:1_0", "odd list"),
        ("redis+cluster://h:٣", "odd list"),
        ("redis+cluster://h:6379x", "odd list"),
        (f"redis+cluster://h:{'9' * 5000}", "odd list"),
        ("redis+cluster://h;i", ""),
        ("redis+cluster://::1", "odd list"),
        ("redis+cluster://2001:db8::1:6379", "odd list"),
        ("redis+cluster://[::1", "odd list"),
        ("redis+cluster://::1]", "odd list"),
        ("redis+cluster://[]:1", "odd list"),
        ("redis+cluster://[[::1]]:1", "odd list"),
        ("redis+cluster://[::1]7", "odd list"),
        ("redis+cluster://x[::1]:7", "odd list"),
        ("redis+sentinel://h", "no service"),
        ("redis+sentinel://h/", "no service"),
        ("redis+sentinel://h//0", "no service"),
        ("redis+sentinel://h/?db=1", "no service"),
        ("redis+sentinel://h/s/x", "odd path"),
        ("redis+sentinel://h/s/-1", "odd path"),
        ("redis+sentinel://h/s/1/2", "odd path"),
        ("redis+sentinel://h/s//1", "odd path"),
        ("redis+sentinel://h/s/1?db=x", "odd path"),
        (f"redis+sentinel://h/s/{'9' * 5000}", "odd path"),
        ("redis+cluster://h/1", "odd path"),
        ("redis+cluster://h/s", "odd path"),
        ("redis+cluster://h/0/0", "odd path"),
        ("redis+cluster://h?db=1", "odd path"),
        ("redis+cluster://h/0#a", "has a #"),
    ],
)
def test_odd_addresses(url: str, wrong: str) -> None:
    """G14: what cannot be an address is refused, and the settings name their variable."""
    if not wrong:
        # A host's name is the resolver's business.
        assert "h;i" == parse(url).endpoints[0].host
        return
    with pytest.raises(ValueError, match=wrong):
        parse(url)
    if url:
        with pytest.raises(ConfigurationError) as caught:
            Settings(redis_url=url)
        assert "KAIROS_REDIS_URL" == caught.value.setting


@pytest.mark.parametrize(
    "url",
    [
        f"redis+cluster://:{SECRET}/x@h",
        f"redis+cluster://:{SECRET}#x@h",
        f"redis+cluster://:{SECRET}?x@h",
        f"redis+cluster://:{SECRET}[x@h,i:0",
        f"redis+cluster://:{SECRET}℀@h:0",
        f"redis+sentinel://:{SECRET}℀@h/s/0",
        f"redis+sentinel://:{SECRET}@h/s/x",
        f"redis+sentinel://:{SECRET}@h",
        f"redis+sentinel://h/s/1/2?sentinel_password={SECRET}",
        f"redis+cluster://h,{SECRET}:x",
        f"redis+cluster://[{SECRET}]:1x",
        f"redis+cluster://[[{SECRET}]]:1",
        f"redis+{SECRET}://h",
        f"{SECRET}://h",
        f"redis+sentinel://h/s?socket_timeout={SECRET}",
        f"redis+sentinel://:{SECRET}%zz℀@h/s?db={SECRET}",
    ],
)
def test_no_password_in_an_error(url: str) -> None:
    """No error quotes any part of an address, wherever a password may stand in it by mistake; nor does a cause."""
    found: list[str] = []
    for build in (lambda: BlockingTransport(parse(url), 1.0), lambda: Settings(redis_url=url)):
        try:
            build()
        except (ValueError, ConfigurationError) as error:
            found.extend(map(str, causes(error)))
    assert SECRET not in "".join(found)


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error and what is shown as its causes."""
    while error is not None:
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


@given(rest=st.text(string.printable + "äß℀", max_size=60))
@pytest.mark.parametrize("scheme", ["redis+sentinel", "rediss+cluster"])
@relaxed
def test_garbage(scheme: str, rest: str) -> None:
    """Whatever stands behind the scheme, it is an address with all its parts in bounds, or one that is refused."""
    try:
        address: Address | None = parse(f"{scheme}://{rest}")
    except ValueError as error:
        found = str(error)
        address = None
    if address is None:
        assert found.startswith(("has an odd", "names no service", "has a #"))
        return
    assert all(endpoint.host and 0 < endpoint.port < 65_536 for endpoint in address.endpoints)
    assert address.endpoints
    assert bool(address.service) == (scheme == "redis+sentinel") == bool(address.sentinel_url)


def test_what_one_server_is() -> None:
    """Where an address of one server leads, as redis-py reads it."""
    for url, expected in (
        ("redis://h", ("h", 6379)),
        ("redis://", ("localhost", 6379)),
        ("rediss://h:7", ("h", 7)),
        ("unix:///run/valkey.sock", ("/run/valkey.sock", 0)),
    ):
        assert expected == BlockingTransport(parse(url), 1.0).one_server
