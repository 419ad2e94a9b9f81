"""Bytes become a picture: decoded, upright, in RGB, at the size that the network looks at.

What an image is, is told by its bytes, never by its name. docs/tables.md says which formats are read.
"""

from __future__ import annotations

import base64
import io
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from threading import Lock

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageFile, UnidentifiedImageError

from dedup import digests, excess
from dedup.errors import Reason, Reject
from dedup.quiet import quiet

SIDE = 224
"""Width and height, in pixels, of the picture that VGG16 looks at."""

PREPROCESSING = "bilinear224"
"""The name of what happens here, a part of the model's id: another way to make pixels makes other features."""

MAX_PIXELS = 100_000_000
"""The most pixels that a header may claim: they take 4 to 24 bytes each while they are decoded."""

LARGE = 10_000_000
"""The pixels above which images are decoded one at a time in a process: at the limit, one takes over a gigabyte."""

FORMATS = (
    *("JPEG", "PNG", "GIF", "WEBP", "AVIF", "TIFF", "BMP", "DIB", "JPEG2000"),
    *("ICO", "CUR", "ICNS", "PPM", "TGA", "PCX", "SGI", "DDS", "PSD", "QOI", "XBM", "XPM"),
)
"""The formats that are decoded, as Pillow names them (JPEG holds MPO). EPS and others that run programs are not."""

# Pillow looks at this limit also inside containers (an icon's PNG, a frame of an animation), where we see no header.
Image.init()
Image.MAX_IMAGE_PIXELS = MAX_PIXELS
warnings.filterwarnings("ignore", module="PIL")  # of broken metadata, thousands of times in a lake
warnings.simplefilter("error", Image.DecompressionBombWarning)


@dataclass(frozen=True)
class Picture:
    """A decoded image."""

    pixels: NDArray[np.uint8]  #: shape (side, side, 3), RGB
    width: int  #: of the image itself, upright, in pixels
    height: int
    format: str  #: one of FORMATS, or MPO
    digest: str | None  #: of all that the file shows, at full size; None where it shows more than this picture


def decode(content: bytes, side: int = SIDE) -> Picture:
    """Return the picture in an image file's bytes: of an animation the first frame, of several images the first.

    Parameters
    ----------
    content
        The bytes.
    side
        Width and height of the picture.

    Raises
    ------
    Reject
        If there is none; the reason says why.
    """
    with _rejecting(content):
        image = _open(content)
    with _room(image.width * image.height):
        format = image.format or ""
        with _rejecting(content):
            upright = _oriented(image)
            del image  # its pixels, where they have been turned
            rgb = _rgb(upright)
        return Picture(shrunk(rgb, side), rgb.width, rgb.height, format, digests.digest(content, format, upright))


def shrunk(image: Image.Image, side: int = SIDE) -> NDArray[np.uint8]:
    """Return the picture of an image in RGB that the network looks at, shape (side, side, 3)."""
    return np.asarray(image.resize((side, side), Image.Resampling.BILINEAR))


def open_upright(content: bytes) -> Image.Image:
    """Return an image file's first image in RGB, upright by its EXIF orientation.

    Raises
    ------
    Reject
        If there is none; the reason says why.
    """
    with _rejecting(content):
        image = _open(content)
    with _room(image.width * image.height), _rejecting(content):
        upright = _oriented(image)
        del image
        upright = _rgb(upright)
    upright.info = {}
    return upright


def thumbnail(content: bytes, side: int) -> str:
    """Return an image as a small JPEG, its longer side of at most `side` pixels, in a data: URI.

    Raises
    ------
    Reject
        If the bytes hold no image.
    """
    return small(open_upright(content), side)


def small(image: Image.Image, side: int) -> str:
    """Return an image in RGB as `thumbnail` does; it is changed."""
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    image.save(file, "JPEG", quality=75)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()


def encoded(pixels: NDArray[np.uint8]) -> bytes:
    """Return the bytes of an image file that shows just these pixels, shape (height, width, 3), RGB."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", compress_level=1)
    return file.getvalue()


def _open(content: bytes) -> ImageFile.ImageFile:
    """Return the image whose header the bytes begin with; its pixels are not decoded yet."""
    excess.require_few_numbers(content)
    image = Image.open(io.BytesIO(content), formats=FORMATS)
    area = image.width * image.height
    if area > MAX_PIXELS:
        raise _too_many(f"{image.width} x {image.height} pixels")
    if image.format in {"JPEG", "MPO"}:
        most = excess.MOST_PASSES * MAX_PIXELS
        # No file has more scans than it has such bytes, and these are counted twenty times as fast.
        if content.count(excess.SCAN) * area > most and (scans := excess.passes(content)) * area > most:
            raise _too_many(f"{scans} passes over {image.width} x {image.height} pixels")
    return image


_alone = Lock()
"""Held while a large image is decoded; asked for before `quiet` is, never after, or two threads could wait for ever."""


def _room(pixels: int) -> AbstractContextManager[object]:
    """Wait, before so many pixels are decoded, until there is room for them for the time of a `with`."""
    return _alone if pixels > LARGE else nullcontext()


@contextmanager
def _rejecting(content: bytes) -> Iterator[None]:
    """Make a reject of whatever is raised while bytes are decoded."""
    if not content:
        raise Reject(Reason.EMPTY, "0 bytes")
    try:
        # libtiff complains of broken files on stderr, past Python: the reason in `rejects` says it better.
        with quiet() if content[:2] in {b"II", b"MM"} else nullcontext():
            yield
    except Reject:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise _too_many(str(error).partition(" exceeds")[0]) from error
    except UnidentifiedImageError as error:
        raise _unidentified(content) from error
    except MemoryError as error:
        raise Reject(Reason.TOO_MANY_PIXELS, "its pixels do not fit in memory", passing=True) from error
    except Exception as error:  # decoders raise anything at all on bytes that contradict themselves
        raise Reject(_reason(error), f"{type(error).__name__}: {error}") from error


def _too_many(claim: str) -> Reject:
    return Reject(Reason.TOO_MANY_PIXELS, f"{claim}, more than {MAX_PIXELS}")


def _reason(error: Exception) -> Reason:
    said = str(error).lower()
    if isinstance(error, EOFError) or "truncated" in said or "not enough image data" in said:
        return Reason.TRUNCATED
    if isinstance(error, NotImplementedError) or "unsupported" in said:
        return Reason.UNSUPPORTED
    return Reason.CORRUPT


def _unidentified(content: bytes) -> Reject:
    """Say what is wrong with bytes that no decoder of FORMATS takes."""
    if content[4:8] == b"ftyp" and content[8:12] in _HEIF:
        return Reject(Reason.UNSUPPORTED, "begins like HEIF, which is not decoded here")
    for name, (_, accept) in Image.OPEN.items():
        if accept is not None and _accepts(accept, content):
            if name in FORMATS:
                return Reject(Reason.CORRUPT, f"begins like {name}, but its header cannot be read")
            return Reject(Reason.UNSUPPORTED, f"begins like {name}, which is not decoded here")
    return Reject(Reason.NOT_AN_IMAGE, "no known image format")


def _accepts(accept: Callable[[bytes], bool | str], content: bytes) -> bool:
    try:
        return accept(content[:16]) is True
    except Exception:  # some read a number where fewer bytes are
        return False


_HEIF = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1"}

_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What undoes each EXIF orientation."""


def _oriented(image: Image.Image) -> Image.Image:
    """Return the image upright. Only the one tag is read: ImageOps.exif_transpose fails on others that are broken."""
    image.load()
    if len(image.info.get("exif", b"")) > excess.MOST_EXIF:
        return image
    try:
        undo = _UPRIGHT.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # EXIF that cannot be read says nothing about which way is up
        return image
    return image if undo is None else image.transpose(undo)


def _rgb(image: Image.Image) -> Image.Image:
    """Return the image in RGB: alpha on white, 16 bits and more scaled to 8."""
    if image.mode.startswith("I"):
        # Integers of 16 bits, the mode "I" too: that is how Pillow opens most greyscale files of more than 8 bits.
        values = np.asarray(image).astype(np.int32).clip(0, 65535)
        values += 128  # in place: an image can be of a hundred million pixels
        values //= 257
        return Image.fromarray(values.astype(np.uint8), "L").convert("RGB")
    if image.mode == "F":
        levels = np.nan_to_num(np.asarray(image, np.float32), posinf=255.0)
        if levels.max(initial=0) <= 1:
            levels *= 255
        return Image.fromarray(levels.clip(0, 255, out=levels).round().astype(np.uint8), "L").convert("RGB")
    if image.mode == "LAB":
        raise Reject(Reason.UNSUPPORTED, "CIE Lab colours")
    if image.has_transparency_data:
        rgba = image if image.mode == "RGBA" else image.convert("RGBA")
        white = Image.new("RGB", rgba.size, "white")
        white.paste(rgba, mask=rgba)
        return white
    return image if image.mode == "RGB" else image.convert("RGB")
