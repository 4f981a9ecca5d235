"""Has the keepers look at a shop out of turn."""

from __future__ import annotations

from services.auth.keeper import Keeper
from services.auth.kept_stores import BookedShops


class KeepersAttention:
    """`Attention` of all keepers.

    The keepers need what is linked, and linking tells the keepers: they come later.
    """

    def __init__(self) -> None:
        self._stores: Keeper | None = None
        self._shops: tuple[Keeper, BookedShops] | None = None

    def begin(self, stores: Keeper, shops: Keeper, kept: BookedShops) -> None:
        """From now on the keepers of stores and of TikTok Shops are told."""
        self._stores = stores
        self._shops = shops, kept

    def soon(self, shop: str) -> None:
        if self._stores is not None:
            self._stores.soon(shop)
        if self._shops is not None:
            keeper, kept = self._shops
            for key in kept.keys_of(shop):
                keeper.soon(key)
