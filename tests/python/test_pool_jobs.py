"""A job of a pool that cannot be handed over fails, and leaves nothing for which `join` would wait."""

from __future__ import annotations

from multiprocessing import pool as std_pool
from typing import Any, Iterator

import pytest

import shoal.multiprocessing as mp
from shoal._jobs import Cache

from conftest import interrupt_everywhere, wait_until


class Refuses:
    """An iterable whose `__iter__` raises."""

    def __iter__(self) -> Iterator[int]:
        raise LookupError("no")


class WithLength(Refuses):
    def __len__(self) -> int:
        return 3


@pytest.fixture
def pool() -> Iterator[Any]:
    with mp.get_context("fork").Pool(2) as made:
        yield made
        # Nothing else is waited for: every job is complete or dropped.
        made.close()
        made.join()
        assert not made._cache


@pytest.mark.parametrize("name", ["imap", "imap_unordered"])
@pytest.mark.parametrize("chunksize", [1, 2])
def test_an_iterable_that_cannot_be_iterated_fails_its_job_only(
    pool: Any, name: str, chunksize: int
) -> None:
    for wrong, kind in ((Refuses(), LookupError), (None, TypeError), (5, TypeError)):
        results = getattr(pool, name)(abs, wrong, chunksize)
        with pytest.raises(kind):
            next(iter(results))
    assert pool.map(abs, [-1, -2]) == [1, 2]


def test_a_job_that_was_not_handed_over_is_not_waited_for(pool: Any) -> None:
    for submit in (pool.map, pool.starmap, pool.map_async, pool.starmap_async):
        with pytest.raises(TypeError):
            submit(abs, [1], "many")
        with pytest.raises((LookupError, TypeError)):
            submit(abs, Refuses())
    for name in ("imap", "imap_unordered"):
        with pytest.raises(TypeError):
            getattr(pool, name)(abs, [1], "many")
    with pytest.raises(LookupError):
        pool.map(abs, WithLength())
    for wrong in (lambda: None, (pool,)):
        with pytest.raises(Exception):
            pool.apply(wrong)


def test_an_interrupted_submission_leaves_no_job(pool: Any) -> None:
    calls = {
        "apply_async": lambda: pool.apply_async(abs, (-1,)).wait(),
        "_map_async": lambda: pool.map_async(abs, [-1, -2, -3]).wait(),
        "imap": lambda: list(pool.imap(abs, [-1, -2])),
        "imap_unordered": lambda: list(pool.imap_unordered(abs, [-1, -2])),
    }
    for name, call in calls.items():
        functions = [getattr(std_pool.Pool, name), getattr(mp.pool.Pool, name), Cache.__setitem__]

        def check(place: str) -> None:
            wait_until(lambda: not pool._cache)

        assert interrupt_everywhere(call, functions, check) > 5
    assert pool.map(abs, [-1]) == [1]
