"""What is no picture: the reason that it is rejected for, and that nothing else happens to whoever reads it."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from dedup.errors import Reason, Reject
from dedup.pixels import SIDE, Picture, decode

Encode = Callable[..., bytes]


def reason(content: bytes) -> Reason:
    with pytest.raises(Reject) as caught:
        decode(content)
    assert caught.value.detail
    return caught.value.reason


def is_picture(picture: Picture) -> bool:
    return picture.pixels.shape == (SIDE, SIDE, 3) and picture.pixels.dtype == np.uint8


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_that_claims(width: int, height: int) -> bytes:
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + png_chunk(b"IDAT", zlib.compress(bytes(99))) + png_chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", Reason.EMPTY),
        (b"Not an image, a text.\n" * 20, Reason.NOT_AN_IMAGE),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", Reason.NOT_AN_IMAGE),
        (b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n", Reason.NOT_AN_IMAGE),
        (b"\0\0\0\x18ftypisom\0\0\0\0isommp41", Reason.NOT_AN_IMAGE),
        (bytes(1000), Reason.NOT_AN_IMAGE),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", Reason.UNSUPPORTED),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(99), Reason.UNSUPPORTED),
        (b"\0\0\0\x18ftyphevc\0\0\0\0msf1hevc" + bytes(99), Reason.UNSUPPORTED),
        (b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic" + bytes(99), Reason.UNSUPPORTED),
        (png_that_claims(12_000, 12_000), Reason.TOO_MANY_PIXELS),
        (png_that_claims(65_535, 65_535), Reason.TOO_MANY_PIXELS),
        (b"\x89PNG\r\n\x1a\n" + bytes(99), Reason.CORRUPT),
        (b"GIF89a", Reason.CORRUPT),
        (b"BM", Reason.CORRUPT),
        (b"\xff\xd8\xff", Reason.CORRUPT),
        (b"\n", Reason.NOT_AN_IMAGE),
    ],
)
def test_what_is_no_image_is_rejected_for_its_reason(content: bytes, why: Reason) -> None:
    assert reason(content) == why


@pytest.mark.parametrize("format", ["JPEG", "PNG", "GIF", "BMP", "TIFF"])
def test_half_a_file_is_truncated(photograph: Image.Image, encode: Encode, format: str) -> None:
    content = encode(photograph, format)
    assert reason(content[: len(content) // 2]) == Reason.TRUNCATED


def test_lab_colours_are_unsupported(encode: Encode) -> None:
    assert reason(encode(Image.new("LAB", (8, 8)), "TIFF")) == Reason.UNSUPPORTED


def test_a_file_of_too_many_pixels_takes_no_memory(tmp_path: Path, root: Path, encode: Encode) -> None:
    huge = png_that_claims(65535, 65535)
    entry = struct.pack("<BBBBHHII", 0, 0, 0, 0, 1, 32, len(huge), 22)
    icon = struct.pack("<HHH", 0, 1, 1) + entry + huge
    for name, content in {"huge": huge, "limit": png_that_claims(12_000, 12_000), "icon": icon}.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "allowed").write_bytes(encode(Image.new("1", (10_000, 10_000)), "PNG"))
    script = """if True:
        import pathlib, resource, sys
        from dedup import errors, pixels
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for name in ("huge", "limit", "icon"):
            try:
                pixels.decode(pathlib.Path(sys.argv[1], name).read_bytes())
            except errors.Reject as reject:
                print(name, reject.reason)
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 << 10)
        print(pixels.decode(pathlib.Path(sys.argv[1], "allowed").read_bytes()).width)
    """
    command = [sys.executable, "-c", script, str(tmp_path)]
    run = subprocess.run(command, capture_output=True, text=True, cwd=root / "lib", timeout=120, check=True)
    assert run.stdout.split("\n")[:-1] == [
        "huge too_many_pixels",
        "limit too_many_pixels",
        "icon too_many_pixels",
        "True",
        "10000",
    ]


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A valid file of a random format with a few bytes changed, and perhaps its end cut off."""
    format = draw(st.sampled_from(["JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "JPEG2000", "TGA", "ICO"]))
    file = io.BytesIO()
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (9, 16, 3), np.uint8).repeat(2, axis=0))
    image.save(file, format)
    content = bytearray(file.getvalue())
    for place in draw(st.lists(st.integers(0, len(content) - 1), max_size=4)):
        content[place] = draw(st.integers(0, 255))
    return bytes(content[: draw(st.integers(4, len(content)))])


def is_picture_or_reject(content: bytes) -> bool:
    try:
        return is_picture(decode(content))
    except Reject as reject:
        return reject.reason in set(Reason)


@settings(max_examples=400)
@given(st.binary(min_size=4, max_size=400) | damaged())
@example(b"P5 is a text")
@example(b"/* a program */")
@example(b"II*\0")
def test_any_bytes_are_a_picture_or_a_reject(content: bytes) -> None:
    assert is_picture_or_reject(content)


@given(st.binary(max_size=3))
def test_very_few_bytes_are_rejected(content: bytes) -> None:
    reason(content)
