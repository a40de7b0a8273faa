"""Violations, told and drawn."""

from __future__ import annotations

from xml.etree import ElementTree as ET

from loadtests.history import Error, Kind, Outcome
from loadtests.judging import counterexample
from loadtests.judging.checker import Facts, Fault, Operation, Rule, Violation, check
from loadtests.judging.story import Story, history_of

_SVG = "{http://www.w3.org/2000/svg}"


def stale(updates: int = 1) -> Story:
    """A read of version 1 that began a millisecond after it was replaced."""
    story = Story()
    first = story.create(1, 2)
    for number in range(1, updates + 1):
        story.update(2 + number, 2.5 + number, (1, number))
    story.get(3.5 + updates, 8 + updates, (1, 1), first)
    return story


def drawn(story: Story, facts: Facts) -> tuple[str, ET.Element]:
    """The first violation's picture, which must be well-formed."""
    history = history_of(story.records)
    violation = check(history, facts).violations[0]
    svg = counterexample.picture(violation, history, facts)
    return svg, ET.fromstring(svg)  # noqa: S314 - our own


def bars(tree: ET.Element) -> list[ET.Element]:
    """The bars of operations."""
    return [one for one in tree.iter(f"{_SVG}rect") if one.get("rx")]


def texts(tree: ET.Element) -> list[str]:
    """What is written in a picture."""
    return [one.text or "" for one in tree.iter(f"{_SVG}text")]


def test_sentence_can_be_checked_by_hand() -> None:
    """It names rule, session, both operations with stamps and times, and how far they are apart."""
    verdict = stale().check(began_ns=1)
    told = counterexample.sentence(verdict.violations[0])
    assert told.startswith("order (session 1): (1, v2) was there, and 1.000 ms after that came what can only be before")
    assert "p2 update of session 1, from (1, v1) to (1, v2), ok, 0.003000 s to 0.003500 s" in told
    assert "p3 get of session 1, at (1, v1) by 1.1, ok, 0.004500 s to 0.009000 s" in told


def test_picture_shows_both_and_their_writers() -> None:
    """The two operations are marked, the writer that one of them saw is there, and nothing of another session."""
    story = stale()
    story.create(1, 2, session=2)
    _, tree = drawn(story, Facts())
    assert 3 == len(bars(tree))
    marked = [one for one in bars(tree) if one.get("stroke-width") == "3"]
    assert 2 == len(marked)
    assert {"p2 update (1, v1 to v2)", "p3 get (1, v1)", "p1 create (1, v1)"} <= set(texts(tree))


def test_places_are_those_of_the_times() -> None:
    """What ended before another began lies left of it."""
    _, tree = drawn(stale(), Facts())
    create, update, read = (float(one.get("x", "0")) for one in bars(tree))
    ends = [float(one.get("x", "0")) + float(one.get("width", "0")) for one in bars(tree)]
    assert create < ends[0] < update < ends[1] < read < ends[2]


def test_texts_do_not_run_into_each_other() -> None:
    """Not beside a bar or a row's place, and not over the edge, where incarnations are as long as real ones, too."""
    n = 1_795_547_119_623_440
    story = Story()
    own = story.create(1, 2, n, process=12_345)
    story.update(3, 4, (n, 1), at=(0, 0), process=12_346, outcome=Outcome.REFUSED, error=Error.CONFLICT)
    story.add(Kind.DELETE_IF, 5, None, of=(n, 123), process=12_347)
    story.row(1, (n, 1), own)
    story.row(2, (n, 124), 0, Kind.RECORDED_REMOVED)
    history = history_of(story.records)
    first, second = (Operation.of(record, 0) for record in history[-2:])
    why = "These rows do not follow each other: " + f"{first.words}; " * 5
    violation = Violation(rule=Rule.AUDIT, session=1, sentence=why, first=first, second=second)
    tree = ET.fromstring(counterexample.picture(violation, history, Facts()))  # noqa: S314 - our own
    width, height = (float(tree.get(name, "0")) for name in ("width", "height"))
    boxes = []
    for one in tree.iter(f"{_SVG}text"):
        x, y, bold = float(one.get("x", "0")), float(one.get("y", "0")), one.get("font-weight") == "bold"
        wide = len(one.text or "") * (7.8 if bold else 7.1)
        x -= wide / 2 if one.get("text-anchor") == "middle" else 0
        boxes.append((x, y - 13, x + wide, y))
    boxes += [
        (x, float(one.get("y", "0")), x + float(one.get("width", "0")), float(one.get("y", "0")) + 15)
        for one in bars(tree)
        for x in [float(one.get("x", "0"))]
    ]
    assert [] == [box for box in boxes if not (0 <= box[0] and box[2] <= width and box[3] <= height)]
    for place, (left, top, right, bottom) in enumerate(boxes):
        for other in boxes[:place]:
            assert left >= other[2] or right <= other[0] or top >= other[3] or bottom <= other[1]


def test_picture_says_what_is_wrong() -> None:
    """The sentence is in it, in lines."""
    story = stale()
    violation = story.check(began_ns=1).violations[0]
    _, tree = drawn(story, Facts(began_ns=1))
    assert violation.sentence in " ".join(texts(tree))


def test_no_more_than_eight_lanes() -> None:
    """However many versions lie between, a picture has eight lanes at the most."""
    _, tree = drawn(stale(40), Facts())
    assert counterexample.LANES == len(bars(tree))


def test_nearest_fault_is_a_band() -> None:
    """Of several faults the one that overlaps is drawn; one that is far away is only named."""
    near = Fault(name="SIGKILL of Valkey <&>", begin_ns=3_000_000, healed_ns=5_000_000)
    far = Fault(name="cut", begin_ns=900_000_000, healed_ns=901_000_000)
    svg, tree = drawn(stale(), Facts(faults=(far, near)))
    assert 1 == svg.count('class="fault"')
    assert any("SIGKILL of Valkey <&>" in text for text in texts(tree))
    svg, tree = drawn(stale(), Facts(faults=(far,)))
    assert 'class="fault"' not in svg
    assert any(text.startswith("fault: cut") for text in texts(tree))


def test_what_never_ended_runs_to_the_edge() -> None:
    """An unknown write is dashed."""
    story = Story()
    first = story.create(1, 2)
    own = story.update(3, None, (1, 1))
    story.get(5, 6, (1, 2), own)
    story.get(7, 8, (1, 1), first)
    svg, _ = drawn(story, Facts())
    assert 1 == svg.count("stroke-dasharray")


def test_rows_of_the_audit_have_no_time() -> None:
    """They are named, not drawn where their place would be a time."""
    story = Story()
    own = story.create(1000, 1001)
    story.row(1, (1, 1), own)
    story.row(2, (1, 1), own, Kind.RECORDED)
    verdict = story.check(has_audit=True)
    assert {Rule.AUDIT} == {one.rule for one in verdict.violations}
    _, tree = drawn(story, Facts(has_audit=True))
    assert "row 1 of the trail" in texts(tree)
    assert 1 == len(bars(tree))


def test_picture_needs_nothing_outside() -> None:
    """No script, no style sheet, no link, no font, no image."""
    svg, _ = drawn(stale(), Facts())
    assert not any(word in svg for word in ("<script", "href", "url(", "@import", "<image"))
