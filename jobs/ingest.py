"""images -> table: list a bucket, a folder or a glob, and keep every file's bytes and hash in a partitioned table."""

from __future__ import annotations

from dedup import counters, following, images, job
from dedup.images import Ingested


def main() -> None:
    """Parse, ingest, count."""
    parser = job.Parser(
        "ingest",
        "Put images into a table: TABLE/images (path, sha256, length, modified, content) and TABLE/rejects.\n"
        "Files that the table has already are not read again; a file that cannot be read is a row of the rejects.",
    )
    parser.add_argument(
        "--images",
        required=True,
        metavar="URI",
        help="a file, a folder with all that is in it, or a pattern (* ? [..] **): a path, or s3a:// gs:// abfss:// "
        "hdfs://. Members of .tar and .zip archives are files too; '*.tar!/**/*.jpg' picks some of them",
    )
    parser.add_argument("--table", required=True, metavar="URI", help="where the tables images and rejects are kept")
    parser.add_format()
    parser.add_follow()
    options = parser.options()
    spark = job.session("ingest")
    with job.step("ingest") as step:
        if options.follow:

            def told(done: Ingested, seconds: float) -> None:
                step.batch(counters.ingested(done), seconds)

            where = (options.images, options.table, options.follow)
            done = following.ingest(spark, *where, format=options.format, told=told)
        else:
            done = images.ingest(spark, options.images, options.table, format=options.format)
        step.counts = counters.ingested(done)
    job.say(f"{options.table}: next, ./submit.sh extract --table {options.table} --features FEATURES")


if __name__ == "__main__":
    job.run(main)
