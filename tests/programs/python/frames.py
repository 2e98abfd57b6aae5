"""Blocks of sizes of their own, by way of the interpreter's and a library's frames."""

import json
import os
import re
import time

if "LEDGER_GO" in os.environ:
    open(os.environ["LEDGER_READY"], "w").close()
    while not os.path.exists(os.environ["LEDGER_GO"]):
        time.sleep(0.01)


def deep(depth, then):
    return deep(depth - 1, then) if depth else then()


deep(5, lambda: "b" * 3000000)
re.sub("a", lambda match: "c" * 3100000, "cat")
json.loads("[1]", parse_int=lambda text: "d" * 3200000)
sorted([1], key=lambda number: "e" * 3300000)
