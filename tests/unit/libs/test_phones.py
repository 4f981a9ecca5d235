from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.phones import e164


@pytest.mark.parametrize(
    ("raw", "country", "expected"),
    [
        ("(202) 555-0143", "US", "+12025550143"),
        ("07400 123456", "GB", "+447400123456"),
        ("07400 123456", "gb", "+447400123456"),
        ("+49 30 901820", "US", "+4930901820"),
        ("+49 30 901820", "", "+4930901820"),
        ("+1 555 625 1199", "", "+15556251199"),
        (" 202-555-0143 ext. 5", "US", "+12025550143"),
    ],
)
def test_a_number_is_read_by_its_country(raw: str, country: str, expected: str) -> None:
    assert e164(raw, country) == expected


@pytest.mark.parametrize(
    ("raw", "country"),
    [
        ("", "US"),
        ("555-555-SHIP", "US"),
        ("07400 123456", ""),
        ("07400 123456", "??"),
        ("12", "US"),
        ("+", "US"),
        ("n/a", "US"),
        ("2" * 500, "US"),
        ("+1" + "2" * 60, "US"),
    ],
)
def test_what_cannot_be_dialled_is_no_number(raw: str, country: str) -> None:
    assert e164(raw, country) is None


@given(st.text(max_size=80), st.sampled_from(["US", "DE", "", "ZZ"]))
def test_any_text_gives_e164_or_nothing(raw: str, country: str) -> None:
    read = e164(raw, country)

    assert read is None or (read.startswith("+") and read[1:].isascii() and read[1:].isdigit())
