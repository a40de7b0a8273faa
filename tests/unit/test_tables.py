from __future__ import annotations

from html.parser import HTMLParser

import pytest

from reports.statistics import Verdict
from reports.tables import SIGNS, Table, signed

NASTY = "<script>alert(\"1\")</script> & 'x'"


class Reader(HTMLParser):
    """Reads a table back: its cells, its tags and its caption, as a browser would."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.caption = ""
        self.tags: set[str] = set()
        self.classes: list[str] = []
        self._inside = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note what begins."""
        self.tags.add(tag)
        self._inside = tag
        if tag == "tr":
            self.rows.append([])
        elif tag in {"td", "th"}:
            self.rows[-1].append("")
            self.classes.extend(value or "" for name, value in attrs if name == "class")

    def handle_endtag(self, tag: str) -> None:
        """Note what ends."""
        del tag
        self._inside = ""

    def handle_data(self, data: str) -> None:
        """Note the text of a cell or of the caption."""
        if self._inside == "caption":
            self.caption += data
        else:
            assert self._inside in {"td", "th"}, data
            self.rows[-1][-1] += data


def test_text() -> None:
    """Columns are as wide as their widest cell, head included, and no line ends in blanks."""
    table = Table(("a", "head", "last"), [("one", "1", ""), ("two words", "22", "x")])
    assert table.text() == "a          head  last\none        1\ntwo words  22    x"


def test_text_without_rows() -> None:
    """A table without rows is its head."""
    assert "a  b" == Table(("a", "b"), []).text()


@pytest.mark.parametrize("row", [("1",), ("1", "2", "3")])
def test_rows_that_do_not_fit(row: tuple[str, ...]) -> None:
    """A row of another length than the head is an error, never a table that is cut."""
    with pytest.raises((ValueError, IndexError)):
        Table(("a", "b"), [row]).text()


def test_html() -> None:
    """The HTML has the same head, rows and caption."""
    found = Reader(Table(("a", "b"), [("1", "2"), ("3", "")], "what it is")._repr_html_())
    assert [["a", "b"], ["1", "2"], ["3", ""]] == found.rows
    assert "what it is" == found.caption
    assert [] == found.classes


def test_html_without_a_caption() -> None:
    """A table without a caption has no empty one."""
    assert "caption" not in Reader(Table(("a",), [("1",)])._repr_html_()).tags


def test_html_is_escaped() -> None:
    """Head, cells and caption are text whatever they hold; none becomes markup."""
    html = Table((NASTY, "b"), [(NASTY, f"{NASTY} PASS")], NASTY)._repr_html_()
    found = Reader(html)
    assert [[NASTY, "b"], [NASTY, f"{NASTY} PASS"]] == found.rows
    assert NASTY == found.caption
    assert {"div", "table", "caption", "thead", "tbody", "tr", "th", "td"} == found.tags
    assert 'alert("' not in html


@pytest.mark.parametrize("verdict", Verdict)
def test_verdicts(verdict: Verdict) -> None:
    """Each verdict has a sign, a word and a class, so it is never told by its colour alone."""
    cell = signed(verdict.value)
    assert f"{SIGNS[verdict.value]} {verdict.value}" == cell
    found = Reader(Table(("verdict",), [(cell,)])._repr_html_())
    assert ([["verdict"], [cell]], [f"verdict {verdict.value.lower()}"]) == (found.rows, found.classes)


def test_signs() -> None:
    """No two verdicts have the same sign, and none has no sign."""
    assert {verdict.value for verdict in Verdict} == set(SIGNS)
    assert len(SIGNS) == len(set(SIGNS.values()))


@pytest.mark.parametrize("cell", ["PASSED", "pass", "", " ", "5 of 6", "PASS 1"])
def test_other_cells_have_no_class(cell: str) -> None:
    """Only a cell that ends in a verdict's word is dressed as one."""
    assert [] == Reader(Table(("a",), [(cell,)])._repr_html_()).classes
