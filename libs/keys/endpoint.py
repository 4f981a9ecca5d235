"""Where a KEK's service may be reached: over TLS, or on this machine."""

from __future__ import annotations

from urllib.parse import urlsplit

from libs.errors import ServiceError, permanent
from libs.settings import Address


def check_endpoint(url: str, variable: str) -> None:
    """Refuses a URL by which keys or credentials would travel in clear.

    Raises:
        ServiceError: PERMANENT, `kek_settings`, which names the `variable` and not the URL.
    """
    try:
        parts = urlsplit(url)
        # A name and password would get into logs of whatever the URL passes.
        is_plain = bool(parts.hostname) and parts.username is None and parts.password is None
    except ValueError:
        is_plain = False
    if not is_plain:
        raise kek_settings(f"{variable} must be a URL such as https://host:port")
    if parts.scheme == "https":
        return
    if parts.scheme != "http" or not Address(parts.hostname or "", 0).is_loopback:
        raise kek_settings(f"{variable} must begin with https:// off this machine")


def kek_settings(message: str) -> ServiceError:
    """The error for settings that do not fit together."""
    return permanent("kek_settings", message)
