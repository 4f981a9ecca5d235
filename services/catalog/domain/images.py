"""Images as TikTok can fetch and show them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import ip_address
from typing import Final
from urllib.parse import quote, urlsplit

from services.catalog.domain.faults import Fault
from services.catalog.domain.model import Image, Product, Variant

ADDITIONAL_MAX: Final = 10
SIDE_MIN_PX: Final = 500
"""A smaller one keeps the item in TikTok's review: it is sent only where there is no other."""

# Nearly every image: at a public name, in characters that need no second look.
_PLAIN: Final = re.compile(
    r"https://((?:[a-z0-9-]{1,63}\.){1,8}[a-z]{2,24})/[A-Za-z0-9_./~%:@-]+(?:\?[A-Za-z0-9_=&.-]*)?"
)
_EXTENSION: Final = re.compile(r"\.([A-Za-z0-9]{2,5})$")
# Formats that are not JPG or PNG; an address without an extension may be either.
_NOT_TAKEN: Final = re.compile(
    r"avif|bmp|gif|hei[cf]|jp2|jxl|m4v|mov|mp4|pdf|psd|svg|tiff?|web[mp]", re.IGNORECASE
)
_SAFE: Final = "/%:@!$&'()*+;=~?-._"
_PRIVATE_ENDS: Final = (".local", ".localhost", ".internal", ".lan", ".home.arpa", ".invalid")
_SHOPIFY_ENDS: Final = (".myshopify.com", ".shopify.com")
_MESSAGES: Final = {
    "image_missing": "It has no image: add one of at least 500 x 500 pixels.",
    "image_relative": "The image's address lacks its host: add the image to the product again.",
    "image_not_https": "The image's address does not begin with https://: upload it to Shopify.",
    "image_not_public": "The image lies where TikTok cannot fetch it: upload it to Shopify.",
    "image_unreadable": "The image's address cannot be read: add the image to the product again.",
    "image_format": "TikTok takes images as JPG and PNG only: upload it as one of these.",
    "image_too_small": (
        "TikTok wants images of at least 500 x 500 pixels and may never approve a smaller one:"
        " upload a larger one."
    ),
}


@dataclass(frozen=True, slots=True)
class Pictures:
    """The images of one item."""

    main: str
    additional: tuple[str, ...]
    source: str
    note: Fault | None = None
    """Why the variant's own image is not the main one."""


class Gallery:
    """What of a product's images can be used, found out once for all its variants."""

    def __init__(self, product: Product, shop_domain: str) -> None:
        self._domain = shop_domain
        # An address, or `!` and what is wrong with the image.
        self._by_id: dict[str, str] = {}
        self._by_url: dict[str, str] = {}
        self._known: dict[str, Pictures] = {}
        self.notes: list[Fault] = []
        usable: dict[str, None] = {}
        self._small = ""
        for image in product.images:
            address, wrong = _usable(image, shop_domain)
            if wrong:
                self.notes.append(_fault(wrong, "images", image.url))
                self._small = self._small or address
            else:
                usable[address] = None
            found = f"!{wrong}" if wrong else address
            self._by_url[image.url] = found
            if image.image_id:
                self._by_id[image.image_id] = found
        self._usable = tuple(usable)
        self._own = frozenset(
            found
            for one in product.variants
            if (found := self._told_of(one)) and not found.startswith("!")
        )

    def of(self, variant: Variant) -> Pictures | Fault:
        """The images of `variant`: its own first, else the product's; or why there is none."""
        own, wrong = self._own_image(variant)
        note = _fault(wrong, "variants.image", variant.image_url) if wrong else None
        if own:
            return self._pictures(own, "variants.image", None)
        if self._usable:
            return self._pictures(self._usable[0], "images[0]", note)
        if self._small:
            return self._pictures(self._small, "images", note)
        if note is not None:
            return note
        if self.notes:
            return Fault(self.notes[0].code, "images", self.notes[0].message)
        return _fault("image_missing", "images", "")

    def _own_image(self, variant: Variant) -> tuple[str, str]:
        """The variant's own image, and what is wrong with it; both empty where it has none."""
        found = self._told_of(variant)
        if variant.image_url and not found:
            return checked_url(variant.image_url, self._domain)
        return ("", found[1:]) if found.startswith("!") else (found, "")

    def _told_of(self, variant: Variant) -> str:
        """What is known of that one of the product's images which is the variant's own."""
        if variant.image_url:
            return self._by_url.get(variant.image_url, "")
        return self._by_id.get(variant.image_id, "") if variant.image_id else ""

    def _pictures(self, main: str, source: str, note: Fault | None) -> Pictures:
        if note is not None:
            return Pictures(main, self._others(main), source, note)
        found = self._known.get(main)
        if found is None:
            found = self._known[main] = Pictures(main, self._others(main), source)
        return found

    def _others(self, main: str) -> tuple[str, ...]:
        """The product's other images, those that show another variant last."""
        path = main.partition("?")[0]
        others = [one for one in self._usable if one.partition("?")[0] != path]
        shared = [one for one in others if one not in self._own]
        return tuple([*shared, *(one for one in others if one in self._own)][:ADDITIONAL_MAX])


def _usable(image: Image, shop_domain: str) -> tuple[str, str]:
    """The address of an image and what is wrong with it; a small one has both."""
    address, wrong = checked_url(image.url, shop_domain)
    if not wrong and 0 < min(image.width_px, image.height_px) < SIDE_MIN_PX:
        return address, "image_too_small"
    return address, wrong


def _fault(code: str, field: str, url: str) -> Fault:
    shown = f" ({url[:200]})" if url else ""
    return Fault(code, field, _MESSAGES[code] + shown)


@lru_cache(maxsize=4096)
def checked_url(url: str, shop_domain: str) -> tuple[str, str]:
    """`url` as TikTok can fetch it, or the empty text and what is wrong with it.

    A protocol-relative one gets https, and so does an http one on Shopify's CDN or the shop's own
    domain, which both answer by https. A comma becomes `%2C`: TikTok's rule.
    """
    url = url.strip()
    plain = _PLAIN.fullmatch(url)
    if plain is None or plain[1].endswith(_PRIVATE_ENDS):
        url, wrong = _repaired(url, shop_domain)
        if wrong:
            return "", wrong
    extension = _EXTENSION.search(url.partition("?")[0])
    if extension is not None and _NOT_TAKEN.fullmatch(extension[1]):
        return "", "image_format"
    return url, ""


def _repaired(url: str, shop_domain: str) -> tuple[str, str]:
    if not url:
        return "", "image_missing"
    try:
        parts = urlsplit(f"https:{url}" if url.startswith("//") else url)
        host = (parts.hostname or "").encode("idna").decode()
        port = f":{parts.port}" if parts.port else ""
    except (ValueError, UnicodeError):
        return "", "image_unreadable"
    if not parts.scheme:
        return "", "image_relative"
    if not host or parts.username is not None:
        return "", "image_unreadable" if parts.scheme in {"http", "https"} else "image_not_https"
    if parts.scheme not in {"http", "https"}:
        return "", "image_not_https"
    if not _is_public(host):
        return "", "image_not_public"
    is_shops = host.endswith(_SHOPIFY_ENDS) or host == shop_domain
    if parts.scheme == "http" and (port or not is_shops):
        return "", "image_not_https"
    try:
        path = quote(parts.path, safe=_SAFE.replace("?", ""))
        query = quote(parts.query, safe=_SAFE)
    except UnicodeError:
        return "", "image_unreadable"
    place = f"[{host}]{port}" if ":" in host else host + port
    return f"https://{place}{path}" + (f"?{query}" if query else ""), ""


def _is_public(host: str) -> bool:
    try:
        return ip_address(host).is_global
    except ValueError:
        return "." in host.strip(".") and not host.rstrip(".").endswith(_PRIVATE_ENDS)
