"""TikTok's envelope: `{code, message, request_id, data}`, where the code decides."""

from __future__ import annotations

from collections.abc import Callable

from services.auth.adapters.providers.calls import Body, Judge, text
from services.auth.domain.refusals import Refusal, Step, of_status

Meaning = Callable[[int, str, Step], Refusal]


def judged_by(meaning: Meaning, step: Step) -> Judge:
    """The judge of answers to this step: the body's code outranks the status."""

    def judge(status: int, body: Body | None) -> Refusal | None:
        code = (body or {}).get("code")
        if isinstance(code, int) and code:
            return meaning(code, text(body, "message"), step)
        # Success is what the code says, and a page of somebody's on the way has none.
        return of_status(status) if code == 0 else of_status(status) or Refusal.DOWN

    return judge


def data(body: Body) -> Body:
    """What the envelope holds; empty where it holds nothing."""
    found = body.get("data")
    return found if isinstance(found, dict) else {}
