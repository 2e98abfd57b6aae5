# Writes and reads JSON for a time: seconds in, rounds a second out, until end of input.
import json
import sys
import time

record = {"id": 17, "name": "x" * 40, "values": list(range(60)), "more": [{"a": i, "b": str(i)} for i in range(40)]}
for line in sys.stdin:
    seconds, done, began = float(line), 0, time.monotonic()
    while time.monotonic() - began < seconds:
        for _ in range(20):
            json.loads(json.dumps(record))
        done += 20
    print(done / (time.monotonic() - began), flush=True)
