"""How the tables of a location lie on its storage: one entry for each format, and the choice between them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from pyspark.errors import AnalysisException, PySparkException

from dedup import storage, stores
from dedup.errors import Outage, Py4JError, Reject, UsageError
from dedup.parts import Format, Parquet
from dedup.transactions import GUARDED, Catalog, Delta, Iceberg

FORMATS: dict[str, Format] = {"parquet": Parquet(), "delta": Delta(), "iceberg": Iceberg()}
"""The formats, by the names that `--format` takes; tables are in the first where nothing else was said."""

CATALOG = Catalog()
"""The tables of locations that are names, in whatever format they are there."""

DEFAULT = next(iter(FORMATS))


_NAME = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*){2}")

_QUOTED = re.compile(r"[^/]*`[^/]*|(?=.*-)[^\W\d][\w-]*(\.[^\W\d][\w-]*){2}")
"""What a catalog would take for a name if it stood in quotes, or does."""


def is_name(location: str) -> bool:
    """Tell whether a location of tables is a name in a catalog, CATALOG.SCHEMA.NAME, and no folder.

    >>> is_name("main.photos.lake"), is_name("./main.photos.lake"), is_name("photos.lake")
    (True, False, False)
    """
    return _NAME.fullmatch(location) is not None


def located(location: str) -> str:
    """Return the one spelling of a location of tables: a name in a catalog as it is, else an absolute path or URI.

    Raises
    ------
    UsageError
        If it reads like a name in a catalog, and is none that can be used here.
    """
    return location if is_name(location) else _absolute(location)


def _absolute(location: str) -> str:
    if _QUOTED.fullmatch(location):
        raise UsageError(
            f"{location}: a name in a catalog is CATALOG.SCHEMA.NAME, of letters, digits and underscores, without "
            f"quotes; a folder is named as ./{location} does"
        )
    return stores.absolute(location)


def folder(location: str) -> str:
    """Return the one spelling of a location for pages too, which no catalog holds: an absolute path or URI.

    Raises
    ------
    UsageError
        If it is a name in a catalog, or reads like one.
    """
    if is_name(location):
        raise UsageError(f"{location}: a name in a catalog, where pages cannot be: name a folder, as ./{location} does")
    return _absolute(location)


def require_writable(location: str, asked: str | None) -> None:
    """Make sure, before any work, that tables of a format can be written to a location, as far as a storage can tell.

    Parameters
    ----------
    location
        A folder, or a name in a catalog.
    asked
        As of `begin`.

    Raises
    ------
    UsageError, Outage
        If they cannot.
    """
    _check(location, asked)
    if not is_name(location):
        storage.require_writable(location)


def of(location: str) -> Format:
    """Return the format of the tables of a location.

    Raises
    ------
    UsageError
        If it is none that is known here.
    """
    if is_name(location):
        return CATALOG
    return FORMATS[_noted(location) or DEFAULT]


def _note(location: str) -> str:
    return f"{location}/_format"


def _noted(location: str) -> str | None:
    """Return the name of the format that a location was begun with; None where nothing was said."""
    try:
        name = storage.read(_note(location), 64).decode("ascii", "replace").strip()
    except Reject as reject:
        if storage.exists(_note(location)):
            raise UsageError(f"{_note(location)}: {reject.detail}") from reject
        return None
    if name not in FORMATS:
        raise UsageError(f"{_note(location)}: no format of tables that is known here: {name}")
    return name


def begin(location: str, asked: str | None) -> None:
    """Choose the format of a location, before any table is written there.

    Parameters
    ----------
    location
        A folder that can be written.
    asked
        A name of FORMATS; None for what is there, or the default.

    Raises
    ------
    UsageError
        If there are tables of another format, or the name is none.
    """
    _check(location, asked)
    if is_name(location):
        _begin_in_catalog(location, asked)
        return
    if asked is None:
        return
    there = _noted(location)
    folders = (folder for name in storage.names(location) if storage.is_folder(folder := f"{location}/{name}"))
    if there is None and any(FORMATS[DEFAULT].exists(folder) for folder in folders):
        there = DEFAULT  # tables of before there was a choice
    if there is None:
        storage.write(_note(location), asked.encode())
    elif there != asked:
        raise UsageError(f"{location}: its tables are in {there}: --format {asked} needs another place")


def _check(location: str, asked: str | None) -> None:
    if asked not in {None, *FORMATS}:
        raise UsageError(f"--format {asked}: possible are {', '.join(FORMATS)}")
    if is_name(location) and asked == "parquet":
        raise UsageError(f"{location}: in a catalog, tables are in {GUARDED} or iceberg: parquet has no transactions")


@contextmanager
def asking(location: str) -> Iterator[None]:
    """Say as one line what Spark, or a catalog, answers to what is asked of a location's tables in a `with`.

    Raises
    ------
    UsageError
        If it refuses.
    Outage
        If something else is the matter with a catalog: it does not answer, or another run was faster. What is the
        matter with files is raised as it is.
    """
    try:
        yield
    except (AnalysisException, ValueError) as error:
        raise UsageError(f"{location}: {_first_line(error)}") from error
    except Exception as error:
        # What fails in a catalog's own library has no class of PySpark.
        if not is_name(location) or not isinstance(error, PySparkException | Py4JError):
            raise
        raise Outage(f"{location}: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    r"""Return what an error says first, without py4j's own words.

    >>> _first_line(ValueError("An error occurred while calling o7.sql.\n: a.B: the table is gone\n\tat c.D"))
    'a.B: the table is gone'
    """
    lines = [line.removeprefix(": ") for line in str(error).splitlines()]
    return next((line for line in lines if line and not line.startswith("An error occurred while")), repr(error))


def _begin_in_catalog(location: str, asked: str | None) -> None:
    with asking(location):
        there = CATALOG.provider(location)
        if there is None:
            CATALOG.begin(location, asked or GUARDED)
    if asked is not None and there not in {None, asked}:
        raise UsageError(f"{location}: its tables are in {there}: --format {asked} needs another place")
