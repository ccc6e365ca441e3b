"""The default context of `shoal.multiprocessing`, for the modules that contexts make objects of.

It stands here and not beside them: the folder has the modules of the standard library and no others.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# Set by `shoal.multiprocessing.context`, which the package imports before any other module of it.
context: Any = None
