"""The answer in a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from rich.console import Console
from rich.table import Table
from rich.text import Text

from dedup.answers import Answered


def _console() -> Console:
    # Where the output goes to a file, its lines are not cut to the width of a terminal that is not there.
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=200)


def show(answered: Answered, metrics: Sequence[str]) -> None:
    """Show a table for each query: rank, votes, each metric's distance and place, and where the image lies."""
    console = _console()
    for path, reject in answered.rejects:
        console.print(Text(f"not an image, not asked about: {path}: {reject}"))
    for query in answered.queries:
        table = Table(title=Text(query), title_justify="left", box=None)
        for name in ("rank", "votes", *metrics):
            table.add_column(name, justify="right")
        table.add_column("image", overflow="fold")
        for row in answered.rows[query]:
            paths = row["paths"]
            more = f" and {len(paths) - 1} more" if len(paths) > 1 else ""
            cells = [
                f"{row[name]:.4g}" + (f" #{row[f'{name}_place']}" if row[f"{name}_place"] else "   ")
                for name in metrics
            ]
            image = Text((paths[0] if paths else row["sha256"]) + more)
            table.add_row(str(row["rank"]), f"{row['votes']}/{len(metrics)}", *cells, image)
        console.print(table)
    for note in answered.notes:
        console.print(Text(note))
    console.print(Text(f"report: {answered.page}"), soft_wrap=True)


def show_by_votes(answered: Answered) -> None:
    """Show a few lines for each query: the images with five votes, with four, ..."""
    console = _console()
    for query in answered.queries:
        console.print(Text(query, "bold"), soft_wrap=True)
        for votes, rows in groupby(answered.rows[query], key=lambda row: row["votes"]):
            names = ", ".join(row["paths"][0].rpartition("/")[2] if row["paths"] else row["sha256"] for row in rows)
            console.print(Text(f"  {votes} {'votes' if votes > 1 else 'vote '}  {names}"), soft_wrap=True)
