"""The providers' dialogues, one module each, and the table that finds them."""

from services.auth.adapters.providers.table import Endpoints, providers

__all__ = ["Endpoints", "providers"]
