from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import urllib.parse
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import pytest

from kairos_core import AuditWriter
from kairos_core.local import free_port
from kairos_core.settings import child_environment
from loadtests import ROOT
from loadtests.environment import new_namespace
from loadtests.history import Kind
from loadtests.judging.judge import records_of
from loadtests.judging.verdict import Status
from loadtests.load.facts import read_load
from loadtests.load.histograms import Histograms
from loadtests.load.plan import Operation, plan
from loadtests.load.verdict import read_load_verdict
from loadtests.servers.valkeys import valkeys
from loadtests.servers.worker import worker_pool
from loadtests.waiting import wait_for
from tests.docs.markdown import program

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kairos_core import Settings

# Several load tests run at once, each with servers and processes of its own.
pytestmark = pytest.mark.timeout(180)
TIMEOUT_S = 150.0
FILE = "loadtests/locustfile.py"
LOCUST = [sys.executable, "-m", "locust", "--loglevel", "WARNING", "--headless", "--quiet"]
# Locust lets what a listener raises pass.
BROKEN = """
from loadtests.locustfile import *  # noqa: F403
from locust import events

def raises(**_):
    raise RuntimeError("a listener that is broken")

events.request.add_listener(raises)
"""


class Ran(NamedTuple):
    """A load test that ended."""

    status: int
    output: str
    folder: Path


def run(folder: Path, *command: str, environment: dict[str, str] | None = None) -> Ran:
    """Run a command that leaves a load test in the folder."""
    found = subprocess.run(
        command, cwd=ROOT, env=environment, check=False, capture_output=True, text=True, timeout=TIMEOUT_S
    )
    return Ran(found.returncode, found.stdout + found.stderr, folder)


def load(folder: Path, *more: str) -> Ran:
    """As `make load`."""
    return run(folder, sys.executable, "-m", "loadtests.load", "run", "--quiet", "--folder", str(folder), *more)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Ran]]:
    """Load tests that were run at the same time."""
    folder = tmp_path_factory.mktemp("load")
    asked = {
        "whole": ("broadcast_stress", "--time", "0.1", "--size", "0.25", "--seed", "7"),
        # Of somebody's own, as the tutorial has it: Locust's processes have to find it, too.
        "broken": ("high_frequency", "--time", "0.05", "--subject", "docs.examples.own_subject.naive:Sessions"),
    }
    with ThreadPoolExecutor() as pool:
        found = {name: pool.submit(load, folder / name, *more) for name, more in asked.items()}
        yield {name: one.result() for name, one in found.items()}


def test_a_load_test_ends_with_both_verdicts(runs: dict[str, Ran]) -> None:
    """Speed and correctness are judged from what the processes counted and saw; each step of the plans is there."""
    whole = runs["whole"]
    found, verdict = read_load(whole.folder), read_load_verdict(whole.folder)
    assert f"correctness {Status.VALID}" in whole.output, whole.output
    assert f"speed {verdict.verdict}" in whole.output
    # How fast and how punctual it was, this machine decides; that it contradicts itself, nothing excuses.
    assert not [reason for reason in verdict.reasons if "timed" in reason or "histories" in reason], verdict.reasons
    assert not found.notes, found.notes
    assert [part.notes for part in found.parts] == [[], []]
    for part in found.parts:
        steps = list(plan(found.scenario, found.seed, part.place, 2))
        assert (part.planned, part.begun + part.dropped) == (len(steps), len(steps))
    assert found.messages_sent == found.messages_told > 0


def test_histograms_come_whole_from_all_processes(runs: dict[str, Ran]) -> None:
    """What was merged from Locust's reports is what the histories have, to the last attempt."""
    whole = runs["whole"]
    found, records = read_load(whole.folder), records_of(whole.folder / "rounds" / "001")
    merged = Histograms()
    for second in found.seconds:
        merged.add(second)
    of_steps = records[records["planned_ns"] != 0]
    for operation, kind in (("turn.get", Kind.GET), ("turn.update", Kind.UPDATE), ("create.create", Kind.CREATE)):
        counted = sum(len(merged[name]) for name in merged if name.operation == operation)
        there = int((of_steps["kind"] == kind).sum())
        # A session's start is an update, too.
        starts = sum(len(merged[name]) for name in merged if name.operation == "start.update")
        assert counted == there - (starts if kind == Kind.UPDATE else 0), operation
    messages = sum(
        step.operation == Operation.MESSAGE
        for part in found.parts
        for step in plan(found.scenario, found.seed, part.place, 2)
    )
    assert (
        sum(len(merged[name]) for name in merged if (name.operation, name.part) == ("message", "latency")) == messages
    )


def test_what_is_stored_can_be_read_as_the_documents_say(
    runs: dict[str, Ran], capsys: pytest.CaptureFixture[str]
) -> None:
    """The program in docs reads the histograms of a run: all turns are in the seconds that it prints."""
    found: dict[str, Any] = {}
    exec(program("turns_of"), found)  # noqa: S102 - it is this repository's own
    found["turns_of"](runs["whole"].folder)
    counted = sum(int(line.split()[1]) for line in capsys.readouterr().out.splitlines())
    assert counted == read_load_verdict(runs["whole"].folder).counts["turn"]["ok"] > 0


def test_a_load_test_of_what_loses_writes_fails(runs: dict[str, Ran]) -> None:
    """However fast it is: SyncKairos' algorithm loses acknowledged writes, and the load test says so."""
    broken = runs["broken"]
    assert broken.status == 1, broken.output
    assert f"correctness {Status.VIOLATION}" in broken.output


@pytest.fixture(scope="module")
def given(servers: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment of a Locust that somebody starts by hand: a store that is reached by a file, and a worker."""
    # A socket's path may have 107 letters, of which a test's folder takes most.
    with valkeys() as launcher, tempfile.TemporaryDirectory(prefix="kairos-") as folder:
        path = Path(folder) / "socket"
        node = launcher.start(f"unixsocket {path}")
        settings = msgspec.structs.replace(
            servers,
            redis_url=f"unix://:{node.password}@{path}?db=0",
            queue_url=None,
            namespace=new_namespace("load"),
        )
        with AuditWriter.connect(settings) as writer:
            writer.migrate()
        with worker_pool(settings, 1, tmp_path_factory.mktemp("pool") / "log"):
            yield child_environment(settings)


@pytest.fixture(scope="module")
def by_hand(given: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Ran]]:
    """Load tests of a Locust that was started by itself, at the same time."""
    folder = tmp_path_factory.mktemp("by_hand")
    ways = {"listener": with_a_broken_listener, "hosts": on_hosts_of_their_own, "pages": from_its_pages}
    with ThreadPoolExecutor() as pool:
        found = {name: pool.submit(way, given, folder / name) for name, way in ways.items()}
        yield {name: one.result() for name, one in found.items()}


def with_a_broken_listener(environment: dict[str, str], folder: Path) -> Ran:
    """A load test of two processes, in each of which a listener raises."""
    file = folder.with_suffix(".py")
    file.write_text(BROKEN)
    port = str(free_port())
    options = ["-f", str(file), "--processes", "2", "--master-bind-port", port, "--master-port", port]
    scale = ["--scenario", "baseline", "--time", "0.05", "--size", "0.1", "--folder", str(folder)]
    return run(folder, *LOCUST, *options, *scale, environment=environment)


def on_hosts_of_their_own(environment: dict[str, str], folder: Path) -> Ran:
    """A load test of two workers, each on a host of its own."""
    file, port = ["-f", FILE], str(free_port())
    with two_networks() as (host, prefixes), contextlib.ExitStack() as stack:
        told = ["--worker", "--master-host", host, "--master-port", port]
        workers = [
            stack.enter_context(subprocess.Popen([*prefix, *LOCUST[:-2], *file, *told], cwd=ROOT, env=environment))
            for prefix in prefixes
        ]
        for worker in workers:
            stack.callback(worker.kill)
        leads = ["--master", "--expect-workers", "2", "--master-bind-host", host, "--master-bind-port", port]
        scale = ["--scenario", "baseline", "--time", "0.05", "--size", "0.2", "--folder", str(folder)]
        found = run(folder, *LOCUST, *file, *leads, *scale, environment=environment)
        assert [worker.wait(TIMEOUT_S) for worker in workers] == [0, 0]
    return found


def from_its_pages(environment: dict[str, str], folder: Path) -> Ran:
    """Two load tests of one process, one after the other, as somebody starts them in Locust's web UI; the second."""
    port, verdict = str(free_port()), ""
    command = [*LOCUST[:-2], "--quiet", "-f", FILE, "--web-host", "127.0.0.1", "--web-port", port]
    locust = subprocess.Popen(command, cwd=ROOT, env=environment)
    try:
        for scenario in ("high_frequency", "baseline"):
            form = {"scenario": scenario, "time": "0.03", "size": "0.1", "folder": str(folder / scenario)}
            wait_for("Locust's pages", partial(fetched, port, "/swarm", form), TIMEOUT_S)
            # Its pages and its calls share one process.
            wait_for("a verdict", partial(fetched_verdict, port, scenario), TIMEOUT_S, poll_s=0.5)
            verdict = fetched_verdict(port, scenario)
    finally:
        locust.terminate()
        status = locust.wait(TIMEOUT_S)
    return Ran(status, verdict, folder / "baseline")


def fetched(port: str, path: str, form: dict[str, str] | None = None) -> str:
    """What Locust's web UI answers; nothing while it does not."""
    data = urllib.parse.urlencode(form).encode() if form else None
    with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", data) as answer:
        return str(answer.read().decode())
    return ""


def fetched_verdict(port: str, scenario: str) -> str:
    """What it says of a load test of this scenario once it is judged."""
    said = str(json.loads(fetched(port, "/kairos/latencies"))["verdict"])
    return said if f"{scenario} (TIME" in said else ""


def test_a_listener_that_raised_makes_a_run_invalid(by_hand: dict[str, Ran]) -> None:
    """Locust logs what a listener raises, and ends with status 0: here it is no pass, in whichever process it was."""
    found = by_hand["listener"]
    assert found.status == 2, found.output
    assert "speed INVALID" in found.output
    assert "a listener or a greenlet of Locust's raised" in found.output


def test_load_tests_from_the_web_ui(by_hand: dict[str, Ran]) -> None:
    """A plain Locust with its web UI runs one load test after the other, and its pages have our verdict on each."""
    found = by_hand["pages"]
    assert f"correctness {Status.VALID}" in found.output
    assert found.status == 2, "too short to tell"
    assert read_load(found.folder).name == "baseline"


def test_workers_on_hosts_of_their_own(by_hand: dict[str, Ran]) -> None:
    """Locust's own --master and --worker: each worker is an instance, also in another network than its master."""
    found = by_hand["hosts"]
    assert f"correctness {Status.VALID}" in found.output, found.output
    assert [part.place for part in read_load(found.folder).parts] == [0, 1]


@contextlib.contextmanager
def two_networks() -> Iterator[tuple[str, list[list[str]]]]:
    """An address, and what lets a command run on each of two hosts that reach it; on this one, if there are none."""
    with contextlib.ExitStack() as stack:
        hosts: tuple[str, list[list[str]]] = ("127.0.0.1", [[], []])
        with contextlib.suppress(OSError, subprocess.CalledProcessError):
            hosts = "10.213.1.1", [network(stack, number) for number in (1, 2)]
        yield hosts


def network(stack: contextlib.ExitStack, number: int) -> list[str]:
    """What lets a command run on a host of its own, of which this one is the gateway."""
    name, link, net = f"kairos-{os.getpid()}-{number}", f"k{os.getpid()}h{number}", f"10.213.{number}"
    ip("netns", "add", name)
    stack.callback(ip, "netns", "del", name)
    ip("link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", name)
    ip("link", "set", link, "up")
    ip("addr", "add", f"{net}.1/24", "dev", link)
    ip("-n", name, "addr", "add", f"{net}.2/24", "dev", "eth0")
    ip("-n", name, "link", "set", "eth0", "up")
    ip("-n", name, "route", "add", "default", "via", f"{net}.1")
    return ["/usr/bin/env", "ip", "netns", "exec", name]


def ip(*words: str) -> None:
    """Set up a network; raises where that may not be done here."""
    subprocess.run(["/usr/bin/env", "ip", *words], check=True, capture_output=True)
