"""table -> features: put every content once through the network; keep its features, or the reason why it has none."""

from __future__ import annotations

from dedup import counters, extraction, following, images, job, models
from dedup.counters import Counts
from dedup.extraction import Extracted
from dedup.images import Ingested


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

    def counted(made: Extracted) -> Counts:
        return counters.extracted(made, extraction.reasons(spark, options.features))

    if options.follow and options.images:
        with job.step("ingest") as first, job.step("extract") as step:

            def both(done: tuple[Ingested, Extracted], seconds: float) -> None:
                first.batch(counters.ingested(done[0]), seconds)
                step.batch(counted(done[1]), seconds)

            how = (options.follow, options.format)
            taken, made = following.extract_files(spark, options.images, *where, *how, both)
            first.counts, step.counts = counters.ingested(taken), counted(made)
    elif options.images:
        with extraction.begun(spark, options.images, *where, options.format) as run:
            with job.step("ingest") as step:
                step.counts = counters.ingested(images.some(run.take(), options.images))
            with job.step("extract") as step:
                step.counts = counted(run.extract())
    else:
        with job.step("extract") as step:
            if options.follow:

                def told(made: Extracted, seconds: float) -> None:
                    step.batch(counted(made), seconds)

                made = following.extract(spark, options.table, *where, options.follow, options.format, told)
            else:
                made = extraction.extract(spark, options.table, *where, options.format)
            step.counts = counted(made)
    job.say(f"model {identity}")
    if hint:
        job.say(hint)


if __name__ == "__main__":
    job.run(main)
