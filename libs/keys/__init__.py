"""Data keys of scopes, and the key-encryption keys that wrap them (ADR 6, ADR 20)."""

from libs.keys.file import LocalKek, create_kek, load_kek
from libs.keys.kek import Kek, KekRing
from libs.keys.kv import KvKeySource
from libs.keys.memory import MemoryKeySource
from libs.keys.port import KeyCache, KeyKeeper, KeySource, connection_scope
from libs.keys.rewrap import KeysStatus, Rewrapped, Rewrapper
from libs.keys.settings import KekProvider, KekSettings, open_ring

__all__ = [
    "Kek",
    "KekProvider",
    "KekRing",
    "KekSettings",
    "KeyCache",
    "KeyKeeper",
    "KeySource",
    "KeysStatus",
    "KvKeySource",
    "LocalKek",
    "MemoryKeySource",
    "Rewrapped",
    "Rewrapper",
    "connection_scope",
    "create_kek",
    "load_kek",
    "open_ring",
]
