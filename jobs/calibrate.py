"""features + images -> thresholds: how near is near, told by altered copies of the user's own images."""

from __future__ import annotations

from dedup import calibration, counters, job, models
from dedup.arithmetic import PRECISIONS
from dedup.calibration import Wish


def main() -> None:
    """Parse, load the network, calibrate, say what was found."""
    parser = job.Parser(
        "calibrate",
        "Find out how near is near: take a sample of the images, alter each in many ways, compare the copies with\n"
        "their images and the images with each other, and make thresholds for a precision in the whole lake. Leaves\n"
        "OUTPUT/thresholds.json for deduplicate, OUTPUT/calibration.html, a page, and OUTPUT/calibration.json.",
    )
    parser.add_argument("--features", required=True, metavar="URI", help="a table of features made by extract")
    parser.add_table()
    parser.add_argument("--output", required=True, metavar="DIR", help="where the thresholds go")
    parser.add_argument(
        "--sample", type=job.positive, default=Wish.sample, metavar="N", help="images altered (default: %(default)s)"
    )
    parser.add_argument(
        "--precision",
        type=float,
        default=Wish.precision,
        metavar="SHARE",
        help="of the pairs called near, the share that shall be right (default: %(default)s)",
    )
    parser.add_argument(
        "--votes",
        type=job.positive,
        default=Wish.votes,
        metavar="N",
        help="how many of the five distances must be within their thresholds (default: %(default)s)",
    )
    parser.add_argument(
        "--duplicates",
        type=float,
        default=Wish.duplicates,
        metavar="SHARE",
        help="how many true pairs there may be for each image of the lake: a guess (default: %(default)s)",
    )
    parser.add_argument(
        "--minkowski-p", type=float, default=Wish.p, metavar="P", help="the order of Minkowski (default: %(default)g)"
    )
    parser.add_views("images")
    parser.add_format()
    parser.add_made()
    parser.add_argument("--network-precision", choices=PRECISIONS, help="needed where FEATURES was made in several")
    options = parser.options()
    wish = Wish(
        features=options.features,
        output=options.output,
        table=options.table,
        sample=options.sample,
        precision=options.precision,
        votes=options.votes,
        duplicates=options.duplicates,
        p=options.minkowski_p,
        views=options.views,
    )
    wish.check()
    chosen = models.choose(wish.features, options.weights, options.network_precision, options.model)
    spark = job.session("calibrate")
    with job.step("calibrate") as step:
        done = calibration.calibrate(spark, wish, chosen.made, chosen.network())
        step.counts = counters.calibrated(done)
    for line in calibration.told(done):
        job.say(line)


if __name__ == "__main__":
    job.run(main)
