"""What a connection is by its description, and which changes of it are good; no IO."""

from __future__ import annotations

from typing import Final

from google.protobuf.field_mask_pb2 import FieldMask

from libs.connections import names
from libs.connections.checks import faults
from libs.connections.ports import ShopView
from libs.errors import permanent
from services.auth.domain.flows import family_of
from services.auth.domain.grants import Family, Grant
from tidewire.auth.v1.connection_service_pb2 import ConnectionSpec, GrantFlow
from tidewire.connections.v1 import connection_pb2
from tidewire.connections.v1.connection_pb2 import (
    CONNECTION_KIND_SHOPIFY,
    Connection,
    ConnectionKind,
)

SETTINGS_UNFIT: Final = "settings_unfit"
SHOP_NOT_CONNECTED: Final = "shop_not_connected"

_PLACES: Final = ("country", "currency")
_SHOWN_CHARS_MAX: Final = 80
_CHANGEABLE: Final = frozenset({*_PLACES, "active_since"})
_SETTINGS: Final = ("shopify", "tiktok_events", "tiktok_catalog", "tiktok_shop")
_FIXED: Final = frozenset({"tiktok_events.pixel_code", "tiktok_catalog.catalog_id"})
"""They are the connection's identity: another pixel is another connection."""
_NEEDED: Final = frozenset({"tiktok_events", "tiktok_catalog"})
"""Kinds that mean nothing without their settings: which pixel, which catalog."""


def connection_of(
    spec: ConnectionSpec, grant: Grant, shop: ShopView | None, now_ns: int
) -> Connection:
    """The connection that is described; `shop` is the one it belongs to, where that is known.

    Raises:
        ServiceError: PERMANENT, SHOP_NOT_CONNECTED or SETTINGS_UNFIT.
    """
    if shop is None and spec.kind != CONNECTION_KIND_SHOPIFY:
        raise permanent(
            SHOP_NOT_CONNECTED,
            f"connect the store first: `tidewire connect shopify --shop {spec.shop}`",
            path="spec.shop",
        )
    settings = spec.WhichOneof("settings")
    _refuse_other_settings(spec, settings, grant)
    connection = Connection(
        connection_id=id_of(spec, grant),
        shop=spec.shop,
        kind=spec.kind,
        country=spec.country,
        currency=spec.currency,
    )
    if spec.HasField("active_since"):
        connection.active_since.CopyFrom(spec.active_since)
    elif shop is not None:
        connection.active_since.FromDatetime(shop.active_since)
    else:
        connection.active_since.FromNanoseconds(now_ns)
    if settings is not None:
        getattr(connection, settings).CopyFrom(getattr(spec, settings))
    elif spec.kind == CONNECTION_KIND_SHOPIFY:
        connection.shopify.SetInParent()
    refuse_unfit(connection)
    return connection


def _refuse_other_settings(spec: ConnectionSpec, settings: str | None, grant: Grant) -> None:
    kind = _kind(spec.kind)
    if settings not in {None, kind} or (settings is None and kind in _NEEDED):
        raise permanent(
            SETTINGS_UNFIT, f"a connection of kind {kind} needs its own settings", path="spec"
        )
    if kind == "tiktok_shop" and not grant.shop_cipher:
        raise permanent(SETTINGS_UNFIT, "give the TikTok Shop's cipher", path="shop_cipher")


def _merge_named(connection: Connection, into: Connection) -> None:
    """Takes over what `connection` says beyond defaults; when it began stays as it was."""
    into.country = connection.country or into.country
    into.currency = connection.currency or into.currency
    settings = connection.WhichOneof("settings")
    if settings is None:
        return
    said, known = getattr(connection, settings), getattr(into, settings)
    for field, _ in said.ListFields():
        # Merging appends to lists and maps, and what was named is all that is meant.
        known.ClearField(field.name)
    known.MergeFrom(said)


def merged(connection: Connection, known: Connection) -> Connection:
    """What becomes of a connection that is connected again.

    Raises:
        ServiceError: PERMANENT, SETTINGS_UNFIT, where old and new do not go together.
    """
    new = Connection()
    new.CopyFrom(known)
    _merge_named(connection, new)
    refuse_unfit(new)
    return new


def refuse_placeless(connection: Connection, grant: Grant, known: ShopView | None) -> None:
    """Refuses a store that cannot be asked where it is, and of which nobody says so.

    Raises:
        ServiceError: PERMANENT, SETTINGS_UNFIT.
    """
    country = connection.country or (known.country if known is not None else "")
    currency = connection.currency or (known.currency if known is not None else "")
    if not grant.access_token and not (country and currency):
        raise permanent(
            SETTINGS_UNFIT,
            "without a token the store cannot be asked: give its country and currency",
            path="spec.country",
        )


def changed_by(known: Connection, wanted: Connection, mask: FieldMask) -> Connection:
    """`known` with what `mask` names taken from `wanted`.

    Raises:
        ServiceError: PERMANENT, SETTINGS_UNFIT.
    """
    new, source = Connection(), Connection()
    new.CopyFrom(known)
    source.CopyFrom(wanted)
    settings = known.WhichOneof("settings")
    if settings is not None:
        # What is named and not given is to be as if it were never set.
        getattr(source, settings).SetInParent()
    mask.MergeMessage(source, new, replace_message_field=True, replace_repeated_field=True)
    for name in mask.paths:
        emptied = (name in _PLACES and not getattr(new, name)) or (
            name == "active_since" and not new.HasField("active_since")
        )
        if emptied:
            raise permanent(SETTINGS_UNFIT, f"{name} cannot be taken away", path=name)
    refuse_unfit(new)
    return new


def refuse_paths(known: Connection, mask: FieldMask) -> None:
    """Refuses a mask that names nothing, or what is not to be changed.

    Raises:
        ServiceError: PERMANENT, SETTINGS_UNFIT.
    """
    own = known.WhichOneof("settings")
    bad = [path for path in mask.paths if not _is_changeable(path, own)]
    if bad or not mask.paths:
        named = f"{bad[0][:_SHOWN_CHARS_MAX]!r} cannot be changed here: " if bad else ""
        raise permanent(
            SETTINGS_UNFIT,
            f"{named}name fields of {own}, or " + ", ".join(sorted(_CHANGEABLE)),
            path="update_mask",
        )


def _is_changeable(path: str, own: str | None) -> bool:
    if path in _CHANGEABLE:
        return True
    head, dot, _ = path.partition(".")
    if head not in _SETTINGS or head != own or not dot or path in _FIXED:
        return False
    return FieldMask(paths=[path]).IsValidForDescriptor(Connection.DESCRIPTOR)


def refuse_unfit(connection: Connection) -> None:
    """Refuses settings with faults, each one named.

    Raises:
        ServiceError: PERMANENT, SETTINGS_UNFIT.
    """
    found = faults(connection)
    if found:
        every = "; ".join(f"{fault.path}: {fault.why}" for fault in found)
        raise permanent(SETTINGS_UNFIT, every, path=found[0].path)


def family_by(kind: ConnectionKind.ValueType, flow: GrantFlow.ValueType) -> Family:
    """The family of a grant of a kind of connection.

    Raises:
        ServiceError: PERMANENT, SETTINGS_UNFIT, where they do not go together.
    """
    name = _kind(kind)
    by = GrantFlow.Name(flow).removeprefix("GRANT_FLOW_").lower()
    family = family_of(name, by)
    if family is None:
        raise permanent(SETTINGS_UNFIT, f"{name} knows no {by}", path="flow")
    return family


def id_of(spec: ConnectionSpec, grant: Grant) -> str:
    """The id that a connection has."""
    match spec.kind:
        case connection_pb2.CONNECTION_KIND_SHOPIFY:
            return names.shopify_id(spec.shop)
        case connection_pb2.CONNECTION_KIND_TIKTOK_EVENTS:
            return names.events_id(spec.shop, spec.tiktok_events.pixel_code)
        case connection_pb2.CONNECTION_KIND_TIKTOK_CATALOG:
            return names.catalog_id(spec.shop, spec.tiktok_catalog.catalog_id)
        case _:
            cipher = grant.shop_cipher.reveal() if grant.shop_cipher else ""
            return names.tiktok_shop_id(spec.shop, cipher)


def _kind(kind: ConnectionKind.ValueType) -> str:
    return ConnectionKind.Name(kind).removeprefix("CONNECTION_KIND_").lower()
