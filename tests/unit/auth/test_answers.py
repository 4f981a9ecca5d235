"""Token answers as grants: lifetimes as answered, nulls everywhere, ids digit by digit."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from libs.settings import Secret
from services.auth.domain.answers import (
    TikTokShop,
    account_grant,
    business_grant,
    shop_meant,
    shopify_grant,
    tiktok_shop_grant,
    tiktok_shops,
)
from services.auth.domain.grants import App, Grant

_NOW = datetime(2026, 11, 27, 12, tzinfo=UTC)
_BIG = 7123456789012345678901
_OLD = Grant(
    access_token=Secret("old-access"),
    expires_at=_NOW,
    refresh_token=Secret("old-refresh"),
    refresh_expires_at=_NOW + timedelta(days=9),
    scopes=("read_orders",),
    accounts=("7494049642642441621", "open"),
    shop_cipher=Secret("cipher"),
    app=App("own", Secret("own-secret")),
    webhook_secrets=(Secret("signs"),),
)


def test_shopifys_expiring_token_ends_when_the_answer_says() -> None:
    node = {
        "access_token": "new",
        "scope": "read_orders,write_products",
        "expires_in": 3600,
        "refresh_token": "fresh",
        "refresh_token_expires_in": 7_776_000,
    }

    grant = shopify_grant(node, _NOW)

    assert grant == Grant(
        access_token=Secret("new"),
        expires_at=_NOW + timedelta(hours=1),
        refresh_token=Secret("fresh"),
        refresh_expires_at=_NOW + timedelta(days=90),
        scopes=("read_orders", "write_products"),
    )


def test_a_long_lived_token_has_no_end() -> None:
    grant = shopify_grant({"access_token": "new", "scope": "read_orders"}, _NOW)

    assert grant == Grant(access_token=Secret("new"), scopes=("read_orders",))


def test_what_a_refresh_leaves_out_is_as_before() -> None:
    grant = shopify_grant({"access_token": "new", "expires_in": 60}, _NOW, _OLD)

    assert grant is not None
    assert grant.access_token == Secret("new")
    assert grant.expires_at == _NOW + timedelta(minutes=1)
    assert grant.refresh_token == Secret("old-refresh")
    assert grant.refresh_expires_at == _OLD.refresh_expires_at
    assert (grant.scopes, grant.accounts) == (_OLD.scopes, _OLD.accounts)
    assert (grant.shop_cipher, grant.app) == (_OLD.shop_cipher, _OLD.app)
    assert grant.webhook_secrets == _OLD.webhook_secrets


def test_a_new_token_does_not_inherit_the_life_of_an_old_one() -> None:
    grant = shopify_grant({"access_token": "new", "refresh_token": "fresh"}, _NOW, _OLD)

    assert grant is not None
    assert (grant.expires_at, grant.refresh_expires_at) == (None, None)


def test_the_marketing_apis_token_has_ids_digit_by_digit() -> None:
    text = f'{{"access_token": "new", "advertiser_ids": ["{_BIG}"], "scope": [4, {_BIG}]}}'

    grant = business_grant(json.loads(text), _NOW)

    assert grant == Grant(
        access_token=Secret("new"), accounts=(str(_BIG),), scopes=("4", str(_BIG))
    )


def test_the_marketing_apis_other_dialect_has_an_end_and_a_refresh() -> None:
    node = {
        "access_token": "new",
        "expires_in": 86_400,
        "refresh_token": "fresh",
        "refresh_token_expires_in": 31_536_000,
    }

    grant = business_grant(node, _NOW)

    assert grant is not None
    assert grant.expires_at == _NOW + timedelta(days=1)
    assert grant.refresh_token == Secret("fresh")
    assert grant.refresh_expires_at == _NOW + timedelta(days=365)


def test_an_account_holders_grant_names_who_agreed() -> None:
    node = {"access_token": "new", "open_id": "o-1", "scope": "user.info.basic, video.list"}

    grant = account_grant(node, _NOW)

    assert grant is not None
    assert (grant.accounts, grant.scopes) == (("o-1",), ("user.info.basic", "video.list"))


def test_tiktok_shops_times_are_points_in_time() -> None:
    node = {
        "access_token": "new",
        "access_token_expire_in": 1660556783,
        "refresh_token": "fresh",
        "refresh_token_expire_in": 4_838_377_000,
        "open_id": "o-1",
        "granted_scopes": ["seller.order.info"],
    }

    grant = tiktok_shop_grant(node)

    assert grant is not None
    assert grant.expires_at == datetime(2022, 8, 15, 9, 46, 23, tzinfo=UTC)
    assert grant.refresh_expires_at is not None
    assert grant.refresh_expires_at.year == 2123
    assert (grant.accounts, grant.scopes) == (("o-1",), ("seller.order.info",))


def test_a_refresh_of_tiktok_shop_keeps_shop_and_cipher() -> None:
    grant = tiktok_shop_grant({"access_token": "new", "open_id": "open"}, _OLD)

    assert grant is not None
    assert (grant.accounts, grant.shop_cipher) == (_OLD.accounts, _OLD.shop_cipher)


@pytest.mark.parametrize(
    "value", [None, True, False, 0, -5, 1.5, "", "soon", "1e3", [], {}, 10**30, "9" * 40]
)
def test_a_lifetime_that_is_none_is_not_known(value: object) -> None:
    of_shop = {"access_token": "new", "access_token_expire_in": value}
    relative = shopify_grant({"access_token": "new", "expires_in": value}, _NOW)
    absolute = tiktok_shop_grant(of_shop)

    assert relative == absolute == Grant(access_token=Secret("new"))


def test_a_lifetime_in_quotes_counts() -> None:
    grant = shopify_grant({"access_token": "new", "expires_in": "3600"}, _NOW)

    assert grant is not None
    assert grant.expires_at == _NOW + timedelta(hours=1)


@pytest.mark.parametrize(
    "token", [None, "", 5, True, ["t"], "a b", "a\r\nX-Evil: 1", "tökén", "t" * 8193]
)
def test_a_token_that_cannot_be_sent_is_none(token: object) -> None:
    node = {"access_token": token}

    assert shopify_grant(node, _NOW, _OLD) is None
    assert business_grant(node, _NOW, _OLD) is None
    assert account_grant(node, _NOW, _OLD) is None
    assert tiktok_shop_grant(node, _OLD) is None


@pytest.mark.parametrize("value", [None, True, 1.5, {}, [None, {}, "", [1]], 10**40])
def test_scopes_and_accounts_that_are_none_are_empty(value: object) -> None:
    node = {"access_token": "new", "scope": value, "advertiser_ids": value, "open_id": value}

    assert business_grant(node, _NOW) == Grant(access_token=Secret("new"))
    assert account_grant(node, _NOW) == Grant(access_token=Secret("new"))


def test_names_are_cut_and_cleaned() -> None:
    node = {"access_token": "new", "advertiser_ids": ["a" * 900, "b\x1b[2J"] + ["c"] * 20_000}

    grant = business_grant(node, _NOW)

    assert grant is not None
    assert grant.accounts[:2] == ("a" * 200, "b[2J")
    assert len(grant.accounts) == 10_000


def test_a_grant_prints_no_token() -> None:
    shown = repr(_OLD) + str(_OLD)

    for secret in ["old-access", "old-refresh", "cipher'", "own-secret", "signs"]:
        assert secret not in shown


def _shop(shop_id: str, region: str, name: str = "Toys") -> dict[str, Any]:
    return {
        "id": shop_id,
        "name": name,
        "region": region,
        "code": f"C{shop_id}",
        "cipher": f"cipher-{shop_id}",
        "seller_type": "LOCAL",
    }


def _shops(*nodes: dict[str, Any]) -> tuple[TikTokShop, ...]:
    found = tiktok_shops({"shops": list(nodes)})
    assert found is not None
    return found


def test_the_only_shop_is_meant_without_asking() -> None:
    [only] = shops = _shops(_shop("1", "GB"))

    assert shop_meant(shops, "") == only
    assert only.cipher == Secret("cipher-1")


@pytest.mark.parametrize("wanted", ["2", "C2", "c2", "DE", " de "])
def test_of_several_shops_the_one_asked_for_is_meant(wanted: str) -> None:
    shop = shop_meant(_shops(_shop("1", "GB"), _shop("2", "DE")), wanted)

    assert isinstance(shop, TikTokShop)
    assert shop.shop_id == "2"


@pytest.mark.parametrize("wanted", ["", "FR", "GB", "cipher-1"])
def test_where_it_is_not_clear_the_shops_are_named_with_their_ids(wanted: str) -> None:
    shops = _shops(_shop("11", "GB", "Toys"), _shop("22", "GB", "Books"))

    why = shop_meant(shops, wanted)

    assert isinstance(why, str)
    assert "Toys (GB): 11; Books (GB): 22" in why
    assert "begin again" in why
    assert "cipher-11" not in why


def test_a_shop_that_was_not_asked_for_is_not_taken_for_it() -> None:
    assert isinstance(shop_meant(_shops(_shop("1", "GB")), "2"), str)


@pytest.mark.parametrize("node", [{}, {"shops": None}, {"shops": []}])
def test_a_seller_without_a_shop_is_told_so(node: dict[str, Any]) -> None:
    shops = tiktok_shops(node)

    assert shops == ()
    assert "no TikTok Shop" in str(shop_meant(shops, ""))


@pytest.mark.parametrize(
    "listed",
    [
        "shops",
        ["shop"],
        [{}],
        [{"id": "1"}],
        [{"cipher": "c"}],
        [{"id": None, "cipher": None}],
        [{"id": "1", "cipher": "a\nb"}],
    ],
)
def test_shops_that_cannot_be_used_are_unreadable(listed: object) -> None:
    assert tiktok_shops({"shops": listed}) is None
