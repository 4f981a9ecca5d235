"""The token service as those see it who are given tokens, keys and settings by it."""

from libs.auth.keys import RemoteKeySource
from libs.auth.remote import RemoteConnections
from libs.auth.tokens import TokenCache

__all__ = ["RemoteConnections", "RemoteKeySource", "TokenCache"]
