"""ServiceError to gRPC status and back: the kind of an error survives the wire.

Pure functions. The trailers `error-kind`, `error-code` and `retry-after-s` carry what our own
clients need; `google.rpc.Status` with its details says the same to everybody else's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

import grpc
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import DecodeError, Message

# The package ships stubs for its modules but no py.typed marker.
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]

from libs.errors import Kind, ServiceError

DOMAIN: Final = "tidewire"
DETAILS_KEY: Final = "grpc-status-details-bin"

# A peer refuses more than about 8 KiB of trailers, base64 included. The message travels twice:
# 2 * 400 + 16 violations * (100 + 160) = 5 KiB, and a third more in base64.
_MESSAGE_MOST = 400
_VIOLATIONS_MOST = 16
_FIELD_MOST = 100
_DESCRIPTION_MOST = 160

_Trailer = tuple[str, str | bytes]


class FieldViolation(NamedTuple):
    """One field of a request that breaks a rule of its schema."""

    field: str
    description: str


class RequestInvalidError(ServiceError):
    """PERMANENT, `request_invalid`: the request breaks rules of its schema, each one named."""

    def __init__(self, violations: Sequence[FieldViolation]) -> None:
        first = violations[0]
        message = f"{first.field}: {first.description}" if first.field else first.description
        super().__init__(Kind.PERMANENT, "request_invalid", message, path=first.field or None)
        self.violations = tuple(violations)


class RefusedError(ServiceError):
    """A caller that is not let in: `status` says whether it lacks proof or permission.

    RETRYABLE: a policy or a certificate that is wrong between two of our own processes must not
    condemn a shop's message; what it costs is time until somebody mends it.
    """

    def __init__(self, status: grpc.StatusCode, reason: str, message: str) -> None:
        super().__init__(Kind.RETRYABLE, f"rpc_{reason}", message)
        self.status = status
        self.reason = reason

    @classmethod
    def unauthenticated(cls, message: str) -> RefusedError:
        """The caller has not proved who it is."""
        return cls(grpc.StatusCode.UNAUTHENTICATED, "unauthenticated", message)

    @classmethod
    def denied(cls, reason: str, message: str) -> RefusedError:
        """The policy does not let it."""
        return cls(grpc.StatusCode.PERMISSION_DENIED, reason, message)


UNFORESEEN: Final = ServiceError(
    Kind.RETRYABLE, "internal", "something we did not foresee; the server's log has it"
)
"""What a caller is told of an error that is not a ServiceError: nothing of its inner text."""


def status_code_of(error: ServiceError) -> grpc.StatusCode:
    """The gRPC code of an error: its kind's, unless its own code ends in one that gRPC knows."""
    if error is UNFORESEEN:
        return grpc.StatusCode.INTERNAL
    if isinstance(error, RefusedError):
        return error.status
    if error.kind is Kind.PERMANENT:
        for ending, code in _SPECIAL.items():
            if error.code.endswith(ending):
                return code
    return _CODES[error.kind]


_SPECIAL: Mapping[str, grpc.StatusCode] = {
    "not_found": grpc.StatusCode.NOT_FOUND,
    "permission_denied": grpc.StatusCode.PERMISSION_DENIED,
}

# A shop's dead token is not UNAUTHENTICATED: that would blame the caller.
_CODES: Mapping[Kind, grpc.StatusCode] = {
    Kind.RETRYABLE: grpc.StatusCode.UNAVAILABLE,
    Kind.THROTTLED: grpc.StatusCode.RESOURCE_EXHAUSTED,
    Kind.AUTH: grpc.StatusCode.FAILED_PRECONDITION,
    Kind.PERMANENT: grpc.StatusCode.INVALID_ARGUMENT,
}


class GrpcStatus(NamedTuple):
    """What a server ends an rpc with."""

    code: grpc.StatusCode
    details: str
    trailers: tuple[_Trailer, ...]


def status_of(error: ServiceError) -> GrpcStatus:
    """The status, message and trailers that tell a caller of `error`."""
    code = status_code_of(error)
    details = (error.message or error.code)[:_MESSAGE_MOST]
    rich = status_pb2.Status(code=code.value[0], message=details)
    for detail in _details(error):
        rich.details.add().Pack(detail)
    trailers: list[_Trailer] = [
        ("error-kind", error.kind.value),
        ("error-code", error.code.encode("ascii", "replace").decode()),
        (DETAILS_KEY, rich.SerializeToString()),
    ]
    if error.retry_after_s is not None:
        trailers.append(("retry-after-s", f"{error.retry_after_s:.3f}"))
    return GrpcStatus(code, details, tuple(trailers))


def _details(error: ServiceError) -> Iterable[Message]:
    yield error_details_pb2.ErrorInfo(reason=error.code, domain=DOMAIN)
    violations = _violations(error)
    if violations:
        yield error_details_pb2.BadRequest(
            field_violations=[
                error_details_pb2.BadRequest.FieldViolation(
                    field=field[:_FIELD_MOST], description=description[:_DESCRIPTION_MOST]
                )
                for field, description in violations[:_VIOLATIONS_MOST]
            ]
        )
    if error.retry_after_s is not None:
        nanos = round(error.retry_after_s * 1e9)
        delay = Duration(seconds=nanos // 10**9, nanos=nanos % 10**9)
        yield error_details_pb2.RetryInfo(retry_delay=delay)


def _violations(error: ServiceError) -> Sequence[FieldViolation]:
    if isinstance(error, RequestInvalidError):
        return error.violations
    return [FieldViolation(error.path, error.message or error.code)] if error.path else []


def error_of(code: grpc.StatusCode, details: str, trailers: Iterable[_Trailer]) -> ServiceError:
    """The error that a server of ours raised, or what the status of a foreign one amounts to."""
    known = dict(trailers)
    kind = known.get("error-kind")
    if not isinstance(kind, str) or kind not in set(Kind):
        return _foreign(code, details)
    return ServiceError(
        Kind(kind),
        str(known.get("error-code", "unknown")),
        details,
        retry_after_s=_seconds(known.get("retry-after-s")),
        path=_path(known.get(DETAILS_KEY)),
    )


# What the transport itself, a proxy or an older server may answer. Everything else is
# RETRYABLE: a fault between two of our processes must not condemn a shop's message, and the
# count of attempts ends it in any case. UNIMPLEMENTED too, for while a deploy is under way.
_HOPELESS = frozenset(
    {
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.NOT_FOUND,
        grpc.StatusCode.ALREADY_EXISTS,
        grpc.StatusCode.FAILED_PRECONDITION,
        grpc.StatusCode.OUT_OF_RANGE,
    }
)


def _foreign(code: grpc.StatusCode, details: str) -> ServiceError:
    kind = Kind.PERMANENT if code in _HOPELESS else Kind.RETRYABLE
    return ServiceError(kind, f"rpc_{code.name.lower()}", details)


def _seconds(text: str | bytes | None) -> float | None:
    try:
        return None if text is None else float(text)
    except ValueError:
        return None


def _path(rich: str | bytes | None) -> str | None:
    if not isinstance(rich, bytes):
        return None
    bad = error_details_pb2.BadRequest()
    try:
        details = status_pb2.Status.FromString(rich).details
        found = [detail for detail in details if detail.Unpack(bad)]
    except DecodeError:
        return None
    return bad.field_violations[0].field or None if found and bad.field_violations else None
