"""Starts children that are new interpreters, or forked from a server: see `_popen`."""

from __future__ import annotations

from ._original import forkserver, popen_forkserver, popen_spawn_posix, resource_tracker
from ._popen import Reaped

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, Optional

# The module that a fork server imports.
_PRELOAD = "shoal._preload"


class SpawnPopen(Reaped, popen_spawn_posix.Popen):  # type: ignore[misc]
    """Starts a new interpreter, with the device mask in its environment."""

    def _launch(self, process_obj: Any) -> None:
        environment = getattr(process_obj, "_shoal_environment", None)
        if not environment:
            super()._launch(process_obj)
            return
        from . import devices

        # Started before the environment is changed, or it would inherit the child's mask.
        resource_tracker.ensure_running()
        with devices._in_environment(environment):
            super()._launch(process_obj)


class ForkServerPopen(Reaped, popen_forkserver.Popen):  # type: ignore[misc]
    """Starts a child that is forked from a server.

    The device mask is part of the preparation data and is set before the child imports the main
    module. The server has imported nothing of the program, unless `set_forkserver_preload` named it;
    such a module has seen the server's environment. Shoal's own modules read the environment later.
    """

    def _is_gone(self) -> bool:
        # It is a child of the server, which reports its end.
        return False

    def _launch(self, process_obj: Any) -> None:
        # Has no effect if the server runs already. Then its children import the modules themselves.
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
    """A process name that sets environment variables when it is unpickled.

    A child first unpickles its preparation data, a dictionary of plain values that contains the process
    name, before it imports any module of the program. So the name is pickled as `eval` of an
    expression of builtins, because nothing else is certain to be importable at that time.
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
