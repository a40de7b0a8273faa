"""How the commands about the audit say what kept them from their work."""

from __future__ import annotations

import functools
import signal
import sys
from typing import TYPE_CHECKING, ParamSpec

from kairos_core.errors import ConfigurationError, KairosError, StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable

P = ParamSpec("P")

# It holds, it does not, it could not be told.
HOLDS, BROKEN, UNKNOWN = 0, 1, 2


def guarded(function: Callable[P, int]) -> Callable[P, int]:
    """A command which ends with one line and UNKNOWN where something keeps it from its work."""

    @functools.wraps(function)
    def run(*arguments: P.args, **options: P.kwargs) -> int:
        import psycopg  # noqa: PLC0415 - takes its time to import

        from kairos_core.ground import one_line  # noqa: PLC0415 - likewise redis

        try:
            return function(*arguments, **options)
        except psycopg.Error as error:
            print(f"kairos: KAIROS_POSTGRES_URL: {one_line(error)}", file=sys.stderr)
        except ConfigurationError:
            raise
        except StoreUnavailable as error:
            print(f"kairos: KAIROS_REDIS_URL: {one_line(error.cause)}", file=sys.stderr)
        except KairosError as error:
            print(f"kairos: {one_line(error)}", file=sys.stderr)
        except BrokenPipeError:
            # Whoever reads has read enough; nothing more can be said there, not even at the end.
            sys.stdout = None
            return 128 + signal.SIGPIPE
        return UNKNOWN

    return run
