"""The wheel in one virtual environment."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from tests.installed.locked import locked_for

if TYPE_CHECKING:
    from kairos_core import Settings
    from tests.installed.interpreters import Interpreter

SMOKE = Path(__file__).with_name("smoke.py")
STEP_TIMEOUT_S = 300.0
# How much of what a step said is shown where it failed.
_SHOWN_LINES = 12
_IMPORT = "import kairos_core; [getattr(kairos_core, name) for name in kairos_core.__all__]"


class StepError(Exception):
    """A step ended with another status than 0: the message has its command, and what it said last."""


class Trial(NamedTuple):
    """One version of Python, and what is installed and run on it.

    Attributes:
        wheel: the package.
        python: the interpreter.
        folder: that of the virtual environment, which is made.
        settings: servers, and a namespace of its own.
    """

    wheel: Path
    python: Interpreter
    folder: Path
    settings: Settings

    def run(self) -> str:
        """Install and use it; what did not work, in lines, or empty where all of it did."""
        try:
            self._make_environment()
            self._install()
            # Imported with rq's complaint on Python 3.12 and newer left to rq: the core itself has to be clean.
            self._python("-W", "error", "-c", _IMPORT)
            self._python("-W", "error", "-m", "compileall", "-q", "-f", str(self._package()))
            self._python(str(SMOKE), "library")
            self._install("cli")
            self._python(str(SMOKE), "command")
            self._install("cli", "local", "metrics")
            self._python(str(SMOKE), "extras")
        except StepError as failure:
            return str(failure)
        return ""

    def _make_environment(self) -> None:
        # Without pip of its own, whose set-up takes longer than all that it installs here: another one does its work.
        _step([str(self.python.path), "-I", "-m", "venv", "--without-pip", str(self.folder)])

    def _install(self, *extras: str) -> None:
        """What is locked, checked by hash; then the wheel, for which nothing may be missing."""
        wanted = f"kairos[{','.join(extras)}]"
        requirements = self.folder / "requirements.txt"
        requirements.write_text(locked_for(wanted), encoding="utf-8")
        self._pip("--require-hashes", "--only-binary", ":all:", "--no-deps", "-r", str(requirements))
        said = self._pip("--no-index", wanted if extras else str(self.wheel))
        if "does not provide the extra" in said:
            raise StepError(said)

    def _pip(self, *arguments: str) -> str:
        pip = [sys.executable, "-m", "pip", "--python", str(self._executable()), "--disable-pip-version-check"]
        return _step([*pip, "install", "--quiet", "--no-compile", *arguments])

    def _python(self, *arguments: str) -> str:
        return _step([str(self._executable()), "-I", *arguments], self._environment())

    def _executable(self) -> Path:
        return self.folder / "bin" / "python"

    def _package(self) -> Path:
        return self.folder / "lib" / f"python{self.python.version}" / "site-packages" / "kairos_core"

    def _environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("KAIROS_", "PYTHON"))}
        # Several share a server: each has a queue of its own.
        return {**kept, **self.settings.to_env(), "RQ_KEY_PREFIX": f"{self.settings.namespace}:rq"}


def _step(command: list[str], environment: dict[str, str] | None = None) -> str:
    """Run a command to its end; return what it said on both streams."""
    try:
        ended = subprocess.run(
            command,
            check=False,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env=environment,
            timeout=STEP_TIMEOUT_S,
        )
    except subprocess.TimeoutExpired:
        raise StepError(f"  {' '.join(command)}\n  did not end in {STEP_TIMEOUT_S:.0f} s") from None
    if ended.returncode != 0:
        said = "\n".join(f"  | {line}" for line in ended.stdout.splitlines()[-_SHOWN_LINES:])
        raise StepError(f"  {' '.join(command)}\n{said}\n  ended with status {ended.returncode}")
    return ended.stdout
