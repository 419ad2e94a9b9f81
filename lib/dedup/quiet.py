"""Silence for libraries that greet."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_one_at_a_time = threading.RLock()


@contextmanager
def quiet() -> Iterator[None]:
    """Drop what is written to stderr below Python, such as TensorFlow's greetings, which no setting turns off.

    Python's own errors are raised, not written, and so not touched. One thread at a time is quiet.
    """
    with _one_at_a_time:
        kept = os.dup(2)
        with open(os.devnull, "wb") as nothing:
            os.dup2(nothing.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)
