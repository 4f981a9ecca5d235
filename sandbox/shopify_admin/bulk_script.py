"""How the bulk operations of a shop go: their pace, their disorder, and what goes wrong.

Faults are posted as a JSON list, are met in the order posted, and wear off after `times`:

    [{"kind": "fail", "error_code": "TIMEOUT", "after_lines": 100, "times": 1},
     {"kind": "truncate", "after_bytes": 5000, "times": 2},
     {"kind": "http_status", "status": 503, "times": 1}, {"kind": "stuck"}, {"kind": "no_webhook"}]
"""

from __future__ import annotations

from typing import Final, Literal, TypeAlias, TypeVar

import msgspec

URL_VALID_S: Final = 7 * 86_400.0
"""How long a result may be fetched (contracts: shopify.md 4)."""


class BulkSettings(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """The pace and the disorder of a shop's operations; the defaults suit tests."""

    created_s: float = 0.0
    """From the start to RUNNING."""

    duration_s: float = 0.0
    """The least that RUNNING lasts, by the sandbox's clock."""

    shuffle: bool = False
    """Lines come in disorder, children before their parents."""

    seed: int = 1
    window: int = 5000
    """Lines among which `shuffle` mixes."""

    limit_code: Literal["OPERATION_IN_PROGRESS", "LIMIT_REACHED"] = "OPERATION_IN_PROGRESS"
    """What one operation too many is answered; recorded is the first, the schema has both."""

    url_valid_s: float = URL_VALID_S
    webhook_url: str = ""
    """Where bulk_operations/finish goes; without one to the app's subscriptions or address."""

    webhook_secret: str = ""


class _Kind(msgspec.Struct, tag_field="kind", forbid_unknown_fields=True, omit_defaults=True):
    """Every fault names itself in `kind`."""

    shop: str | None = None
    """The domain; without one it strikes any."""

    times: int | None = None
    """Strikes before it wears off; without it it stays until `DELETE`."""

    skip: int = 0
    """The first that go free."""


class Fail(_Kind, tag="fail"):
    """The operation FAILS after some lines; `partialDataUrl` has them unless `partial` is off."""

    error_code: Literal["TIMEOUT", "INTERNAL_SERVER_ERROR", "ACCESS_DENIED"] = "TIMEOUT"
    after_lines: int | None = None
    partial: bool = True


class Stuck(_Kind, tag="stuck"):
    """The operation stays RUNNING until it is cancelled, or ten days have passed."""


class NoWebhook(_Kind, tag="no_webhook"):
    """The operation ends and nobody is told."""


class Truncate(_Kind, tag="truncate"):
    """A download whose connection breaks after some bytes."""

    after_bytes: int = 1000


class DownloadStatus(_Kind, tag="http_status"):
    """A download that is answered with a status and nothing else."""

    status: int = 503


BulkFault: TypeAlias = Fail | Stuck | NoWebhook | Truncate | DownloadStatus
_Fault = TypeVar("_Fault", Fail, Stuck, NoWebhook, Truncate, DownloadStatus)


class BulkFaults:
    """The faults in force."""

    def __init__(self) -> None:
        self._armed: list[tuple[BulkFault, list[int]]] = []

    def post(self, script: bytes) -> int:
        """Adds a JSON list of faults, or one alone; gives how many.

        Raises:
            msgspec.DecodeError: naming the field at fault.
        """
        found = msgspec.json.decode(script, type=list[BulkFault] | BulkFault)
        faults = found if isinstance(found, list) else [found]
        self._armed += [(fault, [0]) for fault in faults]
        return len(faults)

    def clear(self) -> None:
        """Ends every fault."""
        self._armed.clear()

    def strike(self, domain: str, kind: type[_Fault]) -> _Fault | None:
        """The fault of a kind that strikes now, which is thereby used once."""
        for fault, seen in self._armed:
            fits = isinstance(fault, kind) and fault.shop in {None, domain}
            spent = fault.times is not None and seen[0] >= fault.skip + fault.times
            if not fits or spent:
                continue
            seen[0] += 1
            if seen[0] > fault.skip:
                assert isinstance(fault, kind)
                return fault
        return None

    def listing(self) -> list[dict[str, object]]:
        """Every fault posted, and how often it was met."""
        return [{"fault": fault, "seen": seen[0]} for fault, seen in self._armed]
