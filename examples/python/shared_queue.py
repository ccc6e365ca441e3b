"""Ten processes share one queue.

    python shared_queue.py [fork | spawn | forkserver]

Each takes a message if there is one, and puts its own. Whatever the order they run in,
ten messages are put in all, and each is taken once: by one of the ten, or by the parent.
"""

import queue as errors
import sys
from typing import Tuple

import shoal.multiprocessing as mp

Message = Tuple[str, int]


def say(line: str) -> None:
    # In one piece, newline included: ten processes share this terminal.
    print(line + "\n", end="", flush=True)


def runner(number: int, queue: "mp.queues.Queue[Message]") -> None:
    try:
        sender, count = queue.get_nowait()
        say(f"process {number} took message {count} of {sender}")
    except errors.Empty:
        say(f"process {number} found the queue empty")
        count = 0
    queue.put((f"process {number}", count + 1))


def main() -> None:
    mp.set_start_method(sys.argv[1] if len(sys.argv) > 1 else "fork")
    queue = mp.Queue()
    processes = [mp.Process(target=runner, args=(i, queue)) for i in range(10)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()

    put = 0
    while not queue.empty():
        sender, count = queue.get()
        print(f"the parent took message {count} of {sender}")
        put += count
    # A message counts itself and all that were taken on its way.
    print(f"{mp.get_start_method()}: {put} messages accounted for, {queue.qsize()} left")


if __name__ == "__main__":
    main()
