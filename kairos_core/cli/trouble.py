"""How the commands about the audit say what kept them from their work."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, ParamSpec

from kairos_core.cli.complaints import complain
from kairos_core.errors import StoreUnavailable, one_line

if TYPE_CHECKING:
    from collections.abc import Callable

P = ParamSpec("P")

# It holds, it does not, it could not be told.
HOLDS, BROKEN, UNKNOWN = 0, 1, 2


def guarded(function: Callable[P, int]) -> Callable[P, int]:
    """A command which ends with UNKNOWN, and names the server in its one line, where one keeps it from its work."""

    @functools.wraps(function)
    def run(*arguments: P.args, **options: P.kwargs) -> int:
        import psycopg  # noqa: PLC0415 - takes its time to import

        try:
            return function(*arguments, **options)
        except psycopg.Error as error:
            complain(f"KAIROS_POSTGRES_URL: {one_line(error)}")
        except StoreUnavailable as error:
            complain(f"KAIROS_REDIS_URL: {error.cause}")
        return UNKNOWN

    return run
