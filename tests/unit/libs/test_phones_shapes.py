from __future__ import annotations

import phonenumbers
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from phonenumbers import PhoneNumberFormat

from libs.phones import e164

_FORMS = (PhoneNumberFormat.E164, PhoneNumberFormat.INTERNATIONAL, PhoneNumberFormat.NATIONAL)
_TYPES = range(11)


@pytest.mark.parametrize("form", _FORMS)
def test_example_numbers_of_every_region_are_read_as_the_library_reads_them(form: int) -> None:
    compared = 0
    for region in phonenumbers.SUPPORTED_REGIONS:
        for number_type in _TYPES:
            number = phonenumbers.example_number_for_type(region, number_type)
            if number is None:
                continue
            raw = phonenumbers.format_number(number, form)
            beside = region if form == PhoneNumberFormat.NATIONAL else None
            read = phonenumbers.format_number(
                phonenumbers.parse(raw, beside), PhoneNumberFormat.E164
            )
            assert e164(raw, beside) == read, (region, raw)
            compared += 1
    assert compared > 1_000


@pytest.mark.parametrize(
    ("raw", "region", "expected"),
    [
        ("(213) 373-4253", "US", "+12133734253"),
        ("1-213-373-4253", "US", "+12133734253"),
        ("+44 (0)20 7946 0018", None, "+442079460018"),
        ("020 7946 0018", "GB", "+442079460018"),
        ("447946001812", "US", "+447946001812"),
        ("0044 7946 001812", "US", "+447946001812"),
        ("02 1234 5678", "IT", "+390212345678"),
        ("+39 02 1234 5678", None, "+390212345678"),
        ("213-373-4253 ext. 12", "US", "+12133734253"),
        ("٢١٣٣٧٣٤٢٥٣", "US", "+12133734253"),
        ("213 373 4253", "us", "+12133734253"),
        ("011 44 7946 001812", "US", "+447946001812"),
    ],
)
def test_a_number_as_people_write_it_becomes_e164(
    raw: str, region: str | None, expected: str
) -> None:
    assert e164(raw, region) == expected


@pytest.mark.parametrize(
    ("raw", "region"),
    [
        ("0612345678", None),
        ("12345", "US"),
        ("call me", "US"),
        ("", "US"),
        ("+", None),
        ("+0123456789", None),
        ("+999123456789", None),
        ("+1234567890123456", None),
        ("2133734253", "XX"),
        ("2133734253", ""),
        ("1" * 5_000, "US"),
    ],
)
def test_what_is_no_phone_number_is_dropped(raw: str, region: str | None) -> None:
    assert e164(raw, region) is None


@settings(deadline=None)  # the first number of a region loads its numbering plan
@given(
    st.text(alphabet="+0123456789 ()-./abcx\u0662\u00a0", max_size=24),
    st.sampled_from([None, "US", "GB", "IT", "AR", "BR", "MX", "JP", "XX"]),
)
def test_any_text_is_dropped_or_becomes_a_plus_and_up_to_fifteen_digits(
    raw: str, region: str | None
) -> None:
    found = e164(raw, region)

    assert found is None or (found[0] == "+" and found[1:].isdecimal() and len(found) <= 18)


@settings(deadline=None)  # the first number of a region loads its numbering plan
@given(st.sampled_from(["US", "GB", "DE", "FR", "BR", "IN", "JP", "RO"]), st.integers(0, 10))
def test_an_e164_number_is_its_own_e164_number_in_any_region(region: str, number_type: int) -> None:
    number = phonenumbers.example_number_for_type(region, number_type)
    if number is None:
        return
    text = phonenumbers.format_number(number, PhoneNumberFormat.E164)

    assert e164(text, "US") == e164(text, None) == text
