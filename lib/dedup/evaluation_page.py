"""The page of an evaluation: what is found at which place, precision over recall, and how far the metrics agree."""

from __future__ import annotations

from typing import TYPE_CHECKING

from markupsafe import Markup

from dedup import drawings, page
from dedup.distances import METRICS
from dedup.ranks import ALL, METHODS, PLACES, POLL, RULES
from dedup.views import first_views

if TYPE_CHECKING:
    from dedup.evaluation import Evaluated
    from dedup.limits import Interval


def verdict(done: Evaluated) -> str:
    """Say whether the poll finds more than the best metric alone."""
    first = PLACES[-1]
    poll, alone = (done.recall[ALL][method][first].value for method in (POLL, done.best))
    theirs = done.gains[done.best]
    if theirs.high < 0:
        how = f"more than {done.best}, the best metric alone"
    elif theirs.low > 0:
        how = f"less than {done.best}, the best metric alone"
    else:
        how = f"no clear difference to {done.best}, the best metric alone"
    between = f"{_points(-theirs.high)} to {_points(-theirs.low)} points"
    shares = f"{page.percent(poll)} % of all copies against {page.percent(alone)} %"
    return f"Among the first {first} images the poll finds {shares}: {how} (95 % interval {between})."


def points(gain: Interval) -> str:
    """Return a difference of shares and its interval, in points of a hundred."""
    return f"{_points(gain.value)} ({_points(gain.low)} to {_points(gain.high)})"


def _points(share: float) -> str:
    return f"{100 * share + 0.0:+.1f}"  # no minus before a zero


def render(done: Evaluated) -> str:
    """Return the page. Whatever comes from a user is escaped."""
    return page.fill(
        "evaluation.html",
        found=done,
        facts=_facts(done),
        verdict=verdict(done),
        places=PLACES,
        poll=POLL,
        methods=[*RULES, *METRICS],
        gains={method: points(gain) for method, gain in done.gains.items()},
        drawings=_drawings(done),
    )


def _facts(done: Evaluated) -> dict[str, str]:
    unread = f"; {done.unread:,} could not be read" if done.unread else ""
    return {
        "Model": done.model,
        "Images": f"{done.images:,} different ones",
        "Asked for": f"{done.originals:,} of them{unread}",
        "Views of each": ", ".join(first_views(done.views)),
        "Copies": f"{done.copies[ALL]:,} of {page.plural(len(done.kinds), 'kind')}, each hidden alone among all images",
        "Left out": f"{done.natural:,} neighbours that are copies too",
        "Independent opinions": f"{done.agreement.opinions:.2f} of {len(METRICS)} metrics",
    }


def _drawings(done: Evaluated) -> dict[str, Markup]:
    """Return precision over recall for each kind of copies, all of them first."""
    return {
        kind: drawings.curves(
            {method: done.curves[kind][method].thinned() for method in METHODS},
            f"Precision over recall of {kind}, for each metric alone and for the poll",
        )
        for kind in (ALL, *done.kinds)
    }
