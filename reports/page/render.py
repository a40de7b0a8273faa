"""Renders a report: templates with the data of `report.json`, the pictures, and nothing from elsewhere."""

from __future__ import annotations

import tomllib
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from loadtests import validation
from reports import findings
from reports.evidence import PARTS, VALIDATION
from reports.judging.guarantees import HARNESS
from reports.page import words
from reports.page.svg import labelled
from reports.results import DURABILITY
from reports.statistics import Verdict
from reports.tables import NOTHING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from reports.figures.style import Picture
    from reports.findings import FaultCell, Latency, Report

_HERE = Path(__file__).parent
KAIROS = "kairos"
# Where what has no file of its own in the report is from.
SOURCES = {
    "report": findings.NAME,
    "validation": f"{VALIDATION}/{validation.NAME}",
    "environment": "manifest.json",
    "parts": PARTS,
}

# What templates call a number or a verdict by.
_WORDS: dict[str, Callable[..., str]] = {
    "against_one": words.against_one,
    "count": words.count,
    "interval": words.interval,
    "kind": words.kind,
    "lasted": words.lasted,
    "limit": words.limit,
    "percent": words.percent,
    "sign": words.sign,
    "what_now": words.what_now,
    "when": words.when,
    "word": words.word,
}


class Tally(NamedTuple):
    """What came of several verdicts: how many there are of each, and of how many were judged."""

    held: int
    judged: int
    not_held: int
    undecided: int
    unjudged: int

    @property
    def kind(self) -> str:
        """The class of all of them."""
        if self.not_held:
            return "fail"
        return "pass" if self.judged and not self.undecided else "inconclusive"


def render(
    report: Report,
    pictures: dict[str, list[Picture]],
    *,
    prefix: str = "",
    is_there: Callable[[str], bool] = lambda _: True,
) -> str:
    """The page.

    Args:
        report: what it says.
        pictures: by section, see `reports.pictures.SECTIONS`.
        prefix: put before the names of files, which are relative to the run's folder: `runs/NAME/`.
        is_there: whether a file of that name is where the page will look for it; where not, the number has no link.

    Returns:
        one HTML file, which loads nothing.
    """
    files = Files(prefix, cache(is_there))
    template = environment().get_template("page.html")
    return template.render(
        report=report,
        pictures={name: list(found) for name, found in pictures.items()},
        targets=tally(target.verdict for target in report.targets),
        guarantees=tally(guarantee.verdict for guarantee in report.guarantees),
        validity=tally(Verdict.PASS if item.is_valid else Verdict.FAIL for item in report.validity),
        mutants=[row for row in report.mutants if row.mutant],
        harness=sum(row.guarantee == HARNESS for row in report.mutants if row.mutant),
        controls=[row for row in report.mutants if not row.mutant],
        rivals=rivals(report.latencies),
        own=[row for row in report.latencies if is_own(row)],
        matrix=matrix(report.fault_cells),
        machine=_machine(report.environment),
        glossary=_glossary(),
        sources=SOURCES,
        linked=files.linked,
        some_are_gone=any(not is_there(name) for name in files_of(report, pictures)),
        picture=picture_of,
        has=lambda section: bool(pictures.get(section)),
        number=number,
        **_WORDS,
    )


class Files(NamedTuple):
    """Links to the files of a run.

    Attributes:
        prefix: put before their names.
        is_there: whether there is one.
    """

    prefix: str
    is_there: Callable[[str], bool]

    def linked(self, text: str, file: str, name: str = "") -> Markup:
        """A text that leads to a file; one that leads nowhere and says so, where that is not there.

        Args:
            text: it.
            file: relative to the run's folder; empty: there is none.
            name: what the link is called where the text does not say it.
        """
        if not file:
            return escape(text)
        if not self.is_there(file):
            mark = Markup('<abbr class="gone" title="{0} is not kept here">°</abbr>').format(file)
            return escape(text) + mark
        label = Markup(' aria-label="{}"').format(name) if name else ""
        link = Markup('<a class="raw" href="{}" title="{}"{}>{}</a>')
        return link.format(quote(self.prefix + file), file, label, text)


def tally(verdicts: Iterable[Verdict | None]) -> Tally:
    """Count verdicts."""
    found = list(verdicts)
    judged = len(found) - found.count(None)
    held, not_held = found.count(Verdict.PASS), found.count(Verdict.FAIL)
    return Tally(held, judged, not_held, judged - held - not_held, found.count(None))


def is_own(row: Latency) -> bool:
    """Whether it is of Kairos itself: an operation, or an update at a level of durability, of which none is a rival."""
    return row.subject == KAIROS or row.operation == DURABILITY


def rivals(latencies: Sequence[Latency]) -> dict[str, list[tuple[Latency | None, Latency]]]:
    """Of each operation its rivals, each with what Kairos took in the same rounds."""
    ours = {row.operation: row for row in latencies if row.subject == KAIROS}
    found: dict[str, list[tuple[Latency | None, Latency]]] = {}
    for row in latencies:
        if not is_own(row):
            found.setdefault(row.operation, []).append((ours.get(row.operation), row))
    return found


def matrix(cells: Sequence[FaultCell]) -> tuple[list[str], list[tuple[str, list[FaultCell | None]]]]:
    """The guarantees that faults were held against, by number, and of each fault a cell for each of them."""
    guarantees = sorted({cell.guarantee for cell in cells}, key=lambda name: (len(name), name))
    by_both = {(cell.fault, cell.guarantee): cell for cell in cells}
    faults = dict.fromkeys(cell.fault for cell in cells)
    return guarantees, [(fault, [by_both.get((fault, name)) for name in guarantees]) for fault in faults]


def files_of(report: Report, pictures: dict[str, list[Picture]]) -> set[str]:
    """All files that the page leads to."""
    rows: list[Any] = [*report.targets, *report.guarantees, *report.validity, *report.latencies, *report.faults]
    rows += [*report.loads, *report.laws, *report.notebooks, report.counterexample, report.coverage]
    rows += [picture for found in pictures.values() for picture in found]
    found = {row.file for row in rows if row is not None and row.file} | {SOURCES["report"], SOURCES["environment"]}
    found |= {notebook.page for notebook in report.notebooks}
    if report.counterexample and report.counterexample.picture:
        found.add(report.counterexample.picture)
    if report.mutants or report.fault_cells:
        found.add(SOURCES["validation"])
    return found | ({SOURCES["parts"]} if report.parts else set())


def number(value: float | None, unit: str = "") -> Markup:
    """A number for people, with the exact one for programs."""
    text = f"{words.figure(value)} {unit}".strip() if value is not None else NOTHING
    return Markup("{}").format(text) if value is None else Markup('<data value="{!r}">{}</data>').format(value, text)


def picture_of(picture: Picture, name: str) -> Markup:
    """A picture within the page; `name` is put before the names in it."""
    # The SVG is our own: it was drawn from numbers, and matplotlib escapes what is text in it.
    return Markup(labelled(picture.svg, name, str(escape(picture.description))))  # noqa: S704


def _machine(environment: Sequence[tuple[str, str]]) -> str:
    return dict(environment).get("machine") or (environment[0][1] if environment else NOTHING)


@cache
def _glossary() -> dict[str, dict[str, str]]:
    return tomllib.loads((_HERE / "glossary.toml").read_text(encoding="utf-8"))


@cache
def environment() -> Environment:
    """Where templates are found; what is put into one is text, unless it says otherwise."""
    return Environment(
        loader=FileSystemLoader(_HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
