"""Bytes become a picture: every format, mode and orientation, the first frame, and broken EXIF."""

from __future__ import annotations

import base64
import io
import queue
import struct
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from math import isqrt

import numpy as np
import pytest
from PIL import Image

from dedup import pixels
from dedup.errors import Reject
from dedup.pixels import SIDE, Picture, decode, thumbnail

Encode = Callable[..., bytes]

WHITE, BLACK, RED = (255, 255, 255), (0, 0, 0), (255, 0, 0)


def is_picture(picture: Picture) -> bool:
    return picture.pixels.shape == (SIDE, SIDE, 3) and picture.pixels.dtype == np.uint8


def colour(content: bytes) -> tuple[int, ...]:
    """Return the one colour of a picture."""
    pixels = decode(content).pixels
    assert (pixels == pixels[0, 0]).all()
    return tuple(pixels[0, 0].tolist())


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


# Orientation 6, and before it a description that is a number where words must be.
ODD_NEIGHBOUR = b"Exif\0\0II*\0" + struct.pack("<IHHHIfHHIII", 8, 2, 0x010E, 11, 1, 0.5, 0x0112, 3, 1, 6, 0)


def test_a_broken_tag_beside_the_orientation_does_not_reject(photograph: Image.Image, encode: Encode) -> None:
    assert is_picture(decode(encode(photograph, "JPEG", exif=ODD_NEIGHBOUR)))


def test_a_broken_tag_beside_the_orientation_does_not_hide_it(photograph: Image.Image, encode: Encode) -> None:
    picture = decode(encode(photograph, "JPEG", exif=ODD_NEIGHBOUR))
    assert (picture.width, picture.height) == (64, 96)


@pytest.mark.parametrize(("size", "made"), [((352, 176), (176, 88)), ((10, 20), (10, 20)), ((1, 4000), (1, 176))])
@pytest.mark.parametrize("format", ["PNG", "JPEG"])
def test_a_thumbnail_is_a_small_picture_in_a_link(
    photograph: Image.Image, encode: Encode, size: tuple[int, int], made: tuple[int, int], format: str
) -> None:
    kind, _, data = thumbnail(encode(photograph.resize(size), format), 176).partition(",")
    assert kind == "data:image/jpeg;base64"
    small = Image.open(io.BytesIO(base64.b64decode(data, validate=True)))
    assert (small.format, small.size) == ("JPEG", made)
    seen, expected = (np.asarray(image, np.float64).mean() for image in (small, photograph))
    assert seen == pytest.approx(expected, abs=15)


@pytest.mark.parametrize("content", [b"", b"garbage", b"\x89PNG\r\n\x1a\n"])
def test_what_is_no_image_has_no_thumbnail(content: bytes) -> None:
    with pytest.raises(Reject):
        thumbnail(content, 176)


class Asked:
    """A lock that tells who asks for it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.times = threading.Semaphore(0)

    def __enter__(self) -> None:
        self.times.release()
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()


@pytest.mark.parametrize("decoded", [decode, pixels.open_upright])
def test_of_large_images_one_is_decoded_at_a_time_and_small_ones_go_on(
    monkeypatch: pytest.MonkeyPatch, encode: Encode, decoded: Callable[[bytes], object]
) -> None:
    side = isqrt(pixels.LARGE)
    small, *large = (encode(Image.new("L", (side, height)), "PNG") for height in (side, side + 1, side + 2))
    alone, under_way = Asked(), queue.Queue[int]()
    may_end = threading.Event()
    oriented = pixels._oriented

    def watched(image: Image.Image) -> Image.Image:
        if image.height > side:
            under_way.put(image.height)
            assert may_end.wait(60)
        return oriented(image)

    monkeypatch.setattr(pixels, "_alone", alone)
    monkeypatch.setattr(pixels, "_oriented", watched)
    with ThreadPoolExecutor(2) as pool:
        first, second = [pool.submit(decoded, content) for content in large]
        try:
            for _ in large:
                assert alone.times.acquire(timeout=60)
            assert (begun := under_way.get(timeout=60)) in {side + 1, side + 2}
            for _ in range(3):
                decoded(small)
            assert under_way.empty()
        finally:
            may_end.set()
        assert first.result() is not None
        assert second.result() is not None
    assert {begun, under_way.get(timeout=60)} == {side + 1, side + 2}
