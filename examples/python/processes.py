"""Ten processes, started and joined.

    python processes.py

With ``import multiprocessing as mp`` instead, it does the same.
"""

import shoal.multiprocessing as mp


def say(line: str) -> None:
    # In one piece, newline included: ten processes share this terminal.
    print(line + "\n", end="", flush=True)


def runner(number: int) -> None:
    say(f"process {number}: {number} squared is {number * number}")


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
