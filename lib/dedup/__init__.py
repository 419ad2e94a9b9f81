"""Exact and near-duplicate images in data lakes, on Apache Spark.

The modules follow the data: `storage` (files in and out) -> `tables` (what jobs pass to each other) -> `images`
(a bucket becomes a table) -> `pixels` (bytes become a picture) -> `weights`, `vgg16`, `model` (the network) ->
`features` (the table of vectors) -> `distances` -> `results` (the poll) -> `report`.
"""

__version__ = "0.1.0"
