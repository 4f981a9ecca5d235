"""`tidewire certificates`: throw-away certificates for a suite on one machine."""

from __future__ import annotations

from pathlib import Path

from libs.clock import SystemClock
from libs.rpc.certificates import NAMES, make_certificates


def write_certificates(directory: Path) -> int:
    """Makes new ones in place of those there were; 0."""
    made = make_certificates(directory, SystemClock())
    print(f"{made.directory}: ca.crt, and a certificate and key each for {', '.join(NAMES)}")
    print("good for 14 days, on this machine and in its networks of containers; not for others")
    return 0
