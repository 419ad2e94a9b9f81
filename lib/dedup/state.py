"""What a deduplication leaves beside its tables for the next one: what has been compared, and how."""

from __future__ import annotations

import hashlib
import io
import json
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dedup import storage
from dedup.errors import Reject, UsageError


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
        rest = json.loads(storage.read(file))
        axes = np.load(io.BytesIO(storage.read(f"{output}/{rest['axes']}")), allow_pickle=False)
        return State(rest["run"], rest["settings"], tuple(rest["parts"]), rest["pairs"], rest["cut"], axes)
    except (ValueError, TypeError, KeyError, EOFError) as error:
        raise UsageError(f"{file}: not what a deduplication leaves: delete it, and all is compared anew") from error
    except Reject as error:
        raise UsageError(f"{file}: {error.detail}") from error
