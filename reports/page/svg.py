"""Pictures within one page: each has its own names, and none has rules for what is around it."""

from __future__ import annotations

import re

# What matplotlib writes for a file of its own: within a page these rules would hold for all of it.
_FOR_A_FILE = re.compile(r"<style[^>]*>\s*\*\s*\{[^}]*\}\s*</style>|<metadata>.*?</metadata>|<!--.*?-->", re.DOTALL)
_NAMED = re.compile(r'\s(id)="([^"]*)"')
_USED = re.compile(r'((?:xlink:)?href="#|url\(#)([^")]+)')
_ROOT = re.compile(r"<svg\b[^>]*>")
_SIZE = re.compile(r'\s(?:width|height|role|aria-label|aria-hidden)="[^"]*"')


def scoped(svg: str, name: str) -> str:
    """The picture with names that no other has, and none that nothing refers to.

    Args:
        svg: the element.
        name: put before its ids.
    """
    bare = _FOR_A_FILE.sub("", svg)
    used = {found.group(2) for found in _USED.finditer(bare)}
    named = _NAMED.sub(lambda found: f' id="{name}-{found.group(2)}"' if found.group(2) in used else "", bare)
    return _USED.sub(lambda found: f"{found.group(1)}{name}-{found.group(2)}", named)


def labelled(svg: str, name: str, description: str) -> str:
    """The picture, scoped, as one image with a description; its size is the page's business.

    Args:
        svg: the element.
        name: put before its ids.
        description: what is to be seen, escaped for an attribute.
    """
    found = _ROOT.search(svg)
    if found is None:
        return ""
    root = _SIZE.sub("", found.group(0))
    # A picture that gives a size and no box of coordinates would be cut off where it is made smaller.
    if "viewBox" not in root:
        size = [re.search(rf'\s{side}="([\d.]+)', found.group(0)) for side in ("width", "height")]
        if all(size):
            root = f'{root[:-1]} viewBox="0 0 {" ".join(side.group(1) for side in size if side)}">'
    root = f'{root[:-1]} role="img" aria-label="{description}">'
    return scoped(root + svg[found.end() :], name)
