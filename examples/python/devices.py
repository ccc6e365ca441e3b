"""Which devices a process sees: three classic ways to say it, and Shoal's.

    python devices.py

Needs no device: what is shown is what a child is told by its environment, which is what a
vendor's runtime goes by.
"""

import os
import subprocess
import sys

import shoal
import shoal.multiprocessing as mp

VARIABLE = "CUDA_VISIBLE_DEVICES"
SHOW = f"import os; print(os.environ.get({VARIABLE!r}, 'every device'))"


def show(way: str) -> None:
    """Runs in a child: what does it see?"""
    print(f"{way:36} the child sees {os.environ.get(VARIABLE, 'every device')}", flush=True)


def in_shell(way: str, script: str) -> None:
    done = subprocess.run(
        ["sh", "-c", script, "sh", sys.executable, SHOW],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    print(f"{way:36} the child sees {done.stdout.strip()}", flush=True)


def main() -> None:
    os.environ.pop(VARIABLE, None)
    in_shell("1. exported in the shell", f'export {VARIABLE}=0,1; "$1" -c "$2"')
    in_shell("2. set before the command", f'{VARIABLE}=1 "$1" -c "$2"')

    # 3. In the script itself. Composes: what is set is counted in what is seen already.
    shoal.devices.set_visible_devices([2, 3, 5])
    child = mp.get_context("spawn").Process(target=show, args=("3. set in the script",))
    child.start()
    child.join()

    # And for one child at a time, in logical numbers: 0 is the first that this script sees.
    for method in mp.get_all_start_methods():
        ctx = mp.get_context(method)
        for devices in ([0], [2, 1], []):
            way = f"4. Process(devices={devices}), {method}"
            child = ctx.Process(target=show, args=(way,), devices=devices)
            child.start()
            child.join()

    # Any program can be started with a mask.
    print(f"{'5. shoal.spawn(devices=[1])':36} the child sees ", end="", flush=True)
    shoal.spawn([sys.executable, "-c", SHOW], devices=[1]).join()

    # A mistake is an error before anything is started.
    try:
        mp.Process(target=show, args=("never",), devices=[3]).start()
    except ValueError as err:
        print(f"devices=[3] of three: {err}")


if __name__ == "__main__":
    main()
