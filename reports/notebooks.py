"""Executes notebooks with parameters, with progress, and keeps what they put out, even when a cell fails."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import shutil
import signal
import tempfile
import time
from typing import TYPE_CHECKING, Any, NamedTuple

import nbformat
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from nbconvert import HTMLExporter
from nbconvert.preprocessors import TagRemovePreprocessor

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

# Where Jupyter, IPython and matplotlib would otherwise write into the user's home.
_HOMES = ("JUPYTER_RUNTIME_DIR", "IPYTHONDIR", "MPLCONFIGDIR")
CELL_TIMEOUT_S = 1_800
# IPython colours tracebacks for a terminal (ECMA-48, select graphic rendition).
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")


class Executed(NamedTuple):
    """An executed notebook.

    Attributes:
        path: where it is, with its outputs.
        html: its body as HTML, code left out.
        error: what ended it early, or None.
    """

    path: Path
    html: str
    error: str | None


def with_parameters(notebook: Any, parameters: Mapping[str, object]) -> Any:
    """The notebook with a cell after the one tagged `parameters` that sets these values."""
    cell = nbformat.v4.new_code_cell("\n".join(f"{name} = {value!r}" for name, value in parameters.items()))
    for position, found in enumerate(notebook.cells):
        if "parameters" in found.metadata.get("tags", []):
            notebook.cells.insert(position + 1, cell)
            return notebook
    raise ValueError("no cell is tagged parameters")


def _keep_own_signal_handlers() -> Callable[..., None]:
    """A hook that takes signals back from nbclient, which would end its kernel and go on as if a cell had failed."""
    own = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def take_back(**_: Any) -> None:
        loop = asyncio.get_running_loop()
        for number, handler in own.items():
            loop.remove_signal_handler(number)
            signal.signal(number, handler)

    return take_back


async def _run(client: NotebookClient, manager: AsyncKernelManager) -> None:
    try:
        await client.async_execute()
    finally:
        # nbclient leaves a manager that it was given, and so its kernel, alone.
        if client.kc is not None:
            client.kc.stop_channels()
        if manager.has_kernel:
            await manager.shutdown_kernel(now=True)


def execute(
    source: Path, target: Path, parameters: Mapping[str, object], folder: Path, say: Callable[[str], None]
) -> Executed:
    """Run a notebook from `folder` and write it, with its outputs, to `target`.

    A cell that raises, hangs or kills its kernel ends the run there; what came before is kept.
    """
    notebook = with_parameters(nbformat.read(source, as_version=4), parameters)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    started = time.monotonic()
    done = 0

    def on_cell_complete(cell: Any, cell_index: int) -> None:  # noqa: ARG001 - nbclient's names
        nonlocal done
        done += 1
        say(f"notebook  {source.stem}: cell {done} of {len(cells)}   {time.monotonic() - started:.1f} s")

    error = None
    # Sockets of its own instead of ports: nobody else on the machine can talk to the kernel. Its connection file and
    # its settings go to a folder that is removed, so that nothing is left in the user's home.
    private = tempfile.mkdtemp(prefix="kairos-kernel-")
    previous = {name: os.environ.get(name) for name in _HOMES}
    os.environ.update(dict.fromkeys(previous, private))
    try:
        manager = AsyncKernelManager(kernel_name="python3", transport="ipc", ip=f"{private}/kernel")
        client = NotebookClient(
            notebook,
            km=manager,
            timeout=CELL_TIMEOUT_S,
            resources={"metadata": {"path": str(folder)}},
            on_cell_complete=on_cell_complete,
            on_notebook_start=_keep_own_signal_handlers(),
        )
        # nbclient logs what it also raises.
        for name in ("traitlets", "asyncio"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
        asyncio.run(_run(client, manager))
    except (CellExecutionError, CellTimeoutError, DeadKernelError) as failure:
        error = _COLOURS.sub("", str(failure)).strip()
    finally:
        for name, value in previous.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
        shutil.rmtree(private, ignore_errors=True)
        nbformat.write(notebook, target)
    exporter = HTMLExporter(template_name="basic", exclude_input=True, exclude_anchor_links=True)
    # What the page shows before the notebooks need not be shown twice.
    exporter.register_preprocessor(TagRemovePreprocessor(remove_cell_tags={"summary"}), enabled=True)
    body, _ = exporter.from_notebook_node(notebook)
    return Executed(target, body, error)
