"""The rows of speed.py: who is measured beside whom, on what data, and how often."""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pictures
from contest import Comparison, Entry
from scale import draw, thresholds
from synthetic import Lake

from dedup.errors import UsageError

CONTESTANTS = Path(__file__).resolve().parent / "contestants"

_FEW = 16  # images to warm up with

_ENDINGS = {".jpg", ".jpeg"}


def _entry(name: str, script: str, about: str, **options: object) -> Entry:
    words = [word for key, value in options.items() for word in (f"--{key}", str(value))]
    return Entry(name, about, [sys.executable, str(CONTESTANTS / f"{script}.py"), *words])


def images(options: argparse.Namespace) -> Path:
    """Return a folder with the images of the row `extract` and nothing else."""
    made = options.output / f"images-{options.images}"
    if options.data is None:
        pictures.make(options.images, made)
        return Path(made)
    chosen = sorted(file for file in options.data.rglob("*") if file.suffix.lower() in _ENDINGS)[: options.images]
    if not chosen:
        raise UsageError(f"--data {options.data}: no .jpg or .jpeg files in it")
    return _copied(chosen, Path(options.output / "images-data"))


def _copied(files: list[Path], folder: Path) -> Path:
    """Return a folder made anew, with these files and nothing else."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for number, file in enumerate(files):
        shutil.copyfile(file, folder / f"{number:06d}.jpg")
    return folder


def lake(options: argparse.Namespace, rows: int) -> tuple[Path, Path]:
    """Return a lake of so many rows, drawn unless it is there, and its file of thresholds."""
    drawn, location = Lake(rows), Path(options.output / f"lake-{rows}")
    draw(drawn, 1, location, [])
    file = Path(options.output / f"thresholds-{rows}.json")
    if not file.exists():
        thresholds(drawn).save(str(file))
    return location, file


def extract(options: argparse.Namespace) -> Iterator[Comparison]:
    """Images to features."""
    folder, output = images(options), options.output
    files = sorted(folder.iterdir())
    few, count = _copied(files[:_FEW], folder.with_name(f"{folder.name}-few")), len(files)
    ours = (
        "end to end on Spark in a warm session, from a folder to a table of features with all counts checked; "
        "weights loaded and with the workers, and int8's ranges found, before"
    )
    bare = "the same network in TensorFlow alone, batches of 32, its pixels decoded before, no files, no Spark"
    entries = [
        _entry(
            f"DeDup, {precision}",
            "ours_extract",
            f"{ours}; seeded weights, {precision}",
            images=folder,
            few=few,
            output=output / f"extract-{precision}",
            precision=precision,
        )
        for precision in options.precisions
    ]
    entries += [
        _entry(
            "Keras, one by one",
            "keras_loop",
            f"load_img and predict for each of {min(count, options.keras_images)} of the files, float32",
            images=folder,
            most=options.keras_images,
        ),
        _entry(
            "Spark with Keras",
            "spark_keras",
            "binaryFile, a scalar-iterator pandas UDF, Keras' VGG16 from broadcast weights, batches of 32, float32, "
            "to Parquet; a partition for each core, the model made in each, as the pattern has it",
            images=folder,
            few=few,
            output=output / "spark-keras",
        ),
    ]
    entries += [
        _entry(
            f"TensorFlow alone, {precision}",
            "bare_tensorflow",
            f"{bare}; {precision}",
            images=folder,
            precision=precision,
        )
        for precision in options.precisions
        if precision != "int8"
    ]
    entries.append(
        _entry(
            "imagededup, MobileNetV3",
            "imagededup_encode",
            "`CNN().encode_images`, its default network: under 1 % of the arithmetic of VGG16, and 576 numbers; "
            "random weights, as nothing is downloaded",
            images=folder,
        )
    )
    yield Comparison("extract", f"features of {count:,} images", "images/s", options.rounds, entries)


def query(options: argparse.Namespace) -> Iterator[Comparison]:
    """One query."""
    at, _ = lake(options, options.rows)
    entries = [
        _entry("DeDup", "ours_query", "five distances and the vote, in a warm session", lake=at, queries=1),
        _entry(
            "Spark SQL",
            "spark_sql",
            "one distance: ORDER BY vector_l2_distance LIMIT 5 on a Parquet table with ARRAY<FLOAT>",
            lake=at,
            table=options.output / f"arrays-{options.rows}",
        ),
        _entry(
            "SciPy",
            "scipy_cdist",
            "`cdist` five times (its Dice is of booleans), in threads, the table in memory before",
            lake=at,
        ),
        _entry("pyarrow", "arrow_scan", "reads hashes and vectors of the same files, and computes nothing", lake=at),
    ]
    yield Comparison("query", f"one query in {options.rows:,}", "s", options.rounds, entries)


def queries(options: argparse.Namespace) -> Iterator[Comparison]:
    """Many queries at once."""
    at, _ = lake(options, options.rows)
    slow = min(options.slow_queries, options.queries)
    scaled = f"; Lp is measured with {slow} of the queries, and its time scaled" if slow < options.queries else ""
    entries = [
        _entry("DeDup", "ours_query", "five distances and the votes", lake=at, queries=options.queries),
        _entry(
            "faiss",
            "faiss_search",
            "the sum of four exact searches (L2, inner product, L1, Lp with p = 3; there is no Dice), no vote, the "
            f"table in memory before{scaled}",
            lake=at,
            queries=options.queries,
            slow=slow,
        ),
    ]
    title = f"{options.queries:,} queries in {options.rows:,}"
    yield Comparison("queries", title, "s", options.rounds, entries)


def pairs(options: argparse.Namespace) -> Iterator[Comparison]:
    """All near pairs, exactly."""
    for rows in options.pairs_rows:
        at, within = lake(options, rows)
        given = {"lake": at, "thresholds": within}
        about = "`./submit.sh deduplicate --search exact` from start to end: pairs by five distances, groups, manifest"
        entries = [
            _entry("DeDup", "ours_deduplicate", about, **given, output=options.output),
            _entry("faiss", "faiss_pairs", "`IndexFlatL2.range_search`, one distance, the table in memory", **given),
        ]
        if rows <= options.imagededup_rows:
            similar = "`CNN().find_duplicates` on the same vectors, one similarity, all pairs in memory"
            entries.append(_entry("imagededup", "imagededup_pairs", similar, **given))
        yield Comparison("pairs", f"near pairs among {rows:,}", "s", options.pairs_rounds, entries)


ROWS: dict[str, Callable[[argparse.Namespace], Iterator[Comparison]]] = {
    "extract": extract,
    "query": query,
    "queries": queries,
    "pairs": pairs,
}
