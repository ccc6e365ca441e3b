"""Several messages in one call: methods of `shoal.Queue`."""

from __future__ import annotations

import ctypes
import os
from collections import deque
from typing import Any, Callable, Deque, Generic, Iterable, List, Optional, Sequence, Tuple, TypeVar
from typing import Union

from . import _abi, _ffi, _frame, _wait

T = TypeVar("T")
_R = TypeVar("_R")

BytesLike = Union[bytes, bytearray, memoryview]

_PROTOCOL = _frame.PROTOCOL

# How many messages one call of the library puts or takes at most.
_BATCH = 256


def _copies(views: List[memoryview]) -> List[bytes]:
    return [bytes(view) for view in views]


class Batches(Generic[T]):
    """The methods for batches of `shoal.Queue`, which defines the abstract ones below."""

    # What `get_many` has taken but not returned because unpickling raised: the process id, the objects, and the
    # messages after them.
    _kept: Deque[Tuple[int, List[T], List[bytes]]] = deque()

    _name: str
    _dumps: Any

    def _live(self) -> Any:
        raise NotImplementedError

    def _put_error(self, status: int) -> Exception:
        raise NotImplementedError

    def _take_error(self, status: int) -> Exception:
        raise NotImplementedError

    def put_many(
        self, objs: Iterable[T], block: bool = True, timeout: Optional[float] = None
    ) -> int:
        """Appends objects in order and takes the queue's lock once for many. Returns how many were put.

        That is all of them, unless the timeout passes or the queue is closed first. If not even one
        was put, it raises as `put` does.
        """
        items = [self._dumps(obj, _PROTOCOL) for obj in objs]
        # Not the `put_many_bytes` of a derived class, which may count the items a second time.
        return self._put_rest(items, 0, block, timeout)

    def put_many_bytes(
        self, items: Iterable[BytesLike], block: bool = True, timeout: Optional[float] = None
    ) -> int:
        """`put_many` for messages of plain bytes."""
        return self._put_rest(items, 0, block, timeout)

    def _put_rest(
        self, items: Iterable[BytesLike], done: int, block: bool, timeout: Optional[float]
    ) -> int:
        """Appends the items after the first ``done``, which are in the queue already. Returns how many are in it."""
        # A copy, because another thread may shorten a list meanwhile.
        items = list(items)
        until = _wait.deadline(block, timeout)
        while done < len(items):
            status, put = self._put_batch(items[done : done + _BATCH], until)
            if status:
                if done:
                    return done
                raise self._put_error(status)
            done += put
        return done

    def _put_batch(self, items: Sequence[BytesLike], until: Optional[int]) -> "tuple[int, int]":
        slices = _ffi.Slices(items)
        done = ctypes.c_size_t()

        def call(timeout_ns: int) -> int:
            status: int = _ffi.lib.shoal_queue_put_many(
                self._live(),
                slices.address,
                slices.count,
                timeout_ns,
                ctypes.byref(done),
            )
            return status

        status = _wait.wait(call, until)
        return status, done.value

    def get_many(
        self, max_items: int = _BATCH, block: bool = True, timeout: Optional[float] = None
    ) -> List[T]:
        """Waits for a first object, then takes all that the queue has, up to ``max_items``.

        Raises as `get` does if not even one comes. If an object cannot be unpickled, the call raises that error. As
        with `get`, that object is lost. The other objects that were taken are returned by the next `get_many` of
        this Python object, before anything else and without a wait.
        """
        until = _wait.deadline(block, timeout)
        max_items = _ffi.number(max_items, "max_items")
        if not max_items:
            return []
        kept = self._kept
        while kept:
            self._live()
            try:
                process, objects, messages = kept.popleft()
            except IndexError:
                break
            if process != os.getpid():
                # The parent's, which a forked child has copied. The parent returns them.
                continue
            if len(objects) > max_items:
                kept.appendleft((process, objects[max_items:], messages))
                return objects[:max_items]
            return self._load(objects, [memoryview(it) for it in messages], max_items)
        return self._take_many(lambda views: self._load([], views, max_items), max_items, until)

    def _load(self, objects: List[T], messages: List[memoryview], most: int) -> List[T]:
        """Unpickles messages until there are ``most`` objects. The rest, or all if that raises, is kept."""
        first = len(objects)
        append, unpickle = objects.append, _frame.unpickle
        try:
            for message in messages[: most - first]:
                append(unpickle(message))
        except BaseException as error:
            # Anything but an `Exception` is Ctrl-C: then the message is not the cause and is kept, too.
            self._keep(objects, messages[len(objects) - first :], isinstance(error, Exception))
            raise
        self._keep([], messages[len(objects) - first :], False)
        return objects

    def _keep(
        self, objects: List[T], messages: List[memoryview], is_first_bad: bool
    ) -> None:
        """Keeps what was taken for the next `get_many`."""
        left = [bytes(message) for message in messages[is_first_bad:]]
        if objects or left:
            kept = self.__dict__.setdefault("_kept", deque())
            kept.append((os.getpid(), objects, left))

    def get_many_bytes(
        self, max_items: int = _BATCH, block: bool = True, timeout: Optional[float] = None
    ) -> List[bytes]:
        """`get_many` for messages of plain bytes."""
        until = _wait.deadline(block, timeout)
        return self._take_many(_copies, _ffi.number(max_items, "max_items"), until)

    def _take_many(
        self,
        convert: Callable[[List[memoryview]], List[_R]],
        max_items: int,
        until: Optional[int],
    ) -> List[_R]:
        if not max_items:
            return []
        lengths = (ctypes.c_size_t * min(max_items, 64 * _BATCH))()
        taken = ctypes.c_size_t()
        buffer = _ffi.take_buffer()
        try:
            while True:
                box = buffer

                def call(timeout_ns: int) -> int:
                    status: int = _ffi.lib.shoal_queue_get_many(
                        self._live(),
                        timeout_ns,
                        box.address,
                        box.size,
                        lengths,
                        len(lengths),
                        ctypes.byref(taken),
                    )
                    return status

                status = _wait.wait(call, until)
                if status == _abi.ERR_BUFFER_TOO_SMALL:
                    buffer = _ffi.take_buffer(lengths[0])
                    continue
                if status:
                    raise self._take_error(status)
                views: List[memoryview] = []
                start = 0
                for length in lengths[: taken.value]:
                    views.append(buffer.view[start : start + length])
                    start += length
                return convert(views)
        finally:
            _ffi.give_buffer(buffer)
