"""Names of limits and what they are declared to be."""

from __future__ import annotations

import pytest

from libs.errors import Kind, ServiceError
from libs.limits.declared import DeclaredLimits
from libs.limits.gcra import Bucket


def _windows(declared: DeclaredLimits, name: str) -> list[tuple[int, int]]:
    limit = declared.limit(name)
    assert limit is not None
    return [(window.units, window.length_s) for window in limit.windows]


def test_what_the_upstreams_document_holds_without_any_setting() -> None:
    declared = DeclaredLimits()

    assert _windows(declared, "tiktok.events.app") == [
        (1000, 1), (600_000, 60), (86_400_000, 86_400),
    ]  # fmt: skip
    assert declared.limit("tiktok.events.pixel.C1") is None
    assert _windows(declared, "tiktok.catalog.upload") == [(5, 1), (300, 60), (432_000, 86_400)]
    assert _windows(declared, "tiktok.catalog.upload.777") == [(1, 1), (1000, 3600)]
    shop = declared.limit("shopify.aurora.graphql")
    assert shop is not None
    assert shop.bucket == Bucket(1000.0, 50.0)


def test_a_setting_comes_before_the_defaults() -> None:
    declared = DeclaredLimits("tiktok.events.app=50/s , 600/m; tiktok.events.pixel.C1=5/s;x=40@2/s")

    assert _windows(declared, "tiktok.events.app") == [(50, 1), (600, 60)]
    assert _windows(declared, "tiktok.events.pixel.C1") == [(5, 1)]
    assert declared.limit("tiktok.events.pixel.C2") is None
    other = declared.limit("x")
    assert other is not None
    assert other.bucket == Bucket(40.0, 2.0)


def test_a_name_that_nobody_declared_is_an_error_that_names_it() -> None:
    with pytest.raises(ServiceError, match=r"tiktok\.unheard") as caught:
        DeclaredLimits().limit("tiktok.unheard")

    assert (caught.value.kind, caught.value.code) == (Kind.PERMANENT, "limit_undeclared")


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("a", "'a'"),
        ("a=10/s;b=10/x", "'10/x' of b"),
        ("a=0/s", "'0/s' of a"),
        ("a=", "'' of a"),
        ("a=5/s,5/s", "window twice"),
        ("a=40@0/s", "never restores"),
        ("a b=1/s", "'a b=1/s'"),
        ("=1/s", "'=1/s'"),
        ("a=none,5/s", "'none' of a"),
    ],
)
def test_an_error_names_the_part_that_cannot_be_read(text: str, named: str) -> None:
    with pytest.raises(ServiceError) as caught:
        DeclaredLimits(text)

    assert caught.value.code == "limits_unreadable"
    assert named in caught.value.message
