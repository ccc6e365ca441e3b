"""Frames through a pool and through queues."""

from __future__ import annotations

from typing import Any

import numpy
import pandas
from side import context, result


def frame(rows: int, seed: int) -> Any:
    random = numpy.random.default_rng(seed)
    return pandas.DataFrame(
        {
            "key": random.integers(0, 10, rows),
            "value": random.random(rows).round(6),
            "text": [f"row {it % 17}" for it in range(rows)],
            "when": pandas.date_range("2024-01-01", periods=rows, freq="min"),
        }
    )


def summarise(part: Any) -> Any:
    return part.groupby("key").agg({"value": "sum", "text": "nunique", "when": "max"})


def turn(come: Any, go: Any) -> None:
    while (part := come.get()) is not None:
        go.put(part.sort_values("value", ignore_index=True))


def main() -> None:
    frames = [frame(rows, seed) for seed, rows in enumerate([10, 1000, 30_000, 200])]
    for method in ["fork", "spawn"]:
        ctx = context(method)
        with ctx.Pool(2) as pool:
            for summary in pool.map(summarise, frames):
                result(method, summary.to_csv())
        come, go = ctx.Queue(), ctx.Queue()
        worker = ctx.Process(target=turn, args=(come, go))
        worker.start()
        for part in frames:
            come.put(part)
            back = go.get()
            pandas.testing.assert_frame_equal(
                back, part.sort_values("value", ignore_index=True)
            )
        come.put(None)
        worker.join()
        result(method, worker.exitcode)


if __name__ == "__main__":
    main()
