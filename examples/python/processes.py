"""Ten processes, started and joined.

    python processes.py

With ``import multiprocessing as mp`` instead, it does the same.
"""

import shoal.multiprocessing as mp


def runner(number: int) -> None:
    print(f"process {number}: {number} squared is {number * number}", flush=True)


def main() -> None:
    processes = [mp.Process(target=runner, args=(i,)) for i in range(10)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    codes = [process.exitcode for process in processes]
    print(f"all ten are over, exit codes {codes}")


if __name__ == "__main__":
    main()
