"""Exact and near-duplicate images in data lakes, on Apache Spark.

The modules follow the data, and each imports only what stands before it:

- ground: `errors`, `lines` (what may be shown), `quiet`, `logs` (what is logged, and how), `stores` (where files are),
  `storage` (files in and out), `listing` (which there are), `members` and `packing` (what is in a tar or a zip),
  `archives` (members are files too), `parts`, `transactions` and `formats` (how tables lie on a storage), `claims` (one
  run at a time), `notes` (what is kept beside tables),
  `distances` (the five metrics), `tables` (what jobs pass to each other), `views` (flips and turns), `thresholds` (how
  near is near), `delivery` (how what the driver holds reaches the workers), `progress` (how far a job is), `batches`
  and `rounds` (how rows go through workers and jobs), `edits` (altered copies), `page` (what all pages look like),
  `drawings`;
- from a bucket to vectors: `files` (listed and read), `given` (a table of others), `images` (a bucket becomes a
  table), `digests` (which images are equal), `excess` (what a file makes decoders do), `pixels` (bytes become a
  picture), `arithmetic`, `vgg16`, `convolutions`, `reduced_precision`, `weights`, `photographs`, `engines` (what
  computes it), `vgg16_model`, `onnx_model` (a network of the user's), `model` (what both are), `models` (which a
  table has), `features` (the table of vectors), `extraction` (from end to end), `following` (as images arrive),
  `vectors` (how they are read);
- a question: `focus` (what counts of it), `queries`, `results` (the poll), `report` (pages), `answers` (from end to
  end);
- a calibration: `neighbours` and `copies` (what is measured), `tails` and `limits` (what follows), `choices`
  and `calibration_page` (what is shown), `calibration` (from end to end);
- an evaluation: `ranks` (what is found among what), `evaluation_page`, `evaluation` (from end to end);
- a deduplication: `contents` (exact copies), `groups`, `viewed` and `turned` (contents in other views), `sketches`
  (which pairs cannot be near), `candidates` (the others), `pairs` (those that are), `search` (all near pairs of a
  lake), `keepers` (which file stays), `manifest`, `ledger` and `gallery` (what is shown of it), `state` (what the
  next run must know), `deduplication` (from end to end);
- the edge: `releases` (of Spark), `console`, `counters` (what was counted, as a table and as JSON), `job` (what all
  jobs do alike), `notebook` (what all notebooks do), `demo` (altered copies, hidden and looked for).
"""

import sys

if sys.version_info < (3, 11):  # noqa: UP036 -- a driver elsewhere, or a notebook, has a Python of its own
    raise ImportError(f"DeDup needs Python 3.11 or newer; this is {sys.version.split()[0]}")

__version__ = "0.1.0"
