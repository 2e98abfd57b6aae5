# Small services as Python has them: see programs/c/service.c. usage: service.py KIND GO, with PYTHONMALLOC=malloc
import os
import sys
import time

kept = []
cache = {}


def leak(number):
    text = "session number %060d" % number
    if number % 3 == 0:
        kept.append(text)


def bounded(number):
    cache[number] = "entry number %060d" % number
    cache.pop(number - 500, None)


kind = {"leak": leak, "cache": bounded}[sys.argv[1]]
while not os.path.exists(sys.argv[2]):
    time.sleep(0.01)
began, number = time.monotonic(), 0
while True:
    time.sleep(max(0, began + number * 0.01 - time.monotonic()))
    kind(number)
    number += 1
