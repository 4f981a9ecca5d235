"""What TikTok refuses in words is left out, and words end where TikTok's limits are."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.catalog.domain.html_text import readable
from services.catalog.domain.texts import cut, has_refused, one_line

LIMIT = 10_000


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Blue 🔥 Shoe", "Blue Shoe"),
        ("👩🏽‍🚒 Fire ❤️‍🔥 1️⃣", "Fire 1"),
        ("🇩🇪 Flag", "Flag"),
        ("Acme™ © ®", "Acme™ © ®"),
        ("a\tb\r\nc\u2028d\u00a0e", "a b c d e"),
        ("nul\x00l bell\x07 \x85 \ufeffbom \u200bzero", "null bell bom zero"),
        ("\u0645\u06cc\u200c\u062e\u0648", "\u0645\u06cc\u200c\u062e\u0648"),
        ("lone \ud800 surrogate", "lone surrogate"),
        ("\ue000private\U000f0000", "private"),
        ("日本語 ñ ß", "日本語 ñ ß"),
    ],
)
def test_emoji_and_what_is_not_seen_are_left_out_and_letters_stay(text: str, expected: str) -> None:
    assert one_line(text) == expected


@given(st.text())
def test_no_text_keeps_anything_that_tiktok_refuses(text: str) -> None:
    found = one_line(text)

    assert not has_refused(found)
    assert one_line(found) == found
    json.dumps(found).encode()
    found.encode()


@given(st.text(), st.integers(min_value=1, max_value=40))
def test_a_cut_text_is_within_its_limit_and_the_beginning_of_the_whole(
    text: str, limit: int
) -> None:
    found = cut(text, limit)

    assert len(found) <= limit
    assert text.startswith(found)


def test_a_text_is_cut_between_words() -> None:
    assert cut("hello brave world", 12) == "hello brave"
    assert cut("hello brave world", 11) == "hello brave"
    assert cut("hello brave world", 10) == "hello"


def test_one_endless_word_is_cut_at_the_limit_but_not_between_letter_and_accent() -> None:
    assert cut("x" * 20, 7) == "x" * 7
    assert cut("abcde\u0301fgh", 5) == "abcd"


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("<p>One</p><p>Two</p>three<br>four", "One\nTwo\nthree\nfour"),
        ("<ul><li>one<li><p>two</p></ul>after", "- one\n- two\nafter"),
        ("<table><tr><td>a</td><td>b</td></tr><tr><td>c</td></tr></table>", "a b\nc"),
        ("bo<b>ld</b> <EM>words</EM>", "bold words"),
        ("a\n  b\n\nc", "a b c"),
        ("Tom &amp; Jerry &lt;3 &eacute; &#8364;&nbsp;5", "Tom & Jerry <3 é € 5"),
        ("a<script>var x = '<b>no</b>';</script>b", "ab"),
        ("a<SCRIPT type='x'>no</SCRIPT >b", "ab"),
        ("<style>p { color: red }</style>shown", "shown"),
        ("<template><template>no</template>no</template>shown", "shown"),
        ("<svg><title>no</title></svg>a<svg/>b", "ab"),
        ("<head><title>no</title></head><body>yes", "yes"),
        ("<noscript>no</noscript><iframe>no</iframe>yes", "yes"),
        ("x<!-- <b>no</b> -->y<!-->z", "xyz"),
        ("<!DOCTYPE html>yes<![CDATA[no]]>", "yes"),
        ('<a title="5 > 3">link</a>', "link"),
        ("<img alt='a' src=x>seen", "seen"),
        ("5 < 6 && 7 > 3", "5 < 6 && 7 > 3"),
        ("✅ Washable<br>🔥", "Washable"),
        ("</p></li>stray <x-y z=1>tags</x-y>", "stray tags"),
    ],
)
def test_html_reads_as_the_page_does(source: str, expected: str) -> None:
    assert readable(source, LIMIT) == (expected, False)


@pytest.mark.parametrize(
    "source",
    ["seen<script>never closed", "seen<!-- never closed", 'seen<a href="never closed>x</a> y',
     "seen<style>p{}", "seen<b", "seen<template>x"],
)  # fmt: skip
def test_what_is_never_closed_takes_the_rest_with_it_as_in_a_browser(source: str) -> None:
    assert readable(source, LIMIT) == ("seen", False)


def test_html_that_shows_nothing_is_no_text() -> None:
    assert readable("<p>&nbsp;</p><img src='x'><br>🔥", LIMIT) == ("", False)


def test_a_long_page_is_cut_between_words() -> None:
    found, was_cut = readable("<p>" + "word " * 5_000 + "</p>", LIMIT)

    assert was_cut
    assert len(found) <= LIMIT
    assert found.endswith("word")


@given(st.text(alphabet="<>/!-abpli \"'=&;\n🔥x", max_size=200))
def test_no_html_breaks_the_reading(source: str) -> None:
    found, _ = readable(source, 50)

    assert len(found) <= 50
    assert not any(has_refused(line) for line in found.split("\n"))


@pytest.mark.parametrize(
    "evil",
    ["<a b='", "<", "<!--", "<script>", '<a =">" ', "<svg>", "<a ", "<template></template>", "&"],
)
def test_the_time_of_reading_grows_with_the_length_only(evil: str) -> None:
    # Quadratic reading of these would take minutes, and the test's time would be up.
    found, _ = readable(evil * 40_000 + '="', LIMIT)

    assert len(found) <= LIMIT
