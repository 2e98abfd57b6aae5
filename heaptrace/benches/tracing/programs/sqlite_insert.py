# Inserts rows into a table in memory for a time: seconds in, rows a second out, until end of input.
import sqlite3
import sys
import time

base = sqlite3.connect(":memory:")
base.execute("create table rows (id integer, name text, value real)")
for line in sys.stdin:
    seconds, done, began = float(line), 0, time.monotonic()
    while time.monotonic() - began < seconds:
        for i in range(200):
            base.execute("insert into rows values (?, ?, ?)", (i, "name " + str(i), i / 7))
        done += 200
        base.execute("delete from rows")
    print(done / (time.monotonic() - began), flush=True)
