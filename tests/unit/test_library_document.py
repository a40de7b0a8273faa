from __future__ import annotations

from kairos_core import StateUpdate, SyncMode, SyncParticipant, SyncState, SyncStatus
from tests.docs.markdown import ROOT

TEXT = (ROOT / "docs" / "library.md").read_text(encoding="utf-8")


def test_the_library_names_each_field_of_a_session() -> None:
    """Who writes a service needs no look into the code to know what a session has."""
    told = TEXT.partition("\n## A session\n")[2].partition("\n## ")[0]
    fields = [name for of in (SyncState, SyncParticipant, StateUpdate) for name in of.__struct_fields__]
    values = [value.name for of in (SyncMode, SyncStatus) for value in of]
    assert [] == [name for name in fields if f"`{name}`" not in told]
    assert [] == [name for name in values if f"{name}`" not in told]
