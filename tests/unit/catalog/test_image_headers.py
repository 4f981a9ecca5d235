"""Sizes of images by their first bytes."""

from __future__ import annotations

import pytest

from services.catalog.domain.image_headers import size_px
from tests.unit.catalog.pictures import jpeg, png


@pytest.mark.parametrize("content", [jpeg(1200, 800), png(1200, 800), jpeg(1200, 800, exif=70_000)])
def test_width_and_height_are_read(content: bytes) -> None:
    assert size_px(content) == (1200, 800)


@pytest.mark.parametrize("content", [jpeg(1200, 800, exif=300), png(1200, 800)])
def test_with_too_few_bytes_there_is_no_size_and_no_error(content: bytes) -> None:
    enough = next(n for n in range(len(content)) if size_px(content[:n]) is not None)

    assert size_px(content[:enough]) == (1200, 800)
    assert enough > 20


@pytest.mark.parametrize("padding", [b"\xff\xff\xff", b"\xff\x01", b"\xff\xd0"])
def test_padding_and_markers_without_a_length_are_passed_over(padding: bytes) -> None:
    content = jpeg(640, 480)

    assert size_px(content[:2] + padding + content[2:]) == (640, 480)


@pytest.mark.parametrize(
    "content",
    [
        b"GIF89a" + bytes(100),
        b"RIFF\x00\x00\x00\x00WEBPVP8 ",
        b"<html>",
        b"\xff\xd8\xff\xda\x00\x08" + bytes(50),
        b"\xff\xd8\x00\x00\x00\x00",
        b"\x89PNG\r\n\x1a\n" + bytes(40),
    ],
)
def test_what_is_neither_is_told_apart_from_what_is_unfinished(content: bytes) -> None:
    with pytest.raises(ValueError, match=r"JPEG|PNG"):
        size_px(content)


def test_a_table_of_huffman_codes_is_no_frame() -> None:
    table = b"\xff\xc4\x00\x09" + bytes([0, 0, 1, 0, 1, 0, 1])
    content = jpeg(640, 480)

    assert size_px(content[:2] + table + content[2:]) == (640, 480)
