"""A decoded image becomes a digest: files that show the same and lose nothing against each other have the same one.

The container, its compression and its metadata do not count: a BMP and a PNG of the same values are equal. Colour
profiles do, because the same values look different under another profile. Of some files Pillow decodes less than they
hold (one page of several, 8 bits of 16, no layers): others could look equal that are not, so these have no digest.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterator

from PIL import Image, ImageFile
from PIL.TiffImagePlugin import BITSPERSAMPLE, EXTRASAMPLES, SUBIFD, TiffImageFile

_STRIP = 1 << 19
"""The pixels that are hashed at a time: few, so that they stay in the processor's cache, and no image is copied."""

_WITHIN_RGBA = {"1", "L", "P", "LA", "PA", "RGB", "RGBX", "RGBA"}
"""The modes whose values RGB holds without loss, or RGBA where not all is opaque."""

_LAYERS = 37724
"""The TIFF tag in which Photoshop keeps layers."""

_UNASSOCIATED_ALPHA = 2
"""The one kind of a TIFF's extra samples that is decoded as it stands."""


def digest(content: bytes, format: str, image: Image.Image) -> str | None:
    """Return the SHA-256 of what an image shows, as hex digits: its mode, size, colour profile and pixels.

    Parameters
    ----------
    content
        The file's bytes.
    format
        Its format, as Pillow names it.
    image
        The image in it, decoded and upright, in the mode that Pillow decodes it in.

    Returns
    -------
    str or None
        None if the file holds more than the image, or if that cannot be told.
    """
    try:
        return _hashed(image) if _is_whole(content, format, image) else None
    except Exception:  # decoders raise anything at all; what was decoded stays an image, only equal to no other
        return None


def _hashed(image: Image.Image) -> str:
    mode = image.mode
    if mode in _WITHIN_RGBA:
        mode = "RGB" if _is_opaque(image) else "RGBA"
    hashed = hashlib.sha256(f"{mode} {image.width} {image.height} ".encode() + _profile(image))
    for strip in _strips(image):
        hashed.update((strip if strip.mode == mode else strip.convert(mode)).tobytes())
    return hashed.hexdigest()


def _strips(image: Image.Image) -> Iterator[Image.Image]:
    rows = max(1, _STRIP // image.width)
    if rows >= image.height:
        yield image
        return
    for top in range(0, image.height, rows):
        yield image.crop((0, top, image.width, min(top + rows, image.height)))


def _is_opaque(image: Image.Image) -> bool:
    if not image.has_transparency_data:
        return True
    return all(strip.convert("RGBA").getchannel("A").getextrema() == (255, 255) for strip in _strips(image))


def _profile(image: Image.Image) -> bytes:
    """Return an image's colour profile; none where it is sRGB, which is what no profile means."""
    profile: bytes = image.info.get("icc_profile") or b""
    return b"" if b"sRGB" in profile or "sRGB".encode("utf-16-be") in profile else profile


def _is_whole(content: bytes, format: str, image: Image.Image) -> bool:
    """Tell whether an image is all that its file shows."""
    if format not in _WHOLE or (image.mode not in _WITHIN_RGBA and "transparency" in image.info):
        return False
    # Opened once more, its pixels not decoded: looking for a second frame spoils a file that still has to be decoded.
    with Image.open(io.BytesIO(content), formats=[format]) as file:
        return not getattr(file, "is_animated", False) and _WHOLE[format](file)


def _is_whole_bmp(file: ImageFile.ImageFile) -> bool:
    """Tell whether the newest kind of header names no profile in the file or beside it, which Pillow does not read."""
    assert file.fp is not None
    file.fp.seek(70)
    return file.fp.read(4) not in {b"DEBM", b"KNIL"}


def _is_whole_jpeg(file: ImageFile.ImageFile) -> bool:
    return "mpoffset" not in file.info  # else another image follows, such as the gain map of a phone's HDR photograph


def _is_whole_png(file: ImageFile.ImageFile) -> bool:
    return file.mode == "I;16" or not any(";16" in str(tile[3]) for tile in file.tile)


def _is_whole_ppm(file: ImageFile.ImageFile) -> bool:
    """Tell whether values are taken as they stand: others are scaled, and a PFM may have a scale for all."""
    return file.mode != "F" and file.tile[0][0] == "raw"


def _is_whole_tiff(file: ImageFile.ImageFile) -> bool:
    assert isinstance(file, TiffImageFile)
    bits = 16 if file.mode.startswith("I;16") else 32 if file.mode in {"I", "F"} else 8
    return (
        max(file.tag_v2.get(BITSPERSAMPLE, (1,))) <= bits
        and {_UNASSOCIATED_ALPHA}.issuperset(file.tag_v2.get(EXTRASAMPLES, ()))
        and not {SUBIFD, _LAYERS}.intersection(file.tag_v2)
    )


def _always(_: ImageFile.ImageFile) -> bool:
    return True


_WHOLE: dict[str, Callable[[ImageFile.ImageFile], bool]] = {
    "JPEG": _is_whole_jpeg,
    "PNG": _is_whole_png,
    "GIF": _always,
    "WEBP": _always,
    "TIFF": _is_whole_tiff,
    "BMP": _is_whole_bmp,
    "PPM": _is_whole_ppm,
    "TGA": _always,
    "PCX": _always,
    "QOI": _always,
}
"""By format, whether a file without a second frame is decoded without loss. In the others this cannot be told."""
