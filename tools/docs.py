"""The references that come from the code: settings, metrics, gRPC, subjects, modules.

`python -m tools.docs` writes them; with `--check` it names those that are stale and exits 1.
"""

from __future__ import annotations

import argparse
import ast
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, Final

from cli.sandbox import Settings as SandboxSettings
from libs import metric_names
from libs.foundation import CommonSettings
from libs.settings import PREFIX, Described, Secret, describe
from services.auth.settings import Settings as AuthSettings
from services.catalog.settings import Settings as CatalogSettings
from services.delivery.settings import Settings as DeliverySettings
from services.events.settings import Settings as EventsSettings
from services.ingest.settings import Settings as IngestSettings
from tools.docs_api import NOTE, api_page, table
from tools.docs_subjects import subjects_table

ROOT: Final = Path(__file__).resolve().parents[1]
SOURCES: Final = ("libs", "services", "cli")


# -- settings ------------------------------------------------------------------------------------

_SETTINGS_HEAD: Final = f"""\
# Settings

{NOTE}
Every process reads its settings once, at its start, from environment variables. All that are
missing or unusable are reported in one error that names them and never repeats a value. An empty
variable counts as absent.

Booleans are `true` or `false`. Addresses are `host:port`, an IPv6 host in brackets; port 0 lets the
system choose. Lists are separated by commas. Times end in their unit.

**Secrets.** A variable that holds a secret may come from a file: `NAME_FILE` names the file and
beats `NAME`; blanks around the content are dropped.
"""

_TELEMETRY: Final = (
    ("TIDEWIRE_LOG_LEVEL", "`debug`, `info`, `warning`, `error`", "info"),
    ("TIDEWIRE_TRACE_FULL_PER_S", "traces a second that are all kept", "200"),
    ("TIDEWIRE_TRACE_RATIO", "share of the traces beyond them that is kept, 0 to 1", "0.01"),
    (
        "OTEL_EXPORTER_OTLP_ENDPOINT",
        (
            "collector for spans and metrics, OTLP over HTTP; absent: spans go to files below "
            "`TIDEWIRE_STATE_DIR`, where `tidewire trace` reads them"
        ),
        "(none)",
    ),
    ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "full URL for spans alone; beats the above", "(none)"),
    ("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "full URL for metrics alone; likewise", "(none)"),
    ("OTEL_METRIC_EXPORT_INTERVAL", "milliseconds between two pushes of metrics", "60000"),
    ("OTEL_BSP_MAX_QUEUE_SIZE", "spans that may wait for export; more are dropped", "8192"),
    ("OTEL_SERVICE_NAME", "name in traces and metrics", "the service's"),
    ("OTEL_RESOURCE_ATTRIBUTES", "further attributes, `key=value` with commas between", "(none)"),
    ("OTEL_SDK_DISABLED", "`true`: no spans, nothing pushed; `/metrics` stays", "false"),
)
"""What libs/telemetry reads; it is set up before any settings, so it has no dataclass."""


def settings_page() -> str:
    """docs/settings.md."""
    shared = {row.variable for row in describe(CommonSettings)}
    parts = [
        _SETTINGS_HEAD + _secrets_sentence(),
        _settings_section("Every service", "", CommonSettings, frozenset()),
        _settings_section("auth", _run("serve auth"), AuthSettings, shared),
        _settings_section("ingest", _run("serve ingest"), IngestSettings, shared),
        _settings_section("events", _run("serve events"), EventsSettings, shared),
        _settings_section("catalog", _run("serve catalog"), CatalogSettings, shared),
        _settings_section("delivery", _run("serve delivery"), DeliverySettings, shared),
        _settings_section("sandbox", _run("sandbox"), SandboxSettings, frozenset()),
        _telemetry_section(),
    ]
    return "\n".join(parts)


def _run(command: str) -> str:
    return f"`tidewire {command}`\n\n"


def _settings_section(
    title: str, lead: str, cls: type[Any], known: frozenset[str] | set[str]
) -> str:
    bounds = {PREFIX + spec.metadata["env"]: spec.metadata for spec in fields(cls)}
    rows = (_settings_row(row, bounds[row.variable]) for row in _own(cls, known))
    return f"## {title}\n\n{lead}" + table(("variable", "meaning", "default"), rows)


def _own(cls: type[Any], known: frozenset[str] | set[str]) -> Iterator[Described]:
    return (row for row in describe(cls) if row.variable not in known)


def _settings_row(row: Described, bounds: Mapping[str, Any]) -> tuple[str, str, str]:
    least, most = bounds["least"], bounds["most"]
    limits = (f"at least {least:,g}" if least is not None else "") + (
        f"{', ' if least is not None else ''}at most {most:,.0f}" if most is not None else ""
    )
    meaning = f"{row.doc} ({limits})" if limits else row.doc
    return f"`{row.variable}`", meaning, f"`{row.default}`"


def _secrets_sentence() -> str:
    """Which variables the rule for secrets is about; annotations are text, hence the comparison."""
    classes = (
        AuthSettings,
        IngestSettings,
        EventsSettings,
        CatalogSettings,
        DeliverySettings,
        SandboxSettings,
    )
    names = {
        PREFIX + spec.metadata["env"]
        for cls in classes
        for spec in fields(cls)
        if Secret.__name__ in str(spec.type)
    }
    listed = ", ".join(f"`{name}`" for name in sorted(names))
    tokens = "Tokens of connections are no settings: [connecting.md](connecting.md)"
    return f"They are: {listed}. {tokens}.\n"


def _telemetry_section() -> str:
    lead = (
        "Read by every process. TLS, headers, compression and time limits of a collector come\n"
        "from OpenTelemetry's own `OTEL_EXPORTER_OTLP_…` variables.\n\n"
    )
    rows = ((f"`{name}`", meaning, f"`{default}`") for name, meaning, default in _TELEMETRY)
    return "## Telemetry\n\n" + lead + table(("variable", "meaning", "default"), rows)


# -- metrics -------------------------------------------------------------------------------------

_METRICS_HEAD: Final = f"""\
# Metrics

{NOTE}
Each process serves them at `/metrics` of its `…_METRICS_ADDRESS`, in the Prometheus text format,
and pushes them where a collector is set ([settings.md](settings.md)). A shop, a connection or
an id is never a label. Units are UCUM codes: `s` seconds, `By` bytes, `1` a number.
"""

_RESERVED_HEAD: Final = """
## Named, not recorded yet

Nothing writes these so far: build no alert on them.

"""


def metrics_page() -> str:
    """docs/metrics.md."""
    used = _constants_used()
    names = {value: name for name, value in vars(metric_names).items() if isinstance(value, str)}
    recorded: list[tuple[str, ...]] = []
    reserved: list[tuple[str, ...]] = []
    for metric, spec in metric_names.METRICS.items():
        target = recorded if names[metric] in used else reserved
        target.append(_metric_row(metric, spec))
    head = ("metric", "kind", "unit", "labels", "meaning")
    page = _METRICS_HEAD + "\n## Recorded\n\n" + table(head, recorded)
    if reserved:
        page += _RESERVED_HEAD + table(head, reserved)
    return page + "\n## Buckets\n\nUpper bounds of the histograms.\n\n" + _buckets()


def _metric_row(metric: str, spec: metric_names.MetricSpec) -> tuple[str, ...]:
    labels = ", ".join(f"`{label}`" for label in spec.labels)
    return f"`{metric}`", spec.kind.value, f"`{spec.unit}`", labels, spec.meaning


def _buckets() -> str:
    rows = (
        (f"`{metric}`", ", ".join(f"{bound:,.10g}" for bound in spec.buckets))
        for metric, spec in metric_names.METRICS.items()
        if spec.buckets
    )
    return table(("metric", "buckets"), rows)


def _constants_used() -> frozenset[str]:
    """Names of the metrics' constants that any module refers to."""
    found: set[str] = set()
    for folder in SOURCES:
        for path in (ROOT / folder).rglob("*.py"):
            found.update(re.findall(r"\bmetric_names\.([A-Z_]+)\b", path.read_text("utf-8")))
    return frozenset(found)


# -- modules -------------------------------------------------------------------------------------

_FOLDERS: Final = {
    "domain": "Decisions: pure functions, no IO.",
    "adapters": "What implements the ports.",
}
"""Folders of a service whose package says nothing of itself."""


def modules_table() -> str:
    """Every file and folder of the services with its first line, for ARCHITECTURE.md."""
    services = ROOT / "services"
    rows = [
        (f"`{path.relative_to(services)}{'/' if path.is_dir() else ''}`", _first_line(path))
        for service in sorted(services.iterdir())
        if (service / "wiring.py").exists()
        for path in sorted(service.iterdir(), key=lambda path: (path.is_dir(), path.name))
        if _is_module(path)
    ]
    return table(("in `services/`", "what it is"), rows)


def _is_module(path: Path) -> bool:
    if path.is_dir():
        return any(one.name != "__init__.py" for one in path.glob("*.py"))
    return path.suffix == ".py" and path.name != "__init__.py"


def _first_line(path: Path) -> str:
    """What a module says it is: the first line of its docstring.

    Raises:
        ValueError: it says nothing.
    """
    file = path / "__init__.py" if path.is_dir() else path
    said = ast.get_docstring(ast.parse(file.read_text("utf-8"))) or _FOLDERS.get(path.name)
    if not said:
        raise ValueError(f"{file.relative_to(ROOT)} needs a docstring that says what it is")
    return said.splitlines()[0]


# -- ARCHITECTURE.md -----------------------------------------------------------------------------


def architecture_page(written: str) -> str:
    """`written` with fresh tables between their marks.

    Raises:
        ValueError: a mark is missing.
    """
    page = written
    for name, made in (("subjects", subjects_table()), ("modules", modules_table())):
        page = between_marks(page, name, made)
    return page


def between_marks(page: str, name: str, made: str) -> str:
    """`page` with `made` between the marks called `name`.

    Raises:
        ValueError: a mark is missing.
    """
    first, last = f"<!-- {name}: written by `make docs` -->\n", f"<!-- {name}: end -->\n"
    before, begin, rest = page.partition(first)
    _, end, after = rest.partition(last)
    if not begin or not end:
        raise ValueError(f"the page must hold the lines {first.strip()} and {last.strip()}")
    return f"{before}{begin}\n{made}\n{end}{after}"


# -- writing and checking ------------------------------------------------------------------------


def current(root: Path = ROOT) -> dict[str, str]:
    """Each written page, by its path below `root`, as the code makes it today."""
    return {
        "docs/settings.md": settings_page(),
        "docs/metrics.md": metrics_page(),
        "docs/api.md": api_page(),
        "ARCHITECTURE.md": architecture_page((root / "ARCHITECTURE.md").read_text("utf-8")),
    }


def stale(pages: Mapping[str, str], root: Path = ROOT) -> list[str]:
    """Those of `pages` whose file below `root` says something else, or is not there."""
    return [
        name
        for name, text in pages.items()
        if not (root / name).is_file() or (root / name).read_text("utf-8") != text
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """`python -m tools.docs [--check]`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args(arguments).check
    pages = current()
    found = stale(pages)
    if check:
        for name in found:
            print(f"{name} does not match the code; run `make docs`", file=sys.stderr)
        return 1 if found else 0
    for name in found:
        (ROOT / name).write_text(pages[name], encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
