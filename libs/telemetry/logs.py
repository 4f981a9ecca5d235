"""One log line per unit of work: JSON on stdout, coloured text on a terminal, nothing personal.

Callers name an event and give fields: `log.info("batch_handled", size=12)`. An accepted delivery
gets no line: at thousands a second, lines cost more than the work.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Mapping, MutableMapping
from contextlib import AbstractContextManager
from typing import Any, Final, TextIO, cast

import msgspec
import structlog
from structlog.typing import FilteringBoundLogger, Processor

from libs.errors import permanent
from libs.telemetry.tracing import SpanRef

LEVEL_VARIABLE: Final = "TIDEWIRE_LOG_LEVEL"
MASK: Final = "***"

_NAME_KEY: Final = "_logger_name"
"""Carries the name through structlog, whose own argument is called `logger`."""

_SUSPICIOUS_KEY: Final = re.compile(
    r"token|secret|e_?mail|phone|authorization|hmac|password|cookie|credential"
    r"|(^|_)(body|ip|ip_address|user_agent)$",
    re.IGNORECASE,
)
_COUNTED_KEY: Final = re.compile(r"_(bytes|count|total|s|ms|ns)$")
_SUSPICIOUS_TEXT: Final = re.compile(
    r"[^\s@\"'<>]{1,64}@[^\s@\"'<>]{1,255}"  # an address, or a URL with a password in it
    r"|\+\d{8,15}\b"  # a phone number as E.164
    r"|\bshp[a-z]{2,3}_\w{6,}"  # Shopify's tokens say what they are
    r"|\bBearer\s+\S+"
)
_TEXT_CHARS_MAX: Final = 8_192
_DEPTH_MAX: Final = 6
_QUIET_LOGGERS: Final = {"aiohttp.access": logging.WARNING}


def get_logger(name: str) -> FilteringBoundLogger:
    """A logger whose lines carry `logger=name`; to be made at import, it follows later set-up."""
    return cast("FilteringBoundLogger", structlog.get_logger(**{_NAME_KEY: name}))


def in_trace(ref: SpanRef, **fields: object) -> AbstractContextManager[Any]:
    """Within this `with` block every line carries the trace id and `fields`."""
    return structlog.contextvars.bound_contextvars(trace_id=ref.trace_hex, **fields)


def setup_logging(environ: Mapping[str, str], stream: TextIO | None = None) -> None:
    """Routes structlog and the standard library's logging to `stream` (default: stdout).

    Raises:
        ServiceError: PERMANENT, `log_level_unknown`.
    """
    level = _level_of(environ.get(LEVEL_VARIABLE) or "info")
    out = stream if stream is not None else cast("TextIO", _CurrentStdout())
    renderer = _renderer(terminal=out.isatty())
    structlog.configure(
        processors=[*_enrichers(), renderer],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(out),
        cache_logger_on_first_use=False,
    )
    _route_standard_logging(out, level, renderer)


def mask_sensitive(
    _logger: object, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """Processor: values under suspicious keys, and suspicious text under any key, become `***`.

    The second net: no caller may log such a thing in the first place.
    """
    for key, value in event.items():
        event[key] = _masked(key, value, _DEPTH_MAX)
    return event


def _masked(key: str, value: Any, depth: int) -> Any:
    if _SUSPICIOUS_KEY.search(key) and not _is_count(key, value):
        return MASK
    return _scrubbed(value, depth)


def _scrubbed(value: Any, depth: int) -> Any:
    match value:
        case None | bool() | int() | float():
            return value
        case bytes() | bytearray() | memoryview():
            return f"<{len(value)} bytes>"
        case Mapping() if depth:
            return {str(key): _masked(str(key), inner, depth - 1) for key, inner in value.items()}
        case list() | tuple() | set() | frozenset() if depth:
            return [_scrubbed(inner, depth - 1) for inner in value]
        case _:
            text = value if isinstance(value, str) else repr(value)
            return _SUSPICIOUS_TEXT.sub(MASK, text[:_TEXT_CHARS_MAX])


def _is_count(key: str, value: object) -> bool:
    """Whether it is a number with its unit in the name: `body_bytes`, `token_age_s`."""
    return isinstance(value, int | float) and _COUNTED_KEY.search(key) is not None


def _name_logger(
    _logger: object, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    if (name := event.pop(_NAME_KEY, None)) is not None:
        event["logger"] = name
    return event


def _enrichers() -> list[Processor]:
    return [
        structlog.contextvars.merge_contextvars,
        _name_logger,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        # Before the mask: an exception's text may quote the input that caused it. Never as a dict
        # with locals, which are the input.
        structlog.processors.format_exc_info,
        mask_sensitive,
    ]


def _renderer(*, terminal: bool) -> Processor:
    if terminal:
        return structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
    return structlog.processors.JSONRenderer(serializer=_json)


def _json(event: object, **_options: object) -> str:
    return msgspec.json.encode(event, enc_hook=repr).decode()


def _level_of(name: str) -> int:
    levels = logging.getLevelNamesMapping()
    if name.upper() not in levels:
        raise permanent("log_level_unknown", f"{LEVEL_VARIABLE} must be one of debug, info, …")
    return levels[name.upper()]


class _SuiteHandler(logging.StreamHandler[TextIO]):
    """Our handler among the root logger's, to be found again when logging is set up anew."""


def _route_standard_logging(out: TextIO, level: int, renderer: Processor) -> None:
    handler = _SuiteHandler(out)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *_enrichers()],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers = [h for h in root.handlers if not isinstance(h, _SuiteHandler)] + [handler]
    root.setLevel(level)
    for name, quiet_level in _QUIET_LOGGERS.items():
        logging.getLogger(name).setLevel(max(level, quiet_level))


class _CurrentStdout:
    """Writes to whatever stdout is at that moment, so that a redirected one is honoured."""

    def write(self, text: str) -> int:
        return sys.stdout.write(text)

    def flush(self) -> None:
        sys.stdout.flush()

    def isatty(self) -> bool:
        return sys.stdout.isatty()
