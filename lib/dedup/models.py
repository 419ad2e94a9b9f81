"""The models of a table of features: which there are, whether they are complete, and which of them is meant."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import cache, partial

import numpy as np

from dedup import formats, images, notes, onnx_model, storage, tables, weights
from dedup.arithmetic import Arithmetic
from dedup.errors import UsageError
from dedup.model import Model
from dedup.onnx_model import OnnxModel, Recipe
from dedup.parts import PART
from dedup.vgg16_model import Vgg16Model
from dedup.weights import Weights

_FOLDER = "_models"

MOST_PARTS = 4096
"""The parts of a model's features, all of which are noted, beyond which an extract merges small ones."""

_LARGEST = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class Made:
    """What a table of features says of one model: the note `_models/ID` beside the table."""

    model: str  #: the model's id
    weights: str  #: what the user asked for: `--weights`, or `--model` where that is an ONNX file
    precision: str  #: what it was computed in: `--precision`
    ranges: tuple[float, ...]  #: of int8, as they were found when the first features were made; else none
    complete: bool  #: whether every content of the table of images has been through an extract that ended
    stale: int = 0  #: contents with features that no file has any more
    parts: tuple[str, ...] = ()  #: of the features when an extract came to its end: readers see no others
    recipe: Recipe | None = None  #: of an ONNX file; None where the network is VGG16
    listed: int = -1  #: the version of the tables `images.LISTED` that `stale` is of; -1 where nobody noted it

    def check(self, name: str) -> None:
        """Make sure that all is of its kind: anybody may have written the file.

        Raises
        ------
        ValueError
            If something is not.
        """
        texts = [self.model, self.weights, self.precision]
        numbers = [type(number) is int for number in (self.stale, self.listed)]
        kinds = [*(isinstance(text, str) for text in texts), type(self.complete) is bool, *numbers]
        if not all(kinds) or self.model != name:
            raise ValueError("values of another kind")
        if not all(isinstance(part, str) and PART.fullmatch(part) for part in self.parts):
            raise ValueError("names of parts that are none")
        if not all(type(one) in {int, float} and 0 < one < _LARGEST for one in self.ranges):
            raise ValueError("ranges that are none")
        Arithmetic(self.precision, self.ranges)
        if self.recipe is not None:
            self.recipe.check()

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
        return (
            "An extract is at work on these features, or was stopped: they are answered for as they were before it, "
            "without files that are known to be gone since."
        )

    def save(self, location: str) -> None:
        """Leave the file."""
        notes.write(location, f"{_FOLDER}/{self.model}", json.dumps(asdict(self)).encode())

    def network(self, loaded: Weights) -> Vgg16Model:
        """Return the model itself, if these are its weights: else one with another id."""
        return Vgg16Model(loaded, self.precision, self.ranges)

    @property
    def said(self) -> str:
        """What a user says to mean it, beside its id."""
        if self.recipe is not None:
            return f"--model {self.weights}"
        return f"--weights {self.weights} --precision {self.precision}"


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
        if made.recipe is not None:
            recipe = found["recipe"]
            made = replace(made, recipe=Recipe(**recipe | {name: tuple(recipe[name]) for name in ("mean", "std")}))
        made.check(name.rpartition("/")[2])
        return made
    except (ValueError, TypeError, KeyError) as error:
        raise UsageError(f"{location}/{name}: not what an extract leaves: make the features anew") from error


def begun(model: Model, location: str) -> Model:
    """Return a model with the ranges that it has in a table already: none are looked for anew."""
    if not isinstance(model, Vgg16Model):
        return model
    for made in of(location):
        same = made.network(model.weights)
        if made.precision == model.precision and made.model == same.id:
            return same
    return model


def started(model: Model, location: str) -> Made:
    """Return what is said of a model while an extract is at work."""
    fresh = Made(model.id, model.source, model.precision, (), complete=False)
    if isinstance(model, Vgg16Model):
        fresh = replace(fresh, ranges=model.arithmetic.ranges)
    elif isinstance(model, OnnxModel):
        fresh = replace(fresh, recipe=model.recipe)
    for before in of(location):
        if before.model == model.id:
            return replace(fresh, stale=before.stale, parts=before.parts, listed=before.listed)
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
    return ", ".join(f"{made.model} ({made.said})" for made in there)


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


def choose(location: str, source: str | None, precision: str | None, asked: str | None = None) -> Chosen:
    """Return the model that is meant by what a user says of it; nothing need be said where the table has only one.

    Parameters
    ----------
    location
        The location of a table of features.
    source, precision
        The weights of VGG16 and its precision, or None.
    asked
        A model's id, or "onnx:" and where its file is now, or None.

    Raises
    ------
    UsageError
        If there are no such features, what was said fits none or several, or no extract has come to its end.
    """
    location = formats.located(location)
    there = _there(location)
    if asked is not None and (source or precision):
        raise UsageError(f"--model {asked}: it says what --weights and --precision say: give one or the other")
    if asked is not None:
        chosen = _asked(location, there, asked)
    elif source is None and precision is None and len(there) == 1:
        chosen = _later(there[0], location)
    else:
        chosen = _fitting(location, there, source, precision)
    chosen.made.require_answers(location)
    return chosen


def _later(made: Made, location: str) -> Chosen:
    return Chosen(made, cache(partial(_loaded, made, location)))


def again(location: str, model: str, source: str | None) -> Model:
    """Return the network that made complete features, from where it was then, or is now.

    Parameters
    ----------
    location
        The location of a table of features.
    model
        The model's id.
    source
        Where its weights or its file are now; None for where they were.

    Raises
    ------
    UsageError
        If the features are not there or not complete, or this is another network.
    """
    return _loaded(one(location, model), location, source)


def _loaded(made: Made, location: str, source: str | None = None) -> Model:
    source = source or made.weights
    if made.recipe is not None:
        now = onnx_model.id_of(source, made.recipe)
        if now != made.model:
            raise UsageError(
                f"{location} was made with {_named([made])}, but this file is now {now}: say where the other is, "
                f"{onnx_model.PREFIX}FILE"
            )
        return _from_onnx(made, source)
    found = made.network(weights.load(source))
    if found.id != made.model:
        if f"-{found.weights.fingerprint}-" in made.model:
            raise UsageError(f"{location}: this release does not compute {made.model} any more: extract anew")
        raise UsageError(
            f"{location} was made with {_named([made])}, but these weights are now {found.weights.fingerprint}: "
            "say with --weights where the others are"
        )
    return found


def _from_onnx(made: Made, source: str) -> Model:
    assert made.recipe is not None
    return onnx_model.load(source, made.recipe.side, made.recipe.mean, made.recipe.std, made.recipe.layer)


def _asked(location: str, there: list[Made], asked: str) -> Chosen:
    if asked.startswith(onnx_model.PREFIX):
        same = [made for made in there if made.recipe and onnx_model.id_of(asked, made.recipe) == made.model]
        fitting = [Chosen(made, cache(partial(_from_onnx, made, asked))) for made in same]
    else:
        fitting = [_later(made, location) for made in there if made.model == asked]
    if len(fitting) != 1:
        problem = "choose one by its id" if fitting else f"not with --model {asked}"
        raise UsageError(f"{location} was made with {_named(there)}{':' if fitting else ','} {problem}")
    return fitting[0]


def _fitting(location: str, there: list[Made], source: str | None, precision: str | None) -> Chosen:
    of_vgg16 = [made for made in there if made.recipe is None]
    sources = [source] if source else sorted({made.weights for made in of_vgg16})
    if len(sources) > 1 or (len(of_vgg16) < len(there) and source is None and precision is None):
        raise UsageError(f"{location} was made with {_named(there)}: choose one by --weights or --model")
    if not sources:
        raise UsageError(f"{location} was made with {_named(there)}, not with --precision {precision}")
    loaded = weights.load(sources[0])
    networks = [(made, made.network(loaded)) for made in of_vgg16 if precision in {None, made.precision}]
    fitting = [(made, network) for made, network in networks if network.id == made.model]
    if not fitting:
        said = f"--weights {sources[0]}" + (f" --precision {precision}" if precision else "")
        raise UsageError(f"{location} was made with {_named(there)}, not with {said}")
    if len(fitting) > 1:
        raise UsageError(f"{location} was made with {_named(there)}: choose one by its precision too")
    made, network = fitting[0]
    return Chosen(made, lambda: network)
