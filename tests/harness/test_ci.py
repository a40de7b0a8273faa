"""CI does what anybody can do by hand: workflows, `.ci/run`, the Makefile and the hooks before a commit agree."""

from __future__ import annotations

import os
import re
import subprocess
import tomllib
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from loadtests import ROOT
from tests.installed.interpreters import WANTED

if TYPE_CHECKING:
    from pathlib import Path

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
TARGETS = set(re.findall(r"^([a-z]+):", MAKEFILE, re.MULTILINE))
RUN = ROOT / ".ci" / "run"


def workflow(path: Path) -> dict[str, Any]:
    """A workflow; YAML 1.1 takes its `on` for true."""
    found: dict[Any, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return {"on" if key is True else str(key): value for key, value in found.items()}


def steps(path: Path) -> list[dict[str, Any]]:
    """All steps of all jobs."""
    return [step for job in workflow(path)["jobs"].values() for step in job["steps"]]


def steps_of_run() -> list[str]:
    """What `.ci/run` does, in order."""
    named = re.search(r"^steps=\((.*)\)$", RUN.read_text(encoding="utf-8"), re.MULTILINE)
    assert named is not None
    return named[1].split()


def runs(path: Path) -> list[str]:
    """The commands of a workflow."""
    return [step["run"] for step in steps(path) if "run" in step]


def step_of(command: str) -> str | None:
    """The step of `.ci/run` that a command of a workflow is."""
    made = re.fullmatch(r"make (\w+)( ALL=1)?|\.ci/run (\w+)", command)
    return (made[1] or made[3]) if made else None


def test_ci_does_what_anybody_can_do() -> None:
    """The workflow has the steps of `.ci/run`, all of them and no other."""
    commands = runs(ROOT / ".github" / "workflows" / "ci.yml")
    assert set(steps_of_run()) == {step for command in commands if (step := step_of(command))}
    assert {'.ci/summary >> "$GITHUB_STEP_SUMMARY"'} == {command for command in commands if step_of(command) is None}


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_what_a_workflow_calls_is_there(path: Path) -> None:
    """Each target of make, each step of `.ci/run` and each script that a workflow calls exists."""
    for command in runs(path):
        assert set(re.findall(r"\bmake (\w+)", command)) <= TARGETS, command
        assert set(re.findall(r"\.ci/run (\w+)", command)) <= set(steps_of_run()), command
        scripts = [ROOT / name for name in re.findall(r"\.ci/\w+", command)]
        assert all(os.access(script, os.X_OK) for script in scripts), command


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_may_read_and_no_more(path: Path) -> None:
    """No token that writes, no secret, no run that never ends; code of a fork never runs with rights of the project."""
    found = workflow(path)
    assert {"contents": "read"} == found["permissions"]
    assert not {"pull_request_target", "workflow_run"} & set(found["on"])
    assert "secrets." not in path.read_text(encoding="utf-8")
    assert found["concurrency"]["group"]
    for job in found["jobs"].values():
        assert "permissions" not in job
        assert 0 < job["timeout-minutes"] <= 120
        # Pinned, and never to what somebody may move at will, such as a branch.
        uses = [step["uses"] for step in job["steps"] if "uses" in step]
        assert all(re.fullmatch(r"actions/[a-z-]+@(v\d+|[0-9a-f]{40})", one) for one in uses), uses
        checkouts = [step for step in job["steps"] if step.get("uses", "").startswith("actions/checkout@")]
        assert [False] == [step["with"]["persist-credentials"] for step in checkouts]
    # What comes from outside, such as the title of a pull request, is never put into a command.
    assert [] == [command for command in runs(path) if "${{" in command]


def test_each_version_of_python_is_tested() -> None:
    """The suite runs on each version that the package is for, and the wheel on all of them, none left out."""
    jobs = workflow(ROOT / ".github" / "workflows" / "ci.yml")["jobs"]
    assert list(WANTED) == jobs["check"]["strategy"]["matrix"]["python"]
    chosen = next(step["with"] for step in jobs["pythons"]["steps"] if "setup-python" in step.get("uses", ""))
    assert list(WANTED) == chosen["python-version"].split()
    assert "make pythons ALL=1" in [step.get("run") for step in jobs["pythons"]["steps"]]


def test_a_report_is_shown_whatever_came_of_it() -> None:
    """The summary and the page of a report are kept also where it is red, which is when they are needed."""
    for path in WORKFLOWS:
        kept = [
            step for step in steps(path) if ".ci/summary" in step.get("run", "") or step.get("with", {}).get("path")
        ]
        shown = [step for step in kept if step.get("with", {}).get("path") != "dist"]
        assert 2 == len(shown), path
        assert {"${{ !cancelled() }}"} == {step["if"] for step in shown}


def run_with(tmp_path: Path, statuses: list[int], *words: str) -> tuple[int, int]:
    """The exit status of `.ci/run` where the harness ends with these statuses; and how many of them it took."""
    (tmp_path / ".ci").mkdir()
    script = tmp_path / ".ci" / "run"
    script.write_bytes(RUN.read_bytes())
    script.chmod(0o755)
    python = tmp_path / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    answers = tmp_path / "answers"
    answers.write_text("".join(f"{status}\n" for status in statuses))
    # It takes the first answer of the list, ends with it, and leaves the others.
    python.write_text(f"#!/bin/sh\nread -r status < '{answers}'\nsed -i 1d '{answers}'\nexit \"$status\"\n")
    python.chmod(0o755)
    ended = subprocess.run([script, *words], cwd=tmp_path, capture_output=True, text=True, check=False)
    return ended.returncode, len(statuses) - len(answers.read_text().splitlines())


@pytest.mark.parametrize(
    ("statuses", "ends"),
    [([0], (0, 1)), ([1, 0], (1, 1)), ([2, 0], (0, 2)), ([2, 1], (1, 2)), ([2, 2, 0], (2, 2))],
    ids=["good", "missed", "not told at first", "missed at last", "never told"],
)
def test_what_could_not_be_told_is_tried_once_more(tmp_path: Path, statuses: list[int], ends: tuple[int, int]) -> None:
    """Status 1, something became slower or broke, fails at once; status 2, it could not be told, fails twice."""
    assert ends == run_with(tmp_path, statuses, "bench")


def test_a_step_that_is_none_is_refused(tmp_path: Path) -> None:
    """A word that names no step ends with 2, and with the steps that there are."""
    assert (2, 0) == run_with(tmp_path, [0], "banch")


def test_hooks_check_what_make_lint_checks() -> None:
    """Before a commit the tools of `make lint` run, each with its arguments, from .venv and at no other version."""
    recipe = re.search(r"^lint:.*\n((?:\t.*\n)+)", MAKEFILE, re.MULTILINE)
    assert recipe is not None
    linted = {line.strip().removeprefix("@$(BIN)/").removesuffix(" .") for line in recipe[1].splitlines()}
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
    hooks = {hook["id"]: hook for repo in config["repos"] if repo["repo"] == "local" for hook in repo["hooks"]}
    entries = {hook["entry"].removeprefix(".venv/bin/").removesuffix(" --force-exclude") for hook in hooks.values()}
    assert linted <= entries
    assert {"local", "meta"} == {repo["repo"] for repo in config["repos"]}
    for hook in hooks.values():
        if hook["language"] == "system":
            assert hook["entry"].startswith(".venv/bin/"), hook["id"]
            # A tool that is configured to look at all files gets none by name, which would take its configuration away.
            assert hook.get("pass_filenames", True) == hook["id"].startswith("ruff"), hook["id"]
    tested = re.findall(r"tests/\S+\.py", hooks["repository"]["entry"])
    assert tested
    assert all((ROOT / name).is_file() for name in tested)


def test_targets_are_listed_and_none_is_taken_for_a_file() -> None:
    """Each target of the Makefile stands in the list that `make` prints, and is phony."""
    phony = re.search(r"^\.PHONY: (.*)$", MAKEFILE, re.MULTILINE)
    assert phony is not None
    assert TARGETS == set(phony[1].split())
    described = set(re.findall(r"^([a-z]+):.*## ", MAKEFILE, re.MULTILINE))
    assert TARGETS == described


def test_the_contract_knows_every_package() -> None:
    """The contract of imports is about all three packages, imports within functions included."""
    found = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    assert packages == set(found["root_packages"])
    layers = next(one["layers"] for one in found["contracts"] if one["id"] == "packages")
    assert ["reports", "loadtests", "kairos_core"] == layers
    within = [one for one in found["contracts"] if one["type"] == "layers" and "containers" in one]
    assert all(one["exhaustive"] for one in within)
    assert {"kairos_core", "kairos_core.audit"} == {one["containers"][0] for one in within}
