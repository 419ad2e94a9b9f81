"""Tasks that Spark gave GPUs, on machines without any."""

GIVEN = """
from pyspark import TaskContext
from pyspark.resource import ResourceInformation

TaskContext()._resources = {"gpu": ResourceInformation("gpu", ["2", "5"])}
"""
"""What makes a process without Spark a worker, in a task that was given two GPUs."""
