# Databricks notebook source
# MAGIC %md
# MAGIC # Ingest: images become a table
# MAGIC
# MAGIC The first task of the job `dedup`. Files that the table has already are not read again.

# COMMAND ----------

dbutils.widgets.text("images", "/Volumes/main/default/photos", "Images: a file, a folder or a pattern")
dbutils.widgets.text("table", "/Volumes/main/default/dedup/lake", "Table: a folder")

# COMMAND ----------

from dedup import counters, images, notebook, tables

notebook.prepare(spark)
ingested = images.ingest(spark, dbutils.widgets.get("images"), dbutils.widgets.get("table"))
print(notebook.told(counters.ingested(ingested)))

# COMMAND ----------

display(tables.read(spark, dbutils.widgets.get("table"), "rejects"))
