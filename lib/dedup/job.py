"""What every job does the same way: options, a session, what it counted, one line for bad use, an exit code."""

from __future__ import annotations

import argparse
import logging
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from types import FrameType
from typing import NoReturn

from pyspark.sql import SparkSession

from dedup import following, formats, logs, models, onnx_model, reduced_precision, releases, views, weights
from dedup.arithmetic import PRECISIONS
from dedup.counters import Record, Step
from dedup.errors import Outage, Py4JError, Py4JNetworkError, UsageError
from dedup.lines import printable
from dedup.model import Model
from dedup.vgg16_model import Vgg16Model

BAD_USE = 2
FAILED = 1
STOPPED = 130

_LOCATIONS = ("images", "table", "features", "against", "output", "report")
"""The options that say what a line of the log is about."""

_log = logging.getLogger(__name__)

_record = Record("")


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line, like those of the jobs themselves."""

    def __init__(self, job: str, description: str) -> None:
        self._job = job
        super().__init__(
            prog=f"./submit.sh {job}",
            description=description,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        self.add_argument(
            "--metrics", metavar="FILE", help="leave what was counted there too, as JSON: docs/observability.md"
        )

    def options(self, words: Sequence[str] | None = None) -> argparse.Namespace:
        """Return what the user says, and make it known to the log and to the record of this run."""
        global _record
        said = self.parse_args(words)
        logs.about(job=self._job, **{name: where for name in _LOCATIONS if (where := getattr(said, name, None))})
        _record = Record(self._job, said.metrics)
        return said

    def error(self, message: str) -> NoReturn:
        """End with exit code 2 and one line."""
        raise UsageError(f"{message} (see {self.prog} --help)")

    def add_format(self) -> None:
        """Add the option that says how tables lie on their storage."""
        self.add_argument(
            "--format",
            choices=formats.FORMATS,
            help="of the tables that are made (default: that of those which are there already, or "
            f"{formats.DEFAULT}); ./submit.sh loads what Spark needs for it, so name it to read such tables too",
        )

    def add_follow(self) -> None:
        """Add the option that says to go on for images that arrive."""
        self.add_argument(
            "--follow",
            nargs="?",
            type=following.pause,
            const=following.EVERY,
            metavar="EVERY",
            help="go on: take in what arrives, looked for every '30 seconds', '5 minutes' (alone: "
            f"'{following.EVERY}'), until this is ended; {following.NOW}: works off what is there now, and ends",
        )

    def add_views(self, what: str, default: str = "1") -> None:
        """Add the option that says in which views images are compared.

        Parameters
        ----------
        what
            That is seen so, in words.
        default
            The views where nothing is said, in words; if they are no number, the option's value is None.
        """
        self.add_argument(
            "--views",
            type=int,
            choices=views.COUNTS,
            default=int(default) if default.isdigit() else None,
            help=f"compare also {what} mirrored (2), upside down and turned over (4), and turned by quarters (8): the "
            f"nearest view counts (default: {default})",
        )

    def add_table(self) -> None:
        """Add the option that says where the bytes of images are."""
        self.add_argument(
            "--table",
            metavar="URI",
            help="the table made by ingest; not needed where the images are still at their paths",
        )

    def add_weights(self) -> None:
        """Add the option that says what the network knows."""
        self.add_argument(
            "--weights",
            metavar="SOURCE",
            help="imagenet (the default: Keras' own file, from its cache or downloaded by the driver), seeded[:N] "
            "(made from a seed: finds altered copies, not look-alikes), or a file: .h5, .keras, .safetensors, .npz",
        )

    def add_model(self) -> None:
        """Add the options that say which model of a table is meant."""
        self.add_made()
        self.add_precision()

    def add_made(self) -> None:
        """Add the options by which a model of a table is known, but for its precision."""
        self.add_weights()
        self.add_argument(
            "--model",
            metavar="ID",
            help="the id of a model, where the table has those of several; onnx:FILE where its file is elsewhere now",
        )

    def add_network(self) -> None:
        """Add the options that say what makes features."""
        self.add_vgg16()
        self.add_argument(
            "--model",
            type=_onnx,
            metavar="onnx:FILE",
            help="another network than VGG16, with weights of its own: docs/networks.md",
        )
        self.add_argument(
            "--size",
            type=positive,
            metavar="N",
            help="the side of its pictures, in pixels (default: what the file says)",
        )
        for name, what, usual in (
            ("--mean", "what it wants taken from pixels from 0 to 1", onnx_model.MEAN),
            ("--std", "what they are divided by then", onnx_model.STD),
        ):
            said = ",".join(f"{number:g}" for number in usual)
            self.add_argument(name, type=onnx_model.channels, metavar="R,G,B", help=f"{what} (default: {said})")
        self.add_argument("--layer", metavar="NAME", help="which tensor is the features (default: its only output)")

    def add_vgg16(self) -> None:
        """Add the options that say with what weights VGG16 computes, and in which precision."""
        self.add_weights()
        self.add_precision()

    def add_precision(self) -> None:
        """Add the option that says what VGG16 computes in."""
        self.add_argument(
            "--precision",
            choices=PRECISIONS,
            help="what the network computes in (default: float32); bfloat16 is for GPUs and for CPUs with AMX: there "
            "several times as fast, hardly rougher; int8 is for CPUs with VNNI or AMX: fastest, and rougher",
        )


def load_model(source: str | None, precision: str | None) -> Vgg16Model:
    """Return the model that `--weights` and `--precision` name; where they are not given, the default."""
    return Vgg16Model(weights.load(source or weights.DEFAULT), precision or PRECISIONS[0])


def load_network(options: argparse.Namespace) -> Model:
    """Return the model that the options of `add_network` name.

    Raises
    ------
    UsageError
        If it cannot be had, or options do not go together.
    """
    beside = {name: getattr(options, name) for name in ("size", "mean", "std", "layer")}
    given = {name: value for name, value in beside.items() if value is not None}
    if options.model is None:
        if given:
            raise UsageError(f"--{next(iter(given))} goes with --model {onnx_model.PREFIX}FILE")
        return load_model(options.weights, options.precision)
    if options.weights or options.precision:
        raise UsageError(f"--model {options.model}: an ONNX file has weights and a precision of its own")
    return onnx_model.load(options.model, **given)


FASTER = (
    "this processor has AMX: where those of the executors have it too, --precision bfloat16 gives about three times as "
    "many images a second, hardly rougher (docs/tuning.md)"
)
"""What a first extract in float32 says on a processor that could be faster."""


def hint(options: argparse.Namespace) -> str | None:
    """Return that another precision is much faster, where nobody has chosen one and no features are there yet.

    Those that are there would not be compared with features in another precision.
    """
    if options.model or options.precision or not reduced_precision.multiplies_bfloat16():
        return None
    return None if models.of(options.features) else FASTER


def _onnx(text: str) -> str:
    if not text.startswith(onnx_model.PREFIX):
        raise argparse.ArgumentTypeError(f"{text!r} does not begin with {onnx_model.PREFIX}")
    return text


def positive(text: str) -> int:
    """Return a whole number from 1 up, for argparse."""
    number = int(text) if text.isdigit() else 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 up")
    return number


def say(line: str = "") -> None:
    """Write a line for the user, whatever names stand in it."""
    show(printable(line))


def show(text: str) -> None:
    """Write lines for the user that were made for a terminal."""
    if logs.structured():
        for line in filter(None, map(str.strip, text.splitlines())):
            _log.info("%s", line)
        return
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def step(name: str) -> AbstractContextManager[Step]:
    """Take the time of a `with`, which leaves in `counts` what it counted: the job ends with the table of all steps."""
    return _record.step(name)


def run(main: Callable[[], object]) -> NoReturn:
    """Run a job's main function, show what it counted, and end the process with its exit code.

    SIGTERM ends it as Ctrl-C does: what it has to itself is given back.
    """
    global _record
    _record = Record("")
    if threading.current_thread() is threading.main_thread():  # no other can
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        releases.require_client()
        logs.begin()
        main()
        if table := _record.table():
            show("\n".join(table))
        _record.done()
    except (Exception, KeyboardInterrupt) as error:
        code, line = _judged(error)
        _record.failed(_OUTCOMES.get(code, "failed"), line or f"{type(error).__name__}: {error}")
        if line:
            _complain(line)
        else:  # not as Python would, which shows whatever secrets stand in the text
            _log.error("%s", error, exc_info=True)
        sys.exit(code)
    sys.exit(0)


_SHUT_DOWN = r'SparkContext was shut down|the return value of "org\.apache\.spark\.Spark(Context|Env)\S*" is null'
"""What Spark says of a job that was under way when its JVM was asked to end, or that found parts of it gone already."""

_OUTCOMES = {BAD_USE: "bad use", STOPPED: "stopped"}


def _judged(error: BaseException) -> tuple[int, str | None]:
    """Return the exit code for an error, and the one line that says all that there is to say, if there is one."""
    # Ctrl-C ends the JVM too: what has to be given back finds that, and raises errors of its own.
    causes = [*_causes(error)]
    if any(isinstance(one, KeyboardInterrupt) for one in causes):
        return STOPPED, f"stopped{_AGAIN}"
    if any(_is_of_no_jvm(one) for one in causes):
        return FAILED, f"the driver's JVM has ended{_AGAIN}"
    if isinstance(error, UsageError):
        return BAD_USE, str(error)
    if isinstance(error, Outage):
        return FAILED, f"{error}{_AGAIN}"
    for report, code, line in _REPORTS:
        if told := re.search(report, str(error)):
            return code, told.expand(line)
    return FAILED, None


def _is_of_no_jvm(error: BaseException) -> bool:
    """Tell whether an error is that the JVM has ended."""
    try:
        return isinstance(error, Py4JNetworkError) or re.search(_SHUT_DOWN, str(error)) is not None
    except Exception:  # what py4j raises asks the JVM for its words only now, and finds that it has ended
        return True


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error, and those while which it was raised, the last one first."""
    while error is not None:
        yield error
        error = error.__context__


def _complain(line: str) -> None:
    if logs.structured():
        _log.error("%s", line)
    else:
        sys.stderr.write(f"error: {printable(line)}\n")


_AGAIN = " (what was done is kept: run it again)"
_NEEDED = "see docs/running.md, What executors need"

_REPORTS = (
    (rf"{re.escape(UsageError.__module__)}\.{UsageError.__name__}: (.+)", BAD_USE, r"\1"),
    (rf"{re.escape(Outage.__module__)}\.{Outage.__name__}: (.+)", FAILED, rf"\1{_AGAIN}"),
    (
        r"(?i)DATA_SOURCE_NOT_FOUND\].*data source: (delta|iceberg)|CatalogNotFoundException|(iceberg).*SparkCatalog",
        BAD_USE,
        "these are Delta or Iceberg tables, for which Spark lacks the library: add --format delta or --format iceberg "
        "(docs/running.md)",
    ),
    (
        r"ModuleNotFoundError: No module named '(\w+)",
        BAD_USE,
        rf"the executors' Python lacks the package \1: {_NEEDED}",
    ),
    (
        r'Cannot run program "([^"]+)"',
        BAD_USE,
        rf"the executors have no Python at \1: {_NEEDED}",
    ),
    (
        r"PYTHON_VERSION_MISMATCH\D+([\d.]+)\D+([\d.]+)",
        BAD_USE,
        rf"the executors' Python is \1, the driver's \2, and both must be of one version: {_NEEDED}",
    ),
    (
        "Master removed our application",
        FAILED,
        f"the master has ended this application: what the executors logged says why{_AGAIN}",
    ),
    (r"Could not parse Master URL: '(.*?)'|Invalid master URL: (\S+)", BAD_USE, r"\1\2: no such master"),
    (
        r"org\.apache\.hadoop\.fs\.s3a\.S3AFileSystem not found",
        BAD_USE,
        "Spark lacks the library for s3a: locations: add org.apache.hadoop:hadoop-aws to --packages (docs/running.md)",
    ),
    (r"No FileSystem for scheme \"(\w+)\"", BAD_USE, r"Spark lacks the library for \1: locations: see docs/running.md"),
    (
        r"AccessDeniedException: (.+?): ",
        BAD_USE,
        r"\1: Spark may not read or write it: do the credentials fit the store?",
    ),
    (
        r"(?:AWS(?:ServiceThrottled|Status500|NoResponse|ApiCallTimeout|ClientIO)|SdkClient)Exception: (.+)",
        FAILED,
        rf"the storage does not answer Spark: \1{_AGAIN}",
    ),
    (
        r"AWS(?:BadRequest|Redirect)Exception: (.+)",
        BAD_USE,
        r"the store refuses Spark: do the credentials and the region fit the store? (\1)",
    ),
    (
        r"\[FAILED_READ_FILE\.FILE_NOT_EXIST\] Encountered error while reading file (.+?)\. "
        r"|\[PATH_NOT_FOUND\] Path does not exist: (.+?)\. ",
        FAILED,
        rf"\1\2: it is gone: another run may have replaced what was being read{_AGAIN}",
    ),
    (
        r"(?s)\[FAILED_READ_FILE\.\w+\] Encountered error while reading file (.+?)\. .*"
        "(?:is not a Parquet file|corrupted file|can not read class|Data type mismatches)",
        BAD_USE,
        r"\1: no Parquet file, or not with the columns of docs/tables.md: nothing here has written it",
    ),
)
"""How a task's errors, and those of Hadoop's file systems, read in the report that Spark makes of them."""


def session(name: str) -> SparkSession:
    """Return the session. Code sets no resources: what code sets, a user's submit flags could not override."""
    try:
        spark = SparkSession.builder.appName(f"dedup {name}").getOrCreate()
    except Py4JError as error:
        if "on a stopped SparkContext" not in str(error):  # which is how Spark gives up: it has stopped what it began
            raise
        raise UsageError("no cluster: what --master names does not answer") from error
    releases.require(spark)
    _heed_interrupts()
    return spark


def _heed_interrupts() -> None:
    """Let Ctrl-C be one: Spark's handler before 4.2 raises an error of its own where the JVM has ended first."""
    of_spark = signal.getsignal(signal.SIGINT)
    if not callable(of_spark) or threading.current_thread() is not threading.main_thread():
        return

    def interrupted(number: int, frame: FrameType | None) -> NoReturn:
        try:
            of_spark(number, frame)
        finally:
            raise KeyboardInterrupt

    signal.signal(signal.SIGINT, interrupted)
