"""Bytes become a picture: every kind of image that is read, and the reason for every kind that is not."""

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
from dedup.errors import Reason, Reject
from dedup.pixels import SIDE, Picture, decode
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

Encode = Callable[..., bytes]

WHITE, BLACK, RED = (255, 255, 255), (0, 0, 0), (255, 0, 0)

SHORT = pytest.mark.xfail(strict=True, raises=struct.error, reason="fewer than 4 bytes: DIB's accept() wants 4")
MIF1 = pytest.mark.xfail(strict=True, reason="the brand mif1 is taken for AVIF before HEIF is thought of")


def reason(content: bytes) -> Reason:
    with pytest.raises(Reject) as caught:
        decode(content)
    assert caught.value.detail
    return caught.value.reason


def is_picture(picture: Picture) -> bool:
    return picture.pixels.shape == (SIDE, SIDE, 3) and picture.pixels.dtype == np.uint8


def colour(content: bytes) -> tuple[int, ...]:
    """Return the one colour of a picture."""
    pixels = decode(content).pixels
    assert (pixels == pixels[0, 0]).all()
    return tuple(pixels[0, 0].tolist())


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_that_claims(width: int, height: int) -> bytes:
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + png_chunk(b"IDAT", zlib.compress(bytes(99))) + png_chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("format", "options", "error"),
    [
        ("PNG", {}, 0),
        ("BMP", {}, 0),
        ("TIFF", {"compression": "tiff_lzw"}, 0),
        ("WEBP", {"lossless": True}, 0),
        ("JPEG2000", {}, 0),
        ("PPM", {}, 0),
        ("TGA", {}, 0),
        ("QOI", {}, 0),
        ("JPEG", {"quality": 95}, 3),
        ("JPEG", {"quality": 95, "progressive": True}, 3),
        ("WEBP", {"quality": 95}, 5),
        ("AVIF", {"quality": 95}, 5),
        ("GIF", {}, 12),
    ],
)
def test_a_photograph_is_decoded_from_any_format(
    photograph: Image.Image, encode: Encode, format: str, options: dict[str, object], error: float
) -> None:
    picture = decode(encode(photograph, format, **options))
    assert (picture.format, picture.width, picture.height) == (format, 96, 64)
    expected = np.asarray(photograph.resize((SIDE, SIDE), Image.Resampling.BILINEAR), np.int16)
    assert is_picture(picture)
    assert np.abs(picture.pixels - expected).mean() <= error


@pytest.mark.parametrize("size", [(1, 1), (1, 700), (1000, 3), (SIDE, SIDE)])
def test_an_image_of_any_shape_is_a_picture_of_one_size(encode: Encode, size: tuple[int, int]) -> None:
    picture = decode(encode(Image.new("RGB", size, RED), "PNG"))
    assert is_picture(picture)
    assert (picture.width, picture.height) == size


@pytest.mark.parametrize(
    ("mode", "value", "format", "seen"),
    [
        ("1", 1, "PNG", WHITE),
        ("1", 0, "TIFF", BLACK),
        ("L", 77, "PNG", (77, 77, 77)),
        ("L", 77, "BMP", (77, 77, 77)),
        ("LA", (77, 255), "PNG", (77, 77, 77)),
        ("LA", (0, 0), "PNG", WHITE),
        ("RGBA", (*RED, 255), "PNG", RED),
        ("RGBA", (*BLACK, 0), "PNG", WHITE),
        ("RGBA", (*BLACK, 0), "TIFF", WHITE),
        ("RGBA", (*BLACK, 0), "WEBP", WHITE),
        ("RGBA", (*BLACK, 0), "AVIF", WHITE),
        ("RGBA", (*BLACK, 0), "GIF", WHITE),
        ("RGBA", (*BLACK, 0), "ICO", WHITE),
        ("RGBA", (*RED, 51), "PNG", (255, 204, 204)),
        ("CMYK", (0, 255, 255, 0), "TIFF", RED),
        ("CMYK", (0, 0, 0, 0), "JPEG", WHITE),
        ("I;16", 65535, "PNG", WHITE),
        ("I;16", 65535, "TIFF", WHITE),
        ("I;16", 128 * 257, "PNG", (128, 128, 128)),
        ("I;16", 0, "PNG", BLACK),
        ("I", 65535, "TIFF", WHITE),
        ("I", 100 * 257, "TIFF", (100, 100, 100)),
        ("I", 1_000_000, "TIFF", WHITE),
        ("I", -7, "TIFF", BLACK),
        ("F", 0.2, "TIFF", (51, 51, 51)),
        ("F", 200.0, "TIFF", (200, 200, 200)),
        ("F", float("inf"), "TIFF", WHITE),
        ("F", float("nan"), "TIFF", BLACK),
    ],
)
def test_every_mode_becomes_rgb(
    encode: Encode, mode: str, value: float | tuple[int, ...], format: str, seen: tuple[int, ...]
) -> None:
    assert colour(encode(Image.new(mode, (16, 16), value), format)) == seen


@pytest.mark.parametrize("format", ["PNG", "GIF"])
def test_transparent_entries_of_a_palette_are_white(encode: Encode, format: str) -> None:
    image = Image.new("P", (16, 16), 1)
    image.putpalette([*RED, *BLACK])
    assert colour(encode(image, format)) == BLACK
    assert colour(encode(image, format, transparency=1)) == WHITE


def test_a_transparent_colour_is_white(encode: Encode) -> None:
    assert colour(encode(Image.new("RGB", (16, 16), RED), "PNG", transparency=RED)) == WHITE


@pytest.mark.parametrize("format", ["GIF", "PNG", "WEBP", "TIFF"])
def test_the_first_frame_stands_for_all(encode: Encode, format: str) -> None:
    frames = [Image.new("RGB", (16, 16), name) for name in ("red", "lime", "blue")]
    options = {"lossless": True} if format == "WEBP" else {}
    assert colour(encode(frames[0], format, save_all=True, append_images=frames[1:], **options)) == RED


# How the rows and columns of a file lie if its tag says so: the standard's table, as slices of the upright picture.
ORIENTATIONS: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    1: lambda upright: upright,
    2: lambda upright: upright[:, ::-1],
    3: lambda upright: upright[::-1, ::-1],
    4: lambda upright: upright[::-1],
    5: lambda upright: upright.swapaxes(0, 1),
    6: lambda upright: upright.swapaxes(0, 1)[::-1],
    7: lambda upright: upright.swapaxes(0, 1)[::-1, ::-1],
    8: lambda upright: upright.swapaxes(0, 1)[:, ::-1],
}


@pytest.mark.parametrize("orientation", ORIENTATIONS)
@pytest.mark.parametrize(
    ("format", "options", "error"),
    [("JPEG", {"quality": 95}, 3), ("PNG", {}, 0), ("WEBP", {"lossless": True}, 0), ("TIFF", {}, 0)],
)
def test_every_orientation_gives_the_same_upright_picture(
    photograph: Image.Image,
    encode: Encode,
    orientation: int,
    format: str,
    options: dict[str, object],
    error: float,
) -> None:
    lying = Image.fromarray(np.ascontiguousarray(ORIENTATIONS[orientation](np.asarray(photograph))))
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture = decode(encode(lying, format, exif=exif, **options))
    assert (picture.width, picture.height) == (96, 64)
    expected = np.asarray(photograph.resize((SIDE, SIDE), Image.Resampling.BILINEAR), np.int16)
    assert np.abs(picture.pixels - expected).mean() <= error


@pytest.mark.parametrize(
    "exif",
    [
        b"Exif\0\0",
        b"Exif\0\0MM",
        b"Exif\0\0 this is no TIFF header",
        b"Exif\0\0II*\0\xff\xff\xff\xff",
        b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x63\0\0\0\0\0\0\0",  # orientation 99
        b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x02\0\x04\0\0\0six\0\0\0\0\0",  # orientation "six"
    ],
)
def test_broken_exif_says_nothing(photograph: Image.Image, encode: Encode, exif: bytes) -> None:
    plain, broken = encode(photograph, "JPEG"), encode(photograph, "JPEG", exif=exif)
    assert exif in broken
    np.testing.assert_array_equal(decode(broken).pixels, decode(plain).pixels)


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
        pytest.param(b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic" + bytes(99), Reason.UNSUPPORTED, marks=MIF1),
        (b"\x89PNG\r\n\x1a\n" + bytes(99), Reason.CORRUPT),
        (b"GIF89a", Reason.CORRUPT),
        (b"BM", Reason.CORRUPT),
        pytest.param(b"\xff\xd8\xff", Reason.CORRUPT, marks=SHORT),
        pytest.param(b"\n", Reason.NOT_AN_IMAGE, marks=SHORT),
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


@SHORT
@given(st.binary(max_size=3))
def test_very_few_bytes_are_rejected(content: bytes) -> None:
    reason(content)
