"""The default context of `shoal.multiprocessing`, for the modules whose objects contexts make.

It is not in the folder ``multiprocessing``, which has the modules of the standard library and no
others.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# Set by `shoal.multiprocessing.context`, which that package imports before its other modules.
context: Any = None
