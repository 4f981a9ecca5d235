"""Alerts name metrics that exist and are recorded, and each has a page that says what to do."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from libs import metric_names
from libs.metric_names import METRICS, MetricKind, MetricSpec

ROOT = Path(__file__).resolve().parents[2]
RUNBOOKS = ROOT / "docs" / "runbooks"
SECTIONS = ("## What it means", "## What to look at", "## What to do")
SEVERITIES = {"page", "ticket"}
PROCEDURES = {"rotate-kek"}
"""Pages of work that is planned, and that no alert calls for."""

_METRIC = re.compile(r"\btidewire_[a-z0-9_]+\b")
_BY = re.compile(r"\bby \(([^)]*)\)")
_DURATION = re.compile(r"^\d+[smhd]$")


def alerts() -> Iterator[Mapping[str, Any]]:
    for file in sorted((ROOT / "deploy" / "alerts").glob("*.yaml")):
        for group in yaml.safe_load(file.read_text("utf-8"))["groups"]:
            yield from group["rules"]


ALERTS = {str(alert["alert"]): alert for alert in alerts()}


def page_name(alert: str) -> str:
    """`LedgerUnbalanced` as `ledger-unbalanced`."""
    return re.sub(r"(?<!^)(?=[A-Z])", "-", alert).lower()


def series_of(name: str, spec: MetricSpec) -> set[str]:
    """The names under which Prometheus knows a metric."""
    if spec.kind is MetricKind.HISTOGRAM:
        return {f"{name}_bucket", f"{name}_sum", f"{name}_count"}
    return {name}


SERIES = {series: spec for name, spec in METRICS.items() for series in series_of(name, spec)}


def faults(expression: str) -> list[str]:
    """Metrics and labels of an expression that nothing has."""
    named = _METRIC.findall(expression)
    found = [name for name in named if name not in SERIES]
    labels = {label for name in named if name in SERIES for label in SERIES[name].labels}
    grouped = {one.strip() for labels_by in _BY.findall(expression) for one in labels_by.split(",")}
    return found + sorted(grouped - labels) + ([] if named else ["no metric"])


def recorded() -> set[str]:
    page = (ROOT / "docs" / "metrics.md").read_text("utf-8")
    return set(_METRIC.findall(page.partition("## Recorded")[2].partition("\n## ")[0]))


def test_there_are_alerts_of_different_names() -> None:
    names = [str(alert["alert"]) for alert in alerts()]

    assert {"LedgerUnbalanced", "DeadLetterBurst"} <= set(names)
    assert len(names) == len(set(names))


@pytest.mark.parametrize(
    ("metric", "severity"),
    [
        (metric_names.CONSUMER_STOPPED, "page"),
        (metric_names.GATES_SHUT, "ticket"),
        (metric_names.PARKED_UNITS, "ticket"),
    ],
)
def test_what_stops_by_itself_is_told_to_somebody(metric: str, severity: str) -> None:
    told = {alert["labels"]["severity"] for alert in alerts() if metric in alert["expr"]}

    assert severity in told


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_is_about_metrics_that_something_records(name: str) -> None:
    expression = ALERTS[name]["expr"]

    unknown = faults(expression)
    silent = {
        metric
        for metric, spec in METRICS.items()
        if series_of(metric, spec) & set(_METRIC.findall(expression)) and metric not in recorded()
    }

    assert (unknown, silent) == ([], set())


@pytest.mark.parametrize(
    ("expression", "found"),
    [
        ("max(tidewire_ledger_unaccounted_units) > 0", []),
        ("rate(tidewire_ingest_commit_seconds_count[5m])", []),
        ("sum by (service) (tidewire_dead_letters_total)", []),
        ("tidewire_no_such_metric > 0", ["tidewire_no_such_metric"]),
        ("tidewire_ingest_commit_seconds > 0", ["tidewire_ingest_commit_seconds"]),
        ("sum by (shop) (tidewire_dead_letters_total)", ["shop"]),
        ("vector(1)", ["no metric"]),
    ],
)
def test_an_expression_about_nothing_is_found(expression: str, found: list[str]) -> None:
    assert faults(expression) == found


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_waits_says_how_urgent_it_is_and_leads_to_its_page(name: str) -> None:
    alert = ALERTS[name]

    assert _DURATION.match(alert["for"])
    assert alert["labels"]["severity"] in SEVERITIES
    assert alert["annotations"]["summary"].endswith((".", ")."))
    assert alert["annotations"]["runbook"] == f"docs/runbooks/{page_name(name)}.md"
    assert (RUNBOOKS / f"{page_name(name)}.md").is_file()


def test_every_page_belongs_to_an_alert_and_has_what_one_needs_at_night() -> None:
    pages = {page.stem: page.read_text("utf-8") for page in RUNBOOKS.glob("*.md")}
    titles = {page_name(name): name for name in ALERTS}

    assert pages.keys() == titles.keys() | PROCEDURES
    for stem, text in pages.items():
        if stem in PROCEDURES:
            continue
        assert text.startswith(f"# {titles[stem]}\n")
        assert [line for line in text.splitlines() if line.startswith("## ")] == list(SECTIONS)


@pytest.mark.parametrize("page", sorted(RUNBOOKS.glob("*.md")), ids=lambda page: page.stem)
def test_a_page_speaks_of_metrics_that_exist(page: Path) -> None:
    named = _METRIC.findall(page.read_text("utf-8"))

    assert not [name for name in named if name not in SERIES and name not in METRICS]
