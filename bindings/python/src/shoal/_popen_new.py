"""Starting children that are new interpreters, or forked from a server: see `_popen`."""

from __future__ import annotations

from ._original import forkserver, popen_forkserver, popen_spawn_posix, resource_tracker
from ._popen import Followed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, Optional

# The module that a fork server imports.
_PRELOAD = "shoal._preload"


class SpawnPopen(Followed, popen_spawn_posix.Popen):  # type: ignore[misc]
    """The child is a new interpreter; the mask is in its environment from the start."""

    def _launch(self, process_obj: Any) -> None:
        environment = getattr(process_obj, "_shoal_environment", None)
        if not environment:
            super()._launch(process_obj)
            return
        from . import devices

        # Started here, or it would be started below with the child's mask.
        resource_tracker.ensure_running()
        with devices._in_environment(environment):
            super()._launch(process_obj)


class ForkServerPopen(Followed, popen_forkserver.Popen):  # type: ignore[misc]
    """The child is forked from a server that has imported nothing of the program.

    (Unless `set_forkserver_preload` named it: what the server has imported has seen the
    server's environment. Shoal's own modules, which it imports last, look at it later.) The mask
    travels at the head of what the child is sent, and is set before the child imports the main
    module.
    """

    def _is_gone(self) -> bool:
        # It is the server's child, which tells of its end.
        return False

    def _launch(self, process_obj: Any) -> None:
        # If it runs already it has them, or its children import them themselves.
        server = forkserver._forkserver
        if _PRELOAD not in server._preload_modules:
            server._preload_modules = [*server._preload_modules, _PRELOAD]
        environment = getattr(process_obj, "_shoal_environment", None)
        if not environment:
            super()._launch(process_obj)
            return
        name = process_obj._name
        process_obj._name = _NameAndEnvironment(name, environment)
        try:
            super()._launch(process_obj)
        finally:
            process_obj._name = name


class _NameAndEnvironment(str):
    """A process name which, when it is unpickled, also sets environment variables.

    The first thing a child unpickles are its preparations, a dictionary of plain values
    with the process name among them, before any module is found or imported. Hence `eval`
    of an expression of builtins: nothing else is sure to be importable by then.
    """

    _environment: Dict[str, Optional[str]]

    def __new__(cls, name: str, environment: Dict[str, Optional[str]]) -> "_NameAndEnvironment":
        self = super().__new__(cls, name)
        self._environment = environment
        return self

    def __reduce__(self) -> Any:
        added = {k: v for k, v in self._environment.items() if v is not None}
        removed = [k for k, v in self._environment.items() if v is None]
        environ = "__import__('os').environ"
        expression = (
            f"({environ}.update({added!r}), "
            f"[{environ}.pop(k, None) for k in {removed!r}], {str(self)!r})[-1]"
        )
        return eval, (expression,)
