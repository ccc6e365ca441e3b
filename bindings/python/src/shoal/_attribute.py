"""Properties that call the library, and their errors.

`hasattr`, `inspect`, `unittest.mock` and the server of a `BaseManager` read every attribute of an
object and expect no error but `AttributeError`. So every error of such a property is one, too::

    queue.detach()
    queue.maxsize               # raises a ClosedError, as every method does, that is an AttributeError
    hasattr(queue, "maxsize")   # False
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, Callable, Dict, Optional, Tuple, TypeVar

if TYPE_CHECKING:
    attribute = property
else:

    def attribute(getter: Callable[[Any], Any]) -> property:
        """A property whose errors are `AttributeError` as well."""

        @functools.wraps(getter)
        def get(self: Any) -> Any:
            try:
                return getter(self)
            except AttributeError:
                raise
            except Exception as error:
                raise as_attribute_error(error) from error.__cause__

        return property(get)


_C = TypeVar("_C", bound=type)


if TYPE_CHECKING:
    default = property
else:

    class default:
        """A property that an attribute of the object itself hides, once a program has set one."""

        def __init__(self, getter: Callable[[Any], Any]) -> None:
            self._getter = attribute(getter).fget
            self.__doc__ = getter.__doc__

        def __get__(self, owner: Any, kind: Any = None) -> Any:
            return self if owner is None else self._getter(owner)


def assignable(cls: _C) -> _C:
    """Lets programs assign to attributes that the original class does not have, such as ``name``.

    Programs set attributes of their own on objects of `multiprocessing` and in derived classes. The
    read-only properties of this package must not prevent that. The package itself never reads them.
    """
    originals = [kind for kind in cls.__mro__ if not kind.__module__.startswith("shoal")]
    for name in dir(cls):
        value = getattr(cls, name)
        is_ours = name[:1] != "_" and not any(name in vars(kind) for kind in originals)
        if is_ours and isinstance(value, property) and value.fset is None:
            setattr(cls, name, default(value.fget))
    return cls


# By class of error: the derived class that is an AttributeError as well; None if there can be none.
_both: Dict[type, Optional[type]] = {}


def as_attribute_error(error: Exception) -> AttributeError:
    """An error of the class of ``error`` that is an `AttributeError` as well; a plain `AttributeError`
    for an `OSError`, which cannot be both."""
    kind = type(error)
    if kind not in _both:
        _both[kind] = _derive(kind)
    derived = _both[kind]
    if derived is not None:
        try:
            made: AttributeError = derived(*error.args)
        except TypeError:
            pass
        else:
            made.__dict__.update(error.__dict__)
            return made.with_traceback(error.__traceback__)
    plain = AttributeError(f"{kind.__name__}: {error}")
    plain.__cause__ = error
    return plain


def _derive(kind: type) -> Optional[type]:
    def reduce(self: Any) -> Tuple[Any, Any]:
        # The derived class cannot be imported, so the error is unpickled as the original class.
        return kind, self.args

    names = {"__module__": kind.__module__, "__doc__": kind.__doc__, "__reduce__": reduce}
    try:
        return type(kind.__name__, (kind, AttributeError), names)
    except TypeError:
        # Since Python 3.10 an AttributeError has a C layout of its own, as an OSError has.
        return None
