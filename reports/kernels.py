"""Executes one notebook in a kernel of its own, cell by cell, and keeps what it put out, however it ends."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import shutil
import sys
import tempfile
import time
import traceback
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import nbformat
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

from loadtests import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator, Mapping

_T = TypeVar("_T")

KERNEL = "python3"
# A kernel takes a second or two, on a machine that does much else ten times as long.
START_LIMIT_S = 60
# What hangs is interrupted, which shows where it hung; what does not heed that is killed so much later, at the most.
_GRACE_S = 5.0
# Where Jupyter, IPython and matplotlib would otherwise write into the user's home.
_HOMES = ("JUPYTER_RUNTIME_DIR", "IPYTHONDIR", "MPLCONFIGDIR")
# IPython colours tracebacks for a terminal (ECMA-48, select graphic rendition).
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
# A cell is compiled under the name of a file that is not there.
_CELL = re.compile(re.escape(tempfile.gettempdir()) + r"/ipykernel_\d+/\d+\.py")
_TAIL_LINES = 12


class Outcome(NamedTuple):
    """What came of a notebook.

    Attributes:
        notebook: with its outputs, as far as they go.
        seconds: that it took, the start of its kernel included.
        cells: code cells.
        cells_run: how many of them ended well.
        error: what ended it early, in a line, and below it the traceback; None: nothing did.
    """

    notebook: Any
    seconds: float
    cells: int
    cells_run: int
    error: str | None


class Watch(NamedTuple):
    """Who is told of progress; cells are counted from 1, code cells only.

    Attributes:
        begun: a cell has begun.
        ended: it has ended well; how long it took in seconds, the first with the start of the kernel.
    """

    begun: Callable[[int], object] = lambda _: None
    ended: Callable[[int, float], object] = lambda _, __: None


def with_parameters(notebook: Any, parameters: Mapping[str, object]) -> Any:
    """The notebook with a cell after the one tagged `parameters` that sets these values.

    Raises:
        ValueError: no cell is tagged.
    """
    source = "\n".join(f"{name} = {value!r}" for name, value in parameters.items())
    # A name that does not change: the same run gives the same file.
    cell = nbformat.v4.new_code_cell(source, id="given", metadata={"tags": ["injected-parameters"]})
    for position, found in enumerate(notebook.cells):
        if "parameters" in found.metadata.get("tags", []):
            notebook.cells.insert(position + 1, cell)
            return notebook
    raise ValueError("no cell is tagged parameters")


def run_aside(work: Coroutine[Any, Any, _T]) -> _T:
    """Run it on a loop in a thread of its own, and end it in peace where this thread is interrupted.

    A signal would otherwise raise in the midst of whatever the loop happened to do, and a kernel might outlive it.
    """
    begun: Future[tuple[asyncio.AbstractEventLoop, asyncio.Task[_T]]] = Future()

    async def beginning() -> _T:
        task = asyncio.ensure_future(work)
        begun.set_result((asyncio.get_running_loop(), task))
        return await task

    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(asyncio.run, beginning())
        try:
            return running.result()
        except BaseException:
            if not running.done():
                loop, task = begun.result()
                loop.call_soon_threadsafe(task.cancel)
                wait([running])
            raise


@contextmanager
def private_homes() -> Iterator[Path]:
    """A folder for the kernels' sockets, connection files and settings, which is removed: nothing is left behind.

    Sockets of their own instead of ports: nobody else on the machine can talk to the kernels.
    """
    folder = tempfile.mkdtemp(prefix="kairos-kernel-")
    previous = {name: os.environ.get(name) for name in _HOMES}
    os.environ.update(dict.fromkeys(previous, folder))
    levels = {name: logging.getLogger(name).level for name in ("traitlets", "asyncio")}
    # nbclient logs what it also raises.
    for name in levels:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        yield Path(folder)
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
        for name, value in previous.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
        shutil.rmtree(folder, ignore_errors=True)


async def execute(  # noqa: PLR0913, PLR0917 - what, where, for how long, who is told, by what
    notebook: Any, folder: Path, home: Path, cell_limit_s: float, watch: Watch, kernel: str = KERNEL
) -> Outcome:
    """Execute a notebook; one that fails ends there, and what it put out before is kept.

    Args:
        notebook: gets the outputs.
        folder: where its kernel starts.
        home: see `private_homes`; each notebook takes one of its own within it.
        cell_limit_s: a cell that takes longer is ended.
        watch: who is told of progress.
        kernel: by its name.
    """
    place = Path(tempfile.mkdtemp(dir=home))
    with (place / "said").open("w+b") as said:
        one = _One(notebook, cell_limit_s, watch, time.monotonic())
        error = None
        manager = None
        try:
            manager = AsyncKernelManager(kernel_name=kernel, transport="ipc", ip=f"{place}/kernel")
            await one.run(manager, folder, said)
        except Exception as failure:
            task = asyncio.current_task()
            # nbclient takes it for a kernel that died.
            if task is not None and task.cancelling():
                raise asyncio.CancelledError from failure
            error = one.why(failure, said)
        finally:
            # nbclient leaves a manager that it was given, and so its kernel, alone.
            if manager is not None and manager.has_kernel:
                await manager.shutdown_kernel(now=True)
            _without_paths(notebook)
    return Outcome(notebook, time.monotonic() - one.started, len(one.cells), one.ran, error)


class _One:
    """One notebook while it is executed."""

    def __init__(self, notebook: Any, cell_limit_s: float, watch: Watch, started: float) -> None:
        self.notebook = notebook
        self.limit_s = cell_limit_s
        self.watch = watch
        self.started = started
        self.cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
        self.begun = self.ran = 0
        self.is_late = False

    async def run(self, manager: AsyncKernelManager, folder: Path, said: Any) -> None:
        client = NotebookClient(
            self.notebook,
            km=manager,
            timeout=self.limit_s + min(_GRACE_S, self.limit_s),
            startup_timeout=START_LIMIT_S,
            coalesce_streams=True,
            resources={"metadata": {"path": str(folder)}},
        )
        try:
            # Not `client.execute`: it takes the signals of this process and has an end of its own for kernels.
            await client.async_start_new_kernel(stdout=said, stderr=said)
            await client.async_start_new_kernel_client()
            client.reset_execution_trackers()
            since = self.started
            for index, cell in enumerate(self.notebook.cells):
                if cell.cell_type != "code":
                    continue
                self.begun += 1
                self.watch.begun(self.begun)
                await self._cell(client, manager, cell, index)
                self.ran += 1
                now = time.monotonic()
                self.watch.ended(self.ran, now - since)
                since = now
        finally:
            if client.kc is not None:
                client.kc.stop_channels()

    async def _cell(self, client: NotebookClient, manager: AsyncKernelManager, cell: Any, index: int) -> None:
        interrupt = asyncio.create_task(self._interrupt(manager))
        try:
            await client.async_execute_cell(cell, index, execution_count=self.begun)
        finally:
            interrupt.cancel()

    async def _interrupt(self, manager: AsyncKernelManager) -> None:
        await asyncio.sleep(self.limit_s)
        self.is_late = True
        await manager.interrupt_kernel()

    def why(self, failure: Exception, said: Any) -> str:
        """What ended it: a line that says what, and the traceback below it."""
        if not self.begun:
            head = f"its kernel did not start: {type(failure).__name__}: {_first_line(failure)}"
        elif self.is_late or isinstance(failure, CellTimeoutError):
            head = f"cell {self.begun} of {len(self.cells)} took longer than {self.limit_s:g} s and was ended"
        elif isinstance(failure, DeadKernelError):
            head = f"cell {self.begun} of {len(self.cells)}: its kernel died"
        elif isinstance(failure, CellExecutionError):
            head = f"cell {self.begun} of {len(self.cells)}: {failure.ename}: {_first_line(failure.evalue)}"
        else:
            head = f"cell {self.begun} of {len(self.cells)}: {type(failure).__name__}: {_first_line(failure)}"
        plain = isinstance(failure, CellExecutionError)
        below = str(failure) if plain else "".join(traceback.format_exception(failure))
        said.seek(0)
        tail = [] if plain else said.read().decode("utf-8", "replace").splitlines()[-_TAIL_LINES:]
        return without_paths(_COLOURS.sub("", "\n".join([head, "", below.strip(), *tail])).strip())


def _first_line(of: object) -> str:
    return str(of).strip().partition("\n")[0]


def without_paths(text: str) -> str:
    """A text without what only this machine has: the folder of the project, of its interpreter, and the user's."""
    text = _CELL.sub("the cell", text)
    for path, instead in ((f"{ROOT}/", ""), (f"{sys.prefix}/", ".venv/"), (f"{Path.home()}/", "~/")):
        if path != "//":
            text = text.replace(path, instead)
    return text


def _without_paths(notebook: Any) -> None:
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = [_cleaned(output) for output in cell.outputs]


def _cleaned(found: Any) -> Any:
    if isinstance(found, str):
        return without_paths(found)
    if isinstance(found, list):
        return [_cleaned(one) for one in found]
    if isinstance(found, dict):
        return nbformat.from_dict({name: _cleaned(one) for name, one in found.items()})
    return found
