"""``python -m shoal.multiprocessing script.py arguments``: see `shoal._run`."""

import sys

from shoal._run import main

if __name__ == "__main__":
    main(sys.argv[1:])
