"""What a sandbox is told at its start: who may call, how strict it is, how slow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from sandbox.tiktok.catalog.settings import CatalogSettings

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Grant:
    """What one access token may do."""

    pixels: frozenset[str] = frozenset()
    """Event source ids (pixel codes) that the token may report for."""

    catalogs: frozenset[str] = frozenset()
    """Catalogs that the token may touch; `*` for all."""

    expires_at_s: float | None = None
    """Unix seconds from which the token answers 40102; None for a token that does not expire."""


@dataclass(frozen=True, slots=True)
class Rules:
    """How strict the validators are; the defaults are what a careful sender always passes.

    Where TikTok's own sources disagree, the default is the stricter reading and a switch opens it.
    """

    require_page_url: bool = True
    """A web event without a page url is refused. The reference says so; its own sample omits it."""

    require_event_id: bool = True
    """An event without an id is refused: it could not be matched with the browser's copy."""

    refuse_empty: bool = True
    """`""`, null, `{}` and `[]` are refused as sloppy; off, they count as absent."""

    accept_guide_lists: bool = False
    """1.0 web events may carry `emails` and `phone_numbers`, which TikTok knows offline only."""

    accept_empty_hash: bool = False
    """The SHA-256 of nothing is taken for a hash. The guide's sample has it for its phone."""

    accept_plain_external_id: bool = False
    """external_id may be any text. The guide's sample has 32 hex digits, others send it clear."""

    allow_private_ip: bool = False
    """Loopback, private and unspecified addresses pass as a visitor's."""

    allow_app_source: bool = False
    """`event_source: app`, which TikTok opens by allow-list only."""

    partner_names: frozenset[str] = frozenset()
    """The partner names that TikTok handed out; any other is 40063."""

    event_time_min_s: int = 1_577_836_800
    """Oldest event time, Unix seconds: the start of 2020. No source shows TikTok's own bound."""

    event_time_ahead_s: int = 86_400
    """How far ahead of the sandbox's clock an event may lie; a day of clock error is plenty."""


GUIDE_RULES = Rules(accept_guide_lists=True, accept_empty_hash=True, accept_plain_external_id=True)
"""The switches under which the integration guide's sample payload is accepted as printed."""


@dataclass(frozen=True, slots=True)
class SandboxConfig:
    """Everything that one TikTok sandbox needs to know."""

    tokens: Mapping[str, Grant] = field(default_factory=dict, repr=False)
    """Access tokens that are known, and what each may do."""

    allow_any_pixel: bool = False
    """A known token may report for any pixel."""

    allow_any_catalog: bool = False
    """A known token may touch any catalog."""

    catalogs: Mapping[str, CatalogSettings] = field(default_factory=dict)
    """Catalogs that exist from the start, by id."""

    catalog_defaults: CatalogSettings = field(default_factory=CatalogSettings)
    """Of the catalogs that come to be later."""

    create_catalogs: bool = True
    """A catalog that a token may touch and that does not exist comes to be on first use."""

    api_version: str = "v1.3"
    """The only version in the path that is served; others answer 40051."""

    rules: Rules = field(default_factory=Rules)

    base_latency_ms: float = 0.0
    """Added to every answer, faults or not."""

    limit_requests_per_s: int | None = None
    """Requests of one token in any second; above it 40100. TikTok's own figure is 1,000."""

    quote_values: bool = False
    """40002 quotes the offending value, as TikTok may: a caller must not log it raw."""

    body_max_bytes: int = 8 * MIB
    """Largest request body, after gzip."""

    events_listed_max: int = 1_000_000
    """Events that the full ledger lists; beyond it they are counted only."""

    seed: int = 0
    """Of the faults' probabilities and latencies."""
