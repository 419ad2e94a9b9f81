# Databricks notebook source
# MAGIC %md
# MAGIC # Extract: each content gets its features
# MAGIC
# MAGIC The second task of the job `dedup`. What has features is not computed again; a run that was stopped goes on.

# COMMAND ----------

dbutils.widgets.text("table", "/Volumes/main/default/dedup/lake", "Table: made by ingest")
dbutils.widgets.text("features", "/Volumes/main/default/dedup/features", "Features: a folder")
dbutils.widgets.text("weights", "imagenet", "Weights: imagenet, seeded, or a file")
dbutils.widgets.dropdown("precision", "float32", ["float32", "bfloat16", "int8"], "Precision")

# COMMAND ----------

from dedup import counters, extraction, job, notebook, tables

notebook.prepare(spark)
network = job.load_model(dbutils.widgets.get("weights"), dbutils.widgets.get("precision"))
features = dbutils.widgets.get("features")
extracted = extraction.extract(spark, dbutils.widgets.get("table"), features, network)
print(notebook.told(counters.extracted(extracted, extraction.reasons(spark, features))))

# COMMAND ----------

display(tables.read(spark, features, "rejects"))
