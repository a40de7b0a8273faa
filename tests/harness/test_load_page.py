"""Our latencies in Locust's own pages. Locust runs in a process of its own: importing it changes the process."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any

from loadtests import ROOT
from loadtests.load.table import TITLES

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_WITHIN_S = 30.0
_VERDICT = "FAIL: p99 of turn < 5 ms, & it was 7.5"
_LOCUSTFILE = f"""
from locust import User, constant, events, task
from loadtests.load import page
from loadtests.load.histograms import Histograms, Name

FOUND = Histograms()
SAID = []

@events.init.add_listener
def begin(environment, **_):
    page.extend(environment, lambda: FOUND, lambda: "".join(SAID))

@events.test_stop.add_listener
def judge(**_):
    SAID.append({_VERDICT!r})

class One(User):
    wait_time = constant(0.01)

    @task
    def turn(self):
        FOUND[Name("turn", "<ok>", "service")].record(2345)
        self.environment.events.request.fire(
            request_type="call", name="turn", response_time=2.345, response_length=0, exception=None, context={{}}
        )
"""
_ROW = ["turn", "<ok>", "service"]


class Tables(HTMLParser):
    """The rows of the first table of a page that is read without scripts, and the text before it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.before = ""
        self._in: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Open a tag."""
        del attrs
        self._in.append(tag)
        if tag == "tr":
            self.rows.append([])

    def handle_endtag(self, tag: str) -> None:
        """Close it."""
        while tag in self._in and self._in.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        """Take what is in a cell."""
        if self._in and self._in[-1] in {"td", "th"}:
            self.rows[-1].append(data)
        elif "section" in self._in:
            self.before += data


@contextlib.contextmanager
def locust(folder: Path, *options: str) -> Iterator[subprocess.Popen[str]]:
    """Run Locust on the locustfile above."""
    file = folder / "locustfile.py"
    file.write_text(_LOCUSTFILE, encoding="utf-8")
    with (
        (folder / "log").open("w", encoding="utf-8") as log,
        subprocess.Popen(
            [sys.executable, "-m", "locust", "-f", str(file), "--loglevel", "ERROR", "-u", "1", *options],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            text=True,
        ) as process,
    ):
        try:
            yield process
        finally:
            process.kill()


def fetched(url: str) -> str:
    """What a page of the web UI is."""
    # It is our own, on loopback.
    with urllib.request.urlopen(url, timeout=_WITHIN_S) as answer:  # noqa: S310
        return str(answer.read().decode())


def once_counted(process: subprocess.Popen[str], url: str) -> dict[str, Any]:
    """The latencies by the JSON route, once there are any."""
    until = time.monotonic() + _WITHIN_S
    while time.monotonic() < until and process.poll() is None:
        with contextlib.suppress(OSError):
            found: dict[str, Any] = json.loads(fetched(f"{url}/kairos/latencies"))
            if found["latencies"]:
                return found
        time.sleep(0.05)
    raise AssertionError(f"no latencies by {url}")


def expect_table(report: str, verdict: str) -> None:
    """The table is in a report, and so is the verdict, if there is one; both without scripts."""
    found = Tables(report)
    assert list(TITLES.values()) == found.rows[0]
    assert _ROW == found.rows[1][:3]
    assert "2.345" == found.rows[1][6]
    assert verdict in found.before
    assert bool(verdict) is ("FAIL" in found.before)


def test_the_file_of_html_has_table_and_verdict(tmp_path: Path) -> None:
    """`--html` writes our table to the microsecond, with the verdict that `test_stop` left; Locust's keeps digits."""
    file = tmp_path / "report.html"
    with locust(tmp_path, "--headless", "--only-summary", "-t", "1s", "--html", str(file)) as process:
        assert 0 == process.wait(_WITHIN_S), (tmp_path / "log").read_text(encoding="utf-8")
    text = file.read_text(encoding="utf-8")
    expect_table(text, _VERDICT)
    # Locust's own percentiles, which its script shows.
    own = json.loads(text.rpartition("window.templateArgs = ")[2].partition("\n")[0])
    assert 2.35 == own["response_time_statistics"][0]["0.95"]


def test_the_web_ui_has_tab_downloads_and_report(tmp_path: Path) -> None:
    """While a test runs, the tab's rows come with Locust's statistics; CSV, JSON and the report say the same."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    base = f"http://127.0.0.1:{port}/base"
    options = ("--web-host", "127.0.0.1", "--web-port", str(port), "--web-base-path", "/base", "--autostart")
    with locust(tmp_path, *options) as process:
        found = once_counted(process, base)
        (row,) = found["latencies"]
        assert set(TITLES) == set(row)
        assert (*_ROW, 2.345) == (row["operation"], row["outcome"], row["part"], row["p99_ms"])
        shown = json.loads(fetched(f"{base}/stats/requests"))
        stats = {one["key"]: one["data"] for one in shown["extended_stats"]}
        assert _ROW == [stats["latencies"][0][key] for key in ("operation", "outcome", "part")]
        assert "2.345" == stats["latencies"][0]["p99_ms"].strip()
        assert stats["verdict"][0]["line"].startswith("None yet")
        assert "stats" in shown
        page = json.loads(fetched(f"{base}/").partition("window.templateArgs = ")[2].partition("\n")[0])
        assert {"latencies", "verdict"} == {one["key"] for one in page["extended_tabs"]} == set(stats)
        (columns,) = [one["structure"] for one in page["extended_tables"] if one["key"] == "latencies"]
        assert list(TITLES) == [one["key"] for one in columns]
        rows = list(csv.DictReader(fetched(f"{base}/kairos/latencies.csv").splitlines()))
        assert "2.345" == rows[0]["longest_ms"]
        expect_table(fetched(f"{base}/stats/report"), "")
        # It ends the test, and the verdict comes.
        urllib.request.urlopen(urllib.request.Request(f"{base}/stop", method="POST"), timeout=_WITHIN_S).close()  # noqa: S310
        expect_table(fetched(f"{base}/stats/report?download=1&theme=dark"), _VERDICT)
        assert _VERDICT == json.loads(fetched(f"{base}/kairos/latencies"))["verdict"]
        assert [{"line": _VERDICT}] == json.loads(fetched(f"{base}/stats/requests"))["extended_stats"][1]["data"]
        process.send_signal(signal.SIGTERM)
        process.wait(_WITHIN_S)
