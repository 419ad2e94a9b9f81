# Databricks notebook source
# MAGIC %md
# MAGIC # Deduplicate: what to keep, what to drop, what to review
# MAGIC
# MAGIC The third task of the job `dedup`. It needs the features that `extract` (or the quick start) has left. First
# MAGIC it finds out how near is near, from altered copies of a sample of your images; then it compares all images,
# MAGIC and says for each file what to do and why. **Nothing is deleted.**

# COMMAND ----------

dbutils.widgets.text("table", "/Volumes/main/default/dedup/lake", "Table: made by ingest")
dbutils.widgets.text("features", "/Volumes/main/default/dedup/features", "Features: made by extract")
dbutils.widgets.text("output", "/Volumes/main/default/dedup/duplicates", "Output: a folder")
dbutils.widgets.text("sample", "500", "Sample: how many images are altered")
dbutils.widgets.text("precision", "0.99", "Precision: how many of the pairs called near shall be right")

# COMMAND ----------

from dedup import calibration, counters, deduplication, models, notebook, summary, tables

notebook.prepare(spark)
features, output = dbutils.widgets.get("features"), dbutils.widgets.get("output")

# COMMAND ----------

# MAGIC %md
# MAGIC ## 1. How near is near
# MAGIC
# MAGIC Each image of the sample is altered in many ways: cropped, mirrored, blurred, ... The distances of copies, and
# MAGIC of images that are none, give the thresholds. The page says which kinds of copies they find.

# COMMAND ----------

wish = calibration.Wish(
    features=features,
    output=f"{output}/calibration",
    table=dbutils.widgets.get("table"),
    sample=int(dbutils.widgets.get("sample")),
    precision=float(dbutils.widgets.get("precision")),
)
chosen = models.choose(features, None, None)
calibrated = calibration.calibrate(spark, wish, chosen.made, chosen.network())
displayHTML(notebook.page(calibrated.page))

# COMMAND ----------

# MAGIC %md
# MAGIC ## 2. All near pairs, groups, a manifest

# COMMAND ----------

request = summary.Request(features, output, calibrated.thresholds)
done = deduplication.deduplicate(spark, request)
print(notebook.told(counters.deduplicated(done)), *summary.told(done, request.thresholds), sep="\n")

# COMMAND ----------

display(tables.read(spark, output, "manifest").where("action != 'keep'").orderBy("group_id", "path"))

# COMMAND ----------

# MAGIC %md
# MAGIC ## 3. The groups as pictures

# COMMAND ----------

displayHTML(notebook.page(done.page))
