"""Pools of joblib: results in order, arrays, and an exception."""

from __future__ import annotations

import os

import numpy
from joblib import Parallel, delayed, parallel_config
from side import context, install, result


def square(number: int) -> int:
    return number * number


def column(index: int) -> "numpy.ndarray[int, numpy.dtype[numpy.int64]]":
    return numpy.arange(50_000) * index


def fail(number: int) -> int:
    if number == 13:
        raise KeyError(number)
    return number


def everything() -> None:
    result(Parallel()(delayed(square)(it) for it in range(200)))
    result([int(it.sum()) for it in Parallel()(delayed(column)(it) for it in range(8))])
    result(len(set(Parallel()(delayed(os.getpid)() for _ in range(20))) - {os.getpid()}) > 0)
    try:
        Parallel()(delayed(fail)(it) for it in range(30))
    except KeyError as err:
        result("failed", err)


def main() -> None:
    with parallel_config(backend="multiprocessing", n_jobs=2, context=context("fork")):
        everything()
    install()
    with parallel_config(backend="multiprocessing", n_jobs=2):
        everything()


if __name__ == "__main__":
    main()
