"""OAuth of the TikTok simulator: advertisers and account holders, by hand-written requests."""

from __future__ import annotations

from typing import Any

import pytest

from tests.integration.sandbox.oauth_rig import ACCOUNT, CALLBACK, TIKTOK, Client
from tests.unit.sandbox.samples import PIXEL, TOKEN, event, track_body

BASE = "/open_api/v1.3/oauth2"
USER = "/open_api/v1.3/tt_user/oauth2"
DAY_S = 86_400
ASKED = {"app_id": TIKTOK["app_id"], "state": "nonce", "redirect_uri": CALLBACK}


async def code_of(oauth: Client) -> str:
    _, query = await oauth.consent("/portal/auth", ASKED)
    code: str = query["auth_code"]
    return code


async def called(oauth: Client, path: str, body: dict[str, Any]) -> dict[str, Any]:
    status, found = await oauth.post(path, json=body)
    assert status == 200
    answer: dict[str, Any] = found
    return answer


async def exchanged(oauth: Client, **fields: Any) -> dict[str, Any]:
    fields = {"auth_code": await code_of(oauth)} | fields
    return await called(oauth, f"{BASE}/access_token/", TIKTOK | fields)


async def reported(oauth: Client, token: str) -> int:
    """The code that the Events API answers to a good event."""
    body = track_body(event("1"))
    _, found = await oauth.post(
        "/open_api/v1.3/event/track/", json=body, headers={"Access-Token": token}
    )
    code: int = found["code"]
    return code


async def guide(oauth: Client, **fields: Any) -> dict[str, Any]:
    """A pair of the guide's kind."""
    app = {"provider": "tiktok-business", "id": TIKTOK["app_id"], "dialect": "guide"}
    await oauth.change(**app | fields)
    pair: dict[str, Any] = (await exchanged(oauth))["data"]
    return pair


async def refreshed(oauth: Client, token: str) -> dict[str, Any]:
    fields = TIKTOK | {"refresh_token": token, "grant_type": "refresh_token"}
    return await called(oauth, f"{BASE}/refresh_token/", fields)


async def test_consent_comes_back_with_auth_code_and_code(oauth: Client) -> None:
    address, query = await oauth.consent("/portal/auth", ASKED)

    assert address == CALLBACK
    assert query["state"] == "nonce"
    assert query["auth_code"] == query["code"]


@pytest.mark.parametrize("wrong", [{"app_id": "1"}, {"redirect_uri": "https://evil.example/"}])
async def test_a_wrong_authorization_gives_no_redirect(
    oauth: Client, wrong: dict[str, str]
) -> None:
    status, _ = await oauth.get("/portal/auth", ASKED | wrong)
    posted, _ = await oauth.post("/portal/auth", data=ASKED | wrong | {"decision": "allow"})

    assert (status, posted) == (400, 400)


async def test_a_long_lived_token_has_no_end_and_no_refresh_token(oauth: Client) -> None:
    answer = await exchanged(oauth, return_advertiser_ids=True)
    oauth.clock.advance(400 * DAY_S)
    late = await reported(oauth, answer["data"]["access_token"])

    assert (answer["code"], late) == (0, 0)
    assert set(answer["data"]) == {"access_token", "advertiser_ids", "scope"}
    assert max(answer["data"]["scope"]) > 2**53
    assert all(isinstance(one, str) for one in answer["data"]["advertiser_ids"])


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"secret": "wrong"}, 40101),
        ({"app_id": "1"}, 40113),
        ({"auth_code": "made-up"}, 40110),
        ({"auth_code": ""}, 40002),
        ({"app_id": 7000000000000000001}, 40002),
        ({"grant_type": "password"}, 40108),
    ],
)
async def test_an_exchange_names_what_is_wrong_under_http_200(
    oauth: Client, fields: dict[str, Any], code: int
) -> None:
    assert (await exchanged(oauth, **fields))["code"] == code


async def test_a_code_is_good_once_and_for_an_hour(oauth: Client) -> None:
    code = await code_of(oauth)
    first = await exchanged(oauth, auth_code=code)
    second = await exchanged(oauth, auth_code=code)
    old = await code_of(oauth)
    oauth.clock.advance(3600)
    late = await exchanged(oauth, auth_code=old)

    assert [one["code"] for one in (first, second, late)] == [0, 40110, 40110]


async def test_a_form_is_not_json(oauth: Client) -> None:
    _, found = await oauth.post(f"{BASE}/access_token/", data=TIKTOK)

    assert found["code"] == 40002


async def test_without_the_trailing_slash_there_is_nothing(oauth: Client) -> None:
    assert (await oauth.post(f"{BASE}/access_token", json=TIKTOK))[0] == 404


async def test_a_long_term_token_cannot_be_refreshed(oauth: Client) -> None:
    await exchanged(oauth)

    assert (await refreshed(oauth, "anything"))["code"] == 40107


async def test_the_guides_pair_lasts_a_day_and_a_year_and_rotates(oauth: Client) -> None:
    first = await guide(oauth)
    second = (await refreshed(oauth, first["refresh_token"]))["data"]
    again = await refreshed(oauth, first["refresh_token"])
    oauth.clock.advance(DAY_S)

    assert (first["expires_in"], first["refresh_token_expires_in"]) == (DAY_S, 365 * DAY_S)
    assert second["refresh_token"] != first["refresh_token"]
    assert again["code"] == 40107
    assert await reported(oauth, second["access_token"]) == 40102
    assert (await refreshed(oauth, second["refresh_token"]))["code"] == 0


async def test_a_refresh_token_ends_after_its_year(oauth: Client) -> None:
    pair = await guide(oauth)
    oauth.clock.advance(365 * DAY_S)

    assert (await refreshed(oauth, pair["refresh_token"]))["code"] == 40103


async def test_a_refresh_token_that_is_kept_is_given_out_again(oauth: Client) -> None:
    pair = await guide(oauth, rotation="keep")

    answers = [await refreshed(oauth, pair["refresh_token"]) for _ in range(2)]

    assert [one["data"]["refresh_token"] for one in answers] == [pair["refresh_token"]] * 2


async def test_dead_tokens_are_told_apart_and_counted(oauth: Client) -> None:
    await oauth.change(provider="tiktok-business", id=TIKTOK["app_id"], access_token_s=2)
    expired = (await exchanged(oauth))["data"]["access_token"]
    live = await reported(oauth, expired)
    oauth.clock.advance(2)
    revoked = (await exchanged(oauth))["data"]["access_token"]
    ended = await called(oauth, f"{BASE}/revoke_token/", TIKTOK | {"access_token": revoked})
    codes = [await reported(oauth, token) for token in (expired, revoked, "nobody", TOKEN)]

    assert (live, ended["code"], codes) == (0, 0, [40102, 40105, 40105, 0])
    assert ended["data"]["app_id"] == TIKTOK["app_id"]
    found = await oauth.oauth()
    assert found["calls_dead"] == 3
    dead: dict[str, int] = {}
    for line in found["connections"]:
        dead |= line["calls_dead"]
    assert dead == {"expired": 1, "revoked": 1, "unknown": 1}


async def test_a_token_reports_for_the_pixels_of_its_app_alone(oauth: Client) -> None:
    await oauth.change(provider="tiktok-business", id=TIKTOK["app_id"], pixels=["C-OTHER"])
    foreign = (await exchanged(oauth))["data"]["access_token"]
    await oauth.change(provider="tiktok-business", id=TIKTOK["app_id"], pixels=[PIXEL])
    own = (await exchanged(oauth))["data"]["access_token"]

    assert [await reported(oauth, token) for token in (foreign, own)] == [40001, 0]


async def test_the_advertisers_are_those_of_the_token(oauth: Client) -> None:
    token = (await exchanged(oauth))["data"]["access_token"]
    path = f"{BASE}/advertiser/get/"

    _, found = await oauth.get(path, TIKTOK, headers={"Access-Token": token})
    _, none = await oauth.get(path, TIKTOK)
    _, bad = await oauth.get(path, TIKTOK | {"secret": "x"}, headers={"Access-Token": token})

    ids = [one["advertiser_id"] for one in found["data"]["list"]]
    assert ids == ["7000000000000000011", "7000000000000000012"]
    assert (none["code"], bad["code"]) == (40104, 40101)


async def account_code(oauth: Client) -> str:
    asked = {
        "client_key": ACCOUNT["client_id"],
        "scope": "video.list",
        "response_type": "code",
        "redirect_uri": CALLBACK,
        "state": "nonce",
    }
    _, query = await oauth.consent("/v2/auth/authorize/", asked)
    code: str = query["code"]
    return code


async def account_exchanged(oauth: Client, **fields: str) -> dict[str, Any]:
    body = ACCOUNT | {
        "grant_type": "authorization_code",
        "auth_code": await account_code(oauth),
        "redirect_uri": CALLBACK,
    }
    return await called(oauth, f"{USER}/token/", body | fields)


async def test_an_account_holders_pair_rotates_and_can_be_revoked(oauth: Client) -> None:
    first = (await account_exchanged(oauth))["data"]
    body = ACCOUNT | {"grant_type": "refresh_token", "refresh_token": first["refresh_token"]}
    second = (await called(oauth, f"{USER}/refresh_token/", body))["data"]
    again = await called(oauth, f"{USER}/refresh_token/", body)
    end = ACCOUNT | {"access_token": second["access_token"]}
    ended = await called(oauth, f"{USER}/revoke/", end)
    dead = await called(
        oauth, f"{USER}/refresh_token/", body | {"refresh_token": second["refresh_token"]}
    )

    assert (first["expires_in"], first["refresh_token_expires_in"]) == (DAY_S, 365 * DAY_S)
    assert (first["open_id"], first["scope"]) == ("sandbox-account-open-id", "video.list")
    assert (again["code"], ended["code"], dead["code"]) == (40107, 0, 40107)


async def test_an_account_holders_exchange_names_the_same_redirect_uri(oauth: Client) -> None:
    assert (await account_exchanged(oauth, redirect_uri="http://127.0.0.1:2/x"))["code"] == 40002


async def test_the_two_kinds_of_codes_and_tokens_do_not_mix(oauth: Client) -> None:
    business = await exchanged(oauth, auth_code=await account_code(oauth))
    account = (await account_exchanged(oauth))["data"]["access_token"]

    assert business["code"] == 40115
    assert await reported(oauth, account) == 40105


async def test_a_code_or_refresh_token_is_of_no_use_to_another_app(oauth: Client) -> None:
    other = {"app_id": "8", "secret": "other"}
    await oauth.change(provider="tiktok-business", id="8", secret="other", dialect="guide")
    pair = await guide(oauth)
    code = await exchanged(oauth, **other)
    refresh = other | {"refresh_token": pair["refresh_token"]}
    token = await called(oauth, f"{BASE}/refresh_token/", refresh)
    end = await called(
        oauth, f"{BASE}/revoke_token/", other | {"access_token": pair["access_token"]}
    )

    assert [code["code"], token["code"], end["code"]] == [40110, 40107, 40105]
    assert (await refreshed(oauth, pair["refresh_token"]))["code"] == 0
