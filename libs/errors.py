"""One error vocabulary for the whole suite, classified by what to do next."""

from __future__ import annotations

from enum import StrEnum


class Kind(StrEnum):
    """What the caller should do about an error; the bus, gRPC and the logs all follow it."""

    RETRYABLE = "retryable"
    """The same call may work later; an attempt is counted."""

    THROTTLED = "throttled"
    """Not before `retry_after_s`; costs no attempt."""

    AUTH = "auth"
    """Needs new credentials; the connection waits, nothing is lost."""

    PERMANENT = "permanent"
    """This input never works; it is dead-lettered with the reason."""


class ServiceError(Exception):
    """An error met at an edge and classified there, once.

    `code` is stable and greppable (`token_revoked`). `message` tells a person what to do next and
    never holds a secret or personal data. `path` names the input field at fault, as a JSON path.
    """

    def __init__(
        self,
        kind: Kind,
        code: str,
        message: str = "",
        *,
        retry_after_s: float | None = None,
        path: str | None = None,
    ) -> None:
        super().__init__(f"{code}: {message}" if message else code)
        self.kind = kind
        self.code = code
        self.message = message
        self.retry_after_s = retry_after_s
        self.path = path

    def __repr__(self) -> str:
        return f"ServiceError({self.kind.value}, {self.code!r}, path={self.path!r})"


def permanent(code: str, message: str = "", *, path: str | None = None) -> ServiceError:
    """A PERMANENT error: this input never works."""
    return ServiceError(Kind.PERMANENT, code, message, path=path)
