"""Files that claim more than they hold: rejected, in little memory, whatever the format."""

from __future__ import annotations

import io
import json
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import pytest
from PIL import Image
from tests import bombs
from tests.bombs import LONG, SHORT, png, png_chunk, tiff, tiff_tags

from dedup import excess
from dedup.errors import Reason, Reject
from dedup.pixels import FORMATS, MAX_PIXELS, decode

MIB = 1 << 20
LITTLE = 96 * MIB
"""The memory that a bomb may take beside its own bytes: Pillow keeps 64 MiB of texts before it says no."""

RATIONAL = 5

# A picture in front of the bombs has Pillow load what it needs; the process may not take 2 GiB whatever happens.
DECODE = """if True:
    import json, pathlib, resource, sys
    from dedup import errors, pixels

    def memory(name):
        return int(pathlib.Path("/proc/self/status").read_text().split(name + ":")[1].split()[0]) << 10

    first, *files = sys.argv[1:]
    pixels.decode(pathlib.Path(first).read_bytes())
    resource.setrlimit(resource.RLIMIT_AS, (memory("VmSize") + (2 << 30),) * 2)
    for file in files:
        content = pathlib.Path(file).read_bytes()
        pathlib.Path("/proc/self/clear_refs").write_text("5")  # from here on the peak is this file's
        before = memory("VmRSS")
        try:
            pixels.decode(content)
            why = None
        except errors.Reject as reject:
            why = reject.reason
        print(json.dumps([why, memory("VmHWM") - before]))
"""


def decoded(folder: Path, root: Path, contents: dict[str, bytes]) -> dict[str, tuple[str | None, int]]:
    """Decode files in a process of their own; return why each was rejected, and the memory that it took at its peak."""
    file = io.BytesIO()
    Image.new("RGB", (64, 64)).save(file, "PNG")
    paths = []
    for number, content in enumerate([file.getvalue(), *contents.values()]):
        paths.append(folder / str(number))
        paths[-1].write_bytes(content)
    command = [sys.executable, "-c", DECODE, *map(str, paths)]
    run = subprocess.run(command, capture_output=True, text=True, cwd=root / "lib", timeout=300, check=True)
    lines = [json.loads(line) for line in run.stdout.splitlines()]
    return dict(zip(contents, lines, strict=True))


def test_there_is_a_bomb_for_every_format() -> None:
    assert set(bombs.CLAIMS) == set(FORMATS)


def test_files_that_claim_too_many_pixels_are_rejected_in_little_memory(tmp_path: Path, root: Path) -> None:
    claims = bombs.CLAIMS | {"WEBP in motion": bombs.animated_webp}
    found = decoded(tmp_path, root, {name: claim(bombs.HUGE) for name, claim in claims.items()})
    # The library of AVIF takes no such header itself.
    expected = {name: Reason.CORRUPT if name == "AVIF" else Reason.TOO_MANY_PIXELS for name in claims}
    assert {name: why for name, (why, _) in found.items()} == expected
    assert {name: peak for name, (_, peak) in found.items() if peak > LITTLE} == {}


def test_files_that_claim_as_many_pixels_as_may_be_are_bounded(tmp_path: Path, root: Path) -> None:
    side = int(MAX_PIXELS**0.5)
    lenient = {"JPEG", "WEBP", "AVIF", "JPEG2000"}  # their decoders make up what is missing, or it is all one colour
    others = {name: claim(side) for name, claim in bombs.CLAIMS.items() if name not in lenient}
    found = decoded(tmp_path, root, others)
    assert {name: why for name, (why, _) in found.items()} == dict.fromkeys(others, Reason.TRUNCATED)
    assert {name: peak for name, (_, peak) in found.items() if peak > LITTLE} == {}


ZEROS = zlib.compress(bytes(100 * MIB), 9)
MIB_OF_ZEROS = zlib.compress(bytes(MIB - 1), 9)
NUMBERS = 4 * MIB


def changed(*more: tuple[int, int, int, bytes]) -> bytes:
    """Return a good TIFF but for some of its tags."""
    return tiff(*(tiff_tags(16, 16) | {tag[0]: tag for tag in more}).values())


HIDDEN = {
    "a text of 100 MiB": png(16, 16, png_chunk(b"zTXt", b"k\0\0" + ZEROS)),
    "an international text of 100 MiB": png(16, 16, png_chunk(b"iTXt", b"k\0\1\0\0\0" + ZEROS)),
    "a profile of 100 MiB": png(16, 16, png_chunk(b"iCCP", b"k\0\0" + ZEROS)),
    "70 texts of 1 MiB": png(
        16, 16, *[png_chunk(b"iTXt", b"k%d\0\1\0\0\0" % number + MIB_OF_ZEROS) for number in range(70)]
    ),
    "a tile of 10 GB": tiff(
        *{tag: value for tag, value in tiff_tags(16, 16, 8).items() if tag not in {273, 278, 279}}.values(),
        *[
            (tag, LONG, 1, struct.pack("<I", value))
            for tag, value in {322: 60_000, 323: 60_000, 324: 8, 325: 64}.items()
        ],
    ),
    "a strip of 10 GB": changed((278, LONG, 1, struct.pack("<I", 1 << 31)), (259, LONG, 1, struct.pack("<I", 5))),
    "fractions": changed((282, RATIONAL, NUMBERS, struct.pack("<II", 3, 7) * NUMBERS)),
    "strips": changed((273, SHORT, NUMBERS, b"\x08\x01" * NUMBERS)),
    "a small box around a large picture": bombs.jpeg2000_inside(20_000),
}
"""Files of few pixels that a decoder makes much of."""


def test_what_is_hidden_beside_few_pixels_takes_little_memory(tmp_path: Path, root: Path) -> None:
    found = decoded(tmp_path, root, HIDDEN)
    assert {name for name, (why, _) in found.items() if why is None} == set()
    assert {name: peak for name, (_, peak) in found.items() if peak > LITTLE} == {}


@pytest.mark.parametrize("order", ["<", ">"])
def test_a_tag_of_very_many_numbers_is_rejected_and_one_of_bytes_is_not(order: str) -> None:
    def directory(kind: int, count: int) -> bytes:
        head = (b"II" if order == "<" else b"MM") + struct.pack(order + "HL", 42, 8)
        return head + struct.pack(order + "HHHLL", 1, 273, kind, count, 26) + bytes(4)

    def big(kind: int, count: int) -> bytes:
        head = (b"II" if order == "<" else b"MM") + struct.pack(order + "HHHQ", 43, 8, 0, 16)
        return head + struct.pack(order + "QHHQQ", 1, 273, kind, count, 26)

    for made in (directory, big):
        for kind in (1, 2, 7):
            excess.require_few_numbers(made(kind, 1 << 31))
        for kind in (3, 4, 5, 12):
            excess.require_few_numbers(made(kind, excess.MOST_NUMBERS))
            with pytest.raises(Reject, match="tag 273 has 1048577 numbers"):
                excess.require_few_numbers(made(kind, excess.MOST_NUMBERS + 1))


def progressive(side: int, times: int) -> bytes:
    """Return a progressive JPEG whose last scan is there so many times more."""
    file = io.BytesIO()
    Image.linear_gradient("L").resize((side, side)).save(file, "JPEG", progressive=True)
    content = file.getvalue()
    last = content[content.rindex(b"\xff\xda") : -2]
    return content[:-2] + last * times + b"\xff\xd9"


def test_passes_are_the_scans_of_the_first_image() -> None:
    once = excess.passes(progressive(64, 0))
    assert 3 <= once <= 12
    assert excess.passes(progressive(64, 7)) == once + 7
    file = io.BytesIO()
    Image.new("RGB", (64, 64)).save(file, "JPEG", exif=b"Exif\0\0" + b"\xff\xda" * 99)
    assert excess.passes(file.getvalue() + progressive(64, 9)) == 1
    assert excess.passes(b"\xff\xd8\xff\xff\xff\xda\0\4ab") == 1
    assert [excess.passes(content) for content in (b"", b"\xff\xd8", b"\xff\xd8\xff\xda", b"no JPEG")] == [0] * 4


def test_a_picture_of_more_passes_than_are_worth_it_is_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    content = progressive(512, 20)
    assert decode(content).width == 512
    monkeypatch.setattr(excess, "MOST_PASSES", 512 * 512 * 20 / MAX_PIXELS)
    with pytest.raises(Reject, match="passes over 512 x 512 pixels") as caught:
        decode(content)
    assert caught.value.reason == Reason.TOO_MANY_PIXELS
    file = io.BytesIO()
    Image.new("RGB", (512, 512)).save(file, "JPEG", exif=b"Exif\0\0" + excess.SCAN * 99)
    assert decode(file.getvalue()).width == 512, "bytes that look like scans are none"


def test_exif_of_more_than_a_mebibyte_is_not_looked_at() -> None:
    def turned(padding: int) -> bytes:
        exif = Image.Exif()
        exif[0x0112] = 6
        file = io.BytesIO()
        Image.new("RGB", (16, 8)).save(file, "PNG", exif=exif.tobytes() + bytes(padding))
        return file.getvalue()

    assert (decode(turned(100)).width, decode(turned(excess.MOST_EXIF)).width) == (8, 16)
