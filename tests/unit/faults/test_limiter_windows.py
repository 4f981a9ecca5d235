"""How the matrix tells whether a limit was kept, and whether it was one."""

from __future__ import annotations

import pytest

from tests.faults.limiter import busiest, unkept


@pytest.mark.parametrize(
    ("arrivals_s", "most"),
    [((), 0), ((1.0,), 1), ((0.0, 0.5, 1.0), 2), ((0.0, 0.9, 1.1, 1.2, 1.8, 3.0), 4)],
)
def test_the_busiest_window_is_found_wherever_it_begins(
    arrivals_s: tuple[float, ...], most: int
) -> None:
    assert busiest(arrivals_s, 1.0) == most


def test_a_limit_is_kept_where_it_is_used_and_never_passed() -> None:
    # Sixteenths are exact in binary.
    even = [place / 16 for place in range(160)]

    assert unkept(even, 16) == []
    assert unkept([*even, *(10.0 + place / 64 for place in range(4))], 16) == [
        "17 requests came to TikTok within a second, where 16 may"
    ]
    assert unkept([place * 0.0615 for place in range(200)], 16) == [
        "163 requests came to TikTok within 10 s, where 160 may"
    ]
    assert "nothing was tried" in unkept(even[::2], 16)[0]
