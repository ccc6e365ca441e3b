"""Shared dictionaries of Python programs, side by side.

    cargo xtask bench --python [--seconds 1] [--repeat 3]

A thousand text keys with small integers, read and set singly: by one process, and by two at
once. Every process is forked before the clock starts, and reads the values that it gets. Peers
that are not installed are skipped: UltraDict (with the lock that works between processes), LMDB
(a transaction each, without syncing) and Redis (over a Unix socket, if there is a redis-server).
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import shutil
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from typing import Any, Callable, Dict, Iterator, List, Tuple

import shoal

KEYS = [f"key {number}" for number in range(1000)]
fork = multiprocessing.get_context("fork")

# How a process opens the dictionary, gets and sets.
Opened = Tuple[Callable[[str], int], Callable[[str, int], object]]
Opener = Callable[[], Opened]


@contextmanager
def of_shoal() -> Iterator[Opener]:
    with shoal.Map[str, int]() as shared:
        yield lambda: (shared.__getitem__, shared.__setitem__)


@contextmanager
def of_manager() -> Iterator[Opener]:
    with fork.Manager() as manager:
        shared = manager.dict()
        yield lambda: (shared.__getitem__, shared.__setitem__)


@contextmanager
def of_ultradict() -> Iterator[Opener]:
    from UltraDict import UltraDict

    made = UltraDict(shared_lock=True, buffer_size=1 << 20)

    def open_it() -> Opened:
        same = UltraDict(name=made.name, shared_lock=True, buffer_size=1 << 20)
        return same.__getitem__, same.__setitem__

    yield open_it
    made.unlink()


@contextmanager
def of_lmdb() -> Iterator[Opener]:
    import lmdb

    # A file in memory.
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:

        def open_it() -> Opened:
            env = lmdb.open(folder, map_size=1 << 28, sync=False, writemap=True)
            number = struct.Struct("<q")

            def get(key: str) -> int:
                with env.begin() as transaction:
                    value: int = number.unpack(transaction.get(key.encode()))[0]
                    return value

            def put(key: str, value: int) -> None:
                with env.begin(write=True) as transaction:
                    transaction.put(key.encode(), number.pack(value))

            return get, put

        yield open_it


@contextmanager
def of_redis() -> Iterator[Opener]:
    import redis

    program = shutil.which("redis-server")
    if program is None:
        raise ImportError("there is no redis-server")
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "socket")
        options = ["--port", "0", "--unixsocket", path, "--save", "", "--appendonly", "no"]
        server = subprocess.Popen([program, *options], stdout=subprocess.DEVNULL)
        try:
            while not os.path.exists(path):
                time.sleep(0.01)

            def open_it() -> Opened:
                client = redis.Redis(unix_socket_path=path)
                return lambda key: int(client.get(key)), client.set

            yield open_it
        finally:
            server.kill()
            server.wait()


PEERS: Dict[str, Callable[[], Any]] = {
    "shoal": of_shoal,
    "Manager().dict()": of_manager,
    "UltraDict": of_ultradict,
    "LMDB": of_lmdb,
    "Redis": of_redis,
}


def work(open_it: Opener, setting: bool, ready: Any, seconds: float, done: Any) -> None:
    get, put = open_it()
    ready.wait()
    end, count = time.perf_counter() + seconds, 0
    while time.perf_counter() < end:
        for number, key in enumerate(KEYS[:100]):
            if setting:
                put(key, number)
            elif get(key) != number:
                os._exit(1)
        count += 100
    done.send(count)


def rate(open_it: Opener, setting: bool, processes: int, seconds: float) -> float:
    """Thousand operations a second of this many processes together."""
    ready = fork.Barrier(processes)
    receiver, sender = fork.Pipe(False)
    arguments = (open_it, setting, ready, seconds, sender)
    children = [fork.Process(target=work, args=arguments) for _ in range(processes)]
    for child in children:
        child.start()
    count = sum(receiver.recv() for _ in children)
    for child in children:
        child.join()
        if child.exitcode:
            sys.exit("a value is not the one that was set")
    return count / seconds / 1e3


def fill(open_it: Opener) -> None:
    _, put = open_it()
    for number, key in enumerate(KEYS):
        put(key, number)


def main() -> None:
    parser = argparse.ArgumentParser(description="Shared dictionaries side by side.")
    parser.add_argument("--seconds", type=float, default=1.0, help="how long each window is")
    parser.add_argument("--repeat", type=int, default=3, help="how many windows each")
    options = parser.parse_args()
    print(f"\ndictionaries: thousand a second, medians of {options.repeat} windows")
    print(f"{'':18} {'get by 1':>10} {'get by 2':>10} {'set by 1':>10} {'set by 2':>10}")
    own: List[float] = []
    for name, peer in PEERS.items():
        try:
            with peer() as open_it:
                child = fork.Process(target=fill, args=(open_it,))
                child.start()
                child.join()
                rates = [
                    statistics.median(
                        rate(open_it, setting, processes, options.seconds)
                        for _ in range(options.repeat)
                    )
                    for setting in (False, True)
                    for processes in (1, 2)
                ]
        except ImportError as why:
            print(f"{name:18} skipped: {why}", flush=True)
            continue
        own = own or rates
        ratios = "" if own is rates else "   shoal is " + " ".join(
            f"{mine / theirs:.1f}x" for mine, theirs in zip(own, rates)
        )
        print(f"{name:18} " + " ".join(f"{it:>10.1f}" for it in rates) + ratios, flush=True)


if __name__ == "__main__":
    main()
