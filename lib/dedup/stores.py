"""Where files are: stores, how a location is spelt, and what a store means that says no.

Everything goes through Arrow's file systems, on the executors as on the driver. A location is a plain path or a URI;
names are taken literally (`%20` is three characters), as Hadoop does.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache

import pyarrow as pa
from pyarrow import fs

from dedup.errors import Outage, Reason, Reject, UsageError
from dedup.lines import holds_secret, printable

_ATTEMPTS = 10  # after the first, with pauses of 0.05 s, 0.1 s, 0.2 s, ...: half a minute
_PATIENCE = 20.0  # seconds without a byte after which a request is made anew

URI = re.compile(r"(?P<scheme>[a-zA-Z][a-zA-Z0-9+.-]+):(//(?P<authority>[^/]*))?(?P<path>.*)", re.DOTALL)
_VOLUMES = "/Volumes/"  # of Databricks: to Arrow they are files, to Spark not always those of the machine

OF_VOLUMES = "^(?i:dbfs):/+(?=Volumes/)"
"""How a URI of a file in a volume begins, up to its path; Java reads it as Python does."""


def _s3(bucket: str) -> tuple[fs.FileSystem, str]:
    # Arrow looks for credentials and the region where all of Amazon's tools do, but not for the endpoint.
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    store = fs.S3FileSystem(
        endpoint_override=endpoint,
        retry_strategy=fs.AwsDefaultS3RetryStrategy(max_attempts=_ATTEMPTS),
        connect_timeout=_PATIENCE,
        request_timeout=_PATIENCE,
    )
    return store, bucket


def _azure(authority: str) -> tuple[fs.FileSystem, str]:
    container, _, account = authority.partition("@")
    return fs.AzureFileSystem(account_name=account.partition(".")[0]), container


_SCHEMES: dict[str, Callable[[str], tuple[fs.FileSystem, str]]] = {
    "file": lambda _: (fs.LocalFileSystem(), ""),
    "dbfs": lambda _: (fs.LocalFileSystem(), "/dbfs"),
    "s3": _s3,
    "s3a": _s3,
    "gs": lambda bucket: (fs.GcsFileSystem(), bucket),
    "abfs": _azure,
    "abfss": _azure,
    "hdfs": lambda host: (fs.HadoopFileSystem.from_uri(f"hdfs://{host or 'default'}"), ""),
}
"""By scheme, what stands between // and / becomes a file system and the path there that is the root of such URIs."""


SPELT = {"s3": "s3a", "s3a": "s3a", "gs": "gs", "abfs": "abfss", "abfss": "abfss", "hdfs": "hdfs"}
"""How tables spell the schemes of stores: plain Spark knows no `s3:`, and encryption leads to no other place."""


@cache  # a client is made once in a process, not for every file
def _root(scheme: str, authority: str) -> tuple[fs.FileSystem, str]:
    return _SCHEMES[scheme](authority)


def parsed(location: str) -> tuple[str, str, str]:
    """Return the scheme of a location, what stands between // and /, and the path; of a plain path only this.

    Raises
    ------
    UsageError
        If the location's scheme is not one of those that can be read, or it holds a key.
    """
    if holds_secret(location):  # tables, logs and pages would hold it too
        raise UsageError(f"{printable(location)}: a location cannot hold a key: let the store's own settings have it")
    try:
        location.encode()
    except UnicodeEncodeError as error:
        raise UsageError(f"{os.fsencode(location)!r}: a location must be UTF-8") from error
    location = re.sub(OF_VOLUMES, "/", location)
    uri = URI.fullmatch(location)
    if uri is None:
        return "", "", location
    scheme = uri["scheme"].lower()
    if scheme not in _SCHEMES:
        raise UsageError(f"{location}: cannot read {scheme}: locations; possible are paths and {', '.join(_SCHEMES)}")
    return scheme, uri["authority"] or "", uri["path"]


def locate(location: str) -> tuple[fs.FileSystem, str]:
    """Return the file system of a location, and its path there.

    Raises
    ------
    UsageError
        As `parsed`, or if its storage cannot be reached from here.
    """
    scheme, authority, path = parsed(location)
    if not scheme:
        return fs.LocalFileSystem(), re.sub("^/+", "/", os.path.abspath(path))
    with asking(location):
        where, base = _root(scheme, authority)
    return where, base + path


def absolute(location: str) -> str:
    """Return the one spelling of a location that tables hold: a file of two names would be a duplicate of itself.

    >>> absolute("/a/./b/"), absolute("file:///a/b")
    ('/a/b', '/a/b')
    """
    where, path = locate(location)
    if isinstance(where, fs.LocalFileSystem):
        return re.sub("^/+", "/", os.path.normpath(path))
    scheme, rest = location.split(":", 1)
    scheme = scheme.lower()
    return f"{SPELT.get(scheme, scheme)}:{rest}".rstrip("/")


def spark_path(location: str) -> str:
    """Return the location as Spark must be told it: local paths with their scheme, or they would mean the default one.

    Volumes of Databricks are in its default one.

    Raises
    ------
    UsageError
        If Spark would take the location for a pattern.
    """
    if re.search(r"[*?\[\]{}]", location):
        raise UsageError(f"{location}: Spark takes it for a pattern: it cannot hold any of * ? [ ] {{ }}")
    location = absolute(location)
    local = location.startswith("/") and not location.startswith(_VOLUMES)
    return "file://" + location if local else location


FAILURES = (OSError, ValueError, OverflowError, pa.ArrowException)
"""How storages say no: Arrow raises a ValueError for names that it does not take, Python for times out of range."""

_NAMED = re.compile("key '.*' in bucket '[^']*'", re.DOTALL)
"""How Arrow names an object in what it says: names are anybody's, and may read like a store's own words."""

_SILENT = re.compile(
    r"AWS Error (NETWORK_CONNECTION|SERVICE_UNAVAILABLE|SLOW_DOWN|INTERNAL_FAILURE|THROTTLING|REQUEST_TIMEOUT)\b"
    r"|HTTP status (408|429|5\d\d)|curlCode: "
)
_SHUT = re.compile(
    "SIGNATURE_DOES_NOT_MATCH|INVALID_ACCESS_KEY_ID|INVALID_CLIENT_TOKEN_ID|REQUEST_TIME_TOO_SKEWED|HTTP status 30[17]"
    "|ExpiredToken|InvalidToken|TokenRefreshRequired|RequestTimeTooSkewed"
)
_DENIED = re.compile("AWS Error ACCESS_DENIED|HTTP status 403")
_WORDLESS = re.compile("(AWS Error ACCESS_DENIED|HTTP status 40[03]).*No response body")
_GONE = re.compile("AWS Error (NO_SUCH_BUCKET|NO_SUCH_KEY|RESOURCE_NOT_FOUND)")
"""Arrow's words for what S3 says: not now; not to you, whatever you ask for; not this; no, and not why; none."""


def _detail(error: Exception) -> str:
    said = getattr(error, "strerror", None) or str(error)
    said = _NAMED.sub("the object", said)
    return (said.splitlines() or [type(error).__name__])[0]


def reject(error: Exception) -> Reject:
    """Return why a file cannot be read, of which a store has said so."""
    detail = _detail(error)
    if isinstance(error, FileNotFoundError | NotADirectoryError) or _GONE.search(detail):
        return Reject(Reason.MISSING, detail)
    if isinstance(error, PermissionError) or _DENIED.search(detail):
        return Reject(Reason.PERMISSION, detail)
    return Reject(Reason.UNREADABLE, detail)


def refused(location: str, error: Exception, what: str = "") -> UsageError | Outage:
    """Return what to raise where a storage failed in something without which a job cannot go on.

    Parameters
    ----------
    location
        What was asked for.
    error
        How it failed.
    what
        What the storage was to do, as in "cannot be written".
    """
    detail = _detail(error)
    if _SILENT.search(detail):
        return Outage(f"{location}: the storage does not answer: {detail}")
    if "NO_SUCH_BUCKET" in detail:
        detail = "no such bucket"
    elif _SHUT.search(detail) or _DENIED.search(detail) or _WORDLESS.search(detail):
        detail = f"not permitted: do the credentials and the region fit the store? ({detail})"
    return UsageError(": ".join(part for part in (location, what, detail) if part))


@contextmanager
def reading(path: str) -> Iterator[None]:
    """Make a `Reject` of whatever a storage raises in a `with`, or what `refused` says where no file is to blame."""
    try:
        yield
    except FAILURES as error:
        if _concerns_all(error):
            raise refused(path, error) from error
        if _WORDLESS.search(_detail(error)):
            _ask_around(path)
        raise reject(error) from error


def _concerns_all(error: Exception) -> bool:
    """Tell whether a store would say the same of every file."""
    detail = _detail(error)
    return _SILENT.search(detail) is not None or _SHUT.search(detail) is not None


def _ask_around(path: str) -> None:
    """Make sure that a store, which refused a file without a word, does not refuse everything.

    What is asked about an object, without its bytes, is answered so. A key that is no more, or a token that has
    expired, then reads like an object that is another's. A list has words: it is asked for what lies below the object,
    seldom anything, which even those may ask who may list some prefixes only.
    """
    where, name = locate(path)
    try:
        where.get_file_info(fs.FileSelector(name, allow_not_found=True))
    except FAILURES as error:
        if _concerns_all(error) or _WORDLESS.search(_detail(error)):
            raise refused(path, error) from error


@contextmanager
def asking(location: str, what: str = "") -> Iterator[None]:
    """Make the one clear error of `refused` of whatever a storage raises in a `with`."""
    try:
        yield
    except FAILURES as error:
        raise refused(location, error, what) from error
