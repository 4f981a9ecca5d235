"""`tidewire connect`: where it opens a browser by itself."""

from __future__ import annotations

import webbrowser
from collections.abc import Mapping
from typing import Any

import pytest

from cli.connect import _flown, shows_browsers
from tidewire.auth.v1 import connection_service_pb2 as pb

URL = "http://127.0.0.1:8081/connect/x"


class Stub:
    """An attempt to connect that a person has agreed to."""

    async def BeginConnection(self, *_: Any, **__: Any) -> pb.BeginConnectionResponse:  # noqa: N802
        begun = pb.BeginConnectionResponse(url=URL, flow_id="x")
        begun.expires_at.FromSeconds(4_000_000_000)
        return begun

    async def GetFlow(self, *_: Any, **__: Any) -> pb.GetFlowResponse:  # noqa: N802
        return pb.GetFlowResponse(state=pb.FLOW_STATE_CONNECTED, connection_id="example.shopify")


@pytest.mark.parametrize(
    ("platform", "environ", "shows"),
    [
        ("darwin", {}, True),
        ("win32", {}, True),
        ("linux", {}, False),
        ("linux", {"DISPLAY": ""}, False),
        ("linux", {"DISPLAY": ":0"}, True),
        ("linux", {"WAYLAND_DISPLAY": "wayland-0"}, True),
        ("linux", {"BROWSER": "w3m"}, True),
    ],
)
def test_a_browser_is_opened_where_there_is_a_window_for_it(
    *, platform: str, environ: Mapping[str, str], shows: bool
) -> None:
    assert shows_browsers(platform, environ) is shows


@pytest.mark.parametrize(("browser", "opened"), [(True, [URL]), (False, [])])
async def test_the_address_is_opened_and_shown(
    *,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    browser: bool,
    opened: list[str],
) -> None:
    found: list[str] = []
    monkeypatch.setenv("BROWSER", "anything")
    monkeypatch.setattr(webbrowser, "open", found.append)

    code = await _flown(Stub(), pb.ConnectionSpec(), pb.GRANT_FLOW_UNSPECIFIED, browser=browser)

    assert (code, found) == (0, opened)
    assert URL in capsys.readouterr().out
