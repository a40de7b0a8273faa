from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from kairos_core.audit import chain
from loadtests.trail import Row, wrong_with

START = datetime(2026, 1, 1, tzinfo=UTC)


def trail(versions: int = 5) -> list[Row]:
    """A session's events as they should be."""
    rows, chain_hash = [], chain.NO_HASH
    for version in range(1, versions + 1):
        operation, at = UUID(int=version), START + timedelta(seconds=version)
        digest = chain.digest(
            (operation.hex, "a", 1, version, "update"), chain.microseconds(at), f'{{"v": {version}}}', "updated"
        )
        chain_hash = chain.following(chain_hash, digest, chain.microseconds(at))
        rows.append(
            Row("a", 1, version, version, operation, "update", "updated", at, at, f'{{"v":{version}}}', chain_hash)
        )
    return rows


def test_a_whole_trail() -> None:
    """A trail with every version once and a whole chain has nothing wrong with it."""
    assert [] == wrong_with(trail(), {"a": 5})
    assert [] == wrong_with([], {})


@pytest.mark.parametrize(
    ("rows", "versions"),
    [
        pytest.param(trail(), {"a": 6}, id="the last is missing"),
        pytest.param(trail()[:2] + trail()[3:], {"a": 5}, id="a gap"),
        pytest.param([*trail(), trail()[-1]], {"a": 5}, id="one twice"),
        pytest.param(trail(), {}, id="a session that is not stored"),
        pytest.param([], {"a": 1}, id="a session that is not recorded"),
        pytest.param([trail()[1], trail()[0], *trail()[2:]], {"a": 5}, id="another order"),
        pytest.param([*trail()[:4], trail()[4]._replace(snapshot='{"v":6}')], {"a": 5}, id="altered"),
        pytest.param([*trail()[:4], trail()[4]._replace(position=6)], {"a": 5}, id="a gap in the chain"),
        pytest.param([*trail()[:4], trail()[4]._replace(operation_id=UUID(int=1))], {"a": 5}, id="an operation twice"),
    ],
)
def test_a_trail_with_something_wrong(rows: list[Row], versions: dict[str, int]) -> None:
    """Whatever is missing, doubled, out of order or altered is found."""
    assert [] != wrong_with(rows, versions)
