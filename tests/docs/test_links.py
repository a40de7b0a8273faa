from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.docs.links import wrong_links
from tests.docs.markdown import documents, parse, slug

if TYPE_CHECKING:
    from pathlib import Path

# Words behind a fence. What is to be run has one name each, so that no block is left out by another one.
RUN = {"python", "console", "sh"}
SHOWN = {"css", "diff", "dockerfile", "html", "ini", "javascript", "json", "lua", "make", "mermaid", "promql", "sql"}
SHOWN |= {"text", "toml", "yaml"}


def test_all_links_lead_somewhere() -> None:
    """Whoever follows a link in a Markdown file of this repository gets to a file, and to a heading, that is there."""
    assert "README.md" in documents()
    assert [] == [said for one in documents().values() for said in wrong_links(one)]


def test_each_file_has_one_title() -> None:
    """A file has one heading of the first level."""
    assert {} == {name: one.titles for name, one in documents().items() if len(one.titles) != 1}


def test_each_block_says_what_it_is() -> None:
    """A block is run (python, console, sh), or shown in a language that is run nowhere."""
    found = [block for one in documents().values() for block in one.blocks]
    assert [] == [(str(block), block.kind) for block in found if block.kind not in RUN | SHOWN]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[a](b.md)", ""),
        ("[a](b.md#a-heading-with-code--more)", ""),
        ("[a](b.md#twice-1) [a](b.md#here)", ""),
        ("[a](#mine)\n# Mine", ""),
        ("[a](../docs/sub/)", ""),
        ("[a](https://example.com/x#y) <https://example.com>", ""),
        ("[a](c.md)", "there is no such file"),
        ("![a](c.png)", "there is no such file"),
        ('<img src="c.png">', "there is no such file"),
        ('a <source srcset="c.png"> b', "there is no such file"),
        ("| a |\n| - |\n| [a](c.md) |", "there is no such file"),
        ("[a](b.md#none)", "there is no such heading in docs/b.md"),
        ("[a](#none)", "there is no such heading in docs/a.md"),
        ("[a](b.md#twice-2)", "there is no such heading"),
        ("[a](../reports/runs/)", "git ignores it"),
        ("[a](x/__pycache__/a.md)", "git ignores it"),
        ("[a](/docs/b.md)", "leads out of the repository"),
        ("[a](file:///docs/b.md)", "leads out of the repository"),
        ("[a](../../b.md)", "leads out of the repository"),
        ("[a](https://nowhere)", "no address"),
        ("[a](sub/file.py#L3) [a](sub/file.py#L3-L5)", ""),
        ("[a](sub/file.py#part)", "no Markdown file"),
    ],
)
def test_what_a_link_that_leads_nowhere_is_called(tmp_path: Path, text: str, said: str) -> None:
    """Each way for a link to be wrong is found, and none that is right is accused."""
    (tmp_path / "docs" / "sub").mkdir(parents=True)
    (tmp_path / "reports" / "runs").mkdir(parents=True)
    (tmp_path / ".gitignore").write_text("# runs\nreports/runs/\n__pycache__/\n*.egg-info/\n", encoding="utf-8")
    (tmp_path / "docs" / "sub" / "file.py").touch()
    other = '# B\n\n## A heading, with `code` & more\n\n## Twice\n\n## Twice\n\n<a id="here"></a>\n'
    (tmp_path / "docs" / "b.md").write_text(other, encoding="utf-8")
    (tmp_path / "docs" / "a.md").write_text(text, encoding="utf-8")
    found = wrong_links(parse(text, "docs/a.md"), tmp_path)
    assert bool(said) == bool(found)
    assert all(said in one for one in found)


def test_anchors_are_those_of_github() -> None:
    """A heading's anchor is what GitHub makes of it."""
    assert "what-redis-has-lost" == slug("What Redis has lost")
    assert "how-fast-and-what-it-costs" == slug("How fast, and what it costs")
    assert "kairos_core-its-parts" == slug("kairos_core: its parts")
