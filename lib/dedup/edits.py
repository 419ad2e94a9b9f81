"""Altered copies of images: the ways in which pictures are changed on their way through the world."""

from __future__ import annotations

from collections.abc import Callable

from PIL import Image, ImageDraw, ImageFilter, ImageFont, ImageOps

Edit = Callable[[Image.Image], Image.Image]


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


EDITS: dict[str, Edit] = {
    "mirrored": ImageOps.mirror,
    "upside down": ImageOps.flip,
    "turned": lambda image: image.transpose(Image.Transpose.ROTATE_90),
    "blurred": _blurred,
    "greyscale": lambda image: image.convert("L").convert("RGB"),
    "text": _text,
    "lines": _lines,
}
"""Every edit by name: from an image in RGB to its altered copy."""
