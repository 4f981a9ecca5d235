"""Sessions without a store, and how often a password may be tried."""

from __future__ import annotations

import pytest

from services.auth.domain.sign_in import Attempts, is_session, signed_session
from services.auth.domain.signing import derived, signed

KEY = derived(b"a secret for tests", "session")
HOME = "192.0.2.1"


def test_a_session_ends_at_its_time() -> None:
    session = signed_session(KEY, 1_000, "nonce")

    assert is_session(KEY, session, 999.9)
    assert not is_session(KEY, session, 1_000.0)


@pytest.mark.parametrize("text", ["", "1000.nonce", "9999.nonce.AAAA", signed(KEY, "later.nonce")])
def test_what_we_did_not_sign_is_no_session(text: str) -> None:
    assert not is_session(KEY, text, 0.0)


def test_a_network_is_slowed_after_its_burst() -> None:
    attempts = Attempts()
    waits = [attempts.wait_s(HOME, 100.0) for _ in range(Attempts.BURST + 1)]

    assert waits == [0.0] * Attempts.BURST + [Attempts.EVERY_S]
    assert attempts.wait_s(HOME, 100.0 + Attempts.EVERY_S) == 0.0
    assert attempts.wait_s("192.0.2.2", 100.0) == 0.0


def test_a_whole_ipv6_network_counts_as_one() -> None:
    attempts = Attempts()
    waits = [attempts.wait_s(f"2001:db8::{host:x}", 0.0) for host in range(Attempts.BURST + 1)]

    assert waits[-1] > 0
    assert attempts.wait_s("2001:db8:0:1::1", 0.0) == 0.0


def test_whoever_has_many_addresses_is_slowed_as_well() -> None:
    attempts = Attempts()
    waits = [attempts.wait_s(f"10.0.0.{n}", 0.0) for n in range(Attempts.BURST_OF_ALL + 1)]

    assert waits.count(0.0) == Attempts.BURST_OF_ALL
    assert waits[-1] == pytest.approx(Attempts.EVERY_S_OF_ALL)


def test_the_right_password_forgives_the_wrong_ones() -> None:
    attempts = Attempts()
    for _ in range(Attempts.BURST):
        attempts.wait_s(HOME, 0.0)

    attempts.forgive(HOME)

    assert attempts.wait_s(HOME, 0.0) == 0.0


def test_memory_is_bounded_whoever_asks() -> None:
    attempts = Attempts()
    for n in range(3 * Attempts.NETWORKS_MAX):
        attempts.wait_s(f"10.1.{n // 256}.{n % 256}", n * 60.0)

    assert len(attempts._full_at_s) == Attempts.NETWORKS_MAX
