"""All jobs on real photographs: hide altered copies among other images, look for them, and find the groups."""

from __future__ import annotations

from pathlib import Path

from dedup import answers, console, counters, deduplication, demo, extraction, images, job, models, summary, thresholds
from dedup.errors import UsageError
from dedup.views import COUNTS

SEEDED = (
    "The ImageNet weights cannot be had here, so this run uses seeded weights: made, not trained. They find altered "
    "copies, and know nothing about what a picture shows."
)


def main() -> None:
    """Hide, ingest, extract, deduplicate, ask, count."""
    parser = job.Parser(
        "demo", "Run ingest -> extract -> deduplicate and query on real photographs and altered copies of them."
    )
    parser.add_argument(
        "--images", metavar="DIR", help="photographs of your own; else those in scikit-image and scikit-learn"
    )
    parser.add_argument("--output", default="demo", metavar="DIR", help="where everything goes (default: %(default)s)")
    parser.add_vgg16()
    options = parser.options()
    folder = Path(options.output).absolute()
    notes = []
    try:
        network = job.load_model(options.weights, options.precision)
    except UsageError:
        if options.weights:
            raise
        notes.append(SEEDED)
        job.say(SEEDED)
        network = job.load_model("seeded", options.precision)
    hidden, locations = demo.hide(folder / "images", options.images)
    job.say(f"{len(hidden)} photographs, altered in {len(demo.HIDDEN)} ways each: {', '.join(demo.HIDDEN)}")
    spark = job.session("demo")
    for location in locations:
        with job.step("ingest") as step:
            step.counts = counters.ingested(images.ingest(spark, location, f"{folder}/table"))
    with job.step("extract") as step:
        done = extraction.extract(spark, f"{folder}/table", f"{folder}/features", network)
        step.counts = counters.extracted(done, extraction.reasons(spark, f"{folder}/features"))
    within = thresholds.defaults()
    request = summary.Request(f"{folder}/features", f"{folder}/deduplicated", within, model=done.model)
    with job.step("deduplicate") as step:
        grouped = deduplication.deduplicate(spark, request)
        step.counts = counters.deduplicated(grouped)
    question = answers.Question(
        f"{folder}/features",
        hidden,
        f"{folder}/report",
        demo.TOP,
        views=COUNTS[-1],
        title="DeDup demo: which copies are found?",
        notes=notes,
        gallery=grouped.gallery,
    )
    chosen = models.Chosen(models.one(f"{folder}/features", done.model), lambda: network)
    with job.step("query") as step:
        answered = answers.ask(spark, question, chosen)
        step.counts = counters.answered(answered)
    job.show(console.by_votes(answered))
    job.say(
        f"Copies found when their photograph was asked for in {COUNTS[-1]} views, "
        f"each metric naming its nearest {demo.TOP}:"
    )
    for edit, count in demo.found(hidden, answered.rows).items():
        job.say(f"  {edit:12} {count:3} of {len(hidden)}")
    for line in summary.told(grouped, within):
        job.say(line)
    job.say(f"report: {answered.page}")


if __name__ == "__main__":
    job.run(main)
