"""The models of a table of features: which there are, whether they are complete, and which of them is meant."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import cache, partial

import numpy as np

from dedup import formats, images, notes, storage, tables, weights
from dedup.arithmetic import Arithmetic
from dedup.errors import UsageError
from dedup.model import Model
from dedup.parts import PART
from dedup.weights import Weights

_FOLDER = "_models"

MOST_PARTS = 4096
"""The parts of a model's features, all of which are noted, beyond which an extract merges small ones."""

_LARGEST = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class Made:
    """What a table of features says of one model: the note `_models/ID` beside the table."""

    model: str  #: the model's id
    weights: str  #: what the user asked for: `--weights`
    precision: str  #: what it was computed in: `--precision`
    ranges: tuple[float, ...]  #: of int8, as they were found when the first features were made; else none
    complete: bool  #: whether every content of the table of images has been through an extract that ended
    stale: int = 0  #: contents with features that no file has any more
    parts: tuple[str, ...] = ()  #: of the features when an extract came to its end: readers see no others

    def check(self, name: str) -> None:
        """Make sure that all is of its kind: anybody may have written the file.

        Raises
        ------
        ValueError
            If something is not.
        """
        texts = [self.model, self.weights, self.precision]
        kinds = [*(isinstance(text, str) for text in texts), type(self.complete) is bool, type(self.stale) is int]
        if not all(kinds) or self.model != name:
            raise ValueError("values of another kind")
        if not all(isinstance(part, str) and PART.fullmatch(part) for part in self.parts):
            raise ValueError("names of parts that are none")
        if not all(type(one) in {int, float} and 0 < one < _LARGEST for one in self.ranges):
            raise ValueError("ranges that are none")
        Arithmetic(self.precision, self.ranges)

    def require_complete(self, location: str) -> None:
        """Make sure that the table at a location has the features of every content.

        Raises
        ------
        UsageError
            If an extract has not come to its end.
        """
        if not self.complete:
            raise UsageError(
                f"{location}: the features of {self.model} are incomplete: run the same extract again to finish them"
            )

    def require_answers(self, location: str) -> None:
        """Make sure that an extract has come to its end, this one or one before it.

        Raises
        ------
        UsageError
            If none has.
        """
        if not self.parts:
            self.require_complete(location)

    @property
    def note(self) -> str | None:
        """What whoever asks must know of the answer, if anything."""
        if self.complete:
            return None
        return "An extract is at work on these features, or was stopped: they are answered for as they were before it."

    def save(self, location: str) -> None:
        """Leave the file."""
        notes.write(location, f"{_FOLDER}/{self.model}", json.dumps(asdict(self)).encode())

    def network(self, loaded: Weights) -> Model:
        """Return the model itself, if these are its weights: else one with another id."""
        return Model(loaded, self.precision, self.ranges)


def of(location: str) -> list[Made]:
    """Return the models of a table of features.

    Raises
    ------
    UsageError
        If what is said of one cannot be read.
    """
    return [_read(location, f"{_FOLDER}/{name}") for name in notes.names(location, _FOLDER)]


def _read(location: str, name: str) -> Made:
    try:
        found = storage.parsed(notes.read(location, name) or b"")
        made = Made(**found | {name: tuple(found[name]) for name in ("ranges", "parts") if name in found})
        made.check(name.rpartition("/")[2])
        return made
    except (ValueError, TypeError, KeyError) as error:
        raise UsageError(f"{location}/{name}: not what an extract leaves: make the features anew") from error


def begun(model: Model, location: str) -> Model:
    """Return a model with the ranges that it has in a table already: none are looked for anew."""
    for made in of(location):
        same = made.network(model.weights)
        if made.precision == model.precision and made.model == same.id:
            return same
    return model


def started(model: Model, location: str) -> Made:
    """Return what is said of a model while an extract is at work."""
    fresh = Made(model.id, model.weights.source, model.precision, model.arithmetic.ranges, complete=False)
    for before in of(location):
        if before.model == model.id:
            return replace(fresh, stale=before.stale, parts=before.parts)
    return fresh


def _there(location: str) -> list[Made]:
    tables.require(location, "features")
    there = of(location)
    if not there:
        raise UsageError(f"{location}: no word of the model that made the features: run extract again")
    if not images.is_finished(location):  # files were taken in there, and no extract came to its end since then
        return [replace(made, complete=False) for made in there]
    return there


def _named(there: list[Made]) -> str:
    return ", ".join(f"{made.model} (--weights {made.weights} --precision {made.precision})" for made in there)


def one(location: str, asked: str | None) -> Made:
    """Return the model whose features are compared.

    Parameters
    ----------
    location
        The location of a table of features.
    asked
        The id that it must have; None where the table has only one.

    Raises
    ------
    UsageError
        If there are no such features, there are several and none was asked for, or they are incomplete.
    """
    there = _there(location)
    if asked is None and len(there) > 1:
        raise UsageError(f"{location} has features of several models: choose one with --model: {_named(there)}")
    fitting = [made for made in there if asked in {None, made.model}]
    if not fitting:
        raise UsageError(f"{location} was made with {_named(there)}, not with {asked}")
    fitting[0].require_complete(location)
    return fitting[0]


@dataclass(frozen=True)
class Chosen:
    """A model of a table of features, and the way to the network itself, which may be needed or not."""

    made: Made
    network: Callable[[], Model]  #: loads it; UsageError if its weights cannot be had any more


def choose(location: str, source: str | None, precision: str | None) -> Chosen:
    """Return the model that is meant by what a user says of it; nothing need be said where the table has only one.

    Parameters
    ----------
    location
        The location of a table of features.
    source, precision
        The network's weights and its precision, or None.

    Raises
    ------
    UsageError
        If there are no such features, what was said fits none or several, or no extract has come to its end.
    """
    location = formats.located(location)
    there = _there(location)
    if source is None and precision is None and len(there) == 1:
        chosen = Chosen(there[0], cache(partial(_loaded, there[0], location)))
    else:
        chosen = _fitting(location, there, source, precision)
    chosen.made.require_answers(location)
    return chosen


def _loaded(made: Made, location: str) -> Model:
    found = made.network(weights.load(made.weights))
    if found.id != made.model:
        raise UsageError(
            f"{location} was made with {_named([made])}, but these weights are now {found.weights.fingerprint}: "
            "say with --weights where the others are"
        )
    return found


def _fitting(location: str, there: list[Made], source: str | None, precision: str | None) -> Chosen:
    sources = [source] if source else sorted({made.weights for made in there})
    if len(sources) > 1:
        raise UsageError(f"{location} was made with {_named(there)}: choose one by --weights")
    loaded = weights.load(sources[0])
    networks = [(made, made.network(loaded)) for made in there if precision in {None, made.precision}]
    fitting = [(made, network) for made, network in networks if network.id == made.model]
    if not fitting:
        said = f"--weights {sources[0]}" + (f" --precision {precision}" if precision else "")
        raise UsageError(f"{location} was made with {_named(there)}, not with {said}")
    if len(fitting) > 1:
        raise UsageError(f"{location} was made with {_named(there)}: choose one by its precision too")
    made, network = fitting[0]
    return Chosen(made, lambda: network)
