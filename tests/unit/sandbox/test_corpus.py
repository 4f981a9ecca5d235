"""What other senders really send, judged by hand from the contract.

Of each file: why the strict rules refuse it, and what is left of that when empties, private
addresses and a missing page url are let pass. None means accepted.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sandbox.tiktok import event_track, pixel_track
from sandbox.tiktok.config import GUIDE_RULES, Rules
from sandbox.tiktok.verdict import Claim, Refused
from tests.unit.sandbox.samples import NOW_S

PARTNERS = frozenset({"Segment", "Adobe"})
STRICT = Rules(partner_names=PARTNERS)
LENIENT = Rules(
    refuse_empty=False, allow_private_ip=True, require_page_url=False, partner_names=PARTNERS
)

Verdict = tuple[int, str] | None
NO_TIME: Verdict = (40002, "data.0.event_time")
NO_PAGE: Verdict = (40002, "data.0.page")
ZERO_IP: Verdict = (40002, "data.0.user.ip")
NO_NAME: Verdict = (40002, "data.0.user.first_name")
NO_GOODS: Verdict = (40002, "data.0.properties.contents")
OLD_SHAPE: Verdict = (40002, "pixel_code")

GOLDEN: dict[str, tuple[Verdict, Verdict]] = {
    "event_track/posthog_00.json": (None, None),
    "event_track/posthog_01.json": (NO_PAGE, None),
    "event_track/posthog_02.json": (NO_PAGE, None),
    "event_track/posthog_03.json": (NO_PAGE, None),
    "event_track/posthog_04.json": (NO_PAGE, None),
    "event_track/segment_conversions_00.json": (ZERO_IP, None),
    "event_track/segment_conversions_01.json": (ZERO_IP, None),
    "event_track/segment_conversions_02.json": (ZERO_IP, None),
    "event_track/segment_conversions_03.json": (ZERO_IP, None),
    "event_track/segment_conversions_04.json": (ZERO_IP, None),
    "event_track/segment_conversions_05.json": (NO_NAME, None),
    "event_track/segment_conversions_06.json": (NO_NAME, None),
    "event_track/segment_conversions_07.json": (NO_NAME, None),
    "event_track/segment_conversions_08.json": (NO_NAME, None),
    "event_track/segment_conversions_sandbox_09.json": (ZERO_IP, None),
    "event_track/segment_conversions_sandbox_10.json": (ZERO_IP, None),
    "event_track/segment_conversions_sandbox_11.json": (ZERO_IP, None),
    "event_track/segment_conversions_sandbox_12.json": (ZERO_IP, None),
    "event_track/segment_conversions_sandbox_13.json": (ZERO_IP, None),
    "event_track/segment_conversions_sandbox_14.json": (ZERO_IP, None),
    # Empty properties first; without that, neither time nor id was sent.
    "event_track/zaraz_00.json": ((40002, "data.0.properties"), NO_TIME),
    "event_track/zaraz_01.json": ((40002, "data.0.properties"), NO_TIME),
    "event_track/zaraz_02.json": ((40002, "data.0.properties"), NO_TIME),
    "event_track/zaraz_03.json": (NO_TIME, NO_TIME),
    "event_track_offline/segment_offline_conversions_15.json": (NO_GOODS, None),
    "event_track_offline/segment_offline_conversions_16.json": (NO_GOODS, None),
    "event_track_offline/segment_offline_conversions_17.json": (NO_GOODS, None),
    "event_track_offline/segment_offline_conversions_18.json": (None, None),
    "event_track_offline/segment_offline_conversions_sandbox_19.json": (NO_GOODS, None),
    "event_track_offline/segment_offline_conversions_sandbox_20.json": (NO_GOODS, None),
    "event_track_offline/segment_offline_conversions_sandbox_21.json": (NO_GOODS, None),
    "event_track_offline/segment_offline_conversions_sandbox_22.json": (None, None),
    "negative_wrong_shape/walkeros_addtocart.json": (OLD_SHAPE, OLD_SHAPE),
    "negative_wrong_shape/walkeros_lead.json": (OLD_SHAPE, OLD_SHAPE),
    "negative_wrong_shape/walkeros_pageview.json": (OLD_SHAPE, OLD_SHAPE),
    "negative_wrong_shape/walkeros_purchase.json": (OLD_SHAPE, OLD_SHAPE),
    # An empty time; without that, an external_id in clear.
    "pixel_track/adobe_00_completepayment.json": (
        (40002, "timestamp"),
        (40062, "context.user.external_id"),
    ),
    "pixel_track/official_sdk_00.json": (None, None),
    "pixel_batch/official_sdk_01.json": (None, None),
}

CHECKS = {
    "event/track/": event_track.check,
    "pixel/track/": pixel_track.check_one,
    "pixel/batch/": pixel_track.check_batch,
}


def verdict_on(file: Path, rules: Rules) -> Verdict:
    case = json.loads(file.read_text())
    request = case.get("expected_request") or case["actual_request_of_this_peer"]
    check = CHECKS[request["url"].partition("/v1.3/")[2]]
    try:
        check(request["body"], rules, NOW_S)
    except Refused as refused:
        return refused.code, refused.path
    return None


@pytest.mark.parametrize("name", GOLDEN)
def test_what_other_senders_send_gets_the_verdict_found_by_hand(
    corpus_dir: Path, name: str
) -> None:
    file = corpus_dir / "data" / "tiktok-events" / name

    found = verdict_on(file, STRICT), verdict_on(file, LENIENT)

    assert found == GOLDEN[name]


def test_no_file_of_the_corpus_is_left_without_a_verdict(corpus_dir: Path) -> None:
    root = corpus_dir / "data" / "tiktok-events"

    assert {str(file.relative_to(root)) for file in root.glob("*/*.json")} == GOLDEN.keys()


def guide_sample(corpus_dir: Path) -> dict[str, Any]:
    text = (corpus_dir / "integration-guide.txt").read_text()
    text = text[text.index("Example TikTok Events API Payload:") :]
    sample, _ = json.JSONDecoder().raw_decode(text[text.index("{") :])
    assert isinstance(sample, dict)
    return sample


def judged(body: dict[str, Any], rules: Rules) -> Claim | Verdict:
    try:
        return pixel_track.check_one(body, rules, NOW_S)
    except Refused as refused:
        return refused.code, refused.path


def test_the_guides_sample_is_accepted_as_printed_under_the_guides_switches(
    corpus_dir: Path,
) -> None:
    claim = judged(guide_sample(corpus_dir), GUIDE_RULES)

    assert isinstance(claim, Claim)
    assert claim.source_id == "C1234567890ABC"
    assert claim.events[0][:5] == ("CompletePayment", "shp_12345_98765", 1698400800, 120.0, "USD")


@pytest.mark.parametrize(
    ("rules", "path"),
    [
        (Rules(), "context.user.external_id"),
        (Rules(accept_plain_external_id=True), "context.user.emails"),
        (
            Rules(accept_plain_external_id=True, accept_guide_lists=True),
            "context.user.phone_numbers",
        ),
    ],
)
def test_each_of_the_guides_three_faults_needs_its_own_switch(
    corpus_dir: Path, rules: Rules, path: str
) -> None:
    verdict = judged(guide_sample(corpus_dir), rules)

    assert not isinstance(verdict, Claim)
    assert verdict is not None
    assert verdict[1] == path
