"""Ten processes write into one dictionary, and the parent prints it whole.

    python manager_dict.py
"""

import shoal.multiprocessing as mp

WORDS = "shared memory objects and locks in every language you like".split()


def runner(number: int, d: "mp.managers.DictProxy[str, int]") -> None:
    d[WORDS[number]] = number


def main() -> None:
    with mp.Manager() as manager:
        d = manager.dict()
        processes = [mp.Process(target=runner, args=(i, d)) for i in range(10)]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
        for word, number in sorted(d.items(), key=lambda entry: entry[1]):
            print(f"d[{word!r}] = {number}")
        print(f"{len(d)} words, from ten processes")


if __name__ == "__main__":
    main()
