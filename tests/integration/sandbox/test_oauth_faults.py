"""Faults of the token endpoints, the apps' configuration and the judge's counts."""

from __future__ import annotations

import hashlib
from typing import Any

import aiohttp
import pytest

from tests.integration.sandbox.oauth_rig import JSON, SHOP, SHOPIFY, Client

PATIENCE = aiohttp.ClientTimeout(total=0.15)
TOKEN_PATH = f"/shopify/{SHOP}/admin/oauth/access_token"


async def strict(oauth: Client) -> dict[str, Any]:
    await oauth.change(provider="shopify", id="sandbox-shopify-app", rotation="strict")
    return await oauth.installed()


async def test_accepted_then_timeout_rotates_upstream_and_says_nothing(oauth: Client) -> None:
    pair = await strict(oauth)
    await oauth.fault(
        match={"provider": "shopify", "endpoint": "refresh"},
        times=1,
        effect={"kind": "accept_then_timeout"},
    )
    form = SHOPIFY | {"grant_type": "refresh_token", "refresh_token": pair["refresh_token"]}

    with pytest.raises(TimeoutError):
        await oauth.post(TOKEN_PATH, data=form, headers=JSON, timeout=PATIENCE)

    assert (await oauth.refreshed(pair["refresh_token"]))[0] == 401
    found = await oauth.oauth()
    assert (found["answers_lost"], found["refreshes"], found["grants_lost"]) == (1, 1, 1)


@pytest.mark.parametrize(
    "effect",
    [
        {"kind": "accept_then_reset"},
        {"kind": "http_status", "status": 520, "accepted": True},
        {"kind": "truncate", "keep": 0.3},
        {"kind": "malformed", "accepted": True},
    ],
)
async def test_an_answer_that_goes_wrong_after_the_work_leaves_it_done(
    oauth: Client, effect: dict[str, Any]
) -> None:
    pair = await strict(oauth)
    await oauth.fault(times=1, effect=effect)

    try:
        status, body = await oauth.refreshed(pair["refresh_token"])
    except aiohttp.ClientError:
        status, body = 0, None

    assert not (status == 200 and isinstance(body, dict))
    assert (await oauth.refreshed(pair["refresh_token"]))[0] == 401


@pytest.mark.parametrize(
    "effect",
    [
        {"kind": "reset"},
        {"kind": "http_status", "status": 503, "retry_after_s": 1},
        {"kind": "malformed"},
        {"kind": "answer", "status": 429, "body": {"error": "throttled"}},
    ],
)
async def test_a_fault_before_the_work_leaves_the_refresh_token_live(
    oauth: Client, effect: dict[str, Any]
) -> None:
    pair = await strict(oauth)
    await oauth.fault(times=1, effect=effect)

    try:
        status, body = await oauth.refreshed(pair["refresh_token"])
    except aiohttp.ClientError:
        status, body = 0, None

    assert not (status == 200 and isinstance(body, dict))
    assert (await oauth.refreshed(pair["refresh_token"]))[0] == 200
    assert (await oauth.oauth())["answers_lost"] == 0


async def test_latency_is_spent_between_the_work_and_the_answer(oauth: Client) -> None:
    pair = await strict(oauth)
    await oauth.fault(times=1, latency_ms=2000)
    before_s = oauth.clock.now_s

    await oauth.refreshed(pair["refresh_token"])

    assert oauth.clock.slept_s == [2.0]
    _, found = await oauth.get("/_sandbox/oauth/ledger?full=1")
    assert found["requests"][-1]["at_s"] == before_s


async def test_a_fault_strikes_what_it_names_and_wears_off(oauth: Client) -> None:
    pair = await strict(oauth)
    down = {"kind": "http_status", "status": 503}
    await oauth.fault(match={"provider": "tiktok-shop"}, effect=down)
    await oauth.fault(match={"account": "other.myshopify.com"}, effect=down)
    await oauth.fault(match={"endpoint": "refresh", "account": SHOP}, times=1, effect=down)

    answers = [await oauth.refreshed(pair["refresh_token"]) for _ in range(2)]

    _, faults = await oauth.get("/_sandbox/oauth/faults")
    assert [status for status, _ in answers] == [503, 200]
    assert [(one["hits"], one["spent"]) for one in faults] == [(0, False), (0, False), (1, True)]


async def test_refreshes_are_counted_by_the_token_that_was_sent(oauth: Client) -> None:
    pair = await oauth.installed()
    for _ in range(3):
        await oauth.refreshed(pair["refresh_token"])

    [line] = (await oauth.oauth())["connections"]
    name = hashlib.sha256(pair["refresh_token"].encode()).hexdigest()[:32]
    assert line["refreshes_by_token"] == {name: 3}
    assert (line["provider"], line["account"], line["exchanges"]) == ("shopify", SHOP, 1)


async def test_no_ledger_shows_a_token_or_a_secret(oauth: Client) -> None:
    pair = await oauth.installed()
    await oauth.refreshed(pair["refresh_token"])

    shown = f"{await oauth.get('/_sandbox/oauth/ledger?full=1')}{await oauth.oauth()}"

    for secret in (pair["refresh_token"], pair["access_token"], SHOPIFY["client_secret"]):
        assert secret not in shown


async def test_an_app_keeps_the_fields_that_are_not_sent(oauth: Client) -> None:
    await oauth.change(provider="shopify", id="sandbox-shopify-app", rotation="strict")
    await oauth.change(provider="shopify", id="sandbox-shopify-app", access_token_s=2)

    _, apps = await oauth.get("/_sandbox/apps")
    [app] = [one for one in apps if one["provider"] == "shopify"]
    assert (app["rotation"], app["access_token_s"]) == ("strict", 2)
    assert app["secret"] == SHOPIFY["client_secret"]


@pytest.mark.parametrize(
    "app",
    [
        {"provider": "shopify", "id": "new"},
        {"provider": "elsewhere", "id": "x", "secret": "y"},
        {"provider": "shopify", "id": "x", "secret": "y", "unknown": 1},
        {"provider": "shopify", "id": "x", "secret": "y", "access_token_s": 0},
    ],
)
async def test_an_app_that_cannot_be_read_changes_nothing(
    oauth: Client, app: dict[str, Any]
) -> None:
    good = {"provider": "shopify", "id": "sandbox-shopify-app", "rotation": "strict"}

    status, _ = await oauth.post("/_sandbox/apps", json=[good, app])

    _, apps = await oauth.get("/_sandbox/apps")
    assert status == 400
    assert [one["rotation"] for one in apps] == [None] * 4


async def test_tokens_can_be_ended_by_hand(oauth: Client) -> None:
    pair = await oauth.installed()
    subject = {"provider": "shopify", "app": SHOPIFY["client_id"], "account": SHOP}

    _, ended = await oauth.post("/_sandbox/oauth/expire", json=subject)

    assert ended == {"expired": 1}
    assert (await oauth.admin(pair["access_token"], "{ shop { id } }"))[0] == 401
    assert (await oauth.refreshed(pair["refresh_token"]))[0] == 200


async def test_a_reset_forgets_the_counts_and_keeps_the_tokens(oauth: Client) -> None:
    pair = await oauth.installed()

    _, emptied = await oauth.delete("/_sandbox/ledger")

    assert emptied["oauth"]["exchanges"] == 0
    assert (await oauth.refreshed(pair["refresh_token"]))[0] == 200
