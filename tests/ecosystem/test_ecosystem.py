"""Small programs that use real libraries print the same with both modules.

Run by ``cargo xtask test --only ecosystem``, in an environment of its own. A library that is not
there is skipped.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
PROGRAMS = sorted(HERE.glob("with_*.py"))
# A watchdog, not a measure: a program that hangs fails.
WATCHDOG = 120


def said(program: Path, side: str) -> str:
    """What ``program`` prints with the module of this side."""
    how = dict(os.environ, PYTHONHASHSEED="0", PYTHONWARNINGS="ignore")
    done = subprocess.run(
        [sys.executable, program.name, side],
        cwd=HERE,
        env=how,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        timeout=WATCHDOG,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return done.stdout


@pytest.mark.timeout(2 * WATCHDOG + 10)
@pytest.mark.parametrize("program", PROGRAMS, ids=lambda it: it.stem)
def test_a_program_says_the_same_with_both_modules(program: Path) -> None:
    pytest.importorskip(program.stem[len("with_") :])
    original = said(program, "original")
    assert original.count("\n") >= 2
    assert said(program, "shoal") == original
