"""Images that TikTok can fetch and show; the others are left out, or refuse the item."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.catalog.domain.images import checked_url
from services.catalog.domain.model import Image
from tests.unit.catalog.goods import CDN, codes, item, mapped, product, refused, variant

DOMAIN = "shop.example.com"


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        (f"{CDN}/a.jpg?v=1", f"{CDN}/a.jpg?v=1"),
        (" //cdn.shopify.com/a.jpg ", "https://cdn.shopify.com/a.jpg"),
        ("http://cdn.shopify.com/a.jpg", "https://cdn.shopify.com/a.jpg"),
        ("http://example.myshopify.com/cdn/a.jpg", "https://example.myshopify.com/cdn/a.jpg"),
        (f"http://{DOMAIN}/cdn/a.jpg", f"https://{DOMAIN}/cdn/a.jpg"),
        (f"{CDN}/a,b.jpg?x=1,2", f"{CDN}/a%2Cb.jpg?x=1%2C2"),
        (f"{CDN}/a b.jpg", f"{CDN}/a%20b.jpg"),
        (f"{CDN}/a%20b.PNG", f"{CDN}/a%20b.PNG"),
        (f"{CDN}/\u00e9.jpg", f"{CDN}/%C3%A9.jpg"),
        ("https://b\u00fccher.example/a.jpg", "https://xn--bcher-kva.example/a.jpg"),
        ("https://img.example.com:8443/picture", "https://img.example.com:8443/picture"),
        ("https://img.example.com/a.jpg#top", "https://img.example.com/a.jpg"),
        ("HTTPS://IMG.example.com/A.jpeg", "https://img.example.com/A.jpeg"),
    ],
)
def test_an_address_is_put_into_the_form_that_tiktok_fetches(url: str, expected: str) -> None:
    assert checked_url(url, DOMAIN) == (expected, "")


@pytest.mark.parametrize(
    ("url", "wrong"),
    [
        ("", "image_missing"),
        ("/files/a.jpg", "image_relative"),
        ("files/a.jpg", "image_relative"),
        ("http://img.example.com/a.jpg", "image_not_https"),
        ("http://cdn.shopify.com:8080/a.jpg", "image_not_https"),
        ("ftp://img.example.com/a.jpg", "image_not_https"),
        ("data:image/png;base64,AAAA", "image_not_https"),
        ("https://localhost/a.jpg", "image_not_public"),
        ("https://192.168.1.7/a.jpg", "image_not_public"),
        ("https://[::1]/a.jpg", "image_not_public"),
        ("https://nas.local/a.jpg", "image_not_public"),
        ("https://user:word@img.example.com/a.jpg", "image_unreadable"),
        ("https://[broken/a.jpg", "image_unreadable"),
        ("https://img.example.com:port/a.jpg", "image_unreadable"),
        ("https:///a.jpg", "image_unreadable"),
        (f"{CDN}/a.heic", "image_format"),
        (f"{CDN}/a.WEBP?v=1", "image_format"),
        (f"{CDN}/a.gif", "image_format"),
        (f"{CDN}/a.svg", "image_format"),
    ],
)
def test_an_address_that_tiktok_cannot_use_is_told_by_what_is_wrong(url: str, wrong: str) -> None:
    assert checked_url(url, DOMAIN) == ("", wrong)


@given(st.text())
def test_every_address_is_public_https_or_wrong(url: str) -> None:
    found, wrong = checked_url(url, DOMAIN)

    assert bool(found) != bool(wrong)
    if found:
        assert found.startswith("https://")
        assert found.isascii()
        assert found.isprintable()
        assert "," not in found
        assert " " not in found


def test_the_variants_own_image_comes_first_and_the_products_others_behind_it() -> None:
    found = item(product(variant(image_id="302")))

    assert found.image_url == f"{CDN}/b.jpg"
    assert found.additional_image_urls == (f"{CDN}/a.jpg",)


def test_an_own_image_may_be_known_by_its_address_only() -> None:
    found = item(product(variant(image_id="", image_url=f"{CDN}/b.jpg?v=2")))

    assert found.image_url == f"{CDN}/b.jpg?v=2"
    assert found.additional_image_urls == (f"{CDN}/a.jpg",)


def test_without_an_own_image_the_products_first_is_the_main_one() -> None:
    assert item(product(variant(image_id=""))).image_url == f"{CDN}/a.jpg"


def test_images_of_other_variants_come_last_and_ten_are_enough() -> None:
    images = tuple(Image(f"{CDN}/{n}.jpg", str(n)) for n in range(14))
    given = product(
        variant(variant_id="101", image_id="0"),
        variant(variant_id="102", image_id="1", sku="B"),
        images=images,
    )

    found = mapped(given).items[0]

    assert found.additional_image_urls == tuple(f"{CDN}/{n}.jpg" for n in range(2, 12))


def test_an_image_that_stands_twice_is_sent_once() -> None:
    images = (Image(f"{CDN}/a.jpg", "301"), Image(f"{CDN}/a.jpg", "302"))

    assert item(product(images=images)).additional_image_urls == ()


def test_images_that_cannot_be_used_are_left_out_and_noted() -> None:
    images = (
        Image(f"{CDN}/a.heic", "1"),
        Image("http://img.example.com/b.jpg", "2"),
        Image(f"{CDN}/c.jpg", "3"),
        Image(f"{CDN}/small.jpg", "4", 499, 800),
    )

    found = mapped(product(variant(image_id=""), images=images))

    assert found.items[0].image_url == f"{CDN}/c.jpg"
    assert found.items[0].additional_image_urls == ()
    assert codes(found) == ["image_format", "image_not_https", "image_too_small"]


def test_an_image_of_500_pixels_is_large_enough_and_one_of_unknown_size_is_tried() -> None:
    images = (Image(f"{CDN}/a.jpg", "1", 500, 500), Image(f"{CDN}/b.jpg", "2", 0, 400))

    found = item(product(variant(image_id=""), images=images))

    assert (found.image_url, *found.additional_image_urls) == (f"{CDN}/a.jpg", f"{CDN}/b.jpg")


@pytest.mark.parametrize("by_url", [True, False])
def test_an_own_image_that_cannot_be_used_gives_way_to_the_products(by_url: bool) -> None:  # noqa: FBT001  # a case
    images = (Image(f"{CDN}/small.jpg", "1", 100, 100), Image(f"{CDN}/c.jpg", "3"))
    own = {"image_url": f"{CDN}/small.jpg"} if by_url else {"image_id": "1"}

    found = mapped(product(variant(**{"image_id": "", **own}), images=images))

    assert found.items[0].image_url == f"{CDN}/c.jpg"
    assert [(one.variant_id, one.code, one.field) for one in found.notes] == [
        ("", "image_too_small", "images"),
        ("101", "image_too_small", "variants.image"),
    ]


@pytest.mark.parametrize(
    ("images", "code"),
    [
        ((), "image_missing"),
        ((Image("/a.jpg", "1"),), "image_relative"),
        ((Image(f"{CDN}/a.heic", "1"),), "image_format"),
        ((Image("http://img.example.com/a.jpg", "1"),), "image_not_https"),
    ],
)
def test_an_item_without_any_image_that_can_be_used_is_refused(
    images: tuple[Image, ...], code: str
) -> None:
    found = refused(product(variant(image_id=""), images=images))

    assert (found.code, found.field) == (code, "images")


@pytest.mark.parametrize("own", ["", "1"])
def test_an_image_that_is_too_small_is_sent_where_there_is_no_other(own: str) -> None:
    images = (Image(f"{CDN}/small.jpg", "1", 200, 200), Image(f"{CDN}/a.heic", "2"))

    found = mapped(product(variant(image_id=own), images=images))

    assert found.items[0].image_url == f"{CDN}/small.jpg"
    assert found.items[0].additional_image_urls == ()
    assert "image_too_small" in codes(found)


def test_an_image_that_the_product_does_not_have_is_no_image() -> None:
    assert item(product(variant(image_id="999"))).image_url == f"{CDN}/a.jpg"
