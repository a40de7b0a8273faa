"""The repository's Markdown files: their headings, links and blocks of code."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import NamedTuple

from markdown_it import MarkdownIt

ROOT = Path(__file__).resolve().parents[2]
_FOLDERS = ("docs", "deploy", "kairos_core", "loadtests", "notebooks", "reports", "tests")
# Made by a run, and looked at where runs are.
_MADE = ("reports/runs/", "loadtests/runs/", "reports/sample/")
_ADDRESS = re.compile(r"""\b(?:href|src|srcset)\s*=\s*["']([^"']+)["']""")
_NAME = re.compile(r"""\b(?:id|name)\s*=\s*["']([^"']+)["']""")
# What GitHub leaves out of a heading's anchor.
_NOT_IN_SLUGS = re.compile(r"[^\w\- ]")


class Block(NamedTuple):
    """A fenced block of code.

    Attributes:
        file: where it stands, from the root of the repository.
        line: of its first fence, from 1.
        kind: the word behind the fence.
        text: what is in it.
    """

    file: str
    line: int
    kind: str
    text: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


class Document(NamedTuple):
    """A file.

    Attributes:
        file: where it is, from the root of the repository.
        anchors: what links into it may lead to.
        links: line and address of each link and picture.
        blocks: its blocks of code.
        titles: its headings of the first level.
        spans: line and text of what is marked as code within a line.
    """

    file: str
    anchors: set[str]
    links: list[tuple[int, str]]
    blocks: list[Block]
    titles: list[str]
    spans: list[tuple[int, str]]


def slug(heading: str) -> str:
    """The anchor that GitHub gives to a heading."""
    return _NOT_IN_SLUGS.sub("", heading.strip().lower()).replace(" ", "-")


def parse(text: str, file: str) -> Document:
    """Read a Markdown text."""
    found = Document(file, set(), [], [], [], [])
    slugs: dict[str, int] = {}
    level, line = "", 0
    for token in _reader().parse(text):
        line = token.map[0] + 1 if token.map else line
        if token.type == "fence":
            found.blocks.append(Block(file, line, token.info.strip(), token.content))
        elif token.type == "code_block":
            found.blocks.append(Block(file, line, "", token.content))
        elif token.type == "html_block":
            _html(found, line, token.content)
        level = token.tag if token.type == "heading_open" else level
        for child in token.children or ():
            address = child.attrGet("href") or child.attrGet("src")
            if address:
                found.links.append((line, str(address)))
            if child.type == "code_inline":
                found.spans.append((line, child.content))
            if child.type == "html_inline":
                _html(found, line, child.content)
        if token.type == "inline" and level:
            heading = "".join(child.content for child in token.children or ())
            found.titles.extend([heading] if level == "h1" else [])
            name, level = slug(heading), ""
            count = slugs[name] = slugs.get(name, -1) + 1
            found.anchors.add(f"{name}-{count}" if count else name)
    return found


@cache
def _reader() -> MarkdownIt:
    reader = MarkdownIt("commonmark").enable(["table", "strikethrough"])
    # It would take what leads to a file of the reader's for text.
    vars(reader)["validateLink"] = lambda _: True
    return reader


def _html(found: Document, line: int, text: str) -> None:
    found.links.extend((line, address) for address in _ADDRESS.findall(text))
    found.anchors.update(_NAME.findall(text))


@cache
def documents() -> dict[str, Document]:
    """All Markdown files of the repository, by where they are from its root; new ones are among them by themselves."""
    paths = [*ROOT.glob("*.md"), *(path for folder in _FOLDERS for path in (ROOT / folder).rglob("*.md"))]
    names = sorted(path.relative_to(ROOT).as_posix() for path in paths)
    return {
        name: parse((ROOT / name).read_text(encoding="utf-8"), name) for name in names if not name.startswith(_MADE)
    }


def blocks(*kinds: str) -> list[Block]:
    """All blocks of these kinds, in the order of files and lines."""
    return [block for one in documents().values() for block in one.blocks if block.kind in kinds]


def block(word: str, *, kind: str = "python", file: str | None = None) -> Block:
    """The one block of a kind that contains a word; in a file, if one is named.

    Raises:
        LookupError: there is none, or more than one.
    """
    found = [one for one in blocks(kind) if word in one.text and file in (None, one.file)]
    if len(found) != 1:
        raise LookupError(f"{word!r} is in {len(found)} {kind} blocks{f' of {file}' if file else ''}: {found}")
    return found[0]


def program(word: str, *, file: str | None = None) -> str:
    """The one Python program that contains a word."""
    return block(word, file=file).text
