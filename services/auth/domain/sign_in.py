"""The operator's sign-in: sessions without a store, and how often a password may be tried."""

from __future__ import annotations

import ipaddress
import re
from collections import OrderedDict
from typing import Final

from services.auth.domain.signing import signed, verified

SESSION_S: Final = 8 * 3600
SESSION_PURPOSE: Final = "tidewire/auth/operator-session/v1"
FORM_PURPOSE: Final = "tidewire/auth/form/v1"
PASSWORD_CHARS_MIN: Final = 12

_SESSION: Final = re.compile(r"([0-9]{1,12})\.[A-Za-z0-9_-]+")


def signed_session(key: bytes, expires_s: int, nonce: str) -> str:
    """A session, as its cookie holds it."""
    return signed(key, f"{expires_s}.{nonce}")


def is_session(key: bytes, text: str, now_s: float) -> bool:
    """Whether `text` is a session of ours that has not ended."""
    found = _SESSION.fullmatch(verified(key, text) or "")
    return found is not None and now_s < int(found[1])


class Attempts:
    """Which tries of a password are let through: bursts, then slowly; memory is bounded.

    One bucket a network, and one for all of them: whoever has many addresses is slowed as well.
    """

    BURST: Final = 5
    EVERY_S: Final = 30.0
    BURST_OF_ALL: Final = 50
    EVERY_S_OF_ALL: Final = 3.0
    NETWORKS_MAX: Final = 1024

    def __init__(self) -> None:
        # The instant at which a bucket is full again says how full it is.
        self._full_at_s: OrderedDict[str, float] = OrderedDict()
        self._all_full_at_s = 0.0

    def wait_s(self, address: str, now_s: float) -> float:
        """Seconds until a try from `address` is let through; 0: it is, and counted."""
        network = _network(address)
        full_at_s = max(now_s, self._full_at_s.get(network, now_s))
        all_full_at_s = max(now_s, self._all_full_at_s)
        wait_s = max(
            full_at_s - now_s - (self.BURST - 1) * self.EVERY_S,
            all_full_at_s - now_s - (self.BURST_OF_ALL - 1) * self.EVERY_S_OF_ALL,
        )
        if wait_s > 0:
            return wait_s
        self._full_at_s[network] = full_at_s + self.EVERY_S
        self._full_at_s.move_to_end(network)
        self._all_full_at_s = all_full_at_s + self.EVERY_S_OF_ALL
        if len(self._full_at_s) > self.NETWORKS_MAX:
            self._full_at_s.popitem(last=False)
        return 0.0

    def forgive(self, address: str) -> None:
        """Forgets the tries of a network: one of them was right."""
        self._full_at_s.pop(_network(address), None)


def _network(address: str) -> str:
    """An IPv4 address, or the /64 of an IPv6 one, of which a single host has all."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return ""
    if parsed.version == 4:
        return address
    return str(ipaddress.ip_network((parsed, 64), strict=False))
