"""What deploy/ and docs/metrics.md say of the metrics, against what the code tells."""

from __future__ import annotations

import ast
import functools
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import promql_parser
import pytest
import yaml
from prometheus_client import CollectorRegistry

from kairos_core import Settings
from kairos_core.commands import Traffic
from kairos_core.metrics import Call, PrometheusObserver
from kairos_core.metrics.audit import AuditCollector, Jobs, Outboxes
from kairos_core.observed import OPERATIONS
from kairos_core.observing import OUTCOMES, RETRY_REASONS

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
DOCUMENT = ROOT / "docs" / "metrics.md"
ALERTS = yaml.safe_load((ROOT / "deploy/prometheus/alerts.yml").read_text(encoding="utf-8"))
DASHBOARD = json.loads((ROOT / "deploy/grafana/kairos.json").read_text(encoding="utf-8"))
RULES: list[dict[str, Any]] = [rule for group in ALERTS["groups"] for rule in group["rules"]]
# What Prometheus itself puts on a series.
GIVEN = {"job", "instance", "le"}


def told() -> dict[str, set[str]]:
    """Each metric that the code tells, by its name in an expression, with its labels."""
    registry = CollectorRegistry()
    observer = PrometheusObserver(registry)
    for outcome in OUTCOMES:
        observer.called(Call("get_session", outcome, 0.1, "a", None))
    collector = AuditCollector(Settings())
    families = [*registry.collect(), *collector.families(Outboxes([Traffic(1, 2)], 1.0), Jobs(0, 1), 0)]
    collector.close()
    found: dict[str, set[str]] = {}
    for family in families:
        for sample in family.samples:
            if not sample.name.endswith("_created"):
                found.setdefault(sample.name, set()).update(sample.labels)
    return found


TOLD = told()


def panels() -> Iterator[dict[str, Any]]:
    """The dashboard's panels that show something."""
    return (panel for panel in DASHBOARD["panels"] if panel["type"] != "row")


def expressions() -> list[tuple[str, str]]:
    """Every expression of the rules and of the dashboard, and where it stands."""
    found = [(rule["alert"], rule["expr"]) for rule in RULES]
    found += [(panel["title"], target["expr"]) for panel in panels() for target in panel["targets"]]
    for variable in DASHBOARD["templating"]["list"]:
        if variable["type"] == "query":
            found.append(
                (
                    variable["name"],
                    re.sub(r"\Alabel_values\((.*), (\w+)\)\Z", r"group by (\2) (\1)", variable["definition"]),
                )
            )
    return [(where, text.replace("$__rate_interval", "5m")) for where, text in found]


def named(text: str) -> list[tuple[str, set[str]]]:
    """The metrics in an expression, each with the labels that are asked of it; and those that all of it is by."""
    found: list[tuple[str, set[str]]] = []
    by: set[str] = set()

    def look(node: Any) -> None:
        if isinstance(node, promql_parser.MatrixSelector):
            node = node.vector_selector
        if isinstance(node, promql_parser.VectorSelector):
            found.append((node.name or "", {matcher.name for matcher in node.matchers.matchers}))
        if isinstance(node, promql_parser.AggregateExpr) and node.modifier is not None:
            by.update(node.modifier.labels)

    promql_parser.walk(promql_parser.parse(text), look)
    return [*found, ("", by)]


@pytest.mark.parametrize(("where", "text"), expressions())
def test_every_expression_asks_for_what_there_is(where: str, text: str) -> None:
    """Every expression parses, and names metrics and labels that the code tells."""
    found = named(text)
    assert len(found) > 1, where
    there = set().union(*(TOLD[name] for name, _ in found if name)) | GIVEN
    for name, labels in found:
        assert labels <= (TOLD[name] | GIVEN if name else there), f"{where}: {name}"


def test_labels_have_the_values_that_are_asked_for() -> None:
    """What is compared with an operation, an outcome, a reason or a part is one that there is."""
    values = {
        "operation": set(OPERATIONS),
        "outcome": set(OUTCOMES),
        "reason": set(RETRY_REASONS),
        "part": {"service", "worker"},
    }
    asked = 0
    for where, text in expressions():
        for label, value in re.findall(r'(\w+)=~?"([^"$]+)"', text):
            asked += 1
            assert set(value.split("|")) <= values[label], where
    assert asked > 5


def test_each_alert_says_what_to_do() -> None:
    """An alert has a severity, a summary, a description, and a section of the handbook that is there."""
    headings = re.findall(r"^### (\w+)$", (ROOT / "docs/operations.md").read_text(encoding="utf-8"), re.MULTILINE)
    names = [rule["alert"] for rule in RULES]
    assert sorted(headings) == sorted(names)
    for rule in RULES:
        assert {"alert", "expr", "labels", "annotations"} | ({"for"} & set(rule)) == set(rule)
        assert rule["labels"] in ({"severity": "critical"}, {"severity": "warning"})
        assert {"summary", "description", "runbook_url"} == set(rule["annotations"])
        assert f"docs/operations.md#{rule['alert'].lower()}" == rule["annotations"]["runbook_url"]
    tested = yaml.safe_load((ROOT / "deploy/prometheus/alerts_test.yml").read_text(encoding="utf-8"))
    fired = re.findall(r"alertname=\"(\w+)\"", json.dumps(tested).replace("\\", ""))
    assert sorted(names) == sorted(fired)


def test_the_dashboard_can_be_read() -> None:
    """Every panel stands in a row, says what it shows and in which unit, and asks the source that is chosen."""
    assert "row" == DASHBOARD["panels"][0]["type"]
    assert all(panel["title"].endswith("?") for panel in DASHBOARD["panels"] if panel["type"] == "row")
    numbers = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(numbers)) == len(numbers)
    for panel in panels():
        assert panel["description"]
        assert panel["fieldConfig"]["defaults"]["unit"]
        assert "${datasource}" == panel["datasource"]["uid"]
        assert {"${datasource}"} == {target["datasource"]["uid"] for target in panel["targets"]}
    assert {"datasource", "service", "worker"} == {one["name"] for one in DASHBOARD["templating"]["list"]}


def test_prometheus_is_told_of_the_rules_and_of_both_parts() -> None:
    """The example names the file of the rules, and a job for the services and for the workers."""
    example = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text(encoding="utf-8"))
    assert ["alerts.yml"] == example["rule_files"]
    assert ["kairos-service", "kairos-worker"] == [job["job_name"] for job in example["scrape_configs"]]


def documented(heading: str) -> dict[str, str]:
    """The first two columns of the table below a heading of docs/metrics.md."""
    text = DOCUMENT.read_text(encoding="utf-8").partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    return dict(re.findall(r"^\| `([\w.]+)` \| ([^|]*) \|", text, re.MULTILINE))


def test_every_metric_is_documented() -> None:
    """docs/metrics.md has each metric with its labels, and none that there is not."""
    found = documented("Metrics of a service") | documented("Metrics of the worker")
    names = {re.sub(r"_(bucket|sum|count)\Z", "", name): labels - {"le"} for name, labels in TOLD.items()}
    assert names == {name: set(re.findall(r"`(\w+)`", labels)) for name, labels in found.items()}


def test_every_value_of_a_label_is_documented() -> None:
    """docs/metrics.md has each outcome, reason and operation."""
    assert set(OUTCOMES) == set(documented("Outcomes"))
    text = DOCUMENT.read_text(encoding="utf-8")
    assert [] == [name for name in (*OPERATIONS, *RETRY_REASONS) if f"`{name}`" not in text]


@functools.cache
def trees() -> list[tuple[Path, ast.Module]]:
    """The files of the core that log, or make what a call of the log is given."""
    texts = [(path, path.read_text(encoding="utf-8")) for path in (ROOT / "kairos_core").rglob("*.py")]
    return [(path, ast.parse(text)) for path, text in texts if "_log." in text or '"event": ' in text]


def events() -> dict[str, set[str]]:
    """Each event of the log, by the calls in the core, with the fields that stand in the call."""
    found: dict[str, set[str]] = {}
    for _, tree in trees():
        for node in ast.walk(tree):
            keys = (
                [key.value for key in node.keys if isinstance(key, ast.Constant)] if isinstance(node, ast.Dict) else []
            )
            if isinstance(node, ast.Dict) and "event" in keys:
                name = node.values[keys.index("event")]
                if isinstance(name, ast.Constant):
                    found[str(name.value)] = {str(key) for key in keys} - {"event"}
    return found


def test_every_call_of_the_log_tells_an_event_that_is_documented() -> None:
    """No fact is told in words alone, and docs/metrics.md has each event."""
    calls = 0
    for path, tree in trees():
        for node in ast.walk(tree):
            is_call = isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
            if is_call and isinstance(node, ast.Call) and ast.unparse(node.func).startswith("_log."):
                calls += 1
                assert "extra" in [word.arg for word in node.keywords], f"{path}:{node.lineno}"
    assert calls > 15
    found = documented("Events")
    assert set(events()) == set(found)
    for name, fields in events().items():
        assert fields <= set(re.findall(r"`(\w+)`", found[name])), name
