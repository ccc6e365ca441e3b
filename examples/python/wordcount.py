"""Counts the words of text files with several processes, and checks the result.

    python wordcount.py [file ...]

One process reads the files and feeds lines to the workers through a queue. The workers add
up in one shared map: `Map.add` is atomic, so they need no lock. Without arguments it counts
this program.
"""

import re
import sys
from collections import Counter
from itertools import islice
from typing import List

import shoal
import shoal.multiprocessing as mp

WORKERS = 4
WORD = re.compile(r"[a-z']+")


def reader(paths: List[str], lines: "shoal.Queue[str]") -> None:
    for path in paths:
        with open(path, encoding="utf-8", errors="replace") as file:
            # A few hundred lines at a time take the queue's lock once.
            while batch := list(islice(file, 256)):
                lines.put_many(batch)
    # Nothing more will come: the workers drain what is there, then `get` says so.
    lines.close()


def worker(lines: "shoal.Queue[str]", counts: "shoal.Map[str, int]") -> None:
    while True:
        try:
            batch = lines.get_many()
        except shoal.ClosedError:
            return
        for line in batch:
            for word in WORD.findall(line.lower()):
                counts.add(word)


def main() -> None:
    paths = sys.argv[1:] or [__file__]
    with shoal.Queue[str]() as lines, shoal.Map[str, int]() as counts:
        processes = [mp.Process(target=worker, args=(lines, counts)) for _ in range(WORKERS)]
        processes.append(mp.Process(target=reader, args=(paths, lines)))
        for process in processes:
            process.start()
        for process in processes:
            process.join()
        result = Counter(counts.copy())

    expected: "Counter[str]" = Counter()
    for path in paths:
        with open(path, encoding="utf-8", errors="replace") as file:
            for line in file:
                expected.update(WORD.findall(line.lower()))

    for word, count in sorted(expected.items(), key=lambda entry: (-entry[1], entry[0]))[:5]:
        print(f"{result[word]:8} {word}")
    total = sum(result.values())
    print(f"{total} words, {len(result)} of them different, counted by {WORKERS} workers")
    if result != expected:
        sys.exit("WRONG: one process alone counts differently")
    print("one process alone counts the same")


if __name__ == "__main__":
    main()
