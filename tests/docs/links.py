"""Where the links of a Markdown file lead."""

from __future__ import annotations

import os
import re
from fnmatch import fnmatch
from functools import cache
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from tests.docs.markdown import ROOT, parse

if TYPE_CHECKING:
    from pathlib import Path

    from tests.docs.markdown import Document

_LINE = re.compile(r"L\d+(-L\d+)?")
_HOST = re.compile(r"(localhost|127\.0\.0\.1|[\w-]+(\.[\w-]+)*\.[a-z]{2,})(:\d+)?")


def wrong_links(document: Document, root: Path = ROOT) -> list[str]:
    """What is wrong with the links of a file, a line each; nothing where all lead somewhere."""
    found = [(line, address, _wrong(document, address, root)) for line, address in document.links]
    return [f"{document.file}:{line}: {address}: {said}" for line, address, said in found if said]


def _wrong(document: Document, address: str, root: Path) -> str | None:
    parts = urlsplit(address)
    if parts.scheme in {"http", "https"}:
        return None if _HOST.fullmatch(parts.netloc) and " " not in address else "no address"
    if parts.scheme or parts.netloc or address.startswith("/"):
        return "leads out of the repository: an address is https://, a file is named from here"
    file = _named(document, unquote(parts.path))
    if file.startswith(".."):
        return "leads out of the repository"
    if ignored(file, root):
        return "git ignores it, so it is in no clone"
    if not (root / file).exists():
        return "there is no such file"
    return _wrong_anchor(document, file, unquote(parts.fragment), root)


def _named(document: Document, path: str) -> str:
    return os.path.normpath(os.path.join(os.path.dirname(document.file), path)) if path else document.file  # noqa: PTH118, PTH120 - a name and no path


def _wrong_anchor(document: Document, file: str, fragment: str, root: Path) -> str | None:
    if not fragment or (not file.endswith(".md") and _LINE.fullmatch(fragment)):
        return None
    if not file.endswith(".md"):
        return "has an anchor, and is no Markdown file"
    anchors = document.anchors if file == document.file else _anchors(root, file)
    return None if fragment in anchors else f"there is no such heading in {file}"


@cache
def _anchors(root: Path, file: str) -> set[str]:
    return parse((root / file).read_text(encoding="utf-8"), file).anchors


def ignored(file: str, root: Path = ROOT) -> bool:
    """Whether `.gitignore` leaves a file out; asked of the file itself, since an archive has no git."""
    for line in (root / ".gitignore").read_text(encoding="utf-8").splitlines():
        pattern = line.strip().rstrip("/")
        if not pattern or pattern.startswith("#"):
            continue
        if "/" in pattern:
            if f"{file}/".startswith(f"{pattern.lstrip('/')}/"):
                return True
        elif any(fnmatch(part, pattern) for part in file.split("/")):
            return True
    return False
