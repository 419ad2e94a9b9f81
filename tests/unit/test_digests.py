"""Digests: the same for files that show the same, another for what differs, none where it cannot be told."""

from __future__ import annotations

import hashlib
import io
import struct
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms, TiffImagePlugin

from dedup.errors import Reject
from dedup.pixels import decode, open_upright

Encode = Callable[..., bytes]

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
OTHER = ImageCms.ImageCmsProfile(ImageCms.createProfile("XYZ")).tobytes()

EXIF = Image.Exif()
EXIF[0x010F] = "a maker of cameras"


def digest(content: bytes) -> str | None:
    return decode(content).digest


def png(bits: int, colour: int, pixel: bytes) -> bytes:
    """Return a PNG of one pixel, of a kind that Pillow does not write."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, bits, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0" + pixel)) + chunk(b"IEND", b"")


def tiff(bits: tuple[int, ...], pixel: bytes, *extra: int) -> bytes:
    """Return a TIFF of one pixel, of a kind that Pillow does not write."""
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[TiffImagePlugin.IMAGEWIDTH] = tags[TiffImagePlugin.IMAGELENGTH] = tags[TiffImagePlugin.ROWSPERSTRIP] = 1
    tags[TiffImagePlugin.BITSPERSAMPLE] = bits
    tags[TiffImagePlugin.SAMPLESPERPIXEL] = len(bits)
    tags[TiffImagePlugin.PHOTOMETRIC_INTERPRETATION] = 1 if len(bits) < 3 else 2
    tags[TiffImagePlugin.STRIPOFFSETS] = 0  # after the tags
    tags[TiffImagePlugin.STRIPBYTECOUNTS] = len(pixel)
    if extra:
        tags[TiffImagePlugin.EXTRASAMPLES] = extra
    file = io.BytesIO()
    tags.save(file)
    return file.getvalue() + pixel


def test_a_digest_is_the_hash_of_mode_size_and_pixels(photograph: Image.Image, encode: Encode) -> None:
    expected = hashlib.sha256(b"RGB 96 64 " + np.asarray(photograph).tobytes())
    assert digest(encode(photograph, "PNG")) == expected.hexdigest()


@pytest.mark.parametrize(
    ("format", "options"),
    [
        ("PNG", {"compress_level": 0}),
        ("PNG", {"exif": EXIF}),
        ("PNG", {"dpi": (300, 300)}),
        ("PNG", {"icc_profile": SRGB}),
        ("BMP", {}),
        ("TIFF", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
        ("WEBP", {"lossless": True}),
        ("WEBP", {"lossless": True, "exif": EXIF}),
        ("PPM", {}),
        ("TGA", {}),
        ("TGA", {"compression": "tga_rle"}),
        ("PCX", {}),
        ("QOI", {}),
    ],
)
def test_containers_and_metadata_do_not_count(
    photograph: Image.Image, encode: Encode, format: str, options: dict[str, Any]
) -> None:
    assert digest(encode(photograph, format, **options)) == digest(encode(photograph, "PNG"))


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "RGBA"])
@pytest.mark.parametrize("format", ["PNG", "TIFF", "TGA"])
def test_eight_opaque_bits_are_rgb(photograph: Image.Image, encode: Encode, mode: str, format: str) -> None:
    image = photograph.quantize(99) if mode == "P" else photograph.convert(mode)
    assert digest(encode(image, format)) == digest(encode(image.convert("RGB"), "BMP"))


def test_a_jpeg_is_equal_to_what_was_made_of_it_without_loss(photograph: Image.Image, encode: Encode) -> None:
    content = encode(photograph, "JPEG", quality=80)
    assert digest(content) == digest(encode(photograph, "JPEG", quality=80, progressive=True, comment="another"))
    assert digest(content) == digest(encode(open_upright(content), "PNG"))
    assert digest(content) != digest(encode(photograph, "JPEG", quality=79))


def test_the_upright_image_counts(photograph: Image.Image, encode: Encode) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    lying = encode(photograph.transpose(Image.Transpose.ROTATE_90), "PNG", exif=exif)
    assert digest(lying) == digest(encode(photograph, "PNG"))
    assert digest(encode(photograph.transpose(Image.Transpose.ROTATE_90), "PNG")) != digest(lying)


@pytest.mark.parametrize("place", [(0, 0), (999, 0), (500, 261), (500, 262), (0, 599), (999, 599)])
@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "CMYK"])
def test_one_value_of_one_pixel_counts(encode: Encode, mode: str, place: tuple[int, int]) -> None:
    before, after = Image.new(mode, (1000, 600)), Image.new(mode, (1000, 600))
    after.putpixel(place, 1 if mode == "L" else (0,) * (len(mode) - 1) + (1,))
    assert len({digest(encode(before, "TIFF")), digest(encode(after, "TIFF")), None}) == 3


def test_size_counts(encode: Encode) -> None:
    sizes = [(2, 6), (3, 4), (4, 3), (6, 2), (1, 12)]
    assert len({digest(encode(Image.new("RGB", size, "red"), "PNG")) for size in sizes}) == len(sizes)


def test_alpha_counts_and_what_is_under_it(encode: Encode) -> None:
    pixels = [(0, 0, 0, 255), (255, 255, 255, 255), (255, 255, 255, 254), (255, 255, 255, 0), (0, 0, 0, 0)]
    found = [digest(encode(Image.new("RGBA", (4, 4), pixel), "PNG")) for pixel in pixels]
    assert len({*found, None}) == len(pixels) + 1


@pytest.mark.parametrize("mode", ["L", "P", "RGB"])
def test_a_colour_that_stands_for_transparency_is_alpha(photograph: Image.Image, encode: Encode, mode: str) -> None:
    image = photograph.quantize(8) if mode == "P" else photograph.convert(mode)
    content = encode(image, "PNG", transparency=image.getpixel((3, 3)))
    rgba = Image.open(io.BytesIO(content)).convert("RGBA")
    assert digest(content) == digest(encode(rgba, "PNG"))
    assert digest(content) != digest(encode(image, "PNG"))


def test_a_colour_profile_counts_unless_it_is_srgb(photograph: Image.Image, encode: Encode) -> None:
    other = {digest(encode(photograph, format, icc_profile=OTHER)) for format in ("PNG", "TIFF")}
    assert len(other) == 1
    assert other.isdisjoint({None, digest(encode(photograph, "PNG"))})


@pytest.mark.parametrize(("kind", "told"), [(b"BGRs", True), (b" niW", True), (b"DEBM", False), (b"KNIL", False)])
def test_a_bitmap_with_a_profile_has_no_digest(
    photograph: Image.Image, encode: Encode, kind: bytes, told: bool
) -> None:
    plain = encode(photograph, "BMP")
    starts, header = struct.pack("<I", 14 + 124), struct.pack("<I", 124) + plain[18:54] + bytes(16) + kind
    content = plain[:10] + starts + header.ljust(124, b"\0") + plain[54:]
    assert digest(content) == (digest(plain) if told else None)


@pytest.mark.parametrize("mode", ["CMYK", "YCbCr"])
def test_other_colours_are_not_converted(photograph: Image.Image, encode: Encode, mode: str) -> None:
    content = encode(photograph.convert(mode), "TIFF")
    assert digest(content) == digest(encode(photograph.convert(mode), "TIFF", software="another"))
    assert digest(content) not in {None, digest(encode(open_upright(content), "TIFF"))}


@pytest.mark.parametrize(
    ("mode", "format", "values"),
    [
        ("I;16", "PNG", (0, 1, 256, 257, 65535)),
        ("I;16", "TIFF", (0, 1, 256, 257, 65535)),
        ("I;16", "PPM", (0, 1, 256, 257, 65535)),
        ("I", "TIFF", (0, 1, 70000, -1)),
        ("F", "TIFF", (0.0, 0.5, 0.500001, 1e9)),
    ],
)
def test_values_of_more_than_eight_bits_count(
    encode: Encode, mode: str, format: str, values: tuple[float, ...]
) -> None:
    found = {digest(encode(Image.new(mode, (4, 4), value), format)) for value in values}
    grey = {digest(encode(Image.new("L", (4, 4), value), "PNG")) for value in (0, 1, 255)}
    assert len(found) == len(values)
    assert found.isdisjoint(grey | {None})


@pytest.mark.parametrize("format", ["GIF", "PNG", "WEBP", "TIFF", "MPO"])
def test_several_frames_have_no_digest(photograph: Image.Image, encode: Encode, format: str) -> None:
    assert digest(encode(photograph, format, save_all=True, append_images=[photograph.rotate(9)])) is None


@pytest.mark.parametrize("format", ["AVIF", "JPEG2000", "DIB", "ICO", "ICNS", "SGI", "DDS"])
def test_formats_that_do_not_tell_all_have_no_digest(photograph: Image.Image, encode: Encode, format: str) -> None:
    assert digest(encode(photograph.resize((64, 64)), format)) is None


def test_a_jpeg_with_a_gain_map_has_no_digest(photograph: Image.Image, encode: Encode) -> None:
    options = {"save_all": True, "append_images": [photograph], "xmp": b'<x hdrgm:Version="1.0">'}
    picture = decode(encode(photograph, "MPO", **options))
    assert (picture.format, picture.digest) == ("JPEG", None)


@pytest.mark.parametrize(
    ("kept", "lost"),
    [
        (png(8, 2, b"abc"), png(16, 2, b"abacad")),
        (png(8, 6, b"abcd"), png(16, 6, b"abacadae")),
        (png(8, 4, b"ab"), png(16, 4, b"abac")),
        (tiff((8, 8, 8), b"abc"), tiff((16, 16, 16), b"abacad")),
        (tiff((8, 8, 8, 8), b"abcd", 2), tiff((8, 8, 8, 8), b"abcd", 0)),
        (tiff((8, 8, 8, 8), b"abcd", 2), tiff((8, 8, 8, 8), b"abcd", 1)),
        (tiff((8, 8), b"ab", 2), tiff((8, 8), b"ab", 0)),
        (b"P6 1 1 255\nabc", b"P6 1 1 65535\nabacad"),
        (b"P5 1 1 65535\nab", b"P5 1 1 1000\n\0a"),
        (b"P4 1 1\n\xff", b"Pf 1 1 -2.0\n" + struct.pack("<f", 0.5)),
    ],
)
def test_what_is_decoded_with_loss_has_no_digest(kept: bytes, lost: bytes) -> None:
    assert digest(kept)
    assert digest(lost) is None


@pytest.mark.parametrize("tag", [{330: 8}, {37724: b"Adobe Photoshop Document Data Block"}])
def test_a_tiff_with_sub_images_or_layers_has_no_digest(
    photograph: Image.Image, encode: Encode, tag: dict[int, Any]
) -> None:
    assert digest(encode(photograph, "TIFF", tiffinfo=tag)) is None


def test_a_transparent_value_of_sixteen_bits_has_no_digest(encode: Encode) -> None:
    assert digest(encode(Image.new("I;16", (4, 4), 300), "PNG", transparency=300)) is None


def outcome(decoding: Callable[[bytes], object], content: bytes) -> str:
    try:
        decoding(content)
    except Reject as reject:
        return reject.reason
    return "decoded"


@pytest.mark.parametrize("format", ["JPEG", "PNG", "GIF", "WEBP", "TIFF", "MPO", "BMP", "PPM", "TGA", "PCX", "QOI"])
def test_looking_for_a_digest_rejects_nothing(photograph: Image.Image, encode: Encode, format: str) -> None:
    several = format in {"GIF", "PNG", "WEBP", "TIFF", "MPO"}
    more = {"save_all": True, "append_images": [photograph.rotate(9)]} if several else {}
    content = encode(photograph, format, **more)
    random = np.random.default_rng(3)
    found = []
    for _ in range(100):
        damaged = bytearray(content)
        damaged[random.integers(len(content))] = random.integers(256)
        cut = bytes(damaged[: random.integers(len(content) // 4, 2 * len(content))])
        found.append(outcome(open_upright, cut))
        assert outcome(decode, cut) == found[-1]
    assert 5 < found.count("decoded") < 95


def test_a_broken_second_frame_leaves_the_first(photograph: Image.Image, encode: Encode) -> None:
    content = encode(photograph, "GIF", save_all=True, append_images=[photograph.rotate(9)])
    first = len(encode(photograph, "GIF")) + 30
    for end in range(first, first + 40):
        assert decode(content[:end]).digest is None
