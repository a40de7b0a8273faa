"""Reads a page of HTML as a browser would, and says what is in it; for tests of pages."""

from __future__ import annotations

from html.parser import HTMLParser

_VOID = {"meta", "br", "hr", "link", "img", "input", "col", "wbr"}
_LEADS = {"src", "srcset", "href", "xlink:href", "poster", "action", "background"}


class ReadPage(HTMLParser):
    """What is in a page.

    Attributes:
        tags: the elements' names.
        ids: the ids, in order and as often as they are there.
        anchors: what links within the page lead to.
        leads: all other addresses.
        rows: the cells' texts of each row of a table.
        numbers: the exact values of numbers, as they stand in the page.
        handlers: attributes that would run a script.
        labels: of images, their descriptions.
        first: the text of the first heading.
        text: the text of the body.
        unbalanced: elements that are closed and were not open, or never closed.
    """

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.anchors: list[str] = []
        self.leads: list[str] = []
        self.rows: list[list[str]] = []
        self.numbers: list[float] = []
        self.handlers: list[str] = []
        self.labels: list[str] = []
        self.first = ""
        self.text = ""
        self.unbalanced: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        self.unbalanced += self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note an element."""
        self._note(tag, attrs)
        if tag not in _VOID:
            self._open.append(tag)
        if tag == "tr":
            self.rows.append([])
        elif tag in {"td", "th"}:
            self.rows[-1].append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note an element that is closed at once."""
        self._note(tag, attrs)

    def handle_endtag(self, tag: str) -> None:
        """Note the end of an element."""
        if self._open and self._open[-1] == tag:
            self._open.pop()
        else:
            self.unbalanced.append(f"/{tag}")

    def handle_data(self, data: str) -> None:
        """Note a text."""
        if {"style", "title"} & set(self._open):
            return
        self.text += data
        if "h1" in self._open:
            self.first += data
        if {"td", "th"} & set(self._open):
            self.rows[-1][-1] += data

    def _note(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            if name == "id":
                self.ids.append(value or "")
            elif name in _LEADS and value:
                (self.anchors if value.startswith("#") else self.leads).append(value.lstrip("#"))
            elif name.startswith("on"):
                self.handlers.append(name)
            elif tag == "data" and name == "value":
                self.numbers.append(float(value or "nan"))
            elif tag == "svg" and name == "aria-label":
                self.labels.append(value or "")
            elif name in {"aria-labelledby", "aria-describedby"}:
                self.anchors.append(value or "")
