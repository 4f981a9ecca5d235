"""What goes wrong between us and any provider: told apart, sent once, and nothing secret said."""

from __future__ import annotations

import traceback
from collections.abc import AsyncIterator

import pytest

from libs.errors import Kind, ServiceError
from libs.http import classify
from libs.http.session import http_session
from services.auth.domain.grants import Family
from services.auth.ports import Provider
from tests.integration.auth.providers.bench import (
    APP,
    CODE,
    CONSENT,
    SECRETS,
    SHOP,
    Bench,
    Reply,
    shown,
    unreachable,
)

_REFRESHING = {
    Family.SHOPIFY: f"/shopify/{SHOP}/admin/oauth/access_token",
    Family.SHOPIFY_OWN: f"/shopify/{SHOP}/admin/oauth/access_token",
    Family.TIKTOK_BUSINESS: "/tiktok/open_api/v1.3/oauth2/refresh_token/",
    Family.TIKTOK_ACCOUNT: "/tiktok/open_api/v1.3/tt_user/oauth2/refresh_token/",
    Family.TIKTOK_SHOP: "/shop-auth/api/v2/token/refresh",
}
_ALL = pytest.mark.parametrize("family", list(Family))


async def _failure(bench: Bench, family: Family, reply: Reply) -> ServiceError:
    bench.reply(_REFRESHING[family], reply)
    with pytest.raises(ServiceError) as caught:
        await bench.table[family].refresh(APP, SHOP, bench.old_grant())
    return caught.value


@pytest.fixture
async def nobody() -> AsyncIterator[dict[Family, Provider]]:
    async with http_session() as session:
        yield unreachable(session)


@_ALL
@pytest.mark.parametrize(
    "reply",
    [
        Reply(b"", 503),
        Reply(b"<html>", 502),
        Reply(b"", 408),
        Reply(hang_up=True),
        Reply(b""),
        Reply(b"<html>maintenance</html>"),
        Reply(b'{"access_token": "new-acc'),
        Reply([]),
        Reply(None),
        Reply({}),
        Reply({"code": 0, "data": {}}),
        Reply({"code": 0, "data": {"access_token": None}}),
        Reply({"code": 0, "data": []}),
        Reply({"code": "0", "data": {"access_token": "new-access"}}),
        Reply(b" " * 600_000),
        Reply(b"[" * 100_000),
    ],
    ids=[
        "503",
        "502 as a page",
        "408",
        "hung up",
        "empty",
        "a page",
        "cut off",
        "a list",
        "null",
        "an empty object",
        "no token",
        "a null token",
        "data of another kind",
        "a code of another kind",
        "too long",
        "too deep",
    ],
)
async def test_no_grant_in_the_answer_may_have_been_one_all_the_same(
    providers: Bench, family: Family, reply: Reply
) -> None:
    failure = await _failure(providers, family, reply)

    assert failure.kind is Kind.RETRYABLE
    assert classify.may_have_arrived(failure)
    assert len(providers.asked) == 1


@_ALL
async def test_a_provider_that_cannot_be_reached_was_certainly_not_asked(
    providers: Bench, nobody: dict[Family, Provider], family: Family
) -> None:
    with pytest.raises(ServiceError) as caught:
        await nobody[family].refresh(APP, SHOP, providers.old_grant())

    assert caught.value.kind is Kind.RETRYABLE
    assert not classify.may_have_arrived(caught.value)


@_ALL
async def test_a_throttled_refresh_is_not_repeated_and_says_how_long_to_wait(
    providers: Bench, family: Family
) -> None:
    failure = await _failure(providers, family, Reply({}, 429, {"Retry-After": "2.0"}))

    assert (failure.kind, failure.retry_after_s) == (Kind.THROTTLED, 2.0)
    assert not classify.may_have_arrived(failure)
    assert len(providers.asked) == 1


@pytest.mark.parametrize(
    ("family", "code"),
    [
        (Family.TIKTOK_BUSINESS, 40100),
        (Family.TIKTOK_ACCOUNT, 40100),
        (Family.TIKTOK_SHOP, 36009002),
    ],
)
async def test_tiktok_throttles_under_a_200(providers: Bench, family: Family, code: int) -> None:
    failure = await _failure(providers, family, Reply({"code": code, "message": "", "data": {}}))

    assert failure.kind is Kind.THROTTLED


_QUOTING = {
    "error": "invalid_request",
    "error_description": " ".join(SECRETS),
    "code": 50000,
    "message": " ".join(SECRETS),
    "data": {"echo": list(SECRETS)},
}


@_ALL
@pytest.mark.parametrize(
    "reply",
    [
        Reply(_QUOTING),
        Reply(_QUOTING, 400),
        Reply(_QUOTING, 500),
        Reply(_QUOTING, 302, {"Location": f"https://evil.example/?{SECRETS[0]}"}),
        Reply(b" " * 600_000),
        Reply(hang_up=True),
    ],
    ids=["200", "400", "500", "302", "too long", "hung up"],
)
async def test_no_error_tells_a_secret(providers: Bench, family: Family, reply: Reply) -> None:
    provider = providers.table[family]
    errors = [await _failure(providers, family, reply)]
    for path in (
        "/tiktok/open_api/v1.3/oauth2/access_token/",
        "/tiktok/open_api/v1.3/oauth2/revoke_token/",
        "/tiktok/open_api/v1.3/tt_user/oauth2/token/",
        "/tiktok/open_api/v1.3/tt_user/oauth2/revoke/",
        "/shop-auth/api/v2/token/get",
        f"/shopify/{SHOP}/admin/api_permissions/current.json",
    ):
        providers.reply(path, reply)
    with pytest.raises(ServiceError) as at_exchange:
        await provider.exchange(APP, CONSENT, CODE)
    errors.append(at_exchange.value)
    try:
        await provider.revoke(APP, SHOP, providers.old_grant())
    except ServiceError as error:
        errors.append(error)

    text = "".join(shown(error) + "".join(traceback.format_exception(error)) for error in errors)

    assert [secret for secret in SECRETS if secret in text] == []


async def test_an_error_does_not_lead_to_the_address_that_was_called(providers: Bench) -> None:
    failure = await _failure(providers, Family.TIKTOK_SHOP, Reply(hang_up=True))

    assert (failure.__cause__, failure.__context__) == (None, None)
