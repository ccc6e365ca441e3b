"""Puts a message into a queue that all languages share, and gets one.

    python exchange.py [NAME]

Messages of other languages are bytes. Among Python programs, `put` and `get` take any object.
"""

import sys

import shoal

with shoal.Queue[bytes](sys.argv[1] if len(sys.argv) > 1 else "jobs") as queue:
    queue.put_bytes(b"hello from Python")
    print("Python got:", queue.get_bytes().decode())
