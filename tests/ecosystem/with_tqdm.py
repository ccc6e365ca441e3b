"""Progress over pools and executors."""

from __future__ import annotations

import io

from side import context, install, result
from tqdm import tqdm
from tqdm.contrib.concurrent import process_map


def square(number: int) -> int:
    return number * number


def main() -> None:
    for method in ["fork", "spawn"]:
        ctx = context(method)
        bar = io.StringIO()
        with ctx.Pool(2, initializer=tqdm.set_lock, initargs=(ctx.RLock(),)) as pool:
            done = list(tqdm(pool.imap(square, range(300), 7), total=300, file=bar))
        result(method, done, "300/300" in bar.getvalue())
    install()
    bar = io.StringIO()
    done = process_map(square, range(300), max_workers=2, chunksize=10, file=bar)
    result("executor", done, "300/300" in bar.getvalue())


if __name__ == "__main__":
    main()
