from __future__ import annotations

import pytest

from services.events.domain.identity import VALUES_MAX, match_keys, public_ip
from services.events.domain.model import Address, Identity, Note, Phone


@pytest.mark.parametrize(
    "ip", ["84.17.33.9", "203.0.113.9", "172.32.0.1", "100.128.0.1", "2a02:26f7:c9c4::1",
           "::ffff:84.17.33.9", "255.1.1.1".replace("255", "223")],
)  # fmt: skip
def test_a_shoppers_address_on_the_internet_is_kept(ip: str) -> None:
    assert public_ip(f" {ip} ") in {ip, ip.removeprefix("::ffff:")}


@pytest.mark.parametrize(
    "ip", [None, "", "0.0.0.0", "10.1.2.3", "127.0.0.1", "100.64.0.1", "169.254.1.1",  # noqa: S104
           "172.16.0.1", "192.168.1.1", "224.0.0.1", "255.255.255.255", "256.1.1.1", "1.2.3",
           "01.2.3.4", "::", "::1", "fe80::1", "fd00::1", "ff02::1", "::ffff:10.0.0.1", "text"],
)  # fmt: skip
def test_an_address_of_a_proxy_or_server_and_a_broken_one_are_dropped(ip: str | None) -> None:
    assert public_ip(ip) is None


def test_a_phone_is_read_in_its_own_addresss_country_and_else_in_the_shops() -> None:
    beside = Identity(phones=(Phone("0722123456", "RO"),))
    alone = Identity(phones=(Phone("0722123456"),))

    assert match_keys(beside, "US")[0].phones == match_keys(alone, "RO")[0].phones != ()
    assert match_keys(alone, "US") == match_keys(alone, None)
    assert match_keys(alone, "US")[1] == (Note.PHONE_DROPPED,)


def test_values_written_in_several_ways_are_one_and_keep_their_order() -> None:
    identity = Identity(emails=("b@x.org", "a@x.org", " B@X.org"))

    keys, notes = match_keys(identity, None)

    assert keys.emails == match_keys(Identity(emails=("b@x.org", "a@x.org")), None)[0].emails
    assert len(keys.emails) == 2
    assert notes == ()


def test_a_flood_of_values_is_bounded() -> None:
    identity = Identity(
        external_ids=tuple(map(str, range(1, 5_000))),
        emails=tuple(f"nobody-{number}" for number in range(5_000)),
        phones=tuple(Phone(f"{number}") for number in range(5_000)),
    )

    keys, notes = match_keys(identity, None)

    assert len(keys.external_ids) == VALUES_MAX
    assert len(notes) == 100


def test_what_is_said_twice_and_cannot_be_used_is_noted_once() -> None:
    identity = Identity(emails=("nobody",) * 3, phones=(Phone("12"), Phone("12")))

    assert match_keys(identity, None)[1] == (Note.EMAIL_DROPPED, Note.PHONE_DROPPED)


def test_every_value_that_is_dropped_is_counted_by_its_kind() -> None:
    identity = Identity(
        emails=("nobody", "", " "),
        phones=(Phone("12"), Phone("")),
        external_ids=("0",),
        ip="10.0.0.1",
        ttclid="x" * 1_001,
    )

    keys, notes = match_keys(identity, "US")

    assert keys == match_keys(Identity(), "US")[0]
    assert notes == (
        Note.EMAIL_DROPPED,
        Note.PHONE_DROPPED,
        Note.EXTERNAL_ID_DROPPED,
        Note.IP_DROPPED,
        Note.CLICK_ID_DROPPED,
    )


def test_a_state_is_a_code_in_the_united_states_and_a_name_elsewhere() -> None:
    us = Address(province="California", province_code="CA", country_code="US")
    ro = Address(province="Mureș", province_code="MS", country_code="RO")
    nameless = Address(province_code="ON", country_code="CA")

    states = [match_keys(Identity(address=a), None)[0].state for a in (us, ro, nameless)]

    assert states == ["ca", "mures", "on"]


def test_personal_values_stay_out_of_every_repr() -> None:
    identity = Identity(
        emails=("alice@example.com",),
        phones=(Phone("+12133734253"),),
        first_name="Alice",
        address=Address(city="Springfield", zip_code="95110"),
        ip="84.17.33.9",
        ttclid="E.C.P.abc",
        page_url="https://shop.example/?email=alice",
    )

    shown = repr(identity) + repr(match_keys(identity, "US"))

    for value in ("alice", "Alice", "2133734253", "pringfield", "95110", "84.17", "E.C.P"):
        assert value not in shown
