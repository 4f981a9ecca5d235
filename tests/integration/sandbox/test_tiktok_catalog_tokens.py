"""What a token that was granted in the simulator may do with catalogs."""

from __future__ import annotations

from typing import Any

from tests.integration.sandbox.catalog_rig import IDS, ROOT
from tests.integration.sandbox.oauth_rig import CALLBACK, TIKTOK, Client
from tests.unit.sandbox_catalog.samples import product

BASE = "/open_api/v1.3/oauth2"
ASKED = {"app_id": TIKTOK["app_id"], "state": "nonce", "redirect_uri": CALLBACK}


async def granted(oauth: Client) -> str:
    _, query = await oauth.consent("/portal/auth", ASKED)
    body = TIKTOK | {"auth_code": query["auth_code"]}
    _, found = await oauth.post(f"{BASE}/access_token/", json=body)
    token: str = found["data"]["access_token"]
    return token


async def uploaded(oauth: Client, token: str) -> int:
    body: dict[str, Any] = IDS | {"products": [product()]}
    headers = {"Access-Token": token}
    _, found = await oauth.post(f"{ROOT}product/upload/", json=body, headers=headers)
    code: int = found["code"]
    return code


async def test_a_granted_token_writes_to_catalogs_until_it_is_revoked(oauth: Client) -> None:
    token = await granted(oauth)
    assert await uploaded(oauth, token) == 0

    await oauth.post(f"{BASE}/revoke_token/", json=TIKTOK | {"access_token": token})
    assert await uploaded(oauth, token) == 40105


async def test_a_token_of_a_short_life_ends(oauth: Client) -> None:
    app = {"provider": "tiktok-business", "id": TIKTOK["app_id"]}
    await oauth.change(**app, dialect="guide", access_token_s=60)
    token = await granted(oauth)
    oauth.clock.advance(60)

    assert await uploaded(oauth, token) == 40102


async def test_a_token_without_the_scope_of_catalogs_lacks_permission(oauth: Client) -> None:
    app: dict[str, Any] = {"provider": "tiktok-business", "id": TIKTOK["app_id"]}
    await oauth.change(**app, scopes=["4", "910"])
    reader = await granted(oauth)
    await oauth.change(**app, scopes=["4", "911"])
    writer = await granted(oauth)

    assert (await uploaded(oauth, reader), await uploaded(oauth, writer)) == (40125, 0)
