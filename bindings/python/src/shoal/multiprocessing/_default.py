"""The default context, for the modules that contexts make objects of."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# Set by `shoal.multiprocessing.context`, which the package imports before any other module of it.
context: Any = None
