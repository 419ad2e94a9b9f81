"""Archives that the tests make: as everybody makes them, and as somebody does who means harm."""

from __future__ import annotations

import io
import tarfile
import zipfile
from collections.abc import Iterable
from typing import Any

Members = dict[str, bytes]


def entry(name: str, **about: Any) -> tarfile.TarInfo:
    """Return the header of a tar's member; `about` are its attributes: type, linkname, size, ..."""
    made = tarfile.TarInfo(name)
    for attribute, value in about.items():
        setattr(made, attribute, value)
    return made


def tar(members: Members, more: Iterable[tarfile.TarInfo] = (), format: int = tarfile.PAX_FORMAT) -> bytes:
    """Return a tar: members, and then headers as they are."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=format, errors="surrogateescape") as made:
        for name, content in members.items():
            made.addfile(entry(name, size=len(content)), io.BytesIO(content))
        for header in more:
            made.addfile(header)
    return file.getvalue()


def zipped(
    members: Members, method: int = zipfile.ZIP_DEFLATED, more: Iterable[tuple[zipfile.ZipInfo, bytes]] = ()
) -> bytes:
    """Return a zip: members, and then some with directory entries of their own."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as made:
        for name, content in members.items():
            made.writestr(name, content)
        for info, content in more:
            made.writestr(info, content)
    return file.getvalue()
