"""table -> features: put every content once through the network; keep its features, or the reason why it has none."""

from __future__ import annotations

from dedup import counters, extraction, following, images, job, models


def main() -> None:
    """Parse, load the weights, extract, count."""
    parser = job.Parser(
        "extract",
        "Compute the features of images: FEATURES/features (a row for each content and model), FEATURES/images (paths\n"
        "and hashes) and FEATURES/rejects (a row for each file without features, and why). A killed run goes on where\n"
        "it stopped; what has features already is not computed again.",
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument(
        "--table",
        metavar="URI",
        help="a table made by ingest, or one of others: docs/tables.md",
    )
    source.add_argument("--images", metavar="URI", help="or the images themselves, whose bytes stay where they are")
    parser.add_argument("--features", required=True, metavar="URI", help="where the tables are kept")
    parser.add_format()
    parser.add_follow()
    parser.add_network()
    options = parser.options()
    network = models.begun(job.load_network(options), options.features)
    identity = network.id  # of int8 it may lack something: that is said before anything begins
    spark = job.session("extract")
    hint = job.hint(options)  # before there are features
    where = (options.features, network)
    if options.follow and options.images:
        with job.step("ingest") as first, job.step("extract") as step:
            taken, made = following.extract_files(spark, options.images, *where, options.follow, options.format)
            first.counts = counters.ingested(taken)
            step.counts = counters.extracted(made, extraction.reasons(spark, options.features))
    elif options.images:
        with extraction.begun(spark, options.images, *where, options.format) as run:
            with job.step("ingest") as step:
                step.counts = counters.ingested(images.some(run.take(), options.images))
            with job.step("extract") as step:
                step.counts = counters.extracted(run.extract(), extraction.reasons(spark, options.features))
    else:
        with job.step("extract") as step:
            if options.follow:
                made = following.extract(spark, options.table, *where, options.follow, options.format)
            else:
                made = extraction.extract(spark, options.table, *where, options.format)
            step.counts = counters.extracted(made, extraction.reasons(spark, options.features))
    job.say(f"model {identity}")
    if hint:
        job.say(hint)


if __name__ == "__main__":
    job.run(main)
