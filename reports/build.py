"""From a run to a page: executes the notebooks, and writes one self-contained HTML file and report.json."""

from __future__ import annotations

import json
import shutil
import string
from html import escape
from typing import TYPE_CHECKING, Any

from loadtests import ROOT
from reports import tables
from reports.notebooks import Executed, execute
from reports.results import LATEST
from reports.statistics import Verdict, overall

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from reports.results import Run

NOTEBOOKS = ("01_latency",)


def build(run: Run, say: Callable[[str], None]) -> tuple[Path, Verdict]:
    """Execute the notebooks and write the page; return where it is and the report's verdict."""
    profile = run.manifest["profile"]
    executed = [
        execute(
            ROOT / "notebooks" / f"{name}.ipynb",
            run.folder / f"{name}.ipynb",
            {"folder": str(run.folder), "profile": profile},
            ROOT,
            say,
        )
        for name in NOTEBOOKS
    ]
    verdict = overall([run.verdict] + [Verdict.INVALID for notebook in executed if notebook.error])
    (run.folder / "report.json").write_text(json.dumps(_summary(run, verdict), indent=2) + "\n", encoding="utf-8")
    page = run.folder / "report.html"
    page.write_text(_page(run, verdict, executed), encoding="utf-8")
    return page, verdict


def publish(page: Path) -> Path:
    """Copy the page to where the newest one always is."""
    # All or nothing, where two reports end at once or one is interrupted.
    new = LATEST.with_suffix(f".{page.parent.name}")
    shutil.copyfile(page, new)
    new.replace(LATEST)
    return LATEST


def _summary(run: Run, verdict: Verdict) -> dict[str, Any]:
    return {
        "verdict": verdict.value,
        "problems": run.problems,
        "targets": [
            {
                "operation": judgement.operation,
                "statistic": judgement.statistic,
                "unit": judgement.unit,
                "limit": judgement.limit,
                "verdict": judgement.verdict.value,
                **judgement.measured._asdict(),
                **({} if judgement.counted is None else judgement.counted._asdict()),
            }
            for judgement in run.judgements
        ],
        "checks": [
            {
                "name": check.name,
                "guarantee": check.guarantee,
                "passed": check.passed,
                "evidence": check.evidence,
            }
            for check in run.checks
        ],
        "manifest": run.manifest,
    }


def _command(run: Run) -> str:
    given = "KAIROS_REDIS_URL=… KAIROS_POSTGRES_URL=… " if run.manifest["servers_given"] else ""
    return f"{given}make report PROFILE={run.manifest['profile']}"


def _page(run: Run, verdict: Verdict, executed: list[Executed]) -> str:
    reasons = [*run.problems, *(f"{item.path.stem}: {item.error}" for item in executed if item.error)]
    if not reasons:
        met = sum(judgement.verdict is Verdict.PASS for judgement in run.judgements)
        held = sum(check.passed for check in run.checks)
        reasons = [
            f"{met} of {len(run.judgements)} targets met; {held} of {len(run.checks)} checks between instances held."
        ]
    template = string.Template((ROOT / "reports" / "page.html").read_text(encoding="utf-8"))
    return template.substitute(
        verdict=verdict.value,
        verdict_class=verdict.value.lower(),
        sign=tables.SIGNS[verdict.value],
        reasons="".join(f"<p>{escape(reason)}</p>" for reason in reasons),
        targets=tables.targets(run)._repr_html_(),
        checks=tables.checks(run)._repr_html_(),
        environment=tables.environment(run)._repr_html_(),
        notebooks="\n".join(f"<hr>\n<section>{item.html}</section>" for item in executed),
        command=escape(_command(run)),
    )
