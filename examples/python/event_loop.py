"""An asyncio program reads from a queue while it does other things.

    python event_loop.py

Three processes put their findings into one queue. The event loop sleeps until there is
something to take; a clock ticks beside it.
"""

import asyncio
from typing import AsyncIterator, Dict, Tuple

import shoal
import shoal.multiprocessing as mp

Finding = Tuple[str, int]


def search(name: str, findings: "shoal.Queue[Finding]") -> None:
    for number in range(100):
        findings.put((name, number))


async def messages(queue: "shoal.Queue[Finding]") -> AsyncIterator[Finding]:
    """Yields the queue's messages until the queue is closed."""
    loop = asyncio.get_running_loop()
    while True:
        try:
            yield queue.get_nowait()
        except shoal.Empty:
            readable = asyncio.Event()
            loop.add_reader(queue, readable.set)
            try:
                await readable.wait()
            finally:
                loop.remove_reader(queue)
        except shoal.ClosedError:
            return


async def tick(ticks: "asyncio.Queue[int]") -> None:
    while True:
        await asyncio.sleep(0.001)
        ticks.put_nowait(1)


async def main() -> None:
    findings: "shoal.Queue[Finding]" = shoal.Queue()
    context = mp.get_context("spawn")
    names = ["ada", "bea", "cleo"]
    for name in names:
        context.Process(target=search, args=(name, findings)).start()

    ticks: "asyncio.Queue[int]" = asyncio.Queue()
    clock = asyncio.create_task(tick(ticks))
    found: Dict[str, int] = dict.fromkeys(names, 0)
    async for name, number in messages(findings):
        assert number == found[name]  # in the order in which each was put
        found[name] += 1
        if sum(found.values()) == 300:
            findings.close()
    clock.cancel()
    for name, count in found.items():
        print(f"{count} findings of {name}")
    print("the clock ticked all the while" if ticks.qsize() > 0 else "the clock stood still")


if __name__ == "__main__":
    asyncio.run(main())
