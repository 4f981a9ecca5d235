"""The references that come from the code: settings, metrics, gRPC, subjects, modules.

`python -m tools.docs` writes them; with `--check` it names those that are stale and exits 1.
"""

from __future__ import annotations

import argparse
import ast
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, Final

from cli.sandbox import Settings as SandboxSettings
from libs import keys, metric_names, resources
from libs.bus import streams, subjects
from libs.foundation import CommonSettings
from libs.settings import PREFIX, Described, Secret, describe
from services.delivery.settings import Settings as DeliverySettings
from services.events.adapters.outcomes import _INDEX_TTL_S, event_subject
from services.events.settings import Settings as EventsSettings
from services.ingest.settings import Settings as IngestSettings
from tools.docs_api import NOTE, api_page, table

ROOT: Final = Path(__file__).resolve().parents[1]
SOURCES: Final = ("libs", "services", "cli")

_DAY_S: Final = 86_400


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
        _settings_section("ingest", _run("serve ingest"), IngestSettings, shared),
        _settings_section("events", _run("serve events"), EventsSettings, shared),
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
    classes = (IngestSettings, EventsSettings, DeliverySettings, SandboxSettings)
    names = {
        PREFIX + spec.metadata["env"]
        for cls in classes
        for spec in fields(cls)
        if Secret.__name__ in str(spec.type)
    }
    if names:
        return "They are: " + ", ".join(f"`{name}`" for name in sorted(names)) + ".\n"
    return (
        "No variable below is one yet: secrets are in the connections file\n"
        "([connections.md](connections.md)) and in the file that `TIDEWIRE_KEK_FILE` names.\n"
    )


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


# -- subjects ------------------------------------------------------------------------------------


def subjects_table() -> str:
    """The table of streams and subjects, for ARCHITECTURE.md."""
    rows = [
        (f"`{stream}`", f"`{subject}`", lives, message, meaning)
        for stream, subject, lives, message, meaning in _subject_rows()
    ]
    return table(("stream", "subject", "lives", "message", "what it is"), rows)


def _subject_rows() -> Iterator[tuple[str, str, str, str, str]]:
    yield from _coming_rows()
    yield from _ending_rows()


def _coming_rows() -> Iterator[tuple[str, str, str, str, str]]:
    """What is stored of deliveries."""
    commerce = subjects.COMMERCE
    yield (
        subjects.WEBHOOKS,
        subjects.webhook("<source>"),
        _age(subjects.WEBHOOKS),
        "`ingest.v1.DeliverySegment`",
        "deliveries as received, packed: one message is one group commit",
    )
    yield (
        commerce,
        _pattern(lambda shop: subjects.state("KIND", shop, "ID")),
        f"for ever; {_short_lived()}",
        "`commerce.v1.StateRecord`",
        "the newest version of each resource",
    )
    yield (
        commerce,
        _pattern(lambda shop: subjects.fact("KIND", shop, "FACT-ID")),
        _span(resources.FACT_TTL_S),
        "`commerce.v1.FactRecord`",
        "what happened, with all that a sink needs",
    )
    yield (
        commerce,
        _pattern(lambda shop: subjects.seen(shop, "DELIVERY-ID")),
        _span(resources.SEEN_TTL_S),
        "`commerce.v1.SeenRecord`",
        "the dedupe marker, and what became of the delivery",
    )


def _ending_rows() -> Iterator[tuple[str, str, str, str, str]]:
    """What is stored of how they end, and of what waits."""
    outcomes = subjects.OUTCOMES
    yield (
        outcomes,
        _pattern(lambda shop: subjects.outcome("SINK", shop, "UNIT")),
        _age(outcomes),
        "`delivery.v1.Outcome`",
        "how one unit ended at one sink; the first one stays",
    )
    yield (
        outcomes,
        _pattern(lambda shop: event_subject(shop, "EVENT-ID", "SINK")).replace(
            "<by_event>", subjects.BY_EVENT
        ),
        _span(_INDEX_TTL_S),
        "text",
        "the subject of the outcome that an event id belongs to",
    )
    yield (
        outcomes,
        _pattern(lambda shop: subjects.letter_fate(shop, "LETTER-ID")),
        _age(outcomes),
        "`delivery.v1.DeadLetterFate`",
        "what was decided about a dead letter; the first decision stays",
    )
    yield (
        subjects.PARKED,
        _pattern(lambda _: subjects.parked("ingest", "SHOP")),
        _age(subjects.PARKED),
        "`ingest.v1.Delivery`",
        "deliveries of shops that nobody has connected",
    )
    yield (
        subjects.PARKED,
        _pattern(lambda _: subjects.parked("events", "CONNECTION")),
        _age(subjects.PARKED),
        "`delivery.v1.ParkedUnit`",
        "references to facts that wait for their connection, or behind others that do",
    )
    yield (
        subjects.DEAD_LETTERS,
        _pattern(lambda shop: subjects.dead_letter("SERVICE", "REASON", shop)),
        _age(subjects.DEAD_LETTERS),
        "`delivery.v1.DeadLetter`",
        "what was given up, whole, with its reason and trace",
    )
    yield (
        f"KV_{keys.BUCKET}",
        f"$KV.{keys.BUCKET}.<shop>.<key id>",
        "for ever",
        "bytes",
        "the shops' data keys, wrapped by the key-encryption key",
    )
    yield from _bucket_rows()


def _bucket_rows() -> Iterator[tuple[str, str, str, str, str]]:
    """The buckets that replicas share."""
    yield _bucket(subjects.LIMITS, "<limit>", "bytes", "how far a limit is spent or reserved")
    yield _bucket(subjects.CIRCUITS, "<kind>.<name>", "`delivery.v1.Gate`", "what is shut, and why")
    yield _bucket(subjects.LEASES, "<name>", "text", "who does what one replica does at a time")
    yield _bucket(
        subjects.WATERMARKS,
        "reconcile.<kind>.<shop>",
        "JSON",
        "up to when a shop was compared with Shopify",
    )


def _bucket(bucket: str, key: str, message: str, what: str) -> tuple[str, str, str, str, str]:
    lives = "15 s" if bucket == subjects.LEASES else "for ever"
    return (subjects.bucket_stream(bucket), subjects.in_bucket(bucket, key), lives, message, what)


def _pattern(subject_of: Callable[[str], str]) -> str:
    """The subject that `subject_of` gives a shop, its variable tokens in angle brackets."""
    subject = subject_of("SHOP").replace(f".{subjects.lane('SHOP')}.", ".<lane>.")
    return re.sub(r"[A-Z][A-Z-]*", lambda found: f"<{found[0].lower().replace('-', ' ')}>", subject)


def _age(stream: str) -> str:
    spec = next(spec for spec in streams.specs() if spec.name == stream)
    return _span(spec.max_age_ns // 1_000_000_000)


def _span(seconds: int) -> str:
    return f"{seconds // _DAY_S} d" if seconds > 3 * _DAY_S else f"{seconds // 3_600} h"


def _short_lived() -> str:
    kinds = " and ".join(f"{resources.NAMES[kind]}s" for kind in resources.STATE_TTL_S)
    lives = {_span(seconds) for seconds in resources.STATE_TTL_S.values()}
    return f"{kinds} {', '.join(sorted(lives))}"


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
