"""One log file for several processes, written by one of them."""

from __future__ import annotations

import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from loguru import logger
from side import context, result


def work(log: Any, who: int) -> None:
    for count in range(50):
        log.info("{} of {}", count, who)
    log.complete()


def main() -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder, "log")
        for method in ["fork", "spawn"]:
            ctx = context(method)
            logger.remove()
            logger.add(path, enqueue=True, context=ctx, format="{level} {message}")
            workers = [ctx.Process(target=work, args=(logger, who)) for who in range(3)]
            for worker in workers:
                worker.start()
            for worker in workers:
                worker.join()
            logger.complete()
            logger.remove()
            lines = path.read_text().splitlines()
            for who in range(3):
                mine = [line for line in lines if line.endswith(f"of {who}")]
                assert mine == [f"INFO {count} of {who}" for count in range(50)], mine
            result(method, len(lines), [worker.exitcode for worker in workers])
            path.unlink()
    sys.stdout.flush()


if __name__ == "__main__":
    main()
