from __future__ import annotations

import pytest

from services.events.domain.pages import absolute_url, bare_url, page_url

SHOP = "https://shop.example/"
STATUS = "https://shop.example/1/orders/abc/authenticate?key=secret"


def test_the_page_is_the_browsers_then_the_orders_then_the_landing_then_the_shops() -> None:
    page, landing = "https://shop.example/thanks?x=1", "/products/shoe?utm=tiktok"

    assert page_url(page, STATUS, landing, SHOP) == page
    assert page_url(None, STATUS, landing, SHOP) == "https://shop.example/1/orders/abc"
    assert page_url(None, None, landing, SHOP) == "https://shop.example/products/shoe?utm=tiktok"
    assert page_url(None, None, None, SHOP) == SHOP


def test_the_key_that_opens_an_order_is_never_in_the_page() -> None:
    assert "secret" not in page_url(None, STATUS, None, SHOP)


@pytest.mark.parametrize(
    "landing",
    ["/wallets/checkouts.json", "/admin/auth/login", "/api/2019-07/graphql.json", "//", "x", "",
     "https://shop.example/admin/x", "javascript:alert(1)"],
)  # fmt: skip
def test_a_landing_site_that_is_no_page_of_the_shop_gives_way_to_the_front_page(
    landing: str,
) -> None:
    assert page_url(None, None, landing, SHOP) == SHOP


@pytest.mark.parametrize(
    "url",
    ["", None, "shop.example", "ftp://shop.example", "https://", "https://a b", "https://a\nb"],
)
def test_what_is_no_whole_web_address_is_none(url: str | None) -> None:
    assert absolute_url(url) is None


def test_an_address_of_unbearable_length_is_none() -> None:
    assert absolute_url("https://shop.example/" + "x" * 5_000) is None


def test_a_bare_address_has_no_sign_in_query_or_fragment() -> None:
    assert bare_url("https://user:pw@shop.example/a?b=c#d") == "https://shop.example/a"
