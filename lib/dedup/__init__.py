"""Exact and near-duplicate images in data lakes, on Apache Spark.

The modules follow the data, and each imports only what stands before it:

- ground: `errors`, `quiet`, `storage` (files in and out), `distances` (the five metrics), `tables` (what jobs pass to
  each other), `batches` and `rounds` (how rows go through workers and jobs);
- the way: `images` (a bucket becomes a table), `pixels` (bytes become a picture), `vgg16`, `weights`, `model` (the
  network), `delivery` (its weights reach the workers), `features` (the table of vectors), `queries`, `results` (the
  poll), `report`, `answers` (a question from end to end);
- the edge: `console`, `job` (what all jobs do alike), `edits` and `demo` (altered copies, hidden and looked for).
"""

__version__ = "0.1.0"
