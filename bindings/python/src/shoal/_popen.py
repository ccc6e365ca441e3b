"""The standard library's ways to start a child, with three additions.

- A child's device mask is in its environment before it runs any of the program's code.
- The shared objects that are its arguments stay alive until it ends, even if the parent drops its own
  handles before the child has opened them.
- What a killed child leaves in shared memory is removed.

A forked child does not need the first two: it has the parent's handles from its first instruction, and
`Process._bootstrap` sets its mask. `_popen_new` has the other start methods.
"""

from __future__ import annotations

import os

from ._errors import ShoalError
from ._original import popen_fork

# As in `typing`. A process that has no shared objects starts children without importing `_handles`.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Optional

    from ._handles import Hold


class Reaped:
    """Once the child has ended, releases what is kept for it, and removes what it left in shared memory."""

    returncode: Optional[int]
    pid: int
    sentinel: int
    _was_gone = False
    # Made when the first shared object is pickled for the child.
    _shoal_hold: Optional[Hold] = None

    def __init__(self, process_obj: Any) -> None:
        super().__init__(process_obj)  # type: ignore[call-arg]
        # The child exists, so it has its own descriptors of the ends of pipes.
        if self._shoal_hold is not None:
            self._shoal_hold.inherited()

    def poll(self, flag: int = os.WNOHANG) -> Optional[int]:
        had_ended = self.returncode is not None
        code: Optional[int] = super().poll(flag)  # type: ignore[misc]
        if code is None and self._is_gone():
            # Only at the second check: another thread may have reaped the child, but not yet stored the
            # code.
            if self._was_gone and self.returncode is None:
                self.returncode = _UNKNOWN
            self._was_gone = True
            code = self.returncode
        if code is None or had_ended:
            return code
        if self._shoal_hold is not None:
            self._shoal_hold.release()
        if code < 0:
            from ._gc import gc

            # It was killed, and may have been the last process attached to an object. `join` must not
            # fail if `gc` does; a later `gc` removes the object.
            try:
                gc()
            except ShoalError:
                pass
        return code

    def _is_gone(self) -> bool:
        """Whether the child has ended and was reaped by other code: a handler of SIGCHLD, or the kernel
        where that signal is ignored."""
        try:
            if hasattr(os, "waitid"):
                # WNOWAIT does not reap the child.
                os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            else:
                # PyPy. If a new process has the same id, the end of the child is noticed later.
                os.kill(self.pid, 0)
        except (ChildProcessError, ProcessLookupError):
            from ._original import connection

            return bool(connection.wait([self.sentinel], 0))
        return False


# The exit code of a child that was reaped by other code. The standard library uses the same number for
# a child of a lost fork server.
_UNKNOWN = 255


class ForkPopen(Reaped, popen_fork.Popen):  # type: ignore[misc]
    """Starts a child by fork."""

    def _launch(self, process_obj: Any) -> None:
        passed = getattr(process_obj, "_shoal_lease", None)
        if passed is None:
            super()._launch(process_obj)
            return
        lease = passed.lease
        # Without this, a forked child does not hold the lease.
        lease._pass_to_forks(True)
        try:
            super()._launch(process_obj)
        finally:
            lease._pass_to_forks(False)
