"""The part of a query that counts: boxes that it is cut to, and boxes that are painted over."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from PIL import Image, ImageDraw

from dedup.errors import UsageError

_NUMBER = r"\s*(\d+(?:\.\d*)?|\.\d+)\s*"
_BOX = re.compile(",".join([_NUMBER] * 4))

_DIMMED = 0.35  # what is left of the light of pixels that do not count, where they are shown
_KEPT, _IGNORED = "#00b86b", "#ff3b30"

Corners = tuple[int, int, int, int]
"""Left, upper, right and lower edge in pixels; right and lower are the first ones outside."""


@dataclass(frozen=True)
class Box:
    """A rectangle of an image: in pixels, or, where no number is greater than 1, in fractions of width and height."""

    text: str  #: as the user said it
    x: float
    y: float
    width: float
    height: float

    def on(self, size: tuple[int, int]) -> Corners | None:
        """Return its corners on an image of a width and a height; None where nothing of it is on the image."""
        wide, high = size if max(self.x, self.y, self.width, self.height) <= 1 else (1, 1)
        left, upper = (math.floor(round(edge, 6)) for edge in (self.x * wide, self.y * high))
        right, lower = (
            min(math.ceil(round(edge, 6)), most)
            for edge, most in zip(((self.x + self.width) * wide, (self.y + self.height) * high), size, strict=True)
        )
        return (left, upper, right, lower) if left < right and upper < lower else None


def box(text: str) -> Box:
    """Return the box that a user means: x, y, width, height.

    Raises
    ------
    UsageError
        If it is none.

    Examples
    --------
    >>> box("10,20,300,200").on((640, 480)), box(".5,0,.5,1").on((640, 480))
    ((10, 20, 310, 220), (320, 0, 640, 480))
    """
    found = _BOX.fullmatch(text)
    if found is None:
        raise UsageError(f"{text!r} is no box: say x,y,width,height, in pixels or in fractions of the image (0 to 1)")
    numbers = [float(number) for number in found.groups()]
    if not min(numbers[2:]) > 0:
        raise UsageError(f"{text!r} is an empty box: width and height must be more than 0")
    if max(numbers) > 1 and any(number % 1 for number in numbers):
        raise UsageError(f"{text!r} is no box: its numbers must be whole pixels, or fractions that are all at most 1")
    return Box(text, *numbers)


@dataclass(frozen=True)
class Focus:
    """What counts of each query: all of it, unless there are boxes."""

    on: tuple[Box, ...] = ()  #: only what is inside of one of these counts
    off: tuple[Box, ...] = ()  #: what is inside of these does not

    def __bool__(self) -> bool:
        return bool(self.on or self.off)

    def cut(self, image: Image.Image, name: str, neutral: tuple[int, int, int]) -> Image.Image:
        """Return what counts of an upright image in RGB, the rest in one colour; of a focus, the rectangle around it.

        Parameters
        ----------
        image
            The query.
        name
            What it is called in messages.
        neutral
            The colour, in RGB, in which a network sees nothing.

        Raises
        ------
        UsageError
            If a box is not on the image, or nothing is left.
        """
        mask = self._mask(image.size, name)
        ground = Image.new("RGB", image.size, neutral)
        ground.paste(image, mask=mask)
        if not self.on:  # what is painted over at an edge has something of the image behind it: nothing may move
            return ground
        left, upper, right, lower = zip(*(_on(one, image.size, name) for one in self.on), strict=True)
        return ground.crop((min(left), min(upper), max(right), max(lower)))

    def shown(self, image: Image.Image, name: str) -> Image.Image:
        """Return an upright image in RGB with the boxes drawn on it; what does not count is dimmed.

        Raises
        ------
        UsageError
            As `cut`.
        """
        mask = self._mask(image.size, name)
        seen = image.point(lambda value: round(value * _DIMMED))
        seen.paste(image, mask=mask)
        draw = ImageDraw.Draw(seen)
        for boxes, colour in ((self.on, _KEPT), (self.off, _IGNORED)):
            for one in boxes:
                left, upper, right, lower = _on(one, image.size, name)
                draw.rectangle((left, upper, right - 1, lower - 1), outline=colour, width=max(1, max(image.size) // 60))
        return seen

    def _mask(self, size: tuple[int, int], name: str) -> Image.Image:
        """Return a picture in black and white of what counts."""
        mask = Image.new("1", size, color=not self.on)
        draw = ImageDraw.Draw(mask)
        for boxes, counts in ((self.on, 1), (self.off, 0)):
            for one in boxes:
                left, upper, right, lower = _on(one, size, name)
                draw.rectangle((left, upper, right - 1, lower - 1), fill=counts)
        if mask.getbbox() is None:
            raise UsageError(f"{name}: nothing is left of it: all of the focus is ignored")
        return mask


def _on(one: Box, size: tuple[int, int], name: str) -> Corners:
    corners = one.on(size)
    if corners is None:
        raise UsageError(f"the box {one.text} covers no pixel of {name}, which has {size[0]} x {size[1]} pixels")
    return corners
