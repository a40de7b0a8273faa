"""`make lab`: JupyterLab on the notebooks, as a user starts it."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from loadtests import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytest.importorskip("jupyterlab", reason="the extra `lab` is not installed: make setup")

DEADLINE_S = 50.0
TOKEN = "of-this-test"  # noqa: S105 - of a server on loopback that lives for a few seconds
NAME = "05_faults.ipynb"


class Lab(NamedTuple):
    """JupyterLab at work: its address, and the folder that it has instead of the project's notebooks."""

    address: str
    notebooks: Path

    def ask(self, path: str, method: str = "GET", body: object = None) -> Any:
        """What its server answers."""
        data = None if body is None else json.dumps(body).encode()
        headers = {"Authorization": f"token {TOKEN}", "Content-Type": "application/json"}
        request = urllib.request.Request(f"{self.address}{path}", data, headers, method=method)  # noqa: S310 - ours
        with urllib.request.urlopen(request, timeout=DEADLINE_S) as answer:  # noqa: S310 - likewise
            found = answer.read()
        return json.loads(found) if path.startswith("api/") else found.decode()


def started(notebooks: Path) -> tuple[list[str], dict[str, str]]:
    """The command of `make lab` with another folder, and what it sets in the environment."""
    # Also where the tests themselves are run by make, which would tell the inner one to say where it is.
    env = {name: value for name, value in os.environ.items() if name not in {"MAKEFLAGS", "MAKELEVEL", "MFLAGS"}}
    listed = subprocess.run(["make", "-n", "lab"], cwd=ROOT, env=env, capture_output=True, text=True, check=True)  # noqa: S607
    words = shlex.split(listed.stdout.strip().splitlines()[-1])
    settings = dict(word.split("=", 1) for word in words if re.match(r"[A-Z_]+=", word))
    command = words[len(settings) :]
    assert [".venv/bin/jupyter", "lab", "notebooks"] == command
    # The project's interpreter, wherever it is.
    return [sys.executable, "-m", "jupyter", "lab", str(notebooks)], settings


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """JupyterLab with a copy of the notebooks, and a home of its own."""
    folder = tmp_path_factory.mktemp("lab")
    shutil.copytree(ROOT / "notebooks", folder / "notebooks", ignore=shutil.ignore_patterns(".*"))
    command, settings = started(folder / "notebooks")
    command += ["--no-browser", "--ServerApp.port=0", f"--IdentityProvider.token={TOKEN}"]
    env = {**os.environ, **settings, "HOME": str(folder), "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, cwd=ROOT, env=env, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            lab = Lab(address(process.stderr), folder / "notebooks")
            wait_for(lab)
            yield lab
        finally:
            process.terminate()
            process.communicate(timeout=DEADLINE_S)


def address(said: Iterator[str]) -> str:
    """Where it says that it is."""
    deadline, lines = time.monotonic() + DEADLINE_S, []
    for line in said:
        lines.append(line)
        found = re.search(r"http://127\.0\.0\.1:\d+/", line)
        if found is not None:
            return found.group()
        assert time.monotonic() < deadline, lines
    raise AssertionError(lines)


def wait_for(lab: Lab) -> None:
    """Until it answers: it says where it is before it is there."""
    deadline = time.monotonic() + DEADLINE_S
    while True:
        try:
            lab.ask("api/status")
        except urllib.error.URLError:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        else:
            return


def test_it_has_the_notebooks_and_a_kernel(lab: Lab) -> None:
    """It shows the notebooks, and finds the kernel of the project's interpreter."""
    assert [path.name for path in sorted(lab.notebooks.glob("*.ipynb"))] == sorted(
        entry["name"] for entry in lab.ask("api/contents/")["content"]
    )
    specs = lab.ask("api/kernelspecs")
    assert "python3" in specs["kernelspecs"]


def test_it_asks_nothing_of_the_network(lab: Lab) -> None:
    """It looks for no news, for no newer version, and offers no extension: these are of the network."""
    page = lab.ask("lab")
    found = json.loads(re.findall(r'id="jupyter-config-data"[^>]*>\s*(.*?)\s*</script>', page, re.DOTALL)[0])
    assert found["news"] == {"disabled": True}
    settings = lab.ask("lab/api/settings/@jupyterlab/apputils-extension:notification")
    told = json.loads(settings)["schema"]["properties"]
    assert (False, "false") == (told["checkForUpdates"]["default"], told["fetchNews"]["default"])


def test_a_notebook_that_is_saved_stays_as_it_was(lab: Lab) -> None:
    """Saved after it was run, a notebook's file is to the byte what it was: no output gets into the repository."""
    before = (lab.notebooks / NAME).read_bytes()
    content = lab.ask(f"api/contents/{NAME}")["content"]
    content["metadata"]["language_info"]["version"] = "3.99"
    for cell in content["cells"]:
        if cell["cell_type"] == "code":
            cell["execution_count"] = 7
            cell["outputs"] = [{"output_type": "stream", "name": "stdout", "text": "of a run"}]
    lab.ask(f"api/contents/{NAME}", "PUT", {"type": "notebook", "format": "json", "content": content})
    assert before == (lab.notebooks / NAME).read_bytes()
