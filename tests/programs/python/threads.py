"""Allocates in several threads until a file is there, and once more. usage: threads.py THREADS FILE"""
import json
import os
import sys
import threading
import time

count, end = int(sys.argv[1]), sys.argv[2]


def work(number):
    while True:
        last = os.path.exists(end)
        # Beyond 512 bytes a block is malloc's, not one of Python's arenas.
        blocks = [bytearray(600 + (number * 7 + k * 13) % 3000) for k in range(200)]
        text = json.dumps({str(k): "x" * (k * 11) for k in range(80)})
        json.loads(text)
        del blocks[::2]
        if last:
            return


threads = [threading.Thread(target=work, args=(number,)) for number in range(count)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
# `join` comes back while a thread still frees what the C library keeps for it: an exit would cut that off.
while len(os.listdir("/proc/self/task")) > 1:
    time.sleep(0.001)
