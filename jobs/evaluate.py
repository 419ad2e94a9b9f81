"""features + images -> figures: how well altered copies of the user's own images are found among all of them."""

from __future__ import annotations

from dedup import counters, evaluation, job, models
from dedup.evaluation import Wish


def main() -> None:
    """Parse, load the network, evaluate, say what was found."""
    parser = job.Parser(
        "evaluate",
        "Find out what is found: take a sample of the images, alter each in many ways, hide the copies among all\n"
        "images, and ask for them; or ask for pairs that a person has labelled. Leaves OUTPUT/evaluation.html, a page\n"
        "with recall at 1, 5 and 10, precision and recall for each metric alone and for the poll, and how far the\n"
        "metrics agree; and OUTPUT/evaluation.json.",
    )
    parser.add_argument("--features", required=True, metavar="URI", help="a table of features made by extract")
    parser.add_table()
    parser.add_argument("--output", required=True, metavar="DIR", help="where the figures go")
    parser.add_argument(
        "--originals",
        type=job.positive,
        default=Wish.originals,
        metavar="N",
        help="images that are altered, and asked for (default: %(default)s)",
    )
    parser.add_argument(
        "--labels",
        metavar="FILE",
        help="ask for these copies instead: CSV with the columns query_path, duplicate_path, relation; paths are "
        "absolute, or go on from the folder of FILE; --originals says nothing then, and --table only with --views",
    )
    parser.add_argument(
        "--minkowski-p", type=float, default=Wish.p, metavar="P", help="the order of Minkowski (default: %(default)g)"
    )
    parser.add_views("the image")
    parser.add_format()
    parser.add_model()
    options = parser.options()
    wish = Wish(
        features=options.features,
        output=options.output,
        table=options.table,
        originals=options.originals,
        labels=options.labels,
        p=options.minkowski_p,
        views=options.views,
    )
    wish.check()
    chosen = models.choose(wish.features, options.weights, options.precision, options.model)
    spark = job.session("evaluate")
    with job.step("evaluate") as step:
        done = evaluation.evaluate(spark, wish, chosen.made, chosen.network)
        step.counts = counters.evaluated(done)
    for line in evaluation.told(done):
        job.say(line)


if __name__ == "__main__":
    job.run(main)
