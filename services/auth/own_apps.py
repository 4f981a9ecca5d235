"""An app of a store's own, between the wire and the domain."""

from __future__ import annotations

from libs.settings import Secret
from services.auth.domain.grants import App
from tidewire.auth.v1.connection_service_pb2 import ConnectionSpec, OwnApp


def app_of(message: OwnApp) -> App:
    """The app that was sent or stored."""
    former = tuple(map(Secret, message.former_secrets))
    return App(message.client_id, Secret(message.client_secret), former=former)


def own_app_of(spec: ConnectionSpec) -> App | None:
    """The app that a connection is to be made with; None: the service's own."""
    return app_of(spec.app) if spec.HasField("app") else None


def message_of(app: App) -> OwnApp:
    """The app as it is stored, sealed."""
    return OwnApp(
        client_id=app.client_id,
        client_secret=app.secret.reveal(),
        former_secrets=[secret.reveal() for secret in app.former],
    )
