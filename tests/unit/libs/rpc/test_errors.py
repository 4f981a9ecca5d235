from __future__ import annotations

import grpc
import pytest
from google.rpc import (  # type: ignore[import-untyped]  # stubs without py.typed
    error_details_pb2,
    status_pb2,
)
from hypothesis import given
from hypothesis import strategies as st

from libs.errors import Kind, ServiceError, permanent
from libs.rpc.errors import (
    DETAILS_KEY,
    UNFORESEEN,
    FieldViolation,
    RequestInvalidError,
    error_of,
    status_of,
)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ServiceError(Kind.RETRYABLE, "down"), grpc.StatusCode.UNAVAILABLE),
        (ServiceError(Kind.THROTTLED, "slow"), grpc.StatusCode.RESOURCE_EXHAUSTED),
        (ServiceError(Kind.AUTH, "token_revoked"), grpc.StatusCode.FAILED_PRECONDITION),
        (permanent("bad"), grpc.StatusCode.INVALID_ARGUMENT),
        (permanent("order_not_found"), grpc.StatusCode.NOT_FOUND),
        (permanent("reveal_permission_denied"), grpc.StatusCode.PERMISSION_DENIED),
        (UNFORESEEN, grpc.StatusCode.INTERNAL),
    ],
)
def test_each_kind_has_its_status(error: ServiceError, code: grpc.StatusCode) -> None:
    assert status_of(error).code is code


@given(
    kind=st.sampled_from(Kind),
    code=st.from_regex(r"[a-z_]{1,40}", fullmatch=True),
    message=st.text(min_size=1, max_size=400),
    retry_after_s=st.none() | st.integers(0, 86_400),
    path=st.none() | st.text("abc.[]0", min_size=1, max_size=100),
)
def test_an_error_comes_back_from_the_wire_as_it_went(
    kind: Kind, code: str, message: str, retry_after_s: int | None, path: str | None
) -> None:
    sent = ServiceError(kind, code, message, retry_after_s=retry_after_s, path=path)

    back = error_of(*status_of(sent))

    assert (back.kind, back.code, back.message) == (kind, code, message)
    assert (back.retry_after_s, back.path) == (retry_after_s, path)


def test_rich_details_say_the_same_to_other_peoples_clients() -> None:
    error = ServiceError(Kind.THROTTLED, "slow", "wait", retry_after_s=1.5, path="items[3].id")

    status = status_of(error)

    rich = status_pb2.Status.FromString(dict(status.trailers)[DETAILS_KEY])
    info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
    retry = error_details_pb2.RetryInfo()
    assert rich.details[0].Unpack(info)
    assert rich.details[1].Unpack(bad)
    assert rich.details[2].Unpack(retry)
    assert (info.reason, info.domain) == ("slow", "tidewire")
    assert [each.field for each in bad.field_violations] == ["items[3].id"]
    assert retry.retry_delay.ToMilliseconds() == 1500
    assert (rich.code, rich.message) == (8, status.details)


def test_trailers_stay_small_whatever_a_request_does_wrong() -> None:
    wrong = [FieldViolation("field" * 100, "rule " * 100)] * 1000

    status = status_of(RequestInvalidError(wrong))

    # The transport writes what ends in -bin as base64: a third more.
    carried = sum(len(key) + len(value) * 4 / 3 for key, value in status.trailers)
    assert carried + len(status.details) < 8192


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (grpc.StatusCode.UNAVAILABLE, Kind.RETRYABLE),
        (grpc.StatusCode.DEADLINE_EXCEEDED, Kind.RETRYABLE),
        (grpc.StatusCode.UNIMPLEMENTED, Kind.RETRYABLE),
        (grpc.StatusCode.UNAUTHENTICATED, Kind.RETRYABLE),
        (grpc.StatusCode.NOT_FOUND, Kind.PERMANENT),
        (grpc.StatusCode.INVALID_ARGUMENT, Kind.PERMANENT),
    ],
)
def test_a_status_without_our_trailers_condemns_no_message_lightly(
    code: grpc.StatusCode, kind: Kind
) -> None:
    error = error_of(code, "text", ())

    assert (error.kind, error.code) == (kind, f"rpc_{code.name.lower()}")


def test_trailers_that_are_garbage_do_no_harm() -> None:
    trailers = (
        ("error-kind", "permanent"),
        ("error-code", "bad"),
        ("retry-after-s", "soon"),
        (DETAILS_KEY, b"\xff\xff\xff"),
    )

    error = error_of(grpc.StatusCode.INVALID_ARGUMENT, "text", trailers)

    assert (error.kind, error.retry_after_s, error.path) == (Kind.PERMANENT, None, None)
