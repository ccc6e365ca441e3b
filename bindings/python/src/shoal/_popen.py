"""The standard library's ways to start a child, with three things added.

A child's device mask is in its environment before it runs any of the program's code, and
the shared objects it was given stay alive until it is over, even if the parent drops its
own handles before the child has opened them. (A forked child needs neither: it has the
parent's handles from its first instruction, and `Process._bootstrap` sets its mask.) And of
a child that was killed nothing stays behind in shared memory. Those that begin as something else
than a copy of this process are in `_popen_new`.
"""

from __future__ import annotations

import os

from ._errors import ShoalError
from ._original import popen_fork

# As `typing` has it. A process that has no objects starts others without what is needed for those.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Optional

    from ._handles import Hold


class Followed:
    """What a child leaves is looked after once it is known to be over."""

    returncode: Optional[int]
    pid: int
    sentinel: int
    _was_gone = False
    # Made by the first object that is among what the child is given.
    _shoal_hold: Optional[Hold] = None

    def __init__(self, process_obj: Any) -> None:
        super().__init__(process_obj)  # type: ignore[call-arg]
        # The ends of pipes that it was given are in its own hands by now.
        if self._shoal_hold is not None:
            self._shoal_hold.inherited()

    def poll(self, flag: int = os.WNOHANG) -> Optional[int]:
        was_over = self.returncode is not None
        code: Optional[int] = super().poll(flag)  # type: ignore[misc]
        if code is None and self._is_gone():
            # Twice: another thread may have collected it and be about to say so.
            if self._was_gone and self.returncode is None:
                self.returncode = _UNKNOWN
            self._was_gone = True
            code = self.returncode
        if code is None or was_over:
            return code
        if self._shoal_hold is not None:
            self._shoal_hold.release()
        if code < 0:
            from ._gc import gc

            # It had no time to give up what it was the last to have. What cannot be collected
            # now is collected another time, and no reason for a join to fail.
            try:
                gc()
            except ShoalError:
                pass
        return code

    def _is_gone(self) -> bool:
        """Whether the child is over and was collected by others, such as a handler of SIGCHLD or
        the kernel where that is ignored."""
        try:
            # Does not collect it.
            os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            from ._original import connection

            return bool(connection.wait([self.sentinel], 0))
        return False


# The exit code of a child that others have collected, as that of a fork server's that is lost.
_UNKNOWN = 255


class ForkPopen(Followed, popen_fork.Popen):  # type: ignore[misc]
    """The child is a copy."""

    def _launch(self, process_obj: Any) -> None:
        passed = getattr(process_obj, "_shoal_lease", None)
        if passed is None:
            super()._launch(process_obj)
            return
        lease = passed.lease
        # A copy without this has no lease.
        lease._pass_to_forks(True)
        try:
            super()._launch(process_obj)
        finally:
            lease._pass_to_forks(False)
