"""The accounts that Kairos needs on the store, each with what it needs and no more.

`core.acl` is for processes that read and write sessions, `worker.acl` for `kairos worker`, `recover.acl` for
`kairos recover`. They are templates, with the reason of each permission; the command `kairos acl` prints them for a
namespace. The whole suite runs under them.
"""

from __future__ import annotations

import re
from importlib import resources
from typing import TYPE_CHECKING

from kairos_core.errors import InvalidState

if TYPE_CHECKING:
    from collections.abc import Collection

ROLES = ("core", "worker", "recover")
# What is needed in some places only; `queue` is the worker's, who needs it always.
PARTS = ("cluster", "fsync", "replicated", "sentinel")
_ALWAYS = ("", "queue")

_match_queue_prefix = re.compile(r"\A[A-Za-z0-9_.:{}-]+\Z").match
_find_section = re.compile(r"^\[(\w+)\]$", re.MULTILINE).split


def account(role: str, namespace: str, parts: Collection[str] = (), *, queue_prefix: str = "rq") -> list[str]:
    """The words of a line of a server's file of accounts; without the first, those of ACL SETUSER.

    The password is `PASSWORD`, for the operator to replace.

    Args:
        role: core, worker or recover.
        namespace: the namespace.
        parts: what the account needs besides; see `PARTS`.
        queue_prefix: what RQ's keys begin with (its `RQ_KEY_PREFIX`).

    Raises:
        InvalidState: there is no such role or part, or the prefix is none.
    """
    if role not in ROLES:
        raise InvalidState(f"role: {', '.join(ROLES[:-1])} or {ROLES[-1]} is needed")
    if unknown := set(parts) - set(PARTS):
        raise InvalidState(f"parts: {', '.join(sorted(unknown))}: only {', '.join(PARTS)} are known")
    if _match_queue_prefix(queue_prefix) is None:
        raise InvalidState("queue_prefix: letters, digits and _ . : - { } are needed")
    words: list[str] = []
    for name, text in _sections(role):
        if name in _ALWAYS or name in parts:
            rules = " ".join(line for line in text.splitlines() if not line.startswith("#"))
            words += _as_words(rules.replace("NAMESPACE", namespace).replace("QUEUE", queue_prefix))
    return words


def _as_words(rules: str) -> list[str]:
    """Rules, of which those in parentheses, a selector, are one word."""
    found = rules.split()
    if "(" in found:
        first, last = found.index("("), found.index(")")
        found[first : last + 1] = [f"({' '.join(found[first + 1 : last])})"]
    return found


def _sections(role: str) -> list[tuple[str, str]]:
    text = resources.files("kairos_core").joinpath("acl", f"{role}.acl").read_text(encoding="utf-8")
    first, *rest = _find_section(text)
    return [("", first), *zip(rest[::2], rest[1::2], strict=True)]
