"""A queue and a map that two machines share: one puts jobs, the other works on them.

    two_machines.py produce 10     on one machine
    two_machines.py work 10        on another

Both programs know nothing of machines: `shoal-bridge` carries the objects. See docs/bridge.md.
"""

import sys

import shoal


def produce(number: int) -> None:
    jobs: "shoal.Queue[int]" = shoal.Queue("jobs")
    done: "shoal.Map[int, int]" = shoal.Map("done")
    for job in range(number):
        jobs.put(job)
    print(f"{number} jobs are put here")
    for job in range(number):
        while job not in done:
            done.wait_change(done.version, timeout=1)
    print(f"{len(done)} results came back, the last is {done[number - 1]}")


def work(number: int) -> None:
    jobs: "shoal.Queue[int]" = shoal.Queue("jobs")
    done: "shoal.Map[int, int]" = shoal.Map("done")
    for _ in range(number):
        with jobs.lease() as job:
            done[job.get()] = job.get() ** 2
    print(f"{number} jobs were worked on there")


if __name__ == "__main__":
    {"produce": produce, "work": work}[sys.argv[1]](int(sys.argv[2]))
