from __future__ import annotations

from typing import Any

import msgspec
import pytest

from sandbox.tiktok.access import Access
from sandbox.tiktok.config import Grant, SandboxConfig
from sandbox.tiktok.judge import Call, judge
from sandbox.tiktok.verdict import Judgement
from tests.unit.sandbox.samples import (
    NOW_S,
    PIXEL,
    TOKEN,
    event,
    pixel_batch_body,
    pixel_body,
    spoiled,
    track_body,
)

EVENT_TRACK = "/open_api/v1.3/event/track/"
TOKENS = {
    TOKEN: Grant(frozenset({PIXEL})),
    "old": Grant(frozenset({PIXEL}), expires_at_s=NOW_S),
    "young": Grant(frozenset({PIXEL}), expires_at_s=NOW_S + 1),
    "other": Grant(frozenset({"C2"})),
}


def judged(
    body: object = None, *, path: str = EVENT_TRACK, token: str = TOKEN, **config: Any
) -> Judgement:
    known = SandboxConfig(tokens=TOKENS, **config)
    access = Access(known.tokens, allow_any_pixel=known.allow_any_pixel)
    sent = body if isinstance(body, bytes) else msgspec.json.encode(body or track_body())
    return judge(Call(path, token, "application/json", sent), known, access, NOW_S)


@pytest.mark.parametrize(
    ("token", "code"),
    [
        (TOKEN, 0),
        ("", 40104),
        ("unheard-of", 40105),
        (f"Bearer {TOKEN}", 40105),
        ("old", 40102),
        ("young", 0),
        ("other", 40001),
    ],
)
def test_a_token_gets_the_code_it_deserves(token: str, code: int) -> None:
    assert judged(token=token).code == code


def test_any_pixel_means_any_pixel_of_a_known_token() -> None:
    assert judged(token="other", allow_any_pixel=True).code == 0
    assert judged(token="unheard-of", allow_any_pixel=True).code == 40105


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/open_api/v1.2/event/track/", 40051),
        ("/open_api/v2.0/event/track/", 40051),
        ("/open_api/v1.3/event/track", 404),
        ("/open_api/v1.3/event/", 404),
    ],
)
def test_a_wrong_path_is_no_endpoint(path: str, code: int) -> None:
    assert judged(path=path).code == code


def test_the_version_is_a_setting() -> None:
    assert judged(path="/open_api/v1.4/event/track/", api_version="v1.4").code == 0


@pytest.mark.parametrize(
    ("name", "body"), [("pixel/track/", pixel_body()), ("pixel/batch/", pixel_batch_body())]
)
def test_the_older_endpoints_are_served_too(name: str, body: object) -> None:
    judgement = judged(body, path=f"/open_api/v1.3/{name}")

    assert judgement.code == 0
    assert judgement.event_ids == ("pur.1",)


def test_a_body_that_is_not_json_is_refused_whatever_it_holds() -> None:
    assert judged(b"event=Purchase").code == 40002


def test_a_form_is_not_json() -> None:
    access = Access(TOKENS, allow_any_pixel=False)
    body = msgspec.json.encode(track_body())
    call = Call(EVENT_TRACK, TOKEN, "application/x-www-form-urlencoded", body)

    assert judge(call, SandboxConfig(tokens=TOKENS), access, NOW_S).code == 40002


def test_the_message_names_the_index_and_the_field() -> None:
    judgement = judged(spoiled(track_body(event(), event("2")), "data.1.event_id", 7))

    assert judgement.code == 40002
    assert judgement.message == "Invalid value for data.1.event_id: not a valid string."
    assert judgement.event_ids == ("pur.1", "")


def test_the_batch_endpoint_words_it_its_own_way() -> None:
    body = spoiled(pixel_batch_body(), "batch.0.properties.contents.0.content_id", 7)

    judgement = judged(body, path="/open_api/v1.3/pixel/batch/")

    expected = "Batch.0.properties.contents.0.content_id: Not a valid string"
    assert judgement.message == expected


def test_a_message_quotes_the_value_only_under_its_switch() -> None:
    body = spoiled(track_body(), "data.0.user.email", "a@example.com")

    assert "a@example.com" not in judged(body).message
    assert "a@example.com" in judged(body, quote_values=True).message
