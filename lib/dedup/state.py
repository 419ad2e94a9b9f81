"""What a deduplication leaves beside its tables for the next one: what has been compared, and how."""

from __future__ import annotations

import hashlib
import io
import json
import re
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dedup import storage
from dedup.errors import Reject, UsageError
from dedup.parts import PART

_AXES_BYTES = 64 << 20


@dataclass(frozen=True)
class State:
    """The last run that came to its end: the files `_state.json` and `_axes-*.npy`."""

    run: int  #: its number, from 1 up; 0 where there was none
    settings: dict[str, Any]  #: what pairs depend on: with others everything is compared anew
    parts: tuple[str, ...]  #: the parts of the table of sketches whose contents have been compared with each other
    pairs: str  #: the part of the table of pairs that came of it; empty where there is none
    cut: bool  #: whether pairs of contents with very many were left out
    axes: NDArray[np.float64]  #: of the sketches, shape (axes, width)

    def save(self, output: str) -> None:
        """Leave it; from then on the contents of its parts count as compared."""
        file = io.BytesIO()
        np.save(file, self.axes)
        # Other axes get another name: sketches are never taken for those along axes that came after them.
        axes = f"_axes-{hashlib.sha256(file.getvalue()).hexdigest()[:16]}.npy"
        storage.write(f"{output}/{axes}", file.getvalue())
        storage.write(f"{output}/_state.json", json.dumps(asdict(self) | {"axes": axes}).encode())
        for name in storage.names(output):
            if name.startswith("_axes-") and name != axes:
                storage.delete(f"{output}/{name}")


def load(output: str) -> State | None:
    """Return what the last run left; None where none came to its end.

    Raises
    ------
    UsageError
        If it cannot be read.
    """
    file = f"{output}/_state.json"
    if not storage.exists(file):
        return None
    try:
        rest = storage.read_note(file)
        axes = rest.pop("axes")
        if not re.fullmatch(r"_axes-[0-9a-f]{16}\.npy", axes):  # no way out of the folder
            raise ValueError(f"no name of axes: {axes}")
        state = State(
            **rest | {"parts": tuple(rest["parts"])}, axes=_axes(storage.read(f"{output}/{axes}", _AXES_BYTES))
        )
        _check(state)
        return state
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise UsageError(f"{file}: not what a deduplication leaves: delete it, and all is compared anew") from error
    except Reject as error:
        raise UsageError(f"{file}: {error.detail}") from error


def _axes(content: bytes) -> NDArray[np.float64]:
    """Return the axes in a file of NumPy's, which may claim to hold anything."""
    try:
        found = np.lib.format.read_array(io.BytesIO(content), allow_pickle=False)
    except Exception as error:  # of the many that its header, a piece of Python, can cause
        raise ValueError(f"no axes: {error}") from error
    if found.dtype != np.float64 or found.ndim != 2 or not found.shape[1] or not np.isfinite(found).all():
        raise ValueError(f"no axes: {found.dtype} of shape {found.shape}")
    return found


def _check(state: State) -> None:
    """Make sure that a state is one that `save` could have left, as far as a look at it can tell."""
    parts = [*state.parts, *([state.pairs] if state.pairs else [])]
    if not (
        type(state.run) is int
        and 0 <= state.run < 1 << 31
        and isinstance(state.settings, dict)
        and isinstance(state.cut, bool)
        and all(isinstance(part, str) and PART.fullmatch(part) for part in parts)
    ):
        raise ValueError("values of another kind")
