"""The table of latencies, of which Locust's pages are made."""

from __future__ import annotations

import csv
import io

from loadtests.load.histograms import LONGEST_US, Histograms, Name
from loadtests.load.table import TITLES, Row, as_csv, as_html, table


def counted() -> Histograms:
    """A thousand turns of 1 to 1,000 us, one that was refused, and one create that took longer than is told apart."""
    found = Histograms()
    for value_us in range(1, 1001):
        found[Name("turn", "ok", "service")].record(value_us)
    found[Name("turn", "conflict", "service")].record(1234)
    found[Name("create", "ok", "latency")].record(LONGEST_US * 2)
    return found


def test_rows_keep_outcomes_apart_and_microseconds() -> None:
    """Each operation, outcome and part is a row; percentiles are right to the microsecond below two milliseconds."""
    create, refused, turn = table(counted())
    assert ["create", "ok", "latency", "1", "1"] == create.texts()[:5]
    assert create.longest_ms >= LONGEST_US / 1e3
    assert Row("turn", "conflict", "service", 1, 0, *[1.234] * 7) == refused
    assert abs(turn.mean_ms - 0.5005) <= 0.001
    assert Row("turn", "ok", "service", 1000, 0, turn.mean_ms, 0.5, 0.9, 0.95, 0.99, 0.999, 1.0) == turn


def test_a_name_of_which_nothing_was_counted_is_no_row() -> None:
    """Having looked at a histogram does not make a row of zeros, which would read as very fast."""
    found = Histograms()
    assert not len(found[Name("turn", "ok", "service")])
    assert [] == table(found)
    assert "Nothing was counted" in as_html([], "")


def test_csv_has_three_decimals() -> None:
    """The file has the columns by name, and milliseconds with three decimals, also where they are round."""
    rows = list(csv.DictReader(io.StringIO(as_csv(table(counted())))))
    assert list(TITLES) == list(rows[0])
    assert ("1000", "0.500", "1.000") == (rows[2]["count"], rows[2]["p50_ms"], rows[2]["longest_ms"])


def test_sortable_texts_are_in_the_order_of_their_values() -> None:
    """Texts with three decimals are sorted as the numbers that they are, from a microsecond to ten minutes."""
    values = [0.001, 0.11, 9.0, 10.0, 99.5, 100.0, LONGEST_US / 1e3]
    texts = [Row("turn", "ok", "service", 1, 0, *[value] * 7).sortable()["p99_ms"] for value in values]
    assert [f"{value:.3f}" for value in values] == [str(text).strip() for text in texts]
    assert texts == sorted(texts, key=str)


def test_html_is_escaped() -> None:
    """Neither a verdict nor a name can become markup."""
    found = Histograms()
    found[Name("<b>turn", "ok", "service")].record(1)
    section = as_html(table(found), "p99 < 5 ms: <script>FAIL</script>")
    assert "p99 &lt; 5 ms: &lt;script&gt;FAIL" in section
    assert "&lt;b&gt;turn" in section
    assert "<script" not in section
    assert "<b>" not in section
