"""Settings that workers watch.

    python settings.py

Each worker sleeps until the setting changes, takes it over, and says so. None of them asks again
and again: a change wakes them.
"""

import shoal
import shoal.multiprocessing as mp

LEVELS = ["calm", "busy", "mad", "stop"]


def work(settings: "shoal.Map[str, str]", taken: "shoal.Barrier") -> None:
    version, level = 0, ""
    while level != "stop":
        version = settings.wait_key("level", version)
        level = settings["level"]
        taken.wait()


def main() -> None:
    settings: "shoal.Map[str, str]" = shoal.Map()
    # All workers and this process: each change is seen before the next.
    taken = shoal.Barrier(4)
    workers = [mp.Process(target=work, args=(settings, taken)) for _ in range(3)]
    for worker in workers:
        worker.start()
    for level in LEVELS:
        settings["level"] = level
        taken.wait()
        print(f"all three are {level}")
    for worker in workers:
        worker.join()


if __name__ == "__main__":
    main()
