"""Altered copies of images: the ways in which pictures are changed on their way through the world."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter, ImageFont, ImageOps

from dedup.views import VIEWS

Edit = Callable[[Image.Image], Image.Image]


def _reencoded(quality: int, scale: float = 1) -> Edit:
    def edit(image: Image.Image) -> Image.Image:
        file = io.BytesIO()
        _resized(scale)(image).save(file, "JPEG", quality=quality)
        return Image.open(file).convert("RGB")

    return edit


def _resized(scale: float) -> Edit:
    def edit(image: Image.Image) -> Image.Image:
        width, height = (max(1, round(side * scale)) for side in image.size)
        return image.resize((width, height), Image.Resampling.LANCZOS)

    return edit


def _cropped(share: float) -> Edit:
    """Return an edit that cuts a share of the width and of the height off, half of it on each side."""

    def edit(image: Image.Image) -> Image.Image:
        width, height = image.size
        x, y = round(width * share / 2), round(height * share / 2)
        return image.crop((x, y, width - x, height - y)) if min(width - 2 * x, height - 2 * y) > 0 else image.copy()

    return edit


def _framed(share: float, colour: str) -> Edit:
    """Return an edit that puts a frame around the image, as wide as a share of its longer side."""
    return lambda image: ImageOps.expand(image, max(1, round(max(image.size) * share)), colour)


def _padded(image: Image.Image) -> Image.Image:
    """Return the image on a black square that its longer side fills; a square one gets bars at left and right."""
    side = max(image.size)
    width = side if image.width != image.height else side + max(2, side // 5)
    ground = Image.new("RGB", (width, side), "black")
    ground.paste(image, ((width - image.width) // 2, (side - image.height) // 2))
    return ground


def _blurred(image: Image.Image) -> Image.Image:
    return image.filter(ImageFilter.GaussianBlur(max(1, max(image.size) / 150)))


def _text(image: Image.Image) -> Image.Image:
    copy = image.copy()
    draw = ImageDraw.Draw(copy)
    width, height = copy.size
    font = ImageFont.load_default(max(8, height / 8))
    for line in range(3):
        place = (width / 2, height * (1 + 2 * line) / 6)
        draw.text(
            place, "sample text", "white", font, anchor="mm", stroke_width=max(1, height // 200), stroke_fill="black"
        )
    return copy


def _lines(image: Image.Image) -> Image.Image:
    copy = image.copy()
    draw = ImageDraw.Draw(copy)
    width, height = copy.size
    for number, colour in enumerate(("red", "lime", "blue", "yellow", "magenta")):
        x = width * (1 + 2 * number) / 10
        draw.line([(x, 0), (width - x, height)], colour, max(2, width // 40))
    return copy


def _seen(name: str) -> Edit:
    return lambda image: Image.fromarray(np.ascontiguousarray(VIEWS[name](np.asarray(image))))


EDITS: dict[str, Edit] = {
    "re-encoded": _reencoded(75),
    "small and re-encoded": _reencoded(30, scale=0.5),
    "resized": _resized(0.5),
    "cropped 5 %": _cropped(0.05),
    "cropped 10 %": _cropped(0.1),
    "padded": _padded,
    "border": _framed(0.04, "white"),
    "brighter": lambda image: ImageEnhance.Brightness(image).enhance(1.3),
    "darker": lambda image: ImageEnhance.Brightness(image).enhance(0.7),
    "more contrast": lambda image: ImageEnhance.Contrast(image).enhance(1.4),
    "less contrast": lambda image: ImageEnhance.Contrast(image).enhance(0.7),
    "blurred": _blurred,
    "greyscale": lambda image: image.convert("L").convert("RGB"),
    "text": _text,
    "lines": _lines,
    **{name: _seen(name) for name in ("mirrored", "upside down", "turned left", "turned over", "turned right")},
}
"""Every edit by name: from an image in RGB to its altered copy."""
