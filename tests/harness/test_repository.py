from __future__ import annotations

import ast
import inspect
import json
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

import kairos_core

ROOT = Path(__file__).resolve().parents[2]
# Who may import whom of the packages is a contract in pyproject.toml, which `make lint` holds.
NOTEBOOKS_MAY_NOT_IMPORT = {"notebooks", "tests"}
CORE_NEEDS = {"redis", "rq", "psycopg", "msgspec"}
# An extra of redis, and no package to ask for besides.
CORE_EXTRAS = {"hiredis"}
# For those who have it, imported where it is asked for.
CORE_OPTIONAL = {"pandas"}
# What comes with an extra, by the folder that may import it.
EXTRAS = {
    "kairos_core/cli/": {"click", "rich", "typer"},
    "kairos_core/metrics/": {"opentelemetry", "prometheus_client"},
}
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
SCRIPTS = sorted((ROOT / "kairos_core" / "scripts").glob("*.lua"))
_CALL = re.compile(r"\bp?call\(\s*(?P<command>[^,()]+)(?:,\s*(?P<first>[^,()]+))?")


def cells(notebook: Path) -> list[dict[str, Any]]:
    """A notebook's code cells."""
    found = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    return [cell for cell in found if cell["cell_type"] == "code"]


def sources(package: str) -> list[tuple[str, ast.Module]]:
    """A package's code, by where it is."""
    if package == "notebooks":
        return [
            (f"{path.name}, cell {number}", ast.parse("".join(cell["source"])))
            for path in NOTEBOOKS
            for number, cell in enumerate(cells(path))
        ]
    files = sorted((ROOT / package).rglob("*.py"))
    return [(str(path.relative_to(ROOT)), ast.parse(path.read_text(encoding="utf-8"))) for path in files]


def imported(tree: ast.Module, package: str) -> set[str]:
    """The top-level names of all that is imported, at the beginning of a file or within a function."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(package if node.level else (node.module or "").partition(".")[0])
    return found


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="what is committed is asked of git")
def test_what_is_committed_leads_nowhere_else() -> None:
    """A fresh clone has no link that leads out of it: with one to somebody's `.venv` it could not be set up."""
    git = shutil.which("git")
    assert git is not None
    listed = subprocess.run([git, "ls-files", "--stage"], cwd=ROOT, capture_output=True, text=True, check=True)
    files = [line.partition("\t") for line in listed.stdout.splitlines()]
    assert [] == [path for mode, _, path in files if mode.startswith("120000")]


def test_notebooks_import_no_tests_and_no_notebooks() -> None:
    """A notebook builds on the packages, which know nothing of it; what it shows needs no test to be there."""
    found = {where: imported(tree, "notebooks") & NOTEBOOKS_MAY_NOT_IMPORT for where, tree in sources("notebooks")}
    assert found
    assert {} == {where: names for where, names in found.items() if names}


def test_the_core_needs_four_packages_and_no_more() -> None:
    """`kairos_core` imports redis, rq, psycopg, msgspec and the standard library; an extra's, in its folder."""
    allowed = CORE_NEEDS | CORE_EXTRAS | CORE_OPTIONAL | sys.stdlib_module_names | {"kairos_core"}

    def extra(where: str) -> set[str]:
        return next((names for folder, names in EXTRAS.items() if where.startswith(folder)), set())

    found = {where: imported(tree, "kairos_core") - allowed - extra(where) for where, tree in sources("kairos_core")}
    assert {} == {where: names for where, names in found.items() if names}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    asked = [re.split(r"[<>=]", dependency)[0].partition("[") for dependency in project["dependencies"]]
    assert CORE_NEEDS == {name for name, _, _ in asked}
    assert {extra for _, _, extras in asked for extra in extras.rstrip("]").split(",")} >= CORE_EXTRAS


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_are_stored_without_results(notebook: Path) -> None:
    """A stored notebook holds no outputs and no counts: what it shows comes from a run, and no two runs clash."""
    found = cells(notebook)
    assert found
    assert [[]] * len(found) == [cell["outputs"] for cell in found]
    assert [None] * len(found) == [cell["execution_count"] for cell in found]


def test_notebooks_define_nothing() -> None:
    """A notebook calls what is tested elsewhere, and defines no function and no class."""
    definitions = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)
    code = sources("notebooks")
    assert code
    assert [] == [where for where, tree in code for node in ast.walk(tree) if isinstance(node, definitions)]


def test_every_locked_package_has_a_hash() -> None:
    """Each package of the lock is one version with its hashes, and nothing comes from an address of anybody's own."""
    text = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    requirements = re.sub(r"\\\n\s*", " ", text).splitlines()
    assert requirements
    locked = re.compile(r"[A-Za-z0-9._-]+==\S+( ; [^\\]+?)?( +--hash=sha256:[0-9a-f]{64})+\s*")
    assert [] == [line for line in requirements if locked.fullmatch(line) is None]
    assert [] == [word for word in ("://", "--index", "--extra", " @ ") if word in text]


def test_every_dependency_is_locked() -> None:
    """What pyproject.toml asks for is in the lock."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    asked = set(re.findall(r'^    "([A-Za-z0-9_-]+)[\[\]a-z,]*[<>=]', text, re.MULTILINE)) - {"kairos"}
    locked = set(re.findall(r"^([A-Za-z0-9._-]+)==", (ROOT / "requirements.lock").read_text(), re.MULTILINE))
    assert asked
    assert set() == asked - locked


@pytest.mark.parametrize(
    # The one that looks at permissions runs no command.
    "script",
    [path for path in SCRIPTS if path.stem != "permitted"],
    ids=lambda path: path.stem,
)
def test_scripts_take_every_key_from_keys(script: Path) -> None:
    """A script names no key: each comes through KEYS, so that a cluster knows where the script belongs."""
    code = re.sub(r"--.*", "", script.read_text(encoding="utf-8"))
    calls = [(found["command"].strip(), (found["first"] or "").strip()) for found in _CALL.finditer(code)]
    # Decoding under pcall is no command of the server.
    calls = [(command, first) for command, first in calls if not command.startswith("cjson")]
    # The clock has no key, and a channel is none: its command, PUBLISH or SPUBLISH, comes through ARGV.
    keyed = [first for command, first in calls if command != "'TIME'" and "ARGV" not in command]
    assert keyed
    assert [] == [first for first in keyed if re.fullmatch(r"KEYS\[\d+\]", first) is None]
    channels = [first for command, first in calls if "ARGV" in command]
    assert [] == [first for first in channels if re.fullmatch(r"ARGV\[\d+\]", first) is None]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_scripts_say_what_they_take(script: Path) -> None:
    """A script's header names KEYS, ARGV and the reply, and each index that the script uses."""
    text = script.read_text(encoding="utf-8")
    header, _, code = text.partition("local call")
    assert all(f"-- {word} " in header for word in ("KEYS", "ARGV", "reply"))
    for name in ("KEYS", "ARGV"):
        section = header[header.index(f"-- {name} ") :].partition("-- reply" if name == "ARGV" else "-- ARGV")[0]
        described = {int(number) for number in re.findall(r"(?<![\w.])(\d+) (?=[A-Za-z])", section)}
        used = {int(number) for number in re.findall(rf"{name}\[(\d+)\]", code)}
        assert set() == used - described


def test_importing_the_core_is_light() -> None:
    """Importing the core brings nothing that measures and, until the audit is asked for, no PostgreSQL client."""
    heavy = ["pandas", "matplotlib", "numpy", "locust", "IPython", "nbclient", "pytest", "psycopg", "rq", "redis"]
    program = (
        f"import sys, kairos_core; print([name for name in {heavy} if name in sys.modules]); kairos_core.AuditWriter"
    )
    finished = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "[]\n" == finished.stdout


def test_what_a_manager_returns_has_a_public_name() -> None:
    """Each type that a public method returns can be imported from the core, to annotate with."""
    for manager in (kairos_core.RedisStateManager, kairos_core.AsyncRedisStateManager):
        for name, method in inspect.getmembers(manager, inspect.isfunction):
            if not name.startswith("_"):
                returned = set(re.findall(r"\b[A-Z]\w+", str(method.__annotations__["return"])))
                assert set() == returned - {"None", *kairos_core.__all__}, name
    assert set() == {"Health", "ServerHealth"} - set(kairos_core.__all__)


def test_public_names_can_be_looked_at() -> None:
    """Each public name is there, and its signature can be shown, as help() does."""
    for found in (getattr(kairos_core, name) for name in kairos_core.__all__):
        # Python itself has none for an error that adds nothing to ValueError.
        if isinstance(found, type) and not issubclass(found, BaseException):
            assert isinstance(inspect.signature(found), inspect.Signature)
