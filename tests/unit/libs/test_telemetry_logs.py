from __future__ import annotations

import io
import json
import logging
import os
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from libs.errors import ServiceError
from libs.telemetry import SpanRef, get_logger, in_trace, setup_logging

log = get_logger("libs.example")


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    root, access = logging.getLogger(), logging.getLogger("aiohttp.access")
    handlers, level, access_level = list(root.handlers), root.level, access.level
    yield
    root.handlers = handlers
    root.setLevel(level)
    access.setLevel(access_level)
    structlog.reset_defaults()


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


@pytest.fixture
def stream() -> io.StringIO:
    out = io.StringIO()
    setup_logging({"TIDEWIRE_LOG_LEVEL": "debug"}, out)
    return out


def test_a_line_is_json_with_its_event_level_logger_time_and_fields(stream: io.StringIO) -> None:
    log.info("batch_handled", size=12)

    (line,) = lines(stream)
    assert line.pop("timestamp").endswith("Z")
    assert line == {"event": "batch_handled", "level": "info", "logger": "libs.example", "size": 12}


def test_within_a_trace_lines_carry_its_id_and_after_it_they_do_not(stream: io.StringIO) -> None:
    ref = SpanRef(0xABC, 1, sampled=True)

    with in_trace(ref, durable="events-3"):
        log.info("inside")
        logging.getLogger("nats.aio.client").warning("also inside")
    log.info("outside")

    first, second, third = lines(stream)
    assert (first["trace_id"], first["durable"]) == (f"{0xABC:032x}", "events-3")
    assert second["trace_id"] == f"{0xABC:032x}"
    assert "trace_id" not in third


def test_the_standard_library_logs_in_the_same_shape(stream: io.StringIO) -> None:
    logging.getLogger("nats.aio.client").warning("lost %s", "connection")

    (line,) = lines(stream)
    assert (line["event"], line["level"]) == ("lost connection", "warning")
    assert line["logger"] == "nats.aio.client"
    assert line["timestamp"].endswith("Z")


def test_setting_up_twice_does_not_log_twice(stream: io.StringIO) -> None:
    setup_logging({}, stream)

    logging.getLogger("grpc").error("once")

    assert len(lines(stream)) == 1


@pytest.mark.parametrize(
    "key",
    [
        "access_token",
        "secret",
        "webhookSecret",
        "email",
        "customer_e_mail",
        "phone",
        "Authorization",
        "X-Shopify-Hmac-Sha256",
        "body",
        "raw_body",
        "client_ip",
        "user_agent",
        "password",
    ],
)
def test_values_under_suspicious_keys_are_masked(stream: io.StringIO, key: str) -> None:
    log.info("x", **{key: "the value"}, nested={key: ["the value"]})

    (line,) = lines(stream)
    assert line[key] == "***"
    assert line["nested"] == {key: "***"}
    assert "the value" not in stream.getvalue()


def test_counts_and_innocent_keys_are_left_alone(stream: io.StringIO) -> None:
    fields = {"body_bytes": 12, "token_age_s": 1.5, "shipped": "yes", "zip": 1, "ok": True}

    log.info("token_refreshed", **fields)

    (line,) = lines(stream)
    assert {key: line[key] for key in fields} == fields
    assert line["event"] == "token_refreshed"


@pytest.mark.parametrize(
    "text",
    [
        "no shop for jane.doe+x@example.co.uk here",
        "call +4915112345678 back",
        "used shpat_0123456789abcdef",  # hygiene: allow, a made-up token that must be masked
        "sent Bearer abc.def-ghi",
        "nats://user:hunter2@nats.example:4222 is down",
    ],
)
def test_personal_data_and_secrets_in_any_text_are_masked(stream: io.StringIO, text: str) -> None:
    logging.getLogger("aiohttp.client").error(text)
    log.info("x", detail=text, more=[{"deep": text}])

    for secret in ("jane", "example.co.uk", "4915112345678", "shpat_01", "abc.def", "hunter2"):
        assert secret not in stream.getvalue()
    assert all("***" in json.dumps(line) for line in lines(stream))


def test_a_traceback_shows_where_and_hides_what(stream: io.StringIO) -> None:
    email = "jane@example.com"

    try:
        int(email)
    except ValueError:
        log.exception("unforeseen")

    (line,) = lines(stream)
    assert "test_telemetry_logs.py" in line["exception"]
    assert "ValueError" in line["exception"]
    assert "jane" not in stream.getvalue()


def test_bytes_and_objects_are_told_by_size_and_scrubbed_text(stream: io.StringIO) -> None:
    class Customer:
        def __repr__(self) -> str:
            return "Customer(jane@example.com)"

    log.info("x", read=b"secret bytes", who=Customer(), ids={"one"})

    (line,) = lines(stream)
    assert (line["read"], line["ids"]) == ("<12 bytes>", ["one"])
    assert "jane" not in line["who"]


def test_lines_below_the_level_are_not_written() -> None:
    out = io.StringIO()
    setup_logging({"TIDEWIRE_LOG_LEVEL": "WARNING"}, out)

    log.info("quiet")
    logging.getLogger("nats").info("quiet")
    log.warning("loud")

    assert [line["event"] for line in lines(out)] == ["loud"]


def test_an_accepted_request_leaves_no_access_line(stream: io.StringIO) -> None:
    logging.getLogger("aiohttp.access").info("POST /webhooks/shopify 200")

    assert not stream.getvalue()


def test_an_unknown_level_is_refused_by_name() -> None:
    with pytest.raises(ServiceError, match="TIDEWIRE_LOG_LEVEL"):
        setup_logging({"TIDEWIRE_LOG_LEVEL": "loud"})


def test_on_a_terminal_lines_are_for_people() -> None:
    terminal = Terminal()
    setup_logging({}, terminal)

    log.warning("connection_parked", code="token_revoked", token="abc")
    try:
        os.environ["JANE@EXAMPLE.COM"]
    except KeyError:
        log.exception("unforeseen")

    assert "connection_parked" in terminal.getvalue()
    assert "KeyError" in terminal.getvalue()
    assert "abc" not in terminal.getvalue()
    assert "JANE" not in terminal.getvalue()
    with pytest.raises(json.JSONDecodeError):
        lines(terminal)


def test_without_a_stream_lines_go_to_whatever_stdout_is_then(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    setup_logging({})
    redirected = io.StringIO()
    monkeypatch.setattr(sys, "stdout", redirected)

    log.info("here")
    logging.getLogger("nats").info("and here")

    assert [line["event"] for line in lines(redirected)] == ["here", "and here"]
