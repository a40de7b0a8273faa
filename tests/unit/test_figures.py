from __future__ import annotations

import math
from xml.etree import ElementTree as ET

import pytest

from reports.figures import Picture, Row, forest, scaling
from reports.statistics import Comparison
from reports.usl import fit_usl, law

MISSED = "#d55e00"


def texts(picture: Picture) -> list[str]:
    """The texts of a figure, which is XML by itself and loads nothing."""
    # It was written here.
    root = ET.fromstring(picture.svg)  # noqa: S314
    assert "http" not in "".join(value for one in root.iter() for value in one.attrib.values())
    return [(one.text or "").strip() for one in root.iter() if one.tag.endswith("}text")]


def test_a_forest_has_every_row() -> None:
    """Each comparison is a row that names both sides and has its ratio, also where it has no interval."""
    rows = [
        Row("get_session", "again", Comparison(1.004, 0.99, 1.02, 10)),
        Row("get_session", "bare", Comparison(0.71, 0.69, 0.73, 10)),
        Row("async_get_session", "bare", Comparison(1.25, 0.0, math.inf, 3)),
        Row("update_session", "watch_multi", Comparison(0.42, 0.40, 0.44, 10)),
    ]
    picture = forest(rows)
    found = texts(picture)
    for text in (
        "get_session over itself",
        "get_session over bare redis-py",
        "async_get_session over bare redis.asyncio",
        "update_session over WATCH/MULTI",
        "0.71",
        "1.25",
    ):
        assert text in found
    assert MISSED not in picture.svg
    assert picture.svg == forest(rows).svg


@pytest.mark.parametrize(("subject", "marked"), [("again", True), ("bare", False)])
def test_a_row_that_fires_is_marked(subject: str, marked: bool) -> None:
    """An operation that differs from itself is seen to; beside others it may."""
    picture = forest([Row("get_session", subject, Comparison(1.2, 1.19, 1.21, 10))])
    assert marked is (MISSED in picture.svg)


def test_a_forest_without_rows() -> None:
    """A run in which nothing can be compared has an empty figure, and no error."""
    assert forest([]).svg.startswith("<svg")


def test_a_scaling_curve() -> None:
    """The curve has its points, the law and its interval; without a fit it has the points alone."""
    points = [
        (number, float(law(number, 3_000, 0.05, 0.01)) * (1 + 0.01 * turn))
        for number in range(1, 9)
        for turn in range(3)
    ]
    found = texts(scaling(points, fit_usl(points, resamples=20)))
    assert {"measured", "fitted law", "95 % interval", "instances", "updates a second"} <= set(found)
    assert "fitted law" not in texts(scaling(points, None))
