"""Every knob of the catalog service."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from libs.foundation import CommonSettings
from libs.settings import Address, env


@dataclass(frozen=True, kw_only=True)
class Settings(CommonSettings):
    """Read once, from `TIDEWIRE_…`."""

    grpc_address: Address = env(
        "CATALOG_GRPC_ADDRESS", "CatalogService", default=Address("127.0.0.1", 9085)
    )
    metrics_address: Address = env(
        "CATALOG_METRICS_ADDRESS", "/livez /readyz /metrics", default=Address("127.0.0.1", 9185)
    )
    tiktok_api_base_url: str = env(
        "TIKTOK_API_BASE_URL", "TikTok for Business", default="https://business-api.tiktok.com"
    )
    tiktok_api_version: str = env("TIKTOK_API_VERSION", "version in the path", default="v1.3")
    tiktok_timeout_s: float = env(
        "CATALOG_TIKTOK_TIMEOUT_S",
        "seconds until a request to TikTok's catalog is given up; an upload holds 5,000 items",
        default=60.0,
        least=1,
    )
    shopify_base_url: str = env(
        "SHOPIFY_BASE_URL",
        "Shopify's Admin API; `{shop}` stands for a shop's domain",
        default="https://{shop}",
    )
    shopify_api_version: str = env(
        "SHOPIFY_API_VERSION",
        "version of the Admin API where a connection names none",
        default="2026-10",
    )
    settle_s: float = env(
        "CATALOG_SETTLE_S",
        "seconds that changes of a catalog gather before they are sent, unless they change whether"
        " something can be had",
        default=1.0,
        least=0,
        most=60,
    )
    log_poll_s: float = env(
        "CATALOG_LOG_POLL_S",
        "seconds until a feed log is first looked at; later looks are further apart",
        default=1.0,
        least=0.01,
        most=60,
    )
    log_patience_s: float = env(
        "CATALOG_LOG_PATIENCE_S",
        "seconds until a feed log that has not ended is given up and its items are sent again",
        default=1800.0,
        least=1,
    )
    review_every_s: float = env(
        "CATALOG_REVIEW_EVERY_S",
        "seconds between two looks at what TikTok's review says of accepted items; 0: never",
        default=300.0,
        least=0,
    )
    full_every_days: float = env(
        "CATALOG_FULL_EVERY_DAYS",
        "days between two comparisons of a whole shop with its catalogs; 0: only on demand",
        default=7.0,
        least=0,
    )
    resend_every_days: float = env(
        "CATALOG_RESEND_EVERY_DAYS",
        "days after which an accepted item is sent again so that it does not expire; 0: never",
        default=7.0,
        least=0,
        most=30,
    )
    seeds_at_once: int = env(
        "CATALOG_SEEDS_AT_ONCE",
        "shops that one process compares as a whole at the same time",
        default=5,
        least=1,
        most=100,
    )
    bulk_poll_s: float = env(
        "CATALOG_BULK_POLL_S",
        "seconds between two looks at a bulk operation; Shopify's webhook ends the wait sooner",
        default=10.0,
        least=0.05,
    )
    spool_dir: Path | None = env(
        "CATALOG_SPOOL_DIR",
        "where results of bulk operations lie while they are read, about twice their size; none:"
        " `catalog` in STATE_DIR",
        default=None,
    )
    rates: str = env(
        "CATALOG_RATES",
        "how prices are converted: the European Central Bank's file of rates by path or https URL,"
        " or rates against the euro, such as `2026-11-27;USD=1.08,GBP=0.83`; none: items that need"
        " a conversion are refused",
        default="",
    )
    rates_age_days_max: float = env(
        "CATALOG_RATES_AGE_DAYS_MAX",
        "days after which rates count no more",
        default=7.0,
        least=0,
    )
    images_at_once: int = env(
        "CATALOG_IMAGES_AT_ONCE",
        "images that are looked at together, for connections with `check_images`",
        default=16,
        least=1,
        most=256,
    )
    image_timeout_s: float = env(
        "CATALOG_IMAGE_TIMEOUT_S",
        "seconds until an image counts as unreachable",
        default=10.0,
        least=0.1,
    )
    attempts_max: int = env(
        "CATALOG_ATTEMPTS_MAX",
        "counted tries of a change, at most 15 s apart, before it goes to the dead letters",
        default=500,
        least=1,
    )

    @property
    def spool(self) -> Path:
        """The folder that results of bulk operations lie in."""
        return self.spool_dir or self.state_dir / "catalog"
