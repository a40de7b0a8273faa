from __future__ import annotations

import os

import pytest

from kairos_core.cli import main
from kairos_core.settings import LocalSettings, Settings, unknown_variables


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """None of our variables is set, but by the test."""
    for name in [name for name in os.environ if name.startswith("KAIROS_")]:
        monkeypatch.delenv(name)


def called(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[object, str, str]:
    """The status, the output and the complaints of a command."""
    try:
        status: object = main(arguments)
    except SystemExit as ended:
        status = ended.code
    said = capsys.readouterr()
    return status, said.out, said.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["audit"], "kairos audit: a command is needed (choose from verify, "),
        (["heath"], "kairos: there is no such command (choose from up, "),
        (["health", "--jsn"], "kairos health: unknown option --jsn"),
        (["health", "redis://:hunter2@h"], "kairos health: there is a word too many"),
        (["redis://:hunter2@h"], "kairos: there is no such command (choose from up, "),
        (["audit", "hunter2"], "kairos audit: there is no such command (choose from verify, "),
        (["health", "--redis://:hunter2@h"], "kairos health: there is an option that it does not have"),
        (["health", "--json=hunter2"], "kairos health: --json takes no value"),
        (["acl", "core", "--with"], "kairos acl: --with needs a value"),
        (["audit", "detach", "--before", "hunter2"], "kairos audit detach: --before: a day is needed, such as "),
        (["audit", "dead", "list", "--lane", "hunter2"], "kairos audit dead list: --lane: a whole number is needed"),
        (["migrate", "--url=redis://:hunter2@h"], "kairos migrate: unknown option --url"),
        (["worker", "--workers", "x"], "kairos worker: --workers: a whole number, at least 1, is needed"),
        (["worker", "--workers", "0"], "kairos worker: --workers: a whole number, at least 1, is needed"),
        (["acl"], "kairos acl: ROLE is needed (choose from core, worker, recover)"),
        (["acl", "nobody"], "kairos acl: ROLE: there is no such choice (choose from "),
        (["acl", "core", "--with", "x"], "kairos acl: --with: there is no such choice (choose from "),
        (["acl", "core", "--namespace", ""], "kairos: --namespace: a lower-case letter"),
    ],
    ids=" ".join,
)
def test_a_mistake_in_a_call_is_one_line(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A call that is none ends with 2 and one line that names the command and the option; no password is in it."""
    status, out, err = called(arguments, capsys)
    assert (2, "", 1) == (status, out, err.count("\n"))
    assert err.startswith(said)
    for hidden in ("hunter2", "Error", "\x1b", "╭"):
        assert hidden not in err


def test_a_variable_that_nobody_reads_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A mistyped variable is one line on standard error, with the name that was meant and without its value."""
    monkeypatch.setenv("KAIROS_REDIS_URI", "redis://:hunter2@h")
    monkeypatch.setenv("KAIROS_NAMESPACE", "mine")
    status, out, err = called(["acl", "core"], capsys)
    assert (0, "kairos: warning: KAIROS_REDIS_URI is set, and is no setting: KAIROS_REDIS_URL is meant?\n") == (
        status,
        err,
    )
    assert out.startswith("user mine-core ")


def test_variables_that_nobody_reads() -> None:
    """Of all that begins like ours, what is no setting is found, with the nearest name where one is near."""
    assert [] == unknown_variables(Settings().to_env() | {"KAIROS_LOCAL_FOLDER": "/f", "KAIROS_LOCAL_REDIS_PORT": "1"})
    assert [("KAIROS_LANE", "KAIROS_LANES"), ("KAIROS_XYZ", "")] == unknown_variables(
        {"KAIROS_LANE": "3", "KAIROS_XYZ": "1", "OTHER": "1", "KAIROSLANES": "1"}
    )
    assert {"folder", "redis_port"} == set(LocalSettings.__struct_fields__)
