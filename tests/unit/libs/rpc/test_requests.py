from __future__ import annotations

import pytest
from google.protobuf.message import Message

from libs.rpc.requests import named_in
from tidewire.auth.v1 import connection_service_pb2, token_service_pb2
from tidewire.connections.v1 import connection_pb2
from tidewire.delivery.v1 import dead_letter_service_pb2, gate_service_pb2


@pytest.mark.parametrize(
    ("request_", "connection_ids", "shops"),
    [
        (token_service_pb2.GetTokenRequest(connection_id="a.shopify"), ["a.shopify"], []),
        (
            token_service_pb2.BatchGetTokensRequest(connection_ids=["a.shopify", "b.shopify"]),
            ["a.shopify", "b.shopify"],
            [],
        ),
        (token_service_pb2.GetDataKeyRequest(shop="a"), [], ["a"]),
        (token_service_pb2.WatchTokensRequest(), [], []),
        (
            gate_service_pb2.PauseRequest(
                target=gate_service_pb2.GateTarget(connection_id="a.events.C1")
            ),
            ["a.events.C1"],
            [],
        ),
        (
            connection_service_pb2.BeginConnectionRequest(
                spec=connection_service_pb2.ConnectionSpec(shop="a.myshopify.com")
            ),
            [],
            ["a.myshopify.com"],
        ),
        (
            connection_service_pb2.UpdateSettingsRequest(
                connection=connection_pb2.Connection(connection_id="a.shopify", shop="a")
            ),
            ["a.shopify"],
            ["a"],
        ),
        (
            dead_letter_service_pb2.ReplayRequest(
                selection=dead_letter_service_pb2.DeadLetterSelection(
                    filter=dead_letter_service_pb2.DeadLetterFilter(shop="a")
                )
            ),
            [],
            ["a"],
        ),
        (connection_service_pb2.ListConnectionsRequest(), [], []),
    ],
)
def test_a_request_names_its_connections_and_shops(
    request_: Message, connection_ids: list[str], shops: list[str]
) -> None:
    found = named_in(request_)

    assert (list(found.connection_ids), list(found.shops)) == (connection_ids, shops)


def test_what_is_no_message_names_nothing() -> None:
    assert named_in(b"bytes") == ((), ())
