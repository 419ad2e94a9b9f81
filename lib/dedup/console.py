"""The answer in a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from dedup.answers import Answered
from dedup.lines import printable


def _shown(parts: Iterator[RenderableType]) -> str:
    # Where the output goes to a file, its lines are not cut to the width of a terminal that is not there.
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=200)
    with console.capture() as capture:
        for part in parts:
            console.print(part, soft_wrap=isinstance(part, Text))
    return capture.get().removesuffix("\n")


def _text(text: str, style: str = "") -> Text:
    return Text(printable(text), style)


def answers(answered: Answered, metrics: Sequence[str]) -> str:
    """Return a table for each query: rank, votes, each metric's distance and place, and where the image lies."""
    return _shown(_tables(answered, metrics))


def _tables(answered: Answered, metrics: Sequence[str]) -> Iterator[RenderableType]:
    for path, reject in answered.rejects:
        yield _text(f"not an image, not asked about: {path}: {reject}")
    for query in answered.queries:
        table = Table(title=_text(query), title_justify="left", box=None)
        for name in ("rank", "votes", *metrics):
            table.add_column(name, justify="right")
        if answered.views > 1:
            table.add_column("the query, when it is")
        table.add_column("image", overflow="fold")
        for row in answered.rows[query]:
            paths = row["paths"]
            more = f" and {len(paths) - 1} more" if len(paths) > 1 else ""
            cells = [
                f"{row[name]:.4g}" + (f" #{row[f'{name}_place']}" if row[f"{name}_place"] else "   ")
                for name in metrics
            ]
            if answered.views > 1:
                cells.append(row["view"])
            image = _text((paths[0] if paths else row["sha256"]) + more)
            table.add_row(str(row["rank"]), f"{row['votes']}/{len(metrics)}", *cells, image)
        yield table
    for note in answered.notes:
        yield _text(note)
    yield _text(f"report: {answered.page}")


def by_votes(answered: Answered) -> str:
    """Return a few lines for each query: the images with five votes, with four, ..."""
    return _shown(_votes(answered))


def _votes(answered: Answered) -> Iterator[RenderableType]:
    for query in answered.queries:
        yield _text(query, "bold")
        for votes, rows in groupby(answered.rows[query], key=lambda row: row["votes"]):
            names = ", ".join(row["paths"][0].rpartition("/")[2] if row["paths"] else row["sha256"] for row in rows)
            yield _text(f"  {votes} {'votes' if votes > 1 else 'vote '}  {names}")
