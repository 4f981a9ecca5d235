"""Personal values as TikTok wants them: normalised, then SHA-256, or in clear where it asks so.

Every function returns None for a value that says nothing or cannot be normalised: an event
without an email is worth more than one that carries the hash of something else.

Already hashed: 64 lower-case hexadecimal digits pass through. In upper or mixed case they are
refused, neither re-hashed nor repaired (the contract's vector): a sender who writes them so may
also have hashed an un-normalised value. The hash of nothing never passes.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from hashlib import sha256

from libs.phones import e164

HASH_OF_NOTHING = sha256(b"").hexdigest()

# A phone is looked up two to four times for each shopper (customer, billing, shipping, order).
PHONES_KEPT = 8_192

# Room for a hash; longer texts are no phone numbers and not worth a place in the cache.
_PHONE_CHARACTERS_MAX = 64
_VALUE_CHARACTERS_MAX = 512
_HASH = re.compile(r"[0-9a-f]{64}")
_HEX = re.compile(r"[0-9a-fA-F]{64}")
_EMAIL = re.compile(r"[^@\s]+@[^@\s]+\.[^@\s.]+")
# What copying from web pages leaves around a value and `strip` does not know as space.
_INVISIBLE = " \t\r\n\u00a0\u200b\u200c\u200d\u2060\ufeff"
# Words that scripts write for "no customer". Hashed, they would join all guests into one person.
_NOBODY = frozenset({"", "0", "null", "none", "undefined"})

_ASCII_PUNCTUATION = str.maketrans("", "", "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~")
_ASCII_NOT_ALNUM = str.maketrans("", "", " \t\r\n!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~")
_SPACE_AND_DASH = str.maketrans("", "", " \t\r\n\u00a0-\u2010\u2011\u2012\u2013")
# Accents that stand as their own code points after decomposition; other scripts' marks stay.
_ACCENTS = dict.fromkeys(range(768, 880))
# Letters of the Latin alphabet that Unicode does not decompose.
_LATIN = str.maketrans(
    {
        "ß": "ss",
        "æ": "ae",
        "œ": "oe",
        "ø": "o",
        "ł": "l",
        "đ": "d",
        "ð": "d",
        "þ": "th",
        "\u0131": "i",
    }
)


def hash_text(normalised: str) -> str:
    """SHA-256 of the UTF-8 bytes, lower-case hexadecimal."""
    # A lone surrogate (legal in JSON text) has no UTF-8 form: it becomes a question mark.
    return sha256(normalised.encode("utf-8", "replace")).hexdigest()


def email_hash(raw: str) -> str | None:
    """Trimmed and lower case; nothing else, so dots and tags of an address stay."""
    text = _trimmed(raw)
    if "@" not in text:
        return _already_hashed(text)
    text = text.lower()
    return hash_text(text) if _EMAIL.fullmatch(text) else None


def phone_hash(raw: str, region: str | None) -> str | None:
    """E.164 with its plus; `region` is the country of numbers that do not state their own."""
    text = _trimmed(raw)
    return _phone_hash(text, region) if len(text) <= _PHONE_CHARACTERS_MAX else None


@lru_cache(maxsize=PHONES_KEPT)
def _phone_hash(text: str, region: str | None) -> str | None:
    if len(text) == 64 and _HEX.fullmatch(text):
        return _already_hashed(text)
    number = e164(text, region)
    return None if number is None else hash_text(number)


def external_id_hash(raw: str) -> str | None:
    """Trimmed, its case kept as in the reference's own example."""
    text = _trimmed(raw)
    if text.lower() in _NOBODY:
        return None
    return _hashed_once(text, text)


def name_hash(raw: str) -> str | None:
    """A first or last name: lower case without punctuation; letters of any script stay."""
    text = _trimmed(raw)
    return _hashed_once(text, _plain_name(text))


def zip_hash(raw: str, country: str | None) -> str | None:
    """Lower case without spaces and dashes; of a United States code the first five digits."""
    text = _trimmed(raw)
    code = text.lower().translate(_SPACE_AND_DASH)
    if (country or "").upper() == "US":
        code = code[:5] if code[:5].isdecimal() and len(code) >= 5 else ""
    return _hashed_once(text, code)


def clear_place(raw: str) -> str | None:
    """A city, state or country, sent in clear: lower case, no accents, spaces or punctuation."""
    text = raw[:_VALUE_CHARACTERS_MAX].lower()
    if text.isascii():
        return text.translate(_ASCII_NOT_ALNUM) or None
    decomposed = unicodedata.normalize("NFKD", text).translate(_ACCENTS).lower().translate(_LATIN)
    composed = unicodedata.normalize("NFC", decomposed)
    return "".join(c for c in composed if unicodedata.category(c)[0] in "LMN") or None


def _trimmed(raw: str) -> str:
    return raw.strip(_INVISIBLE) if len(raw) <= _VALUE_CHARACTERS_MAX else ""


def _plain_name(text: str) -> str:
    lowered = text.lower()
    if lowered.isascii():
        kept = lowered.translate(_ASCII_PUNCTUATION)
    else:
        composed = unicodedata.normalize("NFC", lowered)
        kept = "".join(c for c in composed if unicodedata.category(c)[0] not in "PSC")
    return " ".join(kept.split())


def _already_hashed(text: str) -> str | None:
    return text if _HASH.fullmatch(text) and text != HASH_OF_NOTHING else None


def _hashed_once(text: str, normalised: str) -> str | None:
    if len(text) == 64 and _HEX.fullmatch(text):
        return _already_hashed(text)
    return hash_text(normalised) if normalised else None
