"""A cache that processes share, whose entries expire.

    python cache.py

Four workers want the squares of the same numbers. The first to find one missing works it out, under
that key's lock, so that nobody works out the same one twice; the others take it from the map.
"""

from typing import List

import shoal
import shoal.multiprocessing as mp

NUMBERS = range(20)
LIFE = 60.0


def slow_square(number: int) -> int:
    return sum(number for _ in range(number))


def square(cache: "shoal.Map[int, int]", worked: "shoal.Map[str, int]", number: int) -> int:
    found = cache.get(number)
    if found is None:
        with cache.lock_key(number):
            found = cache.get(number)
            if found is None:
                found = slow_square(number)
                cache.set_for(number, found, LIFE)
                worked.add("times")
    return found


def work(cache: "shoal.Map[int, int]", worked: "shoal.Map[str, int]") -> None:
    squares: List[int] = [square(cache, worked, number) for number in NUMBERS]
    assert squares == [number * number for number in NUMBERS]


def main() -> None:
    cache: "shoal.Map[int, int]" = shoal.Map()
    worked: "shoal.Map[str, int]" = shoal.Map()
    workers = [mp.Process(target=work, args=(cache, worked)) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    asked = len(workers) * len(NUMBERS)
    print(f"{asked} squares were wanted, {worked['times']} were worked out")


if __name__ == "__main__":
    main()
