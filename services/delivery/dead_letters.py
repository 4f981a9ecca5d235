"""gRPC in: `DeadLetterService`. Checks, translates, decides nothing."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import structlog
from grpc.aio import ServicerContext

from libs.bus.commit_log import CommitLog
from libs.clock import Clock
from libs.errors import permanent
from libs.rpc.callers import REVEAL, current_caller
from libs.telemetry import Tracer
from libs.vault import Vault
from services.delivery.domain.plans import plan_token, planned_until
from services.delivery.handlers import Act, Dropping, Replaying, StoreSegment
from services.delivery.originals import original_json
from services.delivery.ports import Letter, Letters
from tidewire.delivery.v1 import dead_letter_service_pb2 as pb
from tidewire.delivery.v1 import dead_letter_service_pb2_grpc, outcome_pb2

Context = ServicerContext[Any, Any]

_log = structlog.stdlib.get_logger()

_LIST_PAGE: Final = 50
_ACT_PAGE: Final = 100
_COUNTED_AT_ONCE: Final = 500
_PLACE: Final = re.compile(r"[0-9]{0,18}")


@dataclass(frozen=True, slots=True)
class _Acted:
    """A page of what was done, or would be."""

    actions: Sequence[pb.DeadLetterAction]
    next_page_token: str = ""
    plan_token: str = ""
    matched: int = 0


class DeadLetterServer(dead_letter_service_pb2_grpc.DeadLetterServiceServicer):
    """What was given up, and ways to have it tried again."""

    def __init__(
        self,
        *,
        letters: Letters,
        commerce: CommitLog,
        store_segment: StoreSegment,
        vault: Vault,
        tracer: Tracer,
        clock: Clock,
    ) -> None:
        self._letters = letters
        self._commerce = commerce
        self._store_segment = store_segment
        self._vault = vault
        self._tracer = tracer
        self._clock = clock

    async def List(  # noqa: N802
        self, request: pb.DeadLetterServiceListRequest, context: Context
    ) -> pb.DeadLetterServiceListResponse:
        """Letters that fit a filter, page by page."""
        page = await self._letters.page(
            request.filter,
            after=_place(request.page_token),
            until=await self._letters.last_sequence(),
            limit=request.page_size or _LIST_PAGE,
        )
        return pb.DeadLetterServiceListResponse(
            letters=map(_summary, page.letters), next_page_token=_token(page.next_after)
        )

    async def Get(  # noqa: N802
        self, request: pb.DeadLetterServiceGetRequest, context: Context
    ) -> pb.DeadLetterServiceGetResponse:
        """One letter, with its original where asked for."""
        caller = current_caller.get()
        if request.reveal and not caller.has(REVEAL):
            raise permanent(
                "reveal_permission_denied",
                f"{caller.name} may not see personal data: no rule of the policy file grants it"
                " `reveal`; the original comes masked without it",
                path="reveal",
            )
        found = await self._letters.by_id([request.dead_letter_id])
        letter = found.get(request.dead_letter_id)
        if letter is None:
            raise permanent(
                "dead_letter_not_found", "it never was, or has expired", path="dead_letter_id"
            )
        response = pb.DeadLetterServiceGetResponse(summary=_summary(letter))
        if request.include_original:
            response.original_json = await original_json(
                letter.letter, self._vault, reveal=request.reveal
            )
        if request.include_original and request.reveal:
            _log.warning(
                "dead_letter_revealed",
                dead_letter_id=request.dead_letter_id,
                shop=letter.letter.shop,
                caller=caller.name,
            )
        return response

    async def Replay(  # noqa: N802
        self, request: pb.ReplayRequest, context: Context
    ) -> pb.ReplayResponse:
        """Puts letters on their way again, once each."""
        act = Replaying(
            letters=self._letters,
            commerce=self._commerce,
            store_segment=self._store_segment,
            tracer=self._tracer,
            clock=self._clock,
            by=current_caller.get().name,
        )
        acted = await self._acted(act, request)
        self._tell(act, acted, request.dry_run, act.by, request.request_id)
        return pb.ReplayResponse(
            actions=acted.actions,
            next_page_token=acted.next_page_token,
            plan_token=acted.plan_token,
            matched=acted.matched,
        )

    async def Drop(  # noqa: N802
        self, request: pb.DropRequest, context: Context
    ) -> pb.DropResponse:
        """Marks letters as not needed."""
        act = Dropping(
            letters=self._letters,
            clock=self._clock,
            by=current_caller.get().name,
            reason=request.reason,
        )
        acted = await self._acted(act, request)
        self._tell(act, acted, request.dry_run, act.by, "")
        return pb.DropResponse(
            actions=acted.actions,
            next_page_token=acted.next_page_token,
            plan_token=acted.plan_token,
            matched=acted.matched,
        )

    async def _acted(self, act: Act, request: pb.ReplayRequest | pb.DropRequest) -> _Acted:
        if request.selection.WhichOneof("by") == "ids":
            return await self._by_ids(act, request)
        if request.dry_run:
            return await self._planned(act, request)
        return await self._by_filter(act, request)

    async def _by_ids(self, act: Act, request: pb.ReplayRequest | pb.DropRequest) -> _Acted:
        start = _place(request.page_token)
        end = start + (request.page_size or _ACT_PAGE)
        # Named twice is meant once.
        every = list(dict.fromkeys(request.selection.ids.ids))
        ids = every[start:end]
        found = await self._letters.by_id(ids)
        actions = await _done(act, list(found.values()), dry_run=request.dry_run)
        by_id = {action.dead_letter_id: action for action in actions}
        return _Acted(
            [by_id.get(one) or _not_found(one) for one in ids],
            next_page_token=_token(end if end < len(every) else None),
        )

    async def _planned(self, act: Act, request: pb.ReplayRequest | pb.DropRequest) -> _Acted:
        """A dry run by filter; its first page also counts all that fit, and gives the plan."""
        wanted, selection = request.selection.filter, _bytes_of(request)
        if request.plan_token:
            until = planned_until(request.plan_token, act.name, selection)
        else:
            until = await self._letters.last_sequence()
        after = _place(request.page_token)
        limit = request.page_size or _ACT_PAGE
        page = await self._letters.page(wanted, after=after, until=until, limit=limit)
        actions = await _done(act, page.letters, dry_run=True)
        matched, place = len(page.letters), page.next_after
        # Later pages of a dry run say the count no more: the first one has looked at everything.
        while place is not None and not after:
            rest = await self._letters.page(
                wanted, after=place, until=until, limit=_COUNTED_AT_ONCE
            )
            matched, place = matched + len(rest.letters), rest.next_after
        return _Acted(
            actions,
            next_page_token=_token(page.next_after),
            plan_token=plan_token(act.name, selection, until),
            matched=0 if after else matched,
        )

    async def _by_filter(self, act: Act, request: pb.ReplayRequest | pb.DropRequest) -> _Acted:
        until = planned_until(request.plan_token, act.name, _bytes_of(request))
        page = await self._letters.page(
            request.selection.filter,
            after=_place(request.page_token),
            until=until,
            limit=request.page_size or _ACT_PAGE,
        )
        actions = await _done(act, page.letters, dry_run=False)
        return _Acted(actions, next_page_token=_token(page.next_after))

    def _tell(self, act: Act, acted: _Acted, dry_run: bool, by: str, request_id: str) -> None:  # noqa: FBT001
        """The audit line: who had what done to how many; each letter's fate names it too."""
        if not dry_run:
            _log.info(
                "dead_letters_settled",
                act=act.name,
                caller=by,
                request_id=request_id,
                results=dict(Counter(action.result for action in acted.actions)),
            )


async def _done(
    act: Act, letters: Sequence[Letter], *, dry_run: bool
) -> Sequence[pb.DeadLetterAction]:
    return [act.foreseen(one) for one in letters] if dry_run else await act.do(letters)


def _summary(found: Letter) -> pb.DeadLetterSummary:
    letter = outcome_pb2.DeadLetter()
    letter.CopyFrom(found.letter)
    letter.ClearField("original")
    summary = pb.DeadLetterSummary(
        letter=letter, state=pb.DEAD_LETTER_STATE_OPEN, sequence=found.sequence, fate=found.fate
    )
    if found.fate is not None:
        summary.replayed_as = found.fate.replayed_as
        if found.settled:
            summary.state = found.fate.state
    return summary


def _not_found(letter_id: str) -> pb.DeadLetterAction:
    return pb.DeadLetterAction(dead_letter_id=letter_id, result="not_found")


def _bytes_of(request: pb.ReplayRequest | pb.DropRequest) -> bytes:
    return request.selection.filter.SerializeToString(deterministic=True)


def _place(page_token: str) -> int:
    if not _PLACE.fullmatch(page_token):
        raise permanent("page_token_unknown", "take it from the page before", path="page_token")
    return int(page_token or 0)


def _token(place: int | None) -> str:
    return "" if place is None else str(place)
