"""Where TLS ends before a server that has none: `python -m loadtests.servers.terminator FOLDER` takes orders.

It is a process of its own, as such a thing is where it is deployed, so that it takes no time from who is measured. Its
certificate is from an authority made for it, whose own certificate is in the folder.
"""

from __future__ import annotations

import ssl
import sys
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import trustme

from loadtests.orders import Helper, serve
from loadtests.servers.proxy import Proxy

if TYPE_CHECKING:
    from collections.abc import Iterator

HOST = "127.0.0.1"
_END_TIMEOUT_S = 10.0


@contextmanager
def terminator(url: str, folder: Path) -> Iterator[dict[str, str]]:
    """Addresses of a server, given by its own: `plain` and `tls` lead to it by way of another process.

    Raises:
        OrderError: the process did not start.
    """
    helper = Helper("loadtests.servers.terminator", str(folder))
    try:
        yield helper.ask("start", url=url)
    finally:
        helper.close(_END_TIMEOUT_S)


class _Actor:
    """What such a process can do."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self._folder, self._stack = folder, stack

    def start(self, url: str) -> dict[str, str]:
        """Listen for clients of the server with this address; by which addresses."""
        authority = trustme.CA()
        file = self._folder / "authority.pem"
        authority.cert_pem.write_to_path(str(file))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert(HOST).configure_cert(context)
        plain, secured = (self._stack.enter_context(Proxy(url, tls=tls)) for tls in (None, context))
        return {"plain": plain.url, "tls": f"{secured.url}?ssl_ca_certs={quote(str(file), safe='')}"}


def main() -> None:
    """Serve orders until standard input closes."""
    with ExitStack() as stack:
        serve(_Actor(Path(sys.argv[1]), stack))


if __name__ == "__main__":
    main()
