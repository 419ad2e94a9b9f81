"""table -> features: put every content once through VGG16; keep its 4096 features, or the reason why it has none."""

from __future__ import annotations

from dedup import counters, extraction, images, job, models


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
    parser.add_model()
    options = parser.options()
    network = models.begun(job.load_model(options.weights, options.precision), options.features)
    identity = network.id  # of int8 it may lack something: that is said before anything begins
    spark = job.session("extract")
    if options.images:
        with job.step("ingest") as step:
            done = images.ingest(spark, options.images, options.features, keep_bytes=False, format=options.format)
            step.counts = counters.ingested(done)
    with job.step("extract") as step:
        table = options.table or options.features
        made = extraction.extract(spark, table, options.features, network, options.format)
        step.counts = counters.extracted(made, dict(extraction.reasons(spark, options.features)))
    job.say(f"model {identity}")


if __name__ == "__main__":
    job.run(main)
