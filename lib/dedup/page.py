"""Pages: a template of the library becomes one HTML file that needs nothing else, whatever stands in the values."""

from __future__ import annotations

from importlib import resources
from typing import Any

import jinja2

from dedup.distances import METRICS
from dedup.lines import printable


def _source(name: str) -> str | None:
    """Return a template's text, from a folder or from the zip that executors and drivers are given."""
    template = resources.files("dedup").joinpath(name)
    return template.read_text(encoding="utf-8") if template.is_file() else None


def fill(template: str, **values: Any) -> str:
    """Return the page that a template makes of values. Whatever is in a value is shown, and never obeyed.

    Parameters
    ----------
    template
        A file beside this one; most extend `page.html`, which has what all pages look like.
    values
        What the template speaks of; it also knows `all_metrics`, `plural`, and the filters `short`, `count`, `size`,
        `share`, `named`, `percent`.
    """
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_source),
        autoescape=True,
        finalize=_shown,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {filter.__name__: filter for filter in (short, count, size, share, named, percent)}
    return environment.get_template(template).render(all_metrics=list(METRICS), plural=plural, **values)


def _shown(value: Any) -> Any:
    """Return a value of a template as the page shows it; markup, which only the library makes, as it is."""
    return printable(value) if isinstance(value, str) and not hasattr(value, "__html__") else value


def short(distance: float) -> str:
    """Return a distance as people read it: `0`, `0.00412`, `1830`."""
    return f"{distance:.3g}" if abs(distance) < 1000 else f"{distance:.0f}"


def count(number: int) -> str:
    """Return a number as people read it: `92,424`."""
    return f"{number:,}"


def size(length: int) -> str:
    """Return bytes as people read them, with powers of 1000.

    >>> size(0), size(999), size(1000), size(99_950), size(1_234_567_890)
    ('0 B', '999 B', '1.00 kB', '100 kB', '1.23 GB')
    """
    number, units = float(length), iter(("kB", "MB", "GB", "TB", "PB", "EB"))
    if length < 1000:
        return f"{length} B"
    while number >= 999.5:
        number, unit = number / 1000, next(units)
    places = 2 if number < 9.995 else 1 if number < 99.95 else 0
    return f"{number:.{places}f} {unit}"


def share(part: float, whole: float) -> str:
    """Return a part of a whole in percent. Only nothing is 0 %, and only all is 100 %.

    >>> share(0, 7), share(1, 3), share(1, 10**6), share(10**6 - 1, 10**6), share(7, 7), share(0, 0)
    ('0 %', '33.3 %', '< 0.1 %', '> 99.9 %', '100 %', '0 %')
    """
    if not part:
        return "0 %"
    percent = 100 * part / whole
    if part == whole:
        return "100 %"
    if percent < 0.1:
        return "< 0.1 %"
    return f"{percent:.1f} %" if percent < 99.95 else "> 99.9 %"


def plural(number: int, noun: str) -> str:
    """Return how many there are of something.

    >>> plural(1, "kind"), plural(2000, "kind")
    ('1 kind', '2,000 kinds')
    """
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def percent(value: float) -> str:
    """Return a share in percent: whole where it is that, with one place otherwise.

    >>> percent(1.0), percent(0.995)
    ('100', '99.5')
    """
    return f"{100 * value:.1f}".removesuffix(".0")


def named(path: str) -> tuple[str, str]:
    """Return the folder of a path, with its slash, and the name in it.

    >>> named("/lake/2024/a.jpg"), named("s3://lake/"), named("a.jpg")
    (('/lake/2024/', 'a.jpg'), ('s3://', 'lake/'), ('', 'a.jpg'))
    """
    folder, slash, name = path.rstrip("/").rpartition("/")
    return folder + slash, name + path[len(path.rstrip("/")) :]
