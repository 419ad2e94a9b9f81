"""What the library and its jobs log: lines for people, or JSON in the form of Spark's own structured logs."""

from __future__ import annotations

import logging
import os
import sys
import time

from tqdm import tqdm

from dedup.errors import UsageError
from dedup.lines import masked

VARIABLE = "DEDUP_LOG"
"""The variable that says how; `conf/log4j2.properties` reads it for the JVM."""

STYLES = ("plain", "json")

_context: dict[str, str] = {}


def structured() -> bool:
    """Tell whether every line is to be a JSON object."""
    return os.environ.get(VARIABLE) == "json"


def about(**context: str) -> None:
    """Say what the lines from now on are about: their `context`."""
    _context.clear()
    _context.update(context)


class _Plain(logging.Formatter):
    """Lines as those of the JVM: `12:00:07 WARN the message`."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(message)s", "%H:%M:%S")


def _json() -> logging.Formatter:
    """Lines as those of Spark: ts, level, logger, msg, context, and exception where there is one."""
    from pyspark.logger.logger import JSONFormatter  # Spark 3 has none, and is to be told so by `releases`

    lines = JSONFormatter()
    lines.converter = time.gmtime
    lines.default_time_format, lines.default_msec_format = "%Y-%m-%dT%H:%M:%S", "%s.%03dZ"
    return lines


class _Stderr(logging.Handler):
    """Writes to what stderr is at the moment, around the bars that stand there."""

    def format(self, record: logging.LogRecord) -> str:
        context = _context | getattr(record, "context", {})
        record.context = record.kwargs = context  # Spark 4.0 has the second name for it
        if record.levelno == logging.WARNING:
            record.levelname = "WARN"  # as the JVM says
        return masked(super().format(record))

    def emit(self, record: logging.LogRecord) -> None:
        try:
            tqdm.write(self.format(record), file=sys.stderr)
            sys.stderr.flush()
        except Exception:
            self.handleError(record)


def _to_be_told(record: logging.LogRecord) -> bool:
    """Tell whether a record is for people: py4j tells of Ctrl-C with a traceback, and jobs say what came of it."""
    return not record.exc_info or record.exc_info[0] is not KeyboardInterrupt


_stderr = _Stderr()
_stderr.addFilter(_to_be_told)


def begin() -> None:
    """Write to stderr what the library logs from INFO up, and others from WARNING up.

    Raises
    ------
    UsageError
        If the variable says what is not possible.
    """
    style = os.environ.get(VARIABLE) or STYLES[0]
    if style not in STYLES:
        raise UsageError(f"{VARIABLE}={style}: possible are {', '.join(STYLES)}")
    _stderr.setFormatter(_json() if structured() else _Plain())
    logging.getLogger().addHandler(_stderr)  # once, however often
    logging.getLogger(__package__).setLevel(logging.INFO)
    logging.captureWarnings(structured())
