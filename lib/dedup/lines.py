"""What may stand in a line for people: names of files are anybody's, and locations may hold secrets by mistake."""

from __future__ import annotations

import re

# What is in front of the name of a bucket can be no port.
_SECRET = re.compile(
    r"(?P<before>\b(?:(?P<bucket>s3[an]?|gs)|[a-z][a-z0-9+.-]*)://)[^/\s@]*:(?(bucket)|(?!\d+(?:/|$)))[^\s@]*@",
    re.IGNORECASE,
)
_SIGNED = re.compile(
    r"(?P<before>[?&#](?:sig|[\w-]*(?:signature|token|credential|password|passwd|pwd|secret|key))=)[^&\s'\"]+",
    re.IGNORECASE,
)
_JDBC = re.compile(r"(?P<before>\bjdbc:[^\s'\"]*;(?:password|passwd|pwd)=)(?:\{[^}]*\}|[^;\s'\"]+)", re.IGNORECASE)


def printable(text: str) -> str:
    r"""Return a text as a terminal and a page may show it.

    What is no letter, digit, sign or blank becomes its code: a terminal would obey escapes, and marks that turn the
    direction of writing make a name look like another. A name and a key in a URI are masked, and so are signatures and
    passwords.

    >>> printable("a\x1b[2J\nb.jpg"), printable("s3a://KEY:SECRET@bucket/a"), printable("/ü/日本 1.jpg")
    ('a\\x1b[2J\\nb.jpg', 's3a://***@bucket/a', '/ü/日本 1.jpg')
    """
    if not text.isprintable():
        text = "".join(letter if letter.isprintable() else _code(letter) for letter in text)
    return masked(text)


def masked(text: str) -> str:
    """Return a text without the secrets that URIs in it hold."""
    if "://" in text:
        text = _SECRET.sub(r"\g<before>***@", text)
        text = _SIGNED.sub(r"\g<before>***", text)
        text = _JDBC.sub(r"\g<before>***", text)
    return text


def holds_secret(location: str) -> bool:
    """Tell whether a location names a user and a key, by which a store lets in whoever shows them.

    The names of files may say whatever they like.

    >>> holds_secret("s3a://KEY:SE/CRET@bucket/a"), holds_secret("hdfs://host:8020/a@b"), holds_secret("s3a://b/c://d:e@f")
    (True, False, False)
    """
    return _SECRET.match(location) is not None


def _code(letter: str) -> str:
    return letter.encode("unicode_escape").decode()
