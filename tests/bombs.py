"""Image files that claim far more than they hold: a few for each format, made from a header up."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable

from PIL import Image

HUGE = 65_500
"""The side that a bomb claims: 4,290,250,000 pixels, 17 GB in RGBA."""


def _saved(format: str, mode: str = "RGB", size: tuple[int, int] = (16, 16), **options: object) -> bytes:
    file = io.BytesIO()
    Image.new(mode, size, 1).save(file, format, **options)
    return file.getvalue()


def _put(content: bytes, place: int, kind: str, *values: int) -> bytes:
    """Return bytes with numbers written over some of them."""
    patched = bytearray(content)
    struct.pack_into(kind, patched, place, *values)
    return bytes(patched)


def png_chunk(kind: bytes, data: bytes) -> bytes:
    """Return a chunk of a PNG."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, *chunks: bytes) -> bytes:
    """Return a PNG with a right header, a few zeros for pixels, and chunks before them."""
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    pixels = png_chunk(b"IDAT", zlib.compress(bytes(99)))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + pixels + png_chunk(b"IEND", b"")


def tiff(*tags: tuple[int, int, int, bytes], end: int = 0) -> bytes:
    """Return a little-endian TIFF of tags: number, type, count and value, whose values follow the directory."""
    place = 8 + 2 + 12 * len(tags) + 4
    entries, values = b"", b""
    for number, kind, count, value in sorted(tags):
        if len(value) <= 4:
            entries += struct.pack("<HHI", number, kind, count) + value.ljust(4, b"\0")
        else:
            entries += struct.pack("<HHII", number, kind, count, place + len(values))
            values += value + bytes(len(value) % 2)
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + struct.pack("<I", end) + values


SHORT, LONG = 3, 4


def tiff_tags(width: int, height: int, compression: int = 1, **more: int) -> dict[int, tuple[int, int, int, bytes]]:
    """Return the tags of an RGB TIFF in one strip of a few bytes."""
    numbers = {256: width, 257: height, 259: compression, 262: 2, 277: 3, 278: height, 279: 64}
    made = {tag: (tag, LONG, 1, struct.pack("<I", value)) for tag, value in numbers.items()}
    return made | {
        258: (258, SHORT, 3, struct.pack("<3H", 8, 8, 8)),
        273: (273, LONG, 1, struct.pack("<I", 8)),
    }


def _jpeg(side: int) -> bytes:
    made = _saved("JPEG")
    return _put(made, made.index(b"\xff\xc0") + 5, ">HH", side, side)


def _gif(side: int) -> bytes:
    made = _saved("GIF", "P")
    made = _put(made, 6, "<HH", side, side)
    return _put(made, made.index(b"\x2c") + 5, "<HH", side, side)


def _webp(side: int) -> bytes:
    side = min(side, 16_383)
    made = _saved("WEBP", lossless=True)
    return _put(made, made.index(b"VP8L") + 9, "<I", (side - 1) | (side - 1) << 14)


def animated_webp(side: int) -> bytes:
    """Small by its frames, and huge by the canvas that they stand on."""
    frames = [Image.new("RGB", (16, 16), colour) for colour in ("red", "lime")]
    made = _saved("WEBP", save_all=True, append_images=frames)
    return _put(made, made.index(b"VP8X") + 12, "<IH", (side - 1) | (side - 1) << 24 & 0xFFFFFFFF, side - 1 >> 8)


def _avif(side: int) -> bytes:
    made = _saved("AVIF")
    return _put(made, made.index(b"ispe") + 8, ">II", side, side)


def _bmp(side: int) -> bytes:
    return _put(_saved("BMP"), 18, "<ii", side, side)


def _jpeg2000(side: int) -> bytes:
    made = _saved("JPEG2000")
    made = _put(made, made.index(b"ihdr") + 4, ">II", side, side)
    size = made.index(b"\xff\x51") + 6
    return _put(_put(made, size, ">II", side, side), size + 16, ">II", side, side)


def jpeg2000_inside(side: int) -> bytes:
    """Small by its box, and huge by the codestream in it."""
    made = _saved("JPEG2000")
    size = made.index(b"\xff\x51") + 6
    return _put(_put(made, size, ">II", side, side), size + 16, ">II", side, side)


def _icon(side: int, kind: int, inside: bytes) -> bytes:
    return struct.pack("<HHH", 0, kind, 1) + struct.pack("<BBBBHHII", 0, 0, 0, 0, 1, 32, len(inside), 22) + inside


def _icns(side: int) -> bytes:
    inside = png(side, side)
    return b"icns" + struct.pack(">I", 16 + len(inside)) + b"ic09" + struct.pack(">I", 8 + len(inside)) + inside


def _tga(side: int) -> bytes:
    return struct.pack("<BBBHHBHHHHBB", 0, 0, 10, 0, 0, 0, 0, 0, side, side, 24, 32) + bytes(64)


def _pcx(side: int) -> bytes:
    return _put(_saved("PCX"), 4, "<HHHH", 0, 0, side - 1, side - 1)


def _sgi(side: int) -> bytes:
    return _put(_saved("SGI"), 6, ">HH", side, side)


def _dds(side: int) -> bytes:
    return _put(_saved("DDS", "RGBA"), 12, "<II", side, side)


def _psd(side: int) -> bytes:
    header = b"8BPS" + struct.pack(">H6xHIIHH", 1, 3, side, side, 8, 3)
    return header + struct.pack(">IIIH", 0, 0, 0, 0) + bytes(64)


def _qoi(side: int) -> bytes:
    return b"qoif" + struct.pack(">IIBB", side, side, 3, 0) + b"\xfd" * 64 + bytes(7) + b"\x01"


def _xbm(side: int) -> bytes:
    return b"#define x_width %d\n#define x_height %d\nstatic char x_bits[] = {\n0x00, 0x00};\n" % (side, side)


def _xpm(side: int) -> bytes:
    return b'/* XPM */\nstatic char * x[] = {\n"%d %d 1 1",\n"a c #ff0000",\n"aaaa"};\n' % (side, side)


CLAIMS: dict[str, Callable[[int], bytes]] = {
    "JPEG": _jpeg,
    "PNG": lambda side: png(side, side),
    "GIF": _gif,
    "WEBP": _webp,
    "AVIF": _avif,
    "TIFF": lambda side: tiff(*tiff_tags(side, side).values()),
    "BMP": _bmp,
    "DIB": lambda side: _bmp(side)[14:],
    "JPEG2000": _jpeg2000,
    "ICO": lambda side: _icon(side, 1, png(side, side)),
    "CUR": lambda side: _icon(side, 2, _put(_bmp(side)[14:], 8, "<i", 2 * side)),
    "ICNS": _icns,
    "PPM": lambda side: b"P6 %d %d 255\n" % (side, side) + bytes(64),
    "TGA": _tga,
    "PCX": _pcx,
    "SGI": _sgi,
    "DDS": _dds,
    "PSD": _psd,
    "QOI": _qoi,
    "XBM": _xbm,
    "XPM": _xpm,
}
"""By format, a file that claims to be as wide and as high as it is told."""
