"""Devices that no other program uses: a pool of workers, each with its own device.

Run it twice at the same time: the second waits until the first is done. Kill it, and the devices are
free as soon as its workers have ended.

    python examples/python/leases.py
"""

import os

import shoal
import shoal.multiprocessing as mp


def train(step: int) -> str:
    # What a framework would read when it starts.
    return f"step {step} on device {os.environ['CUDA_VISIBLE_DEVICES']}"


def main() -> None:
    # A machine without a GPU has nothing to lease; this example then declares some devices.
    os.environ.setdefault("SHOAL_FAKE_DEVICES", "cuda:4:24G")

    for device in shoal.devices.discover():
        print(device.index, device.id, device.name)

    with shoal.lease_devices(2, min_free="10G", timeout=60) as mask:
        print(f"leased {mask}")
        with mp.get_context("spawn").Pool(2, devices=mask) as pool:
            print("\n".join(pool.map(train, range(4), chunksize=1)))
        for holder in shoal.devices.holders():
            print(f"pid {holder.pid} has {', '.join(holder.devices)}")


if __name__ == "__main__":
    main()
