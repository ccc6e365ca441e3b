"""The examples of the READMEs behave as they say."""

from __future__ import annotations

import re
from pathlib import Path
from typing import List

import pytest

from conftest import ROOT, Script, ends_well


def blocks(readme: Path) -> List[str]:
    found = re.findall(r"^```python\n(.*?)^```", readme.read_text(), re.DOTALL | re.MULTILINE)
    assert found
    return found


def test_five_lines_put_and_take_a_job(script: Script, name: str) -> None:
    five = blocks(ROOT / "README.md")[0]
    assert '"jobs"' in five
    text = five.replace('"jobs"', repr(name)) + "\nprint(job)\n"
    assert ends_well(script(text)) == "{'resize': '17.png'}\n"


def test_work_survives_its_worker(script: Script, name: str) -> None:
    text = blocks(ROOT / "README.md")[2]
    assert '"jobs"' in text
    before = """
import shoal
kept = shoal.Queue("jobs", max_attempts=5)
kept.put("17.png")
resize = print
"""
    text = before + text + "print(kept.unfinished, kept.max_attempts)"
    assert ends_well(script(text.replace('"jobs"', repr(name)))) == "17.png\n0 5\n"


def test_processes_share_a_map(script: Script, name: str) -> None:
    text = blocks(ROOT / "README.md")[3].replace('"ages"', repr(name))
    before = f"""
import shoal
kept = shoal.Map({name!r})
kept["config"] = 1
"""
    after = """
print(ages["ada"], ages["visitor"], version == ages.version_of("config"))
"""
    assert ends_well(script(before + text + after)) == "37 1 True\n"


@pytest.mark.parametrize("module", ["shoal.multiprocessing", "multiprocessing"])
def test_a_multiprocessing_script_changes_one_import(script: Script, module: str) -> None:
    text = blocks(ROOT / "README.md")[1]
    if module == "multiprocessing":
        # The only line of it that the standard library does not support.
        text = text.replace(", devices=[i % 2]", "")
    text = text.replace("import shoal.multiprocessing as mp", f"import {module} as mp")
    assert sorted(map(int, ends_well(script(text)).split())) == list(range(10))


def test_the_package_readme_runs(script: Script, name: str) -> None:
    first, second, _ = blocks(ROOT / "bindings" / "python" / "README.md")
    for used in ("mail", "ages", "log", "ledger"):
        assert f'"{used}"' in first
        first = first.replace(f'"{used}"', repr(f"{name}-{used}"))
    # This machine may have no such device; the program that runs does not matter.
    first = first.replace('"nvidia-smi"', '"true"')
    text = first + second + '\nprint(ages["ada"], mail.empty(), mp.Process)\n'
    assert ends_well(script(text)).startswith("37 True ")


def test_the_package_readme_sends_large_arrays(script: Script) -> None:
    pytest.importorskip("numpy")
    large = blocks(ROOT / "bindings" / "python" / "README.md")[2]
    before = "import numpy, shoal\nframes = shoal.Queue()\n"
    text = before + large + "\nprint(frame.shape, frame.flags.writeable, frames.leased)\n"
    assert ends_well(script(text)) == "(1080, 1920) False 1\n"
