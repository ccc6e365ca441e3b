"""A farm of counters: workers count the letters of words, and some of them are killed.

    python counters.py

Every worker takes words from a queue by a lease and adds to one counter for each letter. `add` is
one operation, so no count is ever lost; and a word whose worker died is given to another one.
"""

import os
import signal
from collections import Counter
from typing import List

import shoal
import shoal.multiprocessing as mp

WORDS = "the quick brown fox jumps over the lazy dog and away".split()


def work(
    words: "shoal.Queue[str]", letters: "shoal.Map[str, int]", done: "shoal.List[str]"
) -> None:
    while True:
        try:
            job = words.lease(timeout=0.2)
        except shoal.Empty:
            return
        with job:
            if job.attempts == 1 and "o" in job.get():
                # Its worker dies before it has done anything.
                os.kill(os.getpid(), signal.SIGKILL)
            for letter in job.get():
                letters.add(letter)
            done.append(job.get())


def main() -> None:
    words: "shoal.Queue[str]" = shoal.Queue()
    letters: "shoal.Map[str, int]" = shoal.Map()
    done: "shoal.List[str]" = shoal.List()
    for word in WORDS:
        words.put(word)
    killed = 0
    while words.unfinished:
        worker = mp.Process(target=work, args=(words, letters, done))
        worker.start()
        worker.join()
        killed += worker.exitcode == -signal.SIGKILL
    expected: List[str] = sorted(WORDS)
    assert sorted(done) == expected and letters == Counter("".join(WORDS))
    total = sum(letters.values())
    print(f"{killed} workers were killed, {len(done)} words and {total} letters counted")


if __name__ == "__main__":
    main()
