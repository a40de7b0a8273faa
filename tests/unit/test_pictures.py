"""All pictures of a run together, as the page has them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import msgspec
import pytest

from loadtests.studies.study import Result
from reports.evidence import Evidence
from reports.figures import style
from reports.pictures import SECTIONS, pictures
from tests.made_run import made_run
from tests.unit.test_figures import ids, texts

if TYPE_CHECKING:
    from pathlib import Path

    from reports.figures.style import Picture

# Bytes of one picture, and of all of them.
LARGEST, ALL = 80_000, 1_200_000


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole run's folder."""
    return made_run(tmp_path_factory.mktemp("pictures") / "run", is_dropping=True, without=("load/capacity",))


@pytest.fixture(scope="module")
def drawn(folder: Path) -> dict[str, list[Picture]]:
    """All its pictures."""
    return pictures(Evidence(folder))


def test_every_section_has_its_pictures(drawn: dict[str, list[Picture]], folder: Path) -> None:
    """Each with a heading, words for who does not see it, words on how to read it, and a file that is there."""
    assert SECTIONS == tuple(drawn)
    titles = [one.title for some in drawn.values() for one in some]
    assert len(set(titles)) == len(titles)
    for section, some in drawn.items():
        assert some, section
        for one in some:
            assert texts(one)
            assert re.search(r"\d", one.description), one.title
            assert one.caption
            assert (folder / one.file).exists()
    wanted = {"latency": 6, "load": 2, "rivals": 2, "scaling": 2, "audit": 1, "faults": 1, "violation": 1}
    assert wanted == {section: len(some) for section, some in drawn.items()}


def test_they_are_small_and_do_not_touch_each_other(drawn: dict[str, list[Picture]]) -> None:
    """No id is there twice, no picture has a rule for the page around it, and all are as wide as a phone can show."""
    every = [one.svg for some in drawn.values() for one in some]
    found = [one for svg in every for one in ids(svg)]
    assert len(set(found)) == len(found)
    for svg in every:
        assert "<style" not in svg
        assert "<image" not in svg
        assert set(re.findall(r'(?:url\(|href=")#([^)"]+)', svg)) <= set(ids(svg))
        assert style.WIDTH * 72 == pytest.approx(float(re.findall(r'viewBox="0 0 ([\d.]+)', svg)[0]), abs=1)
        sizes = [float(size) for size in re.findall(r'font(?:-size)?[:=]"? ?(\d+)', svg)]
        assert min(sizes) >= 11
        assert len(svg) < LARGEST
    assert sum(map(len, every)) < ALL


def test_what_is_missing_or_broken_is_left_out(tmp_path: Path) -> None:
    """An empty folder has no pictures, and a broken part has none of its own."""
    assert {section: [] for section in SECTIONS} == pictures(Evidence(tmp_path))
    broken = made_run(tmp_path / "broken", without=("latency", "load/capacity", "load/audit_outage", "validation"))
    (broken / "load" / "audit_outage").mkdir(parents=True)
    (broken / "load" / "audit_outage" / "load.json").write_text("{")
    (broken / "studies" / "instances.json").write_text("[]")
    study = broken / "studies" / "contention.json"
    found = msgspec.json.decode(study.read_bytes(), type=Result)
    study.write_bytes(msgspec.json.encode(msgspec.structs.replace(found, points=found.points[:1])))
    evidence = Evidence(broken)
    assert {"scaling": 1} == {section: len(found) for section, found in pictures(evidence).items() if found}
