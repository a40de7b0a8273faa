"""Where on this machine each version of Python is that the package is for."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from kairos_core.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

WANTED = ("3.11", "3.12", "3.13")
_PROGRAM = "import sys; print(*sys.version_info[:3], sep='.'); print(sys.executable)"


class Interpreter(NamedTuple):
    """A Python that answers.

    Attributes:
        version: such as 3.13.
        number: such as 3.13.0.
        path: where it says that it is, behind links and shims.
    """

    version: str
    number: str
    path: Path


def find(environment: Mapping[str, str]) -> dict[str, Interpreter]:
    """The interpreters that were found, by version, in order; one a version, and those that PYTHONS names first.

    Raises:
        ConfigurationError: PYTHONS names what is no Python, or one of a version that the package is not for.
    """
    found: dict[str, Interpreter] = {}
    for path in environment.get("PYTHONS", "").split():
        named = ask(Path(path))
        if named is None or named.version not in WANTED:
            raise ConfigurationError("PYTHONS", f"{path} is not a Python of {', '.join(WANTED)}")
        found.setdefault(named.version, named)
    for version in WANTED:
        if version not in found:
            answers = (ask(path) for path in _places(version, environment))
            first = next((one for one in answers if one is not None and one.version == version), None)
            if first is not None:
                found[version] = first
    return {version: found[version] for version in WANTED if version in found}


def ask(path: Path) -> Interpreter | None:
    """What it says of itself; None where it does not answer, as the shim of a version that is not chosen does not."""
    try:
        ended = subprocess.run(
            [path, "-I", "-c", _PROGRAM], check=True, capture_output=True, text=True, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    number, _, executable = ended.stdout.strip().partition("\n")
    return Interpreter(number.rpartition(".")[0], number, Path(executable))


def _places(version: str, environment: Mapping[str, str]) -> Iterator[Path]:
    on_path = shutil.which(f"python{version}", path=environment.get("PATH"))
    if on_path:
        yield Path(on_path)
    root = environment.get("PYENV_ROOT") or str(Path(environment.get("HOME", "/")) / ".pyenv")
    # Beside the one that runs this, too: whoever called it may have another home.
    beside = Path(sys.base_prefix).parent
    for versions in (Path(root, "versions"), *([beside] if beside.name == "versions" else [])):
        # The newest first: 3.13.10 is newer than 3.13.9.
        folders = sorted(versions.glob(f"{version}.*"), key=_numbers, reverse=True)
        yield from (folder / "bin" / "python" for folder in folders)
    # The one that runs this, which was there before its virtual environment.
    yield Path(sys.base_prefix) / "bin" / f"python{version}"


def _numbers(folder: Path) -> list[int]:
    return [int(part) if part.isdecimal() else -1 for part in folder.name.split(".")]
