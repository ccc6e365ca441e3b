"""``python -m shoal.multiprocessing script.py arguments``: see `_run`."""

import sys

from ._run import main

if __name__ == "__main__":
    main(sys.argv[1:])
