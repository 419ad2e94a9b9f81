"""How near is near: the thresholds of the five distances, and how many of them must agree."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from dedup import storage
from dedup.distances import DEFAULT_P, METRICS
from dedup.errors import Reject, UsageError
from dedup.views import COUNTS

DEFAULT_VOTES = 3
"""How many distances must be within their thresholds."""

_LARGEST = float(np.finfo(np.float64).max)


@dataclass(frozen=True)
class Thresholds:
    """When two contents are near: at least `votes` of their distances are at most those in `within`.

    Thresholds belong to the model that they were made with.
    """

    model: str  #: the model's id; empty for the defaults, which were not made with the user's model
    votes: int  #: 1 to 5
    within: Mapping[str, float]  #: the largest distance that votes, for each metric
    made: str  #: what they were made with, in words for messages and reports
    p: float = DEFAULT_P  #: the order of the Minkowski distance
    views: int = 1  #: in how many views the images were looked at: one of `views.COUNTS`

    @property
    def calibrated(self) -> bool:
        """Whether they were made with the model and the images that they are used on."""
        return bool(self.model)

    def agreeing(self, distances: Mapping[str, NDArray[np.float64]]) -> NDArray[np.integer]:
        """Return how many distances are within their thresholds, for arrays of one shape."""
        votes: NDArray[np.integer] = np.count_nonzero(
            [distances[name] <= self.within[name] for name in METRICS], axis=0
        )
        return votes

    def save(self, location: str) -> None:
        """Leave them in a JSON file."""
        storage.write(location, (json.dumps(asdict(self), indent=2) + "\n").encode())


def defaults(votes: int | None = None) -> Thresholds:
    """Return the thresholds that are used without a calibration.

    They were chosen between altered copies and different images of photographs with seeded weights (docs/quality.md):
    with other weights they are a guess.

    Raises
    ------
    UsageError
        If more votes are asked for than there are metrics, or none.
    """
    votes = DEFAULT_VOTES if votes is None else votes
    if not 1 <= votes <= len(METRICS):
        raise UsageError(f"--votes {votes}: there are {len(METRICS)} distances")
    within = {"euclidean": 60.0, "manhattan": 2350.0, "cosine": 0.12, "minkowski": 19.0, "dice": 0.12}
    made = "the defaults, made with seeded weights (float32) on 652 photographs, no two of which are near by them"
    return Thresholds("", votes, within, made)


def load(location: str) -> Thresholds:
    """Return the thresholds in a file that `calibrate` made.

    Raises
    ------
    UsageError
        If it cannot be read, or holds something else.
    """
    try:
        found = Thresholds(**storage.read_note(location))
        distances = [found.within[name] for name in METRICS]
    except Reject as reject:
        raise UsageError(f"--thresholds {location}: {reject}") from reject
    except (ValueError, TypeError, KeyError) as error:
        raise UsageError(f"--thresholds {location}: not a file that calibrate made: {error}") from error
    whole = type(found.votes) is int and 1 <= found.votes <= len(METRICS)
    numbers = all(type(number) in {int, float} and 0 <= number <= _LARGEST for number in [found.p, *distances])
    if not whole or not numbers or found.p < 1:
        what = f"votes must be 1 to {len(METRICS)}, distances finite and from 0 up, p at least 1"
        raise UsageError(f"--thresholds {location}: {what}")
    if not isinstance(found.model, str) or not isinstance(found.made, str):
        raise UsageError(f"--thresholds {location}: model and made must be texts")
    if type(found.views) is not int or found.views not in COUNTS:
        raise UsageError(f"--thresholds {location}: views must be one of {', '.join(map(str, COUNTS))}")
    return found
