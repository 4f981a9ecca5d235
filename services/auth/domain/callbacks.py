"""What a browser brings back from a consent page: verified, or refused with a reason. Pure.

Whether `state` is ours was decided before. The reasons are for a person and repeat nothing of what
came. Shopify's rules are those of its own libraries: HMAC over the sorted parameters, a timestamp
within 90 seconds of now, and a shop's domain that is matched to its very end.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import json
import re
from collections.abc import Iterable
from datetime import datetime
from typing import Final

from services.auth.domain.grants import Answer

QUERY_CHARS_MAX: Final = 8192
"""Of a whole callback, names and values; Shopify's and TikTok's stay below 2,000."""
CODE_CHARS_MAX: Final = 1024
_PARAMETERS_MAX: Final = 50

_DOMAIN: Final = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9-]{0,62}\.myshopify\.com")
_HEX_DIGEST: Final = re.compile(r"[0-9a-f]{64}")
_SECONDS: Final = re.compile(r"[0-9]{1,12}")
_CODE: Final = re.compile(rf"[\x21-\x7e]{{1,{CODE_CHARS_MAX}}}")
_ADMIN: Final = re.compile(r"admin\.shopify\.com/store/[a-zA-Z0-9][a-zA-Z0-9-]{0,62}")

_AGAIN: Final = "; begin again"


def shop_domain(text: str) -> str | None:
    """The shop's domain in lower case; None where `text` is anything but a shop's domain.

    The whole text must match: in Python, `$` admits a newline after it.
    """
    return text.lower() if _DOMAIN.fullmatch(text) else None


def shopify_refusal(answer: Answer, secret: str, shop: str, *, window_s: float) -> str | None:
    """Why Shopify's callback is not to be trusted; None where it is.

    `shop` is the one that the browser was sent to. The signature is looked at before anything that
    it covers, so that nobody without the secret learns what else would be wrong.
    """
    if (flaw := too_long(answer)) is not None:
        return flaw
    if not shopify_signature_fits(answer.query, secret):
        return "the answer is not signed by Shopify with this app's secret" + _AGAIN
    if shop_domain(answer.one("shop")) != shop.lower():
        return "the answer is about another shop" + _AGAIN
    if not _is_fresh(answer.one("timestamp"), answer.received_at, window_s):
        return "the answer is too old, or this machine's clock is wrong" + _AGAIN
    if not _is_admins(answer, shop):
        return "the answer names a host that is not Shopify's" + _AGAIN
    return None


def shopify_signature_fits(query: Iterable[tuple[str, str]], secret: str) -> bool:
    """Whether `hmac` among the decoded parameters is the secret's signature of the others."""
    given = [value for name, value in query if name == "hmac"]
    if len(given) != 1 or not _HEX_DIGEST.fullmatch(given[0]):
        return False
    message = _signed_text(query)
    if message is None:
        return False
    expected = hmac.digest(secret.encode(), message.encode(), "sha256").hex()
    # Compared in constant time: the timing of `==` gives the signature away digit by digit.
    return hmac.compare_digest(expected, given[0])


def authorisation_code(answer: Answer, *names: str) -> str:
    """The code under the first of `names` that has one; empty where none can be used."""
    if too_long(answer) is not None:
        return ""
    found = (answer.one(name) for name in names)
    # TikTok Shop writes `code=null` where the seller has refused.
    return next((code for code in found if _CODE.fullmatch(code) and code != "null"), "")


def declined(answer: Answer) -> bool:
    """Whether the person said no."""
    return any(name == "error" for name, _ in answer.query)


def too_long(answer: Answer) -> str | None:
    """Why the answer is more than a provider sends; None where it is not."""
    chars = sum(len(name) + len(value) for name, value in answer.query)
    if chars > QUERY_CHARS_MAX or len(answer.query) > _PARAMETERS_MAX:
        return "the answer is longer than any provider's" + _AGAIN
    return None


def _signed_text(query: Iterable[tuple[str, str]]) -> str | None:
    """What Shopify signs; None where it would not have sent such parameters.

    As its own libraries do: `%` and `&` are escaped and nothing else is (`=` in names too), lists
    (`ids[]`) stand as JSON under their bare name.
    """
    values: dict[str, list[str]] = {}
    for name, value in query:
        if name != "hmac":
            values.setdefault(name, []).append(value)
    pairs = []
    for name, found in values.items():
        is_list = name.endswith("[]")
        if len(found) > 1 and not is_list:
            return None
        bare = name.removesuffix("[]").replace("%", "%25").replace("=", "%3D")
        value = (json.dumps(found) if is_list else found[0]).replace("%", "%25")
        pairs.append(f"{bare}={value}".replace("&", "%26"))
    text = "&".join(sorted(pairs))
    # Bytes that are no text arrive as surrogates, which nobody has signed.
    return None if any("\ud800" <= char <= "\udfff" for char in text) else text


def _is_fresh(text: str, now: datetime, window_s: float) -> bool:
    return bool(_SECONDS.fullmatch(text)) and abs(now.timestamp() - int(text)) <= window_s


def _is_admins(answer: Answer, shop: str) -> bool:
    """Whether `host`, where there is one, is the admin that the app may be shown in."""
    if not any(name == "host" for name, _ in answer.query):
        return True
    text = answer.one("host")
    try:
        # Unpadded, and either alphabet has been seen.
        padded = text.translate(str.maketrans("-_", "+/")) + "=" * (-len(text) % 4)
        host = base64.b64decode(padded, validate=True).decode("ascii")
    except (binascii.Error, ValueError):
        return False
    return bool(_ADMIN.fullmatch(host)) or host.lower() == f"{shop.lower()}/admin"
