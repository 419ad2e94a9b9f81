"""features + query -> results: five distances name the images nearest to a query, and the most voted win."""

from __future__ import annotations

from dedup import answers, console, counters, distances, focus, job, models, results


def main() -> None:
    """Parse, ask, show the answer."""
    parser = job.Parser(
        "query",
        "Ask which images are like this one. Each metric names its nearest images, and those named by\n"
        "most metrics win. Leaves REPORT/results, a table, and REPORT/report.html, a page with pictures.",
    )
    parser.add_argument("--features", required=True, metavar="URI", help="a table of features made by extract")
    parser.add_argument(
        "--query",
        required=True,
        nargs="+",
        metavar="IMAGE",
        help="image files, folders or patterns; or a sha256 or a path that the table knows",
    )
    parser.add_argument(
        "--top",
        type=job.positive,
        default=results.DEFAULT_TOP,
        metavar="N",
        help="how many images each metric names (default: %(default)s)",
    )
    parser.add_argument(
        "--distances",
        nargs="+",
        default=list(distances.METRICS),
        metavar="METRIC",
        help=f"the metrics that vote (default: {' '.join(distances.METRICS)})",
    )
    parser.add_argument(
        "--minkowski-p",
        type=float,
        default=distances.DEFAULT_P,
        metavar="P",
        help="the order of the Minkowski distance (default: %(default)g)",
    )
    parser.add_views("the query")
    for name, says in (
        ("--focus", "only this part of the query counts: pixels, or fractions of its width and height; give several"),
        ("--ignore", "this part of the query does not count: it is painted over; give several"),
    ):
        parser.add_argument(name, type=focus.box, action="append", default=[], metavar="X,Y,W,H", help=says)
    parser.add_argument(
        "--report", default="report", metavar="DIR", help="where the answer goes (default: %(default)s)"
    )
    parser.add_format()
    parser.add_model()
    options = parser.options()
    question = answers.Question(
        options.features,
        options.query,
        options.report,
        options.top,
        options.minkowski_p,
        options.distances,
        views=options.views,
        focus=focus.Focus(tuple(options.focus), tuple(options.ignore)),
        format=options.format,
    )
    chosen = models.choose(options.features, options.weights, options.precision, options.model)
    spark = job.session("query")
    with job.step("query") as step:
        answered = answers.ask(spark, question, chosen)
        step.counts = counters.answered(answered)
    job.show(console.answers(answered, options.distances))


if __name__ == "__main__":
    job.run(main)
