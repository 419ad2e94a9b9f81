"""How far a job is: a bar with rate and time left on a terminal, whole lines now and then where there is none."""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from pyspark.sql import SparkSession
from tqdm import tqdm

from dedup import delivery, logs

EVERY = 30.0
"""Seconds between two lines."""

SILENCE = 10.0
"""Seconds until the first line: what is done sooner needs none."""

_BLINK = 0.5  # seconds in which nobody has to be shown a bar

_log = logging.getLogger(__name__)


def on_terminal() -> bool:
    """Tell whether somebody looks: spark-submit hands on what Python writes, so that submit.sh has to say."""
    return not logs.structured() and (sys.stderr.isatty() or os.environ.get("DEDUP_TERMINAL") == "1")


class Progress:
    """How much of some work is done. Goes on only when it is told so.

    Parameters
    ----------
    label
        What the work is.
    total
        How much there is, more than 0.
    unit
        What is counted.
    """

    def __init__(self, label: str, total: int, unit: str) -> None:
        self._label, self._total, self._unit = label, total, unit
        self._done = 0
        self._began = time.monotonic()
        self._next, self._silent = SILENCE, True
        self._bar = tqdm(total=total, desc=label, unit=f" {unit}", delay=_BLINK) if on_terminal() else None

    def add(self, done: int) -> None:
        """Count what is done now; 0 to say how long it takes."""
        self._done += done
        if self._bar is not None:
            if done:
                self._bar.update(done)
            else:
                self._bar.refresh()
            return
        seconds = time.monotonic() - self._began
        if seconds >= self._next or (self._done == self._total and not self._silent):
            self._next, self._silent = seconds + EVERY, False
            _log.info("%s", line(self._label, self._done, self._total, self._unit, seconds))

    def close(self) -> None:
        """Leave a bar as it is."""
        if self._bar is not None:
            self._bar.close()


def line(label: str, done: int, total: int, unit: str, seconds: float) -> str:
    """Return what is said of work where there is no terminal.

    >>> line("extract", 320, 1024, "images", 24.6)
    'extract: 320 of 1,024 images (31 %), 13.0 images/s, 00:54 left'
    >>> line("extract", 0, 1024, "images", 12.2), line("extract", 1024, 1024, "images", 75.0)
    ('extract: 0 of 1,024 images (0 %) in 00:12', 'extract: 1,024 of 1,024 images (100 %), 13.7 images/s, in 01:15')
    """
    said = f"{label}: {done:,} of {total:,} {unit} ({100 * done // total} %)"
    if not done:
        return f"{said} in {tqdm.format_interval(seconds)}"
    rate = f"{done / max(seconds, 0.001):,.1f} {unit}/s"
    if done == total:
        return f"{said}, {rate}, in {tqdm.format_interval(seconds)}"
    return f"{said}, {rate}, {tqdm.format_interval(seconds * (total - done) / done)} left"


@contextmanager
def step(spark: SparkSession, text: str) -> Iterator[None]:
    """Say what a `with` does: in Spark's UI at once, in the log as soon and as often as it takes long.

    Parameters
    ----------
    spark
        The session that does it.
    text
        The job and what it does, as in "ingest: list".
    """
    ended = threading.Event()
    with delivery.described(spark, text):
        threading.Thread(target=_watch, args=(text, ended), name=text, daemon=True).start()
        try:
            yield
        finally:
            ended.set()


def _watch(text: str, ended: threading.Event) -> None:
    began = time.monotonic()
    wait = SILENCE
    while not ended.wait(wait):
        _log.info("%s: %s so far", text, tqdm.format_interval(time.monotonic() - began))
        wait = EVERY
