#!/usr/bin/env bash
# The one entry. ./submit.sh --help says how to use it.
#
# Variables: MASTER (default local[*]), DEDUP_VENV (default .venv beside this file), DEDUP_BENCH_VENV (.venv-bench),
# DEDUP_SPARK (the release of Spark: conf/releases.txt), JAVA_HOME, PYTHON (the interpreter that makes the environment),
# PYSPARK_PYTHON (the workers' Python where it is not the environment's), AWS_ENDPOINT_URL, AWS_REGION and AWS_PROFILE
# (which S3: docs/running.md), DEDUP_LOG (json: docs/observability.md).
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
venv=${DEDUP_VENV:-$root/.venv}

say() { printf '%s\n' "$*" >&2; }
fail() { say "error: $*"; exit 2; }

usage() {
  cat <<'EOF'
usage: ./submit.sh [spark-submit options] JOB [job options]
       ./submit.sh test [pytest options]
       ./submit.sh bench [bench options]

Find exact and near-duplicate images in data lakes, on Apache Spark.

jobs:
  demo         run all jobs on real photographs, and show what comes out
  ingest       images -> a table of images
  extract      a table of images -> a table of features, by VGG16 or another network
  query        which images are like this one? the poll of five distances
  calibrate    how near is near? thresholds from your own images
  evaluate     how well are altered copies of your own images found?
  deduplicate  a table of features -> groups, and what to keep, drop or review
  test         run the tests but the slow ones; with words for pytest all that they leave, slow or not: -m '' for all
  bench        measure the speed of DeDup, and of what one would use instead, side by side

./submit.sh JOB --help teaches a job. What stands before JOB goes to spark-submit:
  ./submit.sh --master yarn --num-executors 20 extract --table hdfs:///lake --features hdfs:///features
The master chooses the properties file: conf/local.conf, standalone.conf, yarn.conf or kubernetes.conf; --properties-file
takes another. DEDUP_SPARK=4.1 takes that release of Spark, and for test DEDUP_SPARK=all each in turn (conf/releases.txt).
Options after JOB are the job's. The exit code is Spark's: 0 done, 2 bad use (one line says what), else failed.
EOF
}

find_python() {
  local candidate
  for candidate in "${PYTHON:-}" python3 python3.14 python3.13 python3.12 python3.11; do
    if [ -n "$candidate" ] && "$candidate" -c 'import sys, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      command -v "$candidate"
      return
    fi
  done
  fail "Python 3.11 or newer with its venv module is needed (Debian, Ubuntu: apt-get install python3-venv; or set PYTHON)"
}

# The releases of Spark that have $1: pyspark (all of them), delta or iceberg.
releases() {
  local name pyspark delta iceberg found=()
  while read -r name pyspark delta iceberg; do
    [[ $name == "#"* || ${!1} == - ]] || found+=("$name")
  done <"$root/conf/releases.txt"
  printf '%s' "${found[*]}"
}

# What conf/releases.txt says of the release: sets pyspark, delta and iceberg.
read_release() {
  local name
  while read -r name pyspark delta iceberg; do
    [ "$name" != "$release" ] || return 0
  done <"$root/conf/releases.txt"
  fail "DEDUP_SPARK=$release: possible are $(releases pyspark), and all for test"
}

# All releases in turn, each as if it were the only one: the last lines say which passed.
test_all() {
  local one code=0 told=()
  for one in $(releases pyspark); do
    say "Spark $one:"
    if DEDUP_SPARK=$one "$root/submit.sh" test "$@"; then
      told+=("Spark $one: passed")
    else
      told+=("Spark $one: failed")
      code=1
    fi
  done
  printf '%s\n' "${told[@]}"
  exit "$code"
}

# The environment is made once, and again when requirements.txt changes.
ensure_environment() {
  local python stamp
  stamp=$(cksum <"$root/requirements.txt")
  if [ "$(cat "$venv/.requirements" 2>/dev/null)" != "$stamp" ]; then
    python=$(find_python)
    say "making the Python environment in $venv: this takes a few minutes, once"
    "$python" -m venv "$venv"
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --requirement "$root/requirements.txt"
    printf '%s\n' "$stamp" >"$venv/.requirements"
  fi
}

# A release other than that of requirements.txt is in an environment of its own, which has all else from the first.
ensure_release() {
  local stamp
  venv=$first/spark-$release
  stamp="$pyspark $(cat "$first/.requirements")"
  if [ "$(cat "$venv/.requirements" 2>/dev/null)" != "$stamp" ]; then
    say "adding PySpark $pyspark in $venv, once"
    "$first/bin/python" -m venv --clear "$venv"
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check "pyspark==$pyspark"
    "$first/bin/python" -c 'import sysconfig; print("import site; site.addsitedir(%r)" % sysconfig.get_path("purelib"))' \
      >"$(echo "$venv"/lib/python3*/site-packages)/first.pth"
    printf '%s\n' "$stamp" >"$venv/.requirements"
  fi
}

# The contestants of `bench` are in an environment of their own, which holds all of requirements.txt too.
ensure_contestants() {
  local stamp
  stamp=$(cat "$root/requirements.txt" "$root/benchmarks/requirements.txt" | cksum)
  if [ "$(cat "$venv/.contestants" 2>/dev/null)" != "$stamp" ]; then
    say "adding what DeDup is measured against, some gigabytes, once"
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --requirement "$root/benchmarks/requirements.txt"
    printf '%s\n' "$stamp" >"$venv/.contestants"
  fi
}

java_is_right() {
  "$1" --list-modules 2>/dev/null | grep -q '^jdk.incubator.vector@' &&
    [ "$("$1" -XshowSettings:properties -version 2>&1 | sed -n 's/^ *java.specification.version = //p')" -ge 17 ]
}

ensure_java() {
  local java=${JAVA_HOME:+$JAVA_HOME/bin/}java
  java_is_right "$java" 2>/dev/null && return
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null && [ -z "${JAVA_HOME:-}" ]; then
    say "no Java 17 or newer: installing the package openjdk-17-jdk-headless"
    { apt-get update -qq && apt-get install -y -qq openjdk-17-jdk-headless; } >&2 || true
    java_is_right java 2>/dev/null && return
  fi
  fail "a full JDK of Java 17 or newer is needed, with the module jdk.incubator.vector: apt-get install openjdk-17-jdk-headless, or set JAVA_HOME"
}

# Half of what a driver's JVM does before its first task is to load classes: an archive of those that it needs, made once
# for each release and each Java, spares most of that (docs/tuning.md). Where none can be made, an empty file says so.
ensure_archive() {
  local java=${JAVA_HOME:+$JAVA_HOME/bin/}java work
  archive=$venv/spark-$release-$(ls -lL "$(command -v "$java")" | cksum | tr ' ' -).jsa # to ask Java takes its start
  [ ! -f "$archive" ] && [ -w "$venv" ] || return 0
  say "making an archive of Spark's classes, once"
  work=$(mktemp -d)
  cat >"$work/job.py" <<'EOF'
import sys
from pyspark.sql import SparkSession, functions as F
spark = SparkSession.builder.getOrCreate()
rows = spark.range(100).withColumn("bucket", F.col("id") % 3)
rows.write.partitionBy("bucket").parquet(sys.argv[1])
read = spark.read.parquet(sys.argv[1]).mapInArrow(lambda batches: batches, "id long, bucket int")
read.join(rows.select("id"), "id").groupBy("id").agg(F.max_by(F.struct("bucket"), "bucket")).collect()
EOF
  "$SPARK_HOME/bin/spark-submit" --master "local[2]" --properties-file "$root/conf/local.conf" \
    --driver-java-options "-XX:TieredStopAtLevel=1 -XX:ArchiveClassesAtExit=$work/classes" "$work/job.py" "$work/table" >/dev/null 2>&1 || true
  touch "$work/classes"
  mv "$work/classes" "$archive.$$"
  mv "$archive.$$" "$archive"
  rm -rf "$work"
}

# The library for the executors: the same sources make the same bytes, and a file in use is not replaced by its equal.
build_zip() {
  "$venv/bin/python" - "$root/lib" "$root/dist" <<'EOF'
import io, os, sys, zipfile
from pathlib import Path
lib, dist = map(Path, sys.argv[1:])
data = io.BytesIO()
with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
    for file in sorted((lib / "dedup").rglob("*")):
        if file.is_file() and "__pycache__" not in file.parts:
            archive.writestr(zipfile.ZipInfo(file.relative_to(lib).as_posix()), file.read_bytes(), zipfile.ZIP_DEFLATED)
target = dist / "dedup.zip"
if not target.exists() or target.read_bytes() != data.getvalue():
    dist.mkdir(exist_ok=True)
    part = dist / f"dedup.zip.{os.getpid()}"
    part.write_bytes(data.getvalue())
    part.replace(target)
EOF
}

# Spark comes without the libraries for s3a: locations, Delta and Iceberg: conf/NAME.xml says what they are. One is
# fetched once, by the Ivy that PySpark holds, into a folder that is there only when it is whole. Sets folder, or missing
# to why there is none.
fetch_library() {
  local name=$1 rev=$2 what=$3 part java=${JAVA_HOME:+$JAVA_HOME/bin/}java
  if [ "$rev" = - ]; then
    missing="there is no library for $what under Spark $release (set DEDUP_SPARK to one of $(releases "$name"))"
    return 1
  fi
  folder=$venv/$name-$rev-spark-$release-$(cksum <"$root/conf/$name.xml" | tr ' ' -)
  [ ! -d "$folder" ] || return 0
  say "fetching the library by which Spark reads $what, once"
  part=$folder.$$
  mkdir -p "$part"
  if ! "$java" -Drev="$rev" -Dspark="$release" -cp "$(echo "$SPARK_HOME"/jars/ivy-*.jar)" org.apache.ivy.Main -warn \
    -ivy "$root/conf/$name.xml" -cache "$part/cache" -types jar bundle -retrieve "$part/[artifact]-[revision].[ext]" \
    >"$folder.log" 2>&1; then
    rm -rf "$part"
    missing="the library for $what under Spark $release could not be fetched (try again; $folder.log says why)"
    return 1
  fi
  rm -rf "$part/cache" "$folder.log"
  mv -T "$part" "$folder" 2>/dev/null || rm -rf "$part" # another call was as fast
}

# Adds a library to own_jars, unless the user names one that holds $4.
add_library() {
  local folder missing
  [[ "$own_jars ${options[*]:-}" != *$4* ]] || return 0
  ! grep -qs "$4" "$own_properties" || return 0
  fetch_library "$1" "$2" "$3" || fail "$missing, or name your own by --jars or --packages"
  own_jars=${own_jars:+$own_jars,}$(printf '%s,' "$folder"/*.jar)
  own_jars=${own_jars%,}
}

# What the user's own properties file says of $1, which may go on over several lines.
own_setting() {
  [ ! -f "$own_properties" ] ||
    tr -d '\r' <"$own_properties" |
    sed -E -e '/^[[:space:]]*[#!]/d' -e ':more' -e '/(^|[^\\])(\\\\)*\\$/{N;s/\\\n[[:space:]]*//;b more' -e '}' |
    sed -nE "s/^[[:space:]]*${1//./[.]}[[:space:]]*[=:[:space:]][[:space:]]*(.*[^[:space:]])[[:space:]]*$/\\1/p" | tail -n 1
}

# Sets $1 to $2 unless the user's own properties file sets it: an option would win over that.
add_default() { [ -n "$(own_setting "$1")" ] || defaults+=(--conf "$1=$2"); }

# Adds an extension to those that the user's own properties file names.
add_extension() {
  local own
  own=$(own_setting spark.sql.extensions)
  [[ ,${own// /}, == *,$1,* ]] || defaults+=(--conf "spark.sql.extensions=${own:+$own,}$1")
}

# Hadoop's own list looks into no profile, as Arrow does. Who has none keeps what the cluster's own settings say.
add_profiles() {
  local own=${HOME:-}/.aws sdk=software.amazon.awssdk.auth.credentials hadoop=org.apache.hadoop.fs.s3a
  [ -n "${AWS_PROFILE:-}" ] ||
    grep -qsE '^[[:space:]]*(aws_access_key_id|credential_process|role_arn|sso_)' \
      "${AWS_SHARED_CREDENTIALS_FILE:-$own/credentials}" "${AWS_CONFIG_FILE:-$own/config}" || return 0
  add_default spark.hadoop.fs.s3a.aws.credentials.provider "$hadoop.TemporaryAWSCredentialsProvider,$hadoop.SimpleAWSCredentialsProvider,$sdk.EnvironmentVariableCredentialsProvider,$sdk.ProfileCredentialsProvider,$hadoop.auth.IAMInstanceCredentialsProvider"
}

# Where a store is, and the name of a profile, not what stands in it: secrets do not belong into options, which other users of a machine can see.
pass_on() {
  local name endpoint=${AWS_ENDPOINT_URL_S3:-${AWS_ENDPOINT_URL:-}} region=${AWS_REGION:-${AWS_DEFAULT_REGION:-}}
  for name in AWS_ENDPOINT_URL AWS_ENDPOINT_URL_S3 AWS_REGION AWS_DEFAULT_REGION AWS_PROFILE DEDUP_LOG; do
    [ -n "${!name:-}" ] || continue
    add_default "spark.executorEnv.$name" "${!name}"
    [ "$deploy_mode" != client ] || continue
    add_default "spark.yarn.appMasterEnv.$name" "${!name}"
    add_default "spark.kubernetes.driverEnv.$name" "${!name}"
  done
  if [ -n "$endpoint" ]; then
    add_default spark.hadoop.fs.s3a.endpoint "$endpoint"
    [ -n "$(own_setting spark.hadoop.fs.s3a.endpoint)" ] || add_default spark.hadoop.fs.s3a.path.style.access true
  fi
  [ -z "$endpoint$region" ] || add_default spark.hadoop.fs.s3a.endpoint.region "${region:-us-east-1}"
  add_profiles
}

is_job() { [ -f "$root/jobs/$1.py" ]; }

master=${MASTER:-}
options=()
own_properties=
own_files=
own_jars=
deploy_mode=client
job=
while [ $# -gt 0 ]; do
  case $1 in
    -h | --help) usage; exit 0 ;;
    test | bench) job=$1; shift; break ;;
    --properties-file=*) own_properties=${1#*=} ;;
    --properties-file) own_properties=${2:-} ;;
  esac
  case $1 in
    --master=*) master=${1#*=}; shift ;;
    --master) [ $# -gt 1 ] || fail "--master needs a value"; master=$2; shift 2 ;;
    --py-files=*) own_files=${1#*=}; shift ;;
    --py-files) [ $# -gt 1 ] || fail "--py-files needs a value"; own_files=$2; shift 2 ;;
    --jars=*) own_jars=${1#*=}; shift ;;
    --jars) [ $# -gt 1 ] || fail "--jars needs a value"; own_jars=$2; shift 2 ;;
    --deploy-mode=*) deploy_mode=${1#*=}; shift ;;
    --deploy-mode) [ $# -gt 1 ] || fail "--deploy-mode needs a value"; deploy_mode=$2; shift 2 ;;
    --version | --verbose | -v | --supervise | --load-spark-defaults | --*=*) options+=("$1"); shift ;;
    -*) [ $# -gt 1 ] || fail "$1 needs a value"; options+=("$1" "$2"); shift 2 ;;
    *) is_job "$1" || fail "no such job: $1 (see ./submit.sh --help)"; job=$1; shift; break ;;
  esac
done
[ -n "$job" ] || { usage >&2; exit 2; }
master=${master:-local[*]}
case $master in
  local | local\[* | local-cluster\[*) environment=local ;;
  yarn) environment=yarn ;;
  k8s://*) environment=kubernetes ;;
  spark://*) environment=standalone ;;
  *)
    is_job "$job" && # test and bench choose masters of their own
      fail "$master: no such master (possible: local[*], spark://HOST:PORT, yarn, k8s://HOST:PORT)"
    ;;
esac
[[ ${AWS_ENDPOINT_URL_S3:-}${AWS_ENDPOINT_URL:-} != *@* ]] ||
  fail "the variable of the endpoint cannot hold a name and a key: it becomes an option, which others can see"

pinned=$(sed -n 's/^pyspark==\([0-9]*\.[0-9]*\)\..*/\1/p' "$root/requirements.txt")
release=${DEDUP_SPARK:-$pinned}
[ "$job $release" != "test all" ] || test_all "$@"
read_release

[ "$job" != bench ] || venv=${DEDUP_BENCH_VENV:-$root/.venv-bench}
first=$venv
ensure_environment
ensure_java
[ "$job" != bench ] || ensure_contestants
[ "$release" = "$pinned" ] || ensure_release
if [ "$deploy_mode" = client ]; then
  export PYSPARK_PYTHON=${PYSPARK_PYTHON:-$venv/bin/python}
  export PYSPARK_DRIVER_PYTHON=${PYSPARK_DRIVER_PYTHON:-$venv/bin/python}
fi # else the driver runs elsewhere, where this environment is not: --conf spark.pyspark.python names the Python there
unset SPARK_HOME
SPARK_HOME=$("$venv/bin/python" -c 'import importlib.util as u; print(u.find_spec("pyspark").submodule_search_locations[0])')
export SPARK_HOME

if [ "$job" = test ]; then
  cd "$root"
  for name in delta iceberg; do # tests of tables run in the session that they all share
    fetch_library "$name" "${!name}" "${name^} tables" || say "$missing: the tests of such tables are skipped"
  done
  if [ "$release" = "$pinned" ]; then
    "$venv/bin/python" -m ruff check .
    "$venv/bin/python" -m ruff format --check .
    "$venv/bin/python" -m mypy
  fi
  ensure_archive # the jobs that tests start have it
  [ $# != 0 ] || set -- -m "not slow"
  # A file's tests share what is made for them.
  exec "$venv/bin/python" -m pytest -n 2 --dist loadfile --no-loadscope-reorder "$@"
fi

if [ "$job" = bench ]; then
  export DEDUP_VENV=$first # the jobs that it runs are measured in the same environment
  exec "$venv/bin/python" "$root/benchmarks/speed.py" "$@"
fi

build_zip

[ -n "$own_properties" ] || options+=(--properties-file "$root/conf/$environment.conf" --load-spark-defaults)
defaults=()
hadoop=$(basename "$SPARK_HOME"/jars/hadoop-client-api-*.jar .jar)
if [[ "$* ${options[*]:-}" =~ s3a?:// ]] || { [ -f "$own_properties" ] && grep -qE '^[^#]*s3a?://' "$own_properties"; }; then
  add_library s3a "${hadoop#hadoop-client-api-}" "s3a: locations" hadoop-aws
fi
case " $* " in
  *" --format delta "* | *" --format=delta "*)
    add_library delta "$delta" "Delta tables" delta-spark
    add_extension io.delta.sql.DeltaSparkSessionExtension
    add_default spark.sql.catalog.spark_catalog org.apache.spark.sql.delta.catalog.DeltaCatalog
    ;;
  *" --format iceberg "* | *" --format=iceberg "*)
    add_library iceberg "$iceberg" "Iceberg tables" iceberg-spark-runtime
    add_extension org.apache.iceberg.spark.extensions.IcebergSparkSessionExtensions
    ;;
esac
# A user's own --driver-java-options win: they come last. A driver elsewhere does not have these files: its log is Spark's
# on YARN, and what conf/kubernetes.conf says on Kubernetes.
if [ "$deploy_mode" = client ]; then
  ensure_archive
  of_java="\"-Dlog4j2.configurationFile=$root/conf/log4j2.properties\""
  [ ! -s "$archive" ] || of_java="\"-XX:SharedArchiveFile=$archive\" -Xlog:cds*=off $of_java"
  options=(--driver-java-options "$of_java" "${options[@]}")
fi

[ -z "$own_jars" ] || options+=(--jars "$own_jars")
pass_on
options=("${defaults[@]}" "${options[@]}") # a user's own --conf come last, and win

# Python writes to a pipe of spark-submit's, and cannot tell by itself whether somebody looks.
unset DEDUP_TERMINAL
[ ! -t 1 ] || export DEDUP_TERMINAL=1

# Without a locale the JVM takes every letter beyond ASCII in an argument for a question mark.
case ${LC_ALL:-${LC_CTYPE:-${LANG:-}}} in
  *UTF-8 | *utf8) ;;
  *) export LC_ALL=C.UTF-8 ;;
esac

# Only the zip and what the environment holds can be imported: as on an executor, so on the driver.
unset PYTHONPATH
exec "$SPARK_HOME/bin/spark-submit" --master "$master" --deploy-mode "$deploy_mode" "${options[@]}" \
  --py-files "${own_files:+$own_files,}$root/dist/dedup.zip" "$root/jobs/$job.py" "$@"
