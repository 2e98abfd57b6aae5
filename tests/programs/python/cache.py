"""Replaces the blocks of a cache for ever. usage: cache.py BLOCKS"""
import sys

count = int(sys.argv[1])
cache = [None] * count
i = 0
while True:
    # A size that nothing else of Python's asks for by calloc.
    cache[i % count] = bytes(4000)
    i += 1
