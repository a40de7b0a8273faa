"""How things are shown: with colours and tables on a terminal; as plain lines on a pipe, with NO_COLOR, or TERM=dumb.

A plain line is never wrapped, so that what reads it may go by lines.
"""

from __future__ import annotations

import codecs
import io
import os
import sys
import time
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from rich.console import Console, RenderableType

_DUMB = ("dumb", "unknown")
_ESCAPED = "kairos_escaped"


def say_all(*streams: object) -> None:
    r"""Let streams write what their encoding has not as `\u00e9`, which JSON, too, reads as it was meant."""
    codecs.register_error(_ESCAPED, _escaped)
    for stream in streams:
        # Unicode's encodings have all of it; and to touch a stream flushes it, which is not for nothing.
        if isinstance(stream, io.TextIOWrapper) and not stream.encoding.lower().startswith("utf"):
            stream.reconfigure(errors=_ESCAPED)


def _escaped(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end].encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{text[at : at + 4]}" for at in range(0, len(text), 4)), error.end


def is_rich(stream: IO[str] | None) -> bool:
    """Whether a stream is a terminal that shows colours, and whoever looks at it wants them."""
    if stream is None or os.environ.get("NO_COLOR") or os.environ.get("TERM", "").lower() in _DUMB:
        return False
    return stream.isatty()


def console(stream: IO[str]) -> Console:
    """What writes to a terminal."""
    from rich.console import Console  # noqa: PLC0415 - rich takes its time to import, and a pipe needs none of it

    # Asked above; so tests can say of any stream that it is a terminal.
    return Console(file=stream, force_terminal=True, highlight=False)


def show(lines: Sequence[str], as_rich: Callable[[], RenderableType]) -> None:
    """Write lines to standard output, or on a terminal what stands for them."""
    if is_rich(sys.stdout):
        console(sys.stdout).print(as_rich())
    elif lines:
        print("\n".join(lines), flush=True)


def table(titles: Sequence[str], rows: Sequence[Sequence[str]], numbers: Sequence[int] = ()) -> RenderableType:
    """A table for a terminal.

    Args:
        titles: of the columns.
        rows: of texts; what is markup in them is shown as it is.
        numbers: columns whose texts are aligned to the right.
    """
    from rich import box  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    made = Table(box=box.SIMPLE_HEAD, header_style="bold")
    for index, title in enumerate(titles):
        made.add_column(title, justify="right" if index in numbers else "left")
    for row in rows:
        made.add_row(*(Text(cell, style=style_of(cell)) for cell in row))
    return made


def facts(lines: Sequence[str], width: int) -> RenderableType:
    """Lines that begin with a name of so many characters, the names in bold."""
    from rich.text import Text  # noqa: PLC0415

    return Text("\n").join(
        Text.assemble((line[:width], style_of(line) or "bold"), line[width:])
        if len(line) > width > 0
        else Text(line, style_of(line))
        for line in lines
    )


def style_of(text: str) -> str:
    """Green for what is well, red for what is not."""
    words = text.split(maxsplit=1)
    if not words:
        return ""
    if words[0] in ("PROBLEM", "VIOLATED", "UNDECIDED", "deaf"):
        return "bold red"
    return "bold green" if text in ("healthy", "all holds") else ""


class Progress:
    """A bar on a terminal that says how far long work is, and how fast; elsewhere nothing.

    What it is of has no known end: it pulses, and counts.
    """

    def __init__(self, what: str) -> None:
        self._bar: Any = None
        self._task: Any = None
        self._what, self._started = what, time.monotonic()

    def __enter__(self) -> Self:
        """Show it."""
        if is_rich(sys.stderr):
            from rich.progress import BarColumn, SpinnerColumn, TextColumn, TimeElapsedColumn  # noqa: PLC0415
            from rich.progress import Progress as Bar  # noqa: PLC0415

            self._bar = Bar(
                SpinnerColumn(),
                TextColumn("{task.description}", markup=False),
                BarColumn(bar_width=20),
                TimeElapsedColumn(),
                console=console(sys.stderr),
                # What was said on standard output stays in order without rich's hand in it.
                redirect_stdout=False,
                redirect_stderr=False,
                transient=True,
            )
            self._task = self._bar.add_task(self._what, total=None)
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def __call__(self, what: str, number: int, more: str = "") -> None:
        """Say how many are done.

        Args:
            what: of what; the rate begins anew with another.
            number: how many.
            more: what else is to be said.
        """
        if self._bar is None:
            return
        if what != self._what:
            self._what, self._started = what, time.monotonic()
        rate = number / max(time.monotonic() - self._started, 0.001)
        self._bar.update(self._task, description=f"{number:,} {what}, {more}{rate:,.0f} a second")

    def end(self) -> None:
        """Take it away."""
        if self._bar is not None:
            self._bar.refresh()
            self._bar.stop()
            self._bar = None


@contextmanager
def spinner(text: str) -> Iterator[None]:
    """What turns on a terminal while something of unknown length is done."""
    if not is_rich(sys.stderr):
        yield
        return
    with console(sys.stderr).status(text):
        yield
