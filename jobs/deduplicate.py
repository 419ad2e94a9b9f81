"""features -> pairs -> groups -> manifest: what to keep, what to drop, what to review, and why."""

from __future__ import annotations

from dedup import counters, deduplication, job, keepers, search, summary, thresholds


def main() -> None:
    """Parse, deduplicate, count."""
    parser = job.Parser(
        "deduplicate",
        "Find the duplicate groups of all images, and say for each file what to do with it: OUTPUT/manifest (keep,\n"
        "drop or review, for which other file, and why), OUTPUT/pairs, OUTPUT/merges, and OUTPUT/report.html, a page\n"
        "with pictures. Nothing is deleted. A later run compares only what is new.",
    )
    parser.add_argument("--features", required=True, metavar="URI", help="a table of features made by extract")
    parser.add_argument("--output", required=True, metavar="URI", help="where the manifest and the page go")
    near = parser.add_mutually_exclusive_group()
    near.add_argument("--thresholds", metavar="FILE", help="when images are near: the thresholds.json of calibrate")
    near.add_argument(
        "--votes",
        type=job.positive,
        metavar="N",
        help="without a calibration: how many of the five distances must be within the default thresholds "
        f"(default: {thresholds.DEFAULT_VOTES})",
    )
    parser.add_argument("--against", metavar="URI", help="features of other images, which stay: find what is there")
    parser.add_argument("--model", metavar="ID", help="whose features, where the table has those of several models")
    parser.add_views("images", "as many as the thresholds were made for")
    parser.add_table()
    parser.add_argument("--weights", metavar="SOURCE", help="where the weights, or onnx:FILE, are now: views need them")
    parser.add_argument(
        "--search",
        choices=search.WAYS,
        help="exact misses no near pair; approximate is for sizes where that takes too long, and says what it misses "
        f"(default: exact up to {search.EXACT_UP_TO:,} contents)",
    )
    parser.add_argument(
        "--prefer", nargs="+", default=[], metavar="URI", help="files under these stay, the most wanted first"
    )
    parser.add_argument("--protect", nargs="+", default=[], metavar="URI", help="files under these are never dropped")
    parser.add_argument(
        "--keep",
        nargs="+",
        default=list(keepers.Policy().rules),
        metavar="RULE",
        choices=keepers.BETWEEN,
        help="which file of a group stays: the first of these rules that tells two apart "
        f"(default: {' '.join(keepers.Policy().rules)})",
    )
    parser.add_format()
    parser.add_argument("--csv", action="store_true", help="write OUTPUT/manifest.csv too")
    options = parser.options()
    within = thresholds.load(options.thresholds) if options.thresholds else thresholds.defaults(options.votes)
    request = summary.Request(
        features=options.features,
        output=options.output,
        thresholds=within,
        against=options.against,
        model=options.model,
        views=options.views,
        table=options.table,
        weights=options.weights,
        way=options.search,
        policy=keepers.Policy(tuple(options.prefer), tuple(options.protect), tuple(options.keep)),
        format=options.format,
        csv=options.csv,
    )
    spark = job.session("deduplicate")
    with job.step("deduplicate") as step:
        done = deduplication.deduplicate(spark, request)
        step.counts = counters.deduplicated(done)
    for line in summary.told(done, within):
        job.say(line)


if __name__ == "__main__":
    job.run(main)
