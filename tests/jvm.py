"""How the JVMs of tests are started: many short lives on few cores."""

from __future__ import annotations

OPTIONS = "-XX:TieredStopAtLevel=1 -XX:ReservedCodeCacheSize=240m"
"""The JVM's second compiler pays in hours; hundreds of small plans only wait for it. Without it, room for compiled code
is 48 MB if nothing is said: a session of minutes fills them, and then compiles the same again and again."""
