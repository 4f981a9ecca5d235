"""Faults of TikTok's catalog API and of Shopify's Admin API, as catalogs meet them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final

import aiohttp
import msgspec

from services.catalog.domain.states import ItemState, SyncPhase
from tests.faults.catalog_house import PLACES, TOKEN, Place, connections_yaml
from tests.faults.catalog_scene import EVERYTHING, WRITES, CatalogFault, CatalogScene, until
from tests.faults.judge import SERVICE_WITHIN_S

Inflict = Callable[[CatalogScene], Awaitable[None]]

_SECONDS: Final = 8.0
_FOLLOWED_EVERY_S: Final = 5.0
"""How often the services look whether the connections file has changed."""

_MINUTE_S: Final = 60.0
_ADMIN_PATIENCE_S: Final = 30.0
_SETUP_WAIT_S: Final = 60.0
"""How long a catalog that takes nothing is left alone at first."""

_BAD_END: Final = "7"
"""How the ids of items end that TikTok refuses: a tenth of all."""

_UPLOAD: Final = "/open_api/v1.3/catalog/product/upload/"
_UPLOADS: Final = (_UPLOAD, "/open_api/v1.3/catalog/item/batch/")
_BULK_FAULTS: Final = "shopify/bulk/faults"


def answers(
    effect: dict[str, Any],
    seconds: float = _SECONDS,
    paths: tuple[str, ...] = WRITES,
    **more: Any,
) -> Inflict:
    """TikTok answers so, for a while."""

    async def inflict(scene: CatalogScene) -> None:
        await scene.submits()
        async with scene.scripted(effect, paths, **more):
            await asyncio.sleep(seconds)

    return inflict


def some_items_refused(*, named: bool) -> Inflict:
    """TikTok refuses whole requests because of some items of the shop, for good."""

    async def inflict(scene: CatalogScene) -> None:
        effect = {"kind": "refuse_event", "named": named, "field": "title"}
        async with scene.scripted(effect, _UPLOADS, match={"sku": f"*{_BAD_END}"}):
            await until(lambda: _all_refuse(scene), 60.0, "items are refused")
            await asyncio.sleep(4.0)
        for place in PLACES:
            refused = await _refused(scene, place)
            wrong = [one for one in refused if not one.endswith(_BAD_END)]
            scene.complaints += [f"{one} is refused with its neighbour" for one in wrong]
        async with asyncio.timeout(90):
            # What is refused is tried again once it changes, and not before.
            while any([await _refused(scene, place) for place in PLACES]):
                await scene.house.mutate("text", 150)

    return inflict


async def _all_refuse(scene: CatalogScene) -> bool:
    return all([await _refused(scene, place) for place in PLACES])


async def _refused(scene: CatalogScene, place: Place) -> list[str]:
    return [
        one.sku_id
        for product in await scene.house.synced(place)
        for one in product.items
        if one.state == ItemState.REFUSED and one.issues
    ]


def failing_log(effect: dict[str, Any], seconds: float = _SECONDS) -> Inflict:
    """Submits are taken and their logs end badly, or never, for a while."""
    return answers(effect, seconds, (_UPLOAD, "/open_api/v1.3/catalog/product/delete/"))


async def token_dead(scene: CatalogScene) -> None:
    """The catalogs' token is one that TikTok does not know, until the merchant connects again."""
    file = scene.stack.connections_file
    file.write_text(connections_yaml("revoked-long-ago"), "utf-8")
    await asyncio.sleep(_FOLLOWED_EVERY_S + 6.0)
    file.write_text(connections_yaml(TOKEN), "utf-8")


async def nobody_listens(scene: CatalogScene) -> None:
    await scene.submits()
    await scene.house.tiktok.shut()
    await asyncio.sleep(20.0)
    await scene.house.tiktok.open()


async def connections_cut(scene: CatalogScene) -> None:
    await scene.submits()
    for _ in range(6):
        await scene.house.tiktok.cut()
        await asyncio.sleep(0.7)


_THEIRS: Final = 13
"""Items of what somebody else writes: by it theirs are told from ours, which hold fewer mostly."""


_WRITES_LEAST: Final = 12
_WRITES_MOST: Final = 40


def somebody_else_writes(*, too_soon: bool) -> Inflict:
    """Another program writes to the first catalog: items that TikTok refuses in the log."""

    async def inflict(scene: CatalogScene) -> None:
        catalog = PLACES[0].catalog_id
        # A write of ours that meets one under way waits for ten seconds, and comes too soon never.
        lasts_ms = 20 if too_soon else 1500
        # And one that leaves the moment that it may is first, unless the other hardly ever waits.
        every_s, most = (0.05, _WRITES_MOST * 14) if too_soon else (0.7, _WRITES_MOST)
        outcome = "too_soon" if too_soon else "refused_40202"
        start = len(await scene.house.history(PLACES[0]))
        await scene.house.sandbox("POST", f"catalogs/{catalog}", {"ingestion_ms": lasts_ms})
        raw = next(iter((await scene.house.items(PLACES[0])).values()))
        product = msgspec.json.decode(raw)
        product["price_info"]["currency"] = "EUR"
        products = [product | {"sku_id": f"of-somebody-else-{n}"} for n in range(_THEIRS)]
        body = msgspec.json.encode(
            {"bc_id": "7300000000000000001", "catalog_id": catalog, "products": products}
        )
        headers = {"Access-Token": TOKEN, "Content-Type": "application/json"}
        async with aiohttp.ClientSession(headers=headers) as session:
            url = scene.stack.sandbox_url + _UPLOAD
            for number in range(most):
                if number >= _WRITES_LEAST and await _met_ours(scene, start, outcome):
                    break
                async with session.post(url, data=body) as answer:
                    await answer.read()
                await asyncio.sleep(every_s)
        await scene.house.sandbox("POST", f"catalogs/{catalog}", {"ingestion_ms": 200})
        if not await _met_ours(scene, start, outcome):
            scene.complaints.append(f"no submit of ours was {outcome}: nothing was tried")

    return inflict


async def _met_ours(scene: CatalogScene, start: int, outcome: str) -> bool:
    lines = (await scene.house.history(PLACES[0]))[start:]
    return any(one["outcome"] == outcome and one["count"] != _THEIRS for one in lines)


async def takes_nothing(scene: CatalogScene) -> None:
    """A catalog takes submits in silence and keeps nothing, until a person mends it.

    The one whose submits have logs: what is answered at once tells nobody.
    """
    catalog = PLACES[0].catalog_id
    await scene.submits()
    await scene.house.sandbox("POST", f"catalogs/{catalog}", {"ingests": False})
    before = await _silent(scene)
    await until(lambda: _is_more(scene, before), 20.0, "a silent submit")
    await asyncio.sleep(2.0)
    await scene.house.sandbox("POST", f"catalogs/{catalog}", {"ingests": True})


async def _silent(scene: CatalogScene) -> int:
    return sum(one["outcome"] == "silent" for one in await scene.house.history(PLACES[0]))


async def _is_more(scene: CatalogScene, before: int) -> bool:
    return await _silent(scene) > before


# -- Shopify -------------------------------------------------------------------------------------


def during_a_sync(faults: list[dict[str, Any]], path: str = _BULK_FAULTS) -> Inflict:
    """A full sync meets faults of Shopify that wear off; it ends well all the same."""

    async def inflict(scene: CatalogScene) -> None:
        await scene.house.mutate("mix", 20, told=False)
        await scene.house.sandbox("POST", path, faults)
        await scene.full_sync()
        await scene.syncing(lambda run: SyncPhase(run.phase).is_end, 90.0)
        if not all(one.get("seen", one.get("hits")) for one in await _met(scene, path)):
            scene.complaints.append("a fault of Shopify's met nothing: nothing was tried")
        await scene.house.sandbox("DELETE", path)

    return inflict


async def _met(scene: CatalogScene, path: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = await scene.house.sandbox("GET", path)
    return found


async def admin_hangs(scene: CatalogScene) -> None:
    """No call of the Admin API is answered for a while, of a sync or of products to be read."""
    await scene.house.mutate("mix", 20, told=False)
    await scene.house.sandbox("POST", "shopify/faults", [{"effect": {"kind": "hang"}}])
    await scene.full_sync()
    await asyncio.sleep(10.0)
    await scene.house.sandbox("DELETE", "shopify/faults")


async def webhooks_lost(scene: CatalogScene) -> None:
    """What changes is told by nobody; the next full sync finds it."""
    await scene.submits()
    scene.tells = False
    await asyncio.sleep(4.0)
    scene.quiet()
    await asyncio.sleep(2.5)
    await scene.full_sync()


def _status(status: int, **more: Any) -> dict[str, Any]:
    return {"kind": "http_status", "status": status, **more}


def _code(code: int, **more: Any) -> dict[str, Any]:
    return {"kind": "code", "code": code, **more}


def _tiktok(name: str, what: str, inflict: Inflict, **more: Any) -> CatalogFault:
    return CatalogFault(name=f"catalogs.tiktok.{name}", what=what, inflict=inflict, **more)


def _shopify(name: str, what: str, inflict: Inflict, **more: Any) -> CatalogFault:
    return CatalogFault(name=f"catalogs.shopify.{name}", what=what, inflict=inflict, **more)


_GRAPHQL_TIMES: Final = 3

UPSTREAMS: Final = (
    _tiktok(
        "hang",
        "no request is answered for 15 s; nothing is done",
        answers({"kind": "hang"}, 15.0, EVERYTHING),
    ),
    _tiktok("gone-20s", "nobody listens for 20 s", nobody_listens),
    _tiktok("cut", "every connection reset six times, with what was under way", connections_cut),
    _tiktok("429", "HTTP 429 for 8 s", answers(_status(429), paths=EVERYTHING)),
    _tiktok(
        "429-retry-after",
        "HTTP 429 with Retry-After: 3 for 8 s",
        answers(_status(429, retry_after_s=3), paths=EVERYTHING),
    ),
    _tiktok("throttled", "code 40100 for 8 s", answers(_code(40100), paths=EVERYTHING)),
    _tiktok("503", "HTTP 503 for 8 s", answers(_status(503), paths=EVERYTHING)),
    _tiktok("system-error", "code 50000 for 8 s", answers(_code(50000), paths=EVERYTHING)),
    _tiktok(
        "system-error-late",
        "code 50000 for 8 s, given after the submit was taken",
        answers(_code(50000, accepted=True)),
    ),
    _tiktok(
        "some-items-refused",
        "code 40002 for whole submits because of some items, which are named",
        some_items_refused(named=True),
        expected="only they are refused, and taken once they change",
    ),
    _tiktok(
        "some-items-refused-unnamed",
        "code 40002 for whole submits because of some items, which are not named",
        some_items_refused(named=False),
        expected="only they are refused, and taken once they change",
    ),
    _tiktok("reset", "connections are reset before anything is done, for 8 s",
            answers({"kind": "reset"})),
    _tiktok("accepted-then-reset", "submits are taken and the connection is reset, for 8 s",
            answers({"kind": "accept_then_reset"})),
    _tiktok("accepted-then-timeout", "submits are taken and no answer comes, for 12 s",
            answers({"kind": "accept_then_timeout"}, 12.0)),
    _tiktok("truncated", "submits are taken and the answer is cut in half, for 8 s",
            answers({"kind": "truncate"})),
    _tiktok("log-truncated", "every answer of TikTok's is cut in half, for 8 s",
            answers({"kind": "truncate"}, paths=EVERYTHING)),
    _tiktok("not-json", "HTTP 200 with half an object for 8 s, nothing is done",
            answers({"kind": "malformed", "form": "not_json"}, paths=EVERYTHING)),
    _tiktok("code-as-text", 'HTTP 200 with `"code": "0"` for 8 s, the submit is taken',
            answers({"kind": "malformed", "form": "code_as_string", "accepted": True})),
    _tiktok("empty", "HTTP 200 without a body for 8 s, nothing is done",
            answers({"kind": "empty_body"}, paths=EVERYTHING)),
    _tiktok("empty-late", "HTTP 200 without a body for 8 s, the submit is taken",
            answers({"kind": "empty_body", "accepted": True})),
    _tiktok("token-dead", "code 40105 until the merchant connects TikTok again", token_dead),
    _tiktok("log-endless", "logs that never end, for 8 s; nothing of the submit is kept",
            failing_log({"kind": "stuck_log"}),
            expected="the log is given up after 10 s here, 30 min by default"),
    _tiktok("log-endless-kept", "logs that never end, for 8 s; the submit is kept",
            failing_log({"kind": "stuck_log", "ingests": True})),
    _tiktok("log-failed", "logs that end as FAILED, for 8 s", failing_log({"kind": "failed_log"})),
    _tiktok("busy-with-others", "somebody else writes, so that ours meet code 40202, for 8 s",
            somebody_else_writes(too_soon=False), crowded=True),
    _tiktok(
        "takes-nothing",
        "submits end well and nothing is kept, until a person mends the catalogs",
        takes_nothing,
        expected="a catalog that takes nothing is left alone for a minute",
        within_s=_SETUP_WAIT_S + SERVICE_WITHIN_S,
        lasts_s=240.0,
        spoils=True,
    ),
    _tiktok(
        "once-a-minute",
        "somebody else writes within TikTok's spacing, so that ours are dropped, for 8 s",
        somebody_else_writes(too_soon=True),
        expected="from then on a minute lies between submits to that catalog",
        crowded=True,
        within_s=2 * _MINUTE_S + SERVICE_WITHIN_S,
        lasts_s=300.0,
        spoils=True,
    ),
    _shopify("export-fails", "a full sync's export fails twice, with and without what there was",
             during_a_sync([{"kind": "fail", "after_lines": 100, "times": 1},
                            {"kind": "fail", "partial": False, "times": 1}])),
    _shopify("download-cut", "the export's download breaks twice",
             during_a_sync([{"kind": "truncate", "after_bytes": 20_000, "times": 2}])),
    _shopify("download-503", "the export's download is answered 503 twice",
             during_a_sync([{"kind": "http_status", "status": 503, "times": 2}])),
    _shopify("throttled", "the Admin API answers THROTTLED three times during a full sync",
             during_a_sync([{"effect": {"kind": "throttled"}, "times": _GRAPHQL_TIMES}],
                           "shopify/faults")),
    _shopify("429", "the Admin API answers 429 three times during a full sync",
             during_a_sync([{"effect": _status(429, retry_after_s=1), "times": _GRAPHQL_TIMES}],
                           "shopify/faults")),
    _shopify("503", "the Admin API answers 503 three times during a full sync",
             during_a_sync([{"effect": _status(503), "times": _GRAPHQL_TIMES}],
                           "shopify/faults")),
    _shopify("hang", "the Admin API answers nothing for 10 s, while a full sync begins",
             admin_hangs, expected="a call of the Admin API is given up after 30 s",
             within_s=_ADMIN_PATIENCE_S + SERVICE_WITHIN_S),
    _shopify("webhooks-lost", "4 s of changes of which no webhook tells, then a full sync",
             webhooks_lost),
)  # fmt: skip
