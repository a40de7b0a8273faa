from __future__ import annotations

import json
import socket
from pathlib import Path
from urllib.parse import unquote

import pytest

from kairos_core.errors import ConfigurationError
from loadtests import ROOT
from reports import sample
from reports.findings import PartRun, read_report, write_report
from reports.sample import MOST_BYTES, SAMPLE, cleaned, main, make_sample, problems_of, telling
from tests.made_report import made_pictures, made_report
from tests.read_page import ReadPage


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A full run that tells of a machine wherever it can."""
    # What can be drawn of a run is tested elsewhere, and takes seconds.
    monkeypatch.setattr(sample, "pictures", lambda _: made_pictures())
    folder = tmp_path / "runs" / "20260301T120000-full-x1"
    for name in ("notebooks", "load/audit_outage", "studies", "validation/rounds/001", "latency"):
        (folder / name).mkdir(parents=True)
    tail = [
        f'File "{folder}/validation/x.py", line 3',
        f'File "{ROOT}/reports/trend.py"',
        f"{socket.gethostname()} is busy",
    ]
    parts = [PartRun(name="studies", command="python -m loadtests.studies", status=2, tail=tail)]
    write_report(folder, made_report(profile="full", parts=parts))
    for name in ("manifest.json", "coverage.json", "checks.json", "parts.json", "validation/validation.json"):
        (folder / name).write_text("{}", encoding="utf-8")
    (folder / "studies" / "instances.json").write_text("[]", encoding="utf-8")
    (folder / "load" / "audit_outage" / "load.json").write_text(json.dumps({"to": str(folder)}), encoding="utf-8")
    (folder / "load" / "audit_outage" / "load_verdict.json").write_text("{}", encoding="utf-8")
    said = {"commit_info": {"project": "my-clone"}}
    (folder / "latency" / "run-01.json").write_text(json.dumps(said), encoding="utf-8")
    notebook = {"source": f"folder = '{folder}'", "server": "redis://me:secret@db.inside:6379/0"}
    (folder / "notebooks" / "01_latency.ipynb").write_text(json.dumps(notebook), encoding="utf-8")
    return folder


def unresolved(page: Path) -> list[str]:
    """The links of a page that lead to nothing."""
    found = ReadPage(page.read_text(encoding="utf-8"))
    assert found.leads
    return [lead for lead in found.leads if not (page.parent / unquote(lead)).exists()]


def test_a_sample_has_a_page_whose_links_resolve(run: Path, tmp_path: Path) -> None:
    """What is named is kept, the page leads to it, and to nothing that was not kept; what was there before goes."""
    to = tmp_path / "sample"
    to.mkdir()
    (to / "old").write_text("", encoding="utf-8")
    assert to == make_sample(run, to)
    assert {path.relative_to(to).as_posix() for path in to.rglob("*") if path.is_file()} == {
        "report.html", "report.json", "manifest.json", "coverage.json", "checks.json", "parts.json",
        "validation/validation.json", "studies/instances.json", "load/audit_outage/load.json",
        "load/audit_outage/load_verdict.json", "notebooks/01_latency.ipynb", "latency/run-01.json",
    }  # fmt: skip
    assert [] == unresolved(to / "report.html")
    assert "is not kept beside this page" in ReadPage((to / "report.html").read_text(encoding="utf-8")).text
    assert read_report(to).headline == read_report(run).headline
    assert [] == [path for path in tmp_path.iterdir() if path.name.startswith(".sample")]


def test_a_sample_tells_of_no_machine(run: Path, tmp_path: Path) -> None:
    """No path, no name of a machine and no address of a server is in a sample, wherever it was in the run."""
    to = make_sample(run, tmp_path / "sample")
    texts = [path.read_text(encoding="utf-8") for path in to.rglob("*") if path.is_file()]
    assert [] == [found for text in texts for found in telling(text)]
    for word in (str(tmp_path), str(ROOT), "secret", "db.inside", "my-clone"):
        assert not any(word in text for text in texts)
    report = read_report(to)
    assert ['File "RUN/validation/x.py", line 3', 'File "./reports/trend.py"', "host is busy"] == report.parts[0].tail


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("at /srv/data/x.log now", "at …/x.log now"),
        ("file:///srv/data/x.log", "…/x.log"),
        ("socket:/srv/run/s.sock", "socket:…/s.sock"),
        ('"host=/srv/run/pg"', '"host=…/pg"'),
        ("rediss://a:b@c.d:1/0", "rediss://…/0"),
        ("https://me:pw@c.d/e/f", "https://…@c.d/e/f"),
        ("12 rows/s, p50/p95/p99, </td></tr>", "12 rows/s, p50/p95/p99, </td></tr>"),
        ("https://example.org/a/b", "https://example.org/a/b"),
        ("data:image/png;base64,iVB+/abc/def/", "data:image/png;base64,iVB+/abc/def/"),
        ("/proc/self/maps", "/proc/self/maps"),
    ],
)
def test_what_tells_of_a_machine_is_taken_out(text: str, clean: str) -> None:
    """Paths keep their last name, addresses their scheme; what only looks like one stays as it is."""
    assert clean == cleaned(text, Path("/nowhere/at/all"))
    assert [] == telling(clean)
    assert (clean != text) == bool(telling(text))


def test_what_is_too_large_is_refused_and_named(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sample over its limit is not made: the largest files are named, and the sample that was there stays."""
    monkeypatch.setattr(sample, "MOST_BYTES", MOST_BYTES // 10)
    to = make_sample(run, tmp_path / "sample")
    (run / "studies" / "growth.json").write_text("1" * 300_000, encoding="utf-8")
    with pytest.raises(ConfigurationError, match=r"the largest: studies/growth.json 300,000"):
        make_sample(run, to)
    assert [] == unresolved(to / "report.html")
    assert 2 == _called(monkeypatch, run, to)


def test_what_does_not_fit_beside_the_rest_is_left_out(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Notebooks and what load tests counted are kept as far as there is room, and what is left out is said."""
    monkeypatch.setattr(sample, "MOST_BYTES", MOST_BYTES // 10)
    (run / "notebooks" / "01_latency.ipynb").unlink()
    (run / "notebooks" / "02_scaling.ipynb").write_text(" " * 300_000, encoding="utf-8")
    assert 0 == _called(monkeypatch, run, tmp_path / "sample")
    assert "left out: notebooks/02_scaling.ipynb" in capsys.readouterr().out
    assert (tmp_path / "sample" / "load" / "audit_outage" / "load.json").exists()
    assert not (tmp_path / "sample" / "notebooks").exists()
    assert [] == problems_of(tmp_path / "sample")
    assert [] == unresolved(tmp_path / "sample" / "report.html")


def test_a_sample_is_made_of_a_full_run_alone(run: Path, tmp_path: Path) -> None:
    """A quick run, and one without a report or a manifest, is refused with the reason."""
    write_report(run, made_report())
    with pytest.raises(ConfigurationError, match="profile full, and this is quick"):
        make_sample(run, tmp_path / "sample")
    (run / "manifest.json").unlink()
    with pytest.raises(ConfigurationError, match=r"has no manifest\.json"):
        make_sample(run, tmp_path / "sample")
    assert not (tmp_path / "sample").exists()


@pytest.mark.skipif(not SAMPLE.exists(), reason="no sample is committed")
def test_the_committed_sample_is_small_and_whole() -> None:
    """The sample in the repository has its manifest, is under 3 MB, tells of no machine, and its links resolve."""
    assert [] == problems_of(SAMPLE)
    assert (SAMPLE / "manifest.json").is_file()
    assert read_report(SAMPLE).profile == "full"
    assert [] == unresolved(SAMPLE / "report.html")


def _called(monkeypatch: pytest.MonkeyPatch, run: Path, to: Path) -> int:
    """The exit status of the command."""
    monkeypatch.setattr("sys.argv", ["reports.sample", str(run), "--to", str(to)])
    return main()
