# Databricks notebook source
# MAGIC %md
# MAGIC # DeDup: which images are like this one?
# MAGIC
# MAGIC Takes a folder of images, describes each by 4096 numbers of a neural network (VGG16), and finds the images
# MAGIC nearest to one that you name: its copies, also cropped, blurred or re-encoded.
# MAGIC
# MAGIC It needs the wheel of this project on the cluster (the bundle installs it; `docs/databricks.md` says how to do
# MAGIC it by hand) and a place to write to. Fill in the boxes above, then run all cells. To do it again is always
# MAGIC right: what has been computed is kept.

# COMMAND ----------

dbutils.widgets.text("images", "/Volumes/main/default/photos", "Images: a file, a folder or a pattern")
dbutils.widgets.text("output", "/Volumes/main/default/dedup", "Output: a folder")
dbutils.widgets.text("query", "/Volumes/main/default/photos/cat.jpg", "Query: an image")
dbutils.widgets.text("weights", "imagenet", "Weights: imagenet, seeded, or a file")

# COMMAND ----------

from dedup import answers, counters, extraction, images, job, models, notebook, tables

notebook.prepare(spark)
output = dbutils.widgets.get("output")

# COMMAND ----------

# MAGIC %md
# MAGIC ## 1. The images become a table
# MAGIC
# MAGIC Every file is a row, with its bytes and its hash. A file that cannot be read is a row of `rejects`, with the
# MAGIC reason.

# COMMAND ----------

ingested = images.ingest(spark, dbutils.widgets.get("images"), f"{output}/lake")
print(notebook.told(counters.ingested(ingested)))

# COMMAND ----------

display(tables.read(spark, f"{output}/lake", "images").drop("content"))

# COMMAND ----------

# MAGIC %md
# MAGIC ## 2. Each content goes through the network, once
# MAGIC
# MAGIC This is what takes time: some images a second for each core.

# COMMAND ----------

network = job.load_model(dbutils.widgets.get("weights"), "float32")
extracted = extraction.extract(spark, f"{output}/lake", f"{output}/features", network)
print(notebook.told(counters.extracted(extracted, extraction.reasons(spark, f"{output}/features"))))

# COMMAND ----------

display(tables.read(spark, f"{output}/features", "rejects"))

# COMMAND ----------

# MAGIC %md
# MAGIC ## 3. Five distances vote
# MAGIC
# MAGIC Each names its nearest images. Those named by most of them win.

# COMMAND ----------

question = answers.Question(f"{output}/features", [dbutils.widgets.get("query")], f"{output}/report")
answered = answers.ask(spark, question, models.choose(f"{output}/features", None, None))
display(tables.read(spark, f"{output}/report", "results").orderBy("query", "rank"))

# COMMAND ----------

displayHTML(notebook.page(answered.page))
