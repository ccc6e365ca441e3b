"""``python -m shoal``, and ``shoal`` where the package is installed: the command line."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import NoReturn

# A wheel contains the program that cargo builds beside this file.
PROGRAM = Path(__file__).with_name("shoal-command")


def main() -> NoReturn:
    """Executes the program in the place of this process."""
    try:
        os.execv(PROGRAM, ["shoal", *sys.argv[1:]])
    except OSError as error:
        sys.exit(
            f"shoal: this installation has no command line ({PROGRAM}: {error.strerror}); "
            "`cargo install --features cli --path .` in a checkout, or install a wheel built by "
            "`cargo xtask dist`"
        )


if __name__ == "__main__":
    main()
