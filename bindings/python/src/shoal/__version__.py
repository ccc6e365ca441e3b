"""The version of this package; the native library it works with has the same."""

__version__ = "0.1.0"
