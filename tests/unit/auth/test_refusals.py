"""Refusals told apart: whose fault it is, in the provider's own words or not at all."""

from __future__ import annotations

import pytest

from services.auth.domain import refusals
from services.auth.domain.refusals import Refusal, Step

_EXCHANGE, _REFRESH, _REVOKE = Step.EXCHANGE, Step.REFRESH, Step.REVOKE


@pytest.mark.parametrize(
    ("code", "message", "step", "refusal"),
    [
        (40110, "", _EXCHANGE, Refusal.CODE),
        (40115, "", _EXCHANGE, Refusal.CODE),
        (40101, "", _EXCHANGE, Refusal.CODE),
        (40101, "app_id and secret do not match", _EXCHANGE, Refusal.APP),
        (40101, "app_id, secret and auth_code do not match", _EXCHANGE, Refusal.CODE),
        (40101, "", _REFRESH, Refusal.APP),
        (40101, "the refresh_token is not of this app_id", _REFRESH, Refusal.GRANT),
        (40113, "", _EXCHANGE, Refusal.APP),
        (40113, "refresh_token", _REFRESH, Refusal.APP),
        (40124, "", _REFRESH, Refusal.APP),
        (40103, "", _REFRESH, Refusal.GRANT),
        (40107, "", _REFRESH, Refusal.GRANT),
        (40105, "", _REFRESH, Refusal.GRANT),
        (40105, "", _REVOKE, Refusal.GRANT),
        (40001, "", _REFRESH, Refusal.GRANT),
        (40199, "", _REFRESH, Refusal.GRANT),
        (40002, "auth_code: invalid", _EXCHANGE, Refusal.CODE),
        (40002, "secret: invalid", _EXCHANGE, Refusal.APP),
        (40002, "app_id is not an integer", _REFRESH, Refusal.APP),
        (40002, "refresh_token: invalid", _REFRESH, Refusal.GRANT),
        (40002, "", _REFRESH, Refusal.APP),
        (40002, "", _EXCHANGE, Refusal.CODE),
        (40008, "", _REFRESH, Refusal.APP),
        (40100, "", _REFRESH, Refusal.THROTTLED),
        (40016, "", _EXCHANGE, Refusal.THROTTLED),
        (40000, "Too many requests", _REFRESH, Refusal.THROTTLED),
        (50000, "", _REFRESH, Refusal.DOWN),
        (51010, "auth_code", _EXCHANGE, Refusal.DOWN),
        (60001, "", _REVOKE, Refusal.DOWN),
        (20001, "", _REFRESH, Refusal.DOWN),
        (41000, "", _REFRESH, Refusal.DOWN),
        (41001, "", _EXCHANGE, Refusal.DOWN),
    ],
)
def test_a_refusal_of_tiktok_for_business(
    code: int, message: str, step: Step, refusal: Refusal
) -> None:
    assert refusals.business(code, message, step) is refusal


@pytest.mark.parametrize(
    ("code", "message", "step", "refusal"),
    [
        (36004004, "invalid auth code", _EXCHANGE, Refusal.CODE),
        (98001005, "", _EXCHANGE, Refusal.CODE),
        (36004001, "rt has expired", _REFRESH, Refusal.GRANT),
        (36004005, "", _REFRESH, Refusal.GRANT),
        (36004005, "", _EXCHANGE, Refusal.CODE),
        (105002, "", _REFRESH, Refusal.GRANT),
        (98001004, "invalid params", _EXCHANGE, Refusal.CODE),
        (106001, "", _EXCHANGE, Refusal.APP),
        (105005, "", _EXCHANGE, Refusal.APP),
        (36009009, "", _REFRESH, Refusal.APP),
        (36009033, "", _REFRESH, Refusal.APP),
        (36009004, "Invalid app_key", _REFRESH, Refusal.APP),
        (36009004, "Invalid app secret", _EXCHANGE, Refusal.APP),
        (36009004, "Invalid auth_code", _EXCHANGE, Refusal.CODE),
        (36009004, "Invalid refresh_token", _REFRESH, Refusal.GRANT),
        (36009004, "Invalid timestamp", _REFRESH, Refusal.APP),
        (36009002, "", _REFRESH, Refusal.THROTTLED),
        (12345678, "Too many requests", _REFRESH, Refusal.THROTTLED),
        (36009003, "", _REFRESH, Refusal.DOWN),
        (36009007, "", _EXCHANGE, Refusal.DOWN),
        (12345678, "app_secret is wrong", _REFRESH, Refusal.APP),
        (12345678, "", _EXCHANGE, Refusal.CODE),
    ],
)
def test_a_refusal_of_tiktok_shop(code: int, message: str, step: Step, refusal: Refusal) -> None:
    assert refusals.tiktok_shop(code, message, step) is refusal


def test_a_code_that_nobody_has_described_condemns_no_grant_of_tiktok_shop() -> None:
    assert refusals.tiktok_shop(12345678, "", _REFRESH) is Refusal.DOWN


_USED_CODE = "The authorization code was not found or was already used"
_USED_REFRESH = "This request requires an active refresh_token"
_NO_APP = "Could not find Shopify API application with api_key"


@pytest.mark.parametrize(
    ("status", "error", "description", "step", "refusal"),
    [
        (200, "", "", _EXCHANGE, None),
        (400, "invalid_request", _USED_CODE, _EXCHANGE, Refusal.CODE),
        (400, "invalid_request", _NO_APP, _EXCHANGE, Refusal.APP),
        (400, "invalid_request", _USED_REFRESH, _REFRESH, Refusal.GRANT),
        (400, "invalid_request", "", _REFRESH, Refusal.APP),
        (400, "invalid_grant", "", _EXCHANGE, Refusal.CODE),
        (400, "invalid_grant", "", _REFRESH, Refusal.GRANT),
        (401, "invalid_grant", "", _REFRESH, Refusal.GRANT),
        (400, "invalid_subject_token", "", _EXCHANGE, Refusal.CODE),
        (401, "invalid_client", "", _EXCHANGE, Refusal.APP),
        (401, "invalid_client", "refresh_token", _REFRESH, Refusal.APP),
        (400, "application_cannot_be_found", "", _REFRESH, Refusal.APP),
        (400, "shop_not_permitted", "", _EXCHANGE, Refusal.APP),
        (400, "app_not_installed", "", _REFRESH, Refusal.GRANT),
        (429, "", "", _REFRESH, Refusal.THROTTLED),
        (429, "invalid_grant", "", _REFRESH, Refusal.THROTTLED),
        (500, "invalid_grant", "", _REFRESH, Refusal.DOWN),
        (402, "", "", _REFRESH, Refusal.DOWN),
        (423, "", "", _REFRESH, Refusal.DOWN),
        (430, "", "", _REFRESH, Refusal.DOWN),
    ],
)
def test_a_refusal_of_shopify(
    status: int, error: str, description: str, step: Step, refusal: Refusal | None
) -> None:
    assert refusals.shopify(status, error, description, step) is refusal


@pytest.mark.parametrize("status", [302, 400, 401, 403, 404, 405])
@pytest.mark.parametrize("step", list(Step))
def test_a_status_alone_condemns_neither_code_nor_grant(status: int, step: Step) -> None:
    assert refusals.of_status(status) is Refusal.APP
    assert refusals.shopify(status, "", "", step) is Refusal.APP


@pytest.mark.parametrize(
    ("status", "refusal"),
    [
        (200, None),
        (204, None),
        (408, Refusal.DOWN),
        (425, Refusal.DOWN),
        (429, Refusal.THROTTLED),
        (502, Refusal.DOWN),
        (599, Refusal.DOWN),
    ],
)
def test_a_status_says_whether_to_come_again(status: int, refusal: Refusal | None) -> None:
    assert refusals.of_status(status) is refusal
