from __future__ import annotations

import re

from tests.docs.markdown import ROOT

TEXT = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
CORE = ROOT / "kairos_core"


def named(folder: str) -> set[str]:
    """The files and folders that the table of a folder names in its first column."""
    table = TEXT.partition(f"| in `{folder}` |")[2].partition("\n\n")[0]
    return {name for row in table.splitlines() for name in re.findall(r"`([^`]+)`", row.split("|")[1] if row else "")}


def there(folder: str) -> set[str]:
    """The modules and folders that there are."""
    found = {path for path in (ROOT / folder).iterdir() if not path.name.startswith(("__pycache__", "."))}
    return {f"{path.name}/" if path.is_dir() else path.name for path in found if path.is_dir() or path.suffix == ".py"}


def test_every_room_of_the_core_has_a_sign() -> None:
    """The next developer finds each module of the core in the architecture, and none that is no longer there."""
    assert there("kairos_core/") - {"audit/"} == named("kairos_core/") - {"audit/"}
    assert there("kairos_core/audit/") - {"__init__.py"} == named("kairos_core/audit/")


def test_files_in_the_text_are_there() -> None:
    """What the text says of a module, a script or a folder is of one that is there."""
    files = set(re.findall(r"`((?:audit|scripts)/\w+\.\w+|\w+\.py)`", TEXT))
    assert files
    assert set() == {file for file in files if not ((CORE / file).exists() or (CORE / "audit" / file).exists())}
