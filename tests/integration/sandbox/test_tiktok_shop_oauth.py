"""OAuth of the TikTok Shop simulator, by hand-written requests."""

from __future__ import annotations

import hashlib
import hmac
import json
from pathlib import Path
from typing import Any

import pytest

from sandbox.tiktok_shop.signing import signature_of
from tests.integration.sandbox.oauth_rig import SELLER, Client

GET = "/api/v2/token/get"
REFRESH = "/api/v2/token/refresh"
SHOPS = "/authorization/202309/shops"
SERVICE = "7000000000000000021"
DAY_S = 86_400


async def code_of(oauth: Client) -> str:
    _, query = await oauth.consent("/open/authorize", {"service_id": SERVICE, "state": "nonce"})
    code: str = query["code"]
    return code


async def exchanged(oauth: Client, **query: str) -> dict[str, Any]:
    asked = SELLER | {"auth_code": await code_of(oauth), "grant_type": "authorized_code"}
    status, found = await oauth.get(GET, asked | query)
    assert status == 200
    answer: dict[str, Any] = found
    return answer


async def refreshed(oauth: Client, token: str) -> dict[str, Any]:
    asked = SELLER | {"refresh_token": token, "grant_type": "refresh_token"}
    _, found = await oauth.get(REFRESH, asked)
    answer: dict[str, Any] = found
    return answer


async def shops(
    oauth: Client, token: str, *, age_s: int = 0, secret: str = SELLER["app_secret"], **more: str
) -> tuple[int, Any]:
    stamp = str(int(oauth.clock.now_s) - age_s)
    query = {"app_key": SELLER["app_key"], "timestamp": stamp} | more
    pairs = "".join(f"{key}{query[key]}" for key in sorted(query))
    text = f"{secret}{SHOPS}{pairs}{secret}"
    sign = hmac.new(secret.encode(), text.encode(), hashlib.sha256).hexdigest()
    return await oauth.get(SHOPS, query | {"sign": sign}, headers={"x-tts-access-token": token})


def test_signatures_are_those_of_the_published_vectors(corpus_dir: Path) -> None:
    file = corpus_dir / "contracts" / "tiktok-shop-signing-vectors.json"
    if not file.is_file():
        pytest.skip(f"no vectors in {file}")
    found = json.loads(file.read_text(encoding="utf-8"))["vectors"]
    requests = [one for one in found if one["kind"] == "request"]

    assert requests
    for one in requests:
        signature = signature_of(
            one["app_secret"],
            one["path"],
            one["query"],
            one["body"].encode(),
            one["content_type"],
        )
        assert (one["id"], signature) == (one["id"], one["signature"])


async def test_consent_goes_to_the_apps_own_address_with_the_state_that_came(
    oauth: Client,
) -> None:
    address, query = await oauth.consent("/open/authorize", {"service_id": SERVICE, "state": "n"})
    _, bare = await oauth.consent("/open/authorize", {"service_id": SERVICE})
    _, denied = await oauth.consent(
        "/open/authorize", {"service_id": SERVICE, "state": "n"}, "deny"
    )

    assert address == "http://127.0.0.1:8081/oauth/tiktok-shop/callback"
    assert query["state"] == "n"
    assert "state" not in bare
    assert denied == {"code": "null", "error": "auth_denied", "state": "n"}


async def test_the_app_key_is_no_service_id(oauth: Client) -> None:
    status, page = await oauth.get("/open/authorize", {"service_id": SELLER["app_key"]})

    assert status == 400
    assert "This service does not exist" in page


async def test_expiry_times_are_absolute(oauth: Client) -> None:
    data = (await exchanged(oauth))["data"]

    now_s = round(oauth.clock.now_s)
    assert data["access_token_expire_in"] == now_s + 7 * DAY_S
    assert data["refresh_token_expire_in"] == now_s + 365 * DAY_S
    assert "cipher" not in json.dumps(data)


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ({"grant_type": "authorization_code"}, 36009004),
        ({"auth_code": "made-up"}, 36004004),
        ({"app_secret": "wrong"}, 36009004),
        ({"app_key": "nobody"}, 36009004),
    ],
)
async def test_an_exchange_that_does_not_fit_is_refused(
    oauth: Client, query: dict[str, str], code: int
) -> None:
    assert (await exchanged(oauth, **query))["code"] == code


async def test_a_code_is_good_once_and_for_half_an_hour(oauth: Client) -> None:
    code = await code_of(oauth)
    first, second = [await exchanged(oauth, auth_code=code) for _ in range(2)]
    old = await code_of(oauth)
    oauth.clock.advance(1800)

    assert (first["code"], second["code"]) == (0, 36004004)
    assert (await exchanged(oauth, auth_code=old))["code"] == 36004004


async def test_tokens_are_asked_for_by_get_alone(oauth: Client) -> None:
    _, found = await oauth.post(GET, data=SELLER)

    assert found["code"] == 36009010


async def test_a_refresh_keeps_the_end_of_the_consent(oauth: Client) -> None:
    first = (await exchanged(oauth))["data"]
    oauth.clock.advance(DAY_S)
    second = (await refreshed(oauth, first["refresh_token"]))["data"]
    again = await refreshed(oauth, first["refresh_token"])

    assert second["refresh_token"] != first["refresh_token"]
    assert second["refresh_token_expire_in"] == first["refresh_token_expire_in"]
    assert again["code"] == 36004001


async def test_a_signed_call_lists_the_shops_with_their_ciphers(oauth: Client) -> None:
    token = (await exchanged(oauth))["data"]["access_token"]

    status, found = await shops(oauth, token)

    assert status == 200
    [shop] = found["data"]["shops"]
    assert set(shop) == {"id", "name", "region", "seller_type", "cipher", "code"}
    assert shop["cipher"] == "SANDBOX_cipher_1"


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"age_s": 301}, "Invalid timestamp"),
        ({"age_s": -31}, "Invalid timestamp"),
        ({"secret": "wrong"}, "Invalid signature"),
        ({"shop_cipher": "x"}, "Unexpected identifier"),
    ],
)
async def test_a_call_that_is_not_signed_well_is_refused(
    oauth: Client, wrong: dict[str, Any], message: str
) -> None:
    token = (await exchanged(oauth))["data"]["access_token"]

    _, found = await shops(oauth, token, **wrong)

    assert (found["code"], found["message"]) == (36009004, message)


@pytest.mark.parametrize("age_s", [300, -30])
async def test_the_window_of_a_signature_is_five_minutes_and_half_a_minute(
    oauth: Client, age_s: int
) -> None:
    token = (await exchanged(oauth))["data"]["access_token"]

    assert (await shops(oauth, token, age_s=age_s))[0] == 200


async def test_dead_tokens_are_told_apart_and_counted(oauth: Client) -> None:
    expired = (await exchanged(oauth))["data"]["access_token"]
    oauth.clock.advance(7 * DAY_S)
    revoked = (await exchanged(oauth))["data"]
    await oauth.post(
        "/_sandbox/oauth/revoke",
        json={"provider": "tiktok-shop", "app": SELLER["app_key"], "account": "sandbox-open-id"},
    )
    tokens = [expired, revoked["access_token"], "nobody"]
    codes = [(await shops(oauth, token))[1]["code"] for token in tokens]

    # Every grant of the seller ended, the first one's too.
    assert codes == [105001, 105001, 105001]
    assert (await refreshed(oauth, revoked["refresh_token"]))["code"] == 36004005
    assert (await oauth.oauth())["calls_dead"] == 3


async def test_an_expired_token_and_a_missing_scope_have_their_own_codes(oauth: Client) -> None:
    expired = (await exchanged(oauth))["data"]["access_token"]
    oauth.clock.advance(7 * DAY_S)
    late = await shops(oauth, expired)
    await oauth.change(provider="tiktok-shop", id=SELLER["app_key"], scopes=["seller.order.info"])
    narrow = await shops(oauth, (await exchanged(oauth))["data"]["access_token"])

    assert [late[1]["code"], narrow[1]["code"]] == [105002, 105005]


async def test_a_code_or_token_is_of_no_use_to_another_app(oauth: Client) -> None:
    other = {"app_key": "other", "app_secret": "other-secret"}
    await oauth.change(provider="tiktok-shop", id="other", secret="other-secret")
    mine = (await exchanged(oauth))["data"]
    code = await exchanged(oauth, **other)
    asked = other | {"refresh_token": mine["refresh_token"], "grant_type": "refresh_token"}
    _, refresh = await oauth.get(REFRESH, asked)
    _, called = await shops(oauth, mine["access_token"], secret="other-secret", app_key="other")

    assert [one["code"] for one in (code, refresh, called)] == [36004004, 36004001, 105001]
    assert (await refreshed(oauth, mine["refresh_token"]))["code"] == 0


HOOKS = "/event/202309/webhooks"


async def hooks(oauth: Client, token: str, method: str, body: Any = None, **more: str) -> Any:
    query = {"app_key": SELLER["app_key"], "timestamp": str(int(oauth.clock.now_s))}
    query |= {"shop_cipher": "SANDBOX_cipher_1"} | more
    query = {key: value for key, value in query.items() if value}
    data = b"" if body is None else json.dumps(body).encode()
    secret = SELLER["app_secret"]
    pairs = "".join(f"{key}{query[key]}" for key in sorted(query))
    text = f"{secret}{HOOKS}{pairs}".encode() + data + secret.encode()
    query["sign"] = hmac.new(secret.encode(), text, hashlib.sha256).hexdigest()
    headers = {"x-tts-access-token": token, "Content-Type": "application/json"}
    async with oauth.session.request(
        method, f"{oauth.url}{HOOKS}", params=query, data=data, headers=headers
    ) as answer:
        return await answer.json()


async def test_a_shops_webhook_is_put_listed_and_ended(oauth: Client) -> None:
    token = (await exchanged(oauth))["data"]["access_token"]
    wish = {"event_type": "ORDER_STATUS_CHANGE", "address": "https://hooks.example.com/x"}

    made = await hooks(oauth, token, "PUT", wish)
    listed = await hooks(oauth, token, "GET")
    ended = [await hooks(oauth, token, "DELETE", wish) for _ in range(2)]
    empty = await hooks(oauth, token, "GET")

    [one] = listed["data"]["webhooks"]
    assert made["code"] == 0
    assert one["address"] == wish["address"]
    assert one["create_time"] == int(oauth.clock.now_s * 1000)
    assert [each["code"] for each in ended] == [0, 0]
    assert empty["data"]["total_count"] == 0


@pytest.mark.parametrize(
    ("address", "code"),
    [
        ("http://hooks.example.com/x", 36009004),
        ("https://hooks.example.com:8443/x", 36009004),
        ("https://203.0.113.7/x", 36009004),
        ("https://hooks.example.com/" + "x" * 230, 36009004),
        ("http://127.0.0.1:8080/x", 0),
    ],
)
async def test_a_shops_webhook_address_is_a_domain_unless_loopback_is_allowed(
    oauth: Client, address: str, code: int
) -> None:
    token = (await exchanged(oauth))["data"]["access_token"]

    found = await hooks(oauth, token, "PUT", {"event_type": "PACKAGE_UPDATE", "address": address})

    assert found["code"] == code


async def test_a_shops_webhooks_need_the_cipher_of_an_own_shop(oauth: Client) -> None:
    token = (await exchanged(oauth))["data"]["access_token"]

    none = await hooks(oauth, token, "GET", shop_cipher="")
    foreign = await hooks(oauth, token, "GET", shop_cipher="of-another")

    assert (none["code"], foreign["code"]) == (106013, 36009004)


async def test_a_shops_webhook_can_vanish_behind_the_apps_back(oauth: Client) -> None:
    token = (await exchanged(oauth))["data"]["access_token"]
    await hooks(
        oauth, token, "PUT", {"event_type": "PACKAGE_UPDATE", "address": "https://a.example/x"}
    )

    _, ended = await oauth.post(
        "/_sandbox/tiktok-shop/webhooks/delete",
        json={"cipher": "SANDBOX_cipher_1", "event_type": "PACKAGE_UPDATE"},
    )

    assert ended == {"deleted": 1}
    assert (await hooks(oauth, token, "GET"))["data"]["total_count"] == 0
