"""What the delivery service needs of others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


class Permissions(Protocol):
    """What the caller of the rpc under way may do."""

    def may_reveal(self) -> bool:
        """Whether it may see personal data in clear."""


@dataclass(frozen=True, slots=True)
class SamePermissions:
    """The same for every caller: while callers are not told apart."""

    reveal: bool = False

    def may_reveal(self) -> bool:
        """As the process was set up."""
        return self.reveal
