"""`shoal.devices`: masks in logical numbers, and the three usual ways to set a variable."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest

import shoal
from conftest import Script, ends_well
from shoal import devices

SHOW = "import os; print(os.environ.get('CUDA_VISIBLE_DEVICES'))"


@pytest.fixture(autouse=True)
def no_mask(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", "ROCR_VISIBLE_DEVICES"):
        # Set first, so that a test's change is undone even if the variable did not exist.
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


@pytest.mark.parametrize(
    "mask, inherited, value",
    [
        ([0, 2], None, "0,2"),
        ("0,2", None, "0,2"),
        ((1,), "2,3", "3"),
        ([1, 0], "5,7", "7,5"),
        (["GPU-1a2b3c4d"], None, "GPU-1a2b3c4d"),
        ([0], "GPU-1a2b3c4d", "GPU-1a2b3c4d"),
        ([], "2,3", "-1"),
        ("", "2,3", "-1"),
    ],
)
def test_a_mask_counts_among_the_visible_devices(
    mask: Any, inherited: Any, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if inherited is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", inherited)
    assert devices.resolve(mask) == value
    assert devices.environment(mask)["CUDA_VISIBLE_DEVICES"] == value


@pytest.mark.parametrize("mask", [[2], [0, 0], "0,0", [0, "GPU-1a2b"], "x", "0,", [-1], "1gpu"])
def test_a_wrong_mask_is_a_value_error(mask: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,3")
    with pytest.raises(ValueError):
        devices.resolve(mask)


@pytest.mark.parametrize("mask", [[0.5], [True], [None], 3, None, {"0": 1}.items()])
def test_a_mask_of_something_else_is_a_type_error(mask: Any) -> None:
    with pytest.raises(TypeError):
        devices.resolve(mask)


def test_an_unknown_family_is_named() -> None:
    for call in (
        lambda: devices.resolve([0], family="abacus"),
        lambda: devices.variable("abacus"),
        lambda: devices.visible("abacus"),
    ):
        with pytest.raises(shoal.ShoalError, match="abacus"):
            call()


def test_families_have_their_own_variables() -> None:
    assert devices.variable("cuda") == "CUDA_VISIBLE_DEVICES"
    assert devices.variable("rocm") == "ROCR_VISIBLE_DEVICES"
    assert devices.environment([1], family="rocm")["ROCR_VISIBLE_DEVICES"] == "1"


def test_variables_that_belong_to_a_mask_are_set_too(monkeypatch: pytest.MonkeyPatch) -> None:
    assert devices.environment([0])["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"
    monkeypatch.setenv("HIP_VISIBLE_DEVICES", "1")
    changes = devices.environment([0], family="rocm")
    assert changes["HIP_VISIBLE_DEVICES"] is None and changes["ROCR_VISIBLE_DEVICES"] == "1"


def test_a_script_sets_its_own_mask(monkeypatch: pytest.MonkeyPatch) -> None:
    assert devices.visible() is None
    devices.set_visible_devices([2, 3, 5])
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "2,3,5"
    assert devices.visible() == ["2", "3", "5"]
    # It narrows: the numbers count among the visible devices.
    devices.set_visible_devices([0, 2])
    assert devices.visible() == ["2", "5"]
    # Children of any kind see it: it is in os.environ and in the environment of C.
    for env in (None, dict(os.environ)):
        out = subprocess.run(
            [sys.executable, "-c", SHOW], stdout=subprocess.PIPE, text=True, env=env, check=True
        ).stdout
        assert out == "2,5\n"
    devices.set_visible_devices([])
    assert devices.visible() == []


def test_a_wrong_mask_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,3")
    before = dict(os.environ)
    with pytest.raises(ValueError):
        devices.set_visible_devices([2])
    assert dict(os.environ) == before


def test_a_mask_that_comes_too_late_warns(script: Script, tmp_path: Any) -> None:
    # A stand-in for the driver's library: what counts is that a file so called is mapped.
    fake = tmp_path / "libcuda.so.1"
    fake.write_bytes(b"\0" * 4096)
    out = ends_well(
        script(
            """
            import mmap, sys, warnings
            from shoal import devices
            with warnings.catch_warnings(record=True) as early:
                warnings.simplefilter("always")
                devices.set_visible_devices([0])
            kept = open(sys.argv[1], "rb"); kept = mmap.mmap(kept.fileno(), 0, prot=mmap.PROT_READ)
            with warnings.catch_warnings(record=True) as late:
                warnings.simplefilter("always")
                devices.set_visible_devices([0])
            print(len(early), [w.category.__name__ for w in late], late[0].filename == __file__)
            """,
            str(fake),
        )
    )
    assert out == "0 ['RuntimeWarning'] True\n"


def test_the_classic_ways_reach_the_child() -> None:
    for shell in ('export CUDA_VISIBLE_DEVICES=0,1; "$0" -c "$1"', 'CUDA_VISIBLE_DEVICES=0,1 "$0" -c "$1"'):
        out = subprocess.run(
            ["sh", "-c", shell, sys.executable, SHOW], stdout=subprocess.PIPE, text=True, check=True
        ).stdout
        assert out == "0,1\n"
