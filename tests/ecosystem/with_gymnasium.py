"""Environments in processes of their own: observations through pipes, and an error of one of them."""

from __future__ import annotations

from typing import Any

import gymnasium
from side import install, result


class Counting(gymnasium.Env[Any, Any]):
    """Counts its steps, and fails at the given one."""

    observation_space = gymnasium.spaces.Box(0.0, 100.0, (3,))
    action_space = gymnasium.spaces.Discrete(3)

    def __init__(self, fails_at: int = 0) -> None:
        self.fails_at, self.count = fails_at, 0

    def reset(self, **how: Any) -> Any:
        super().reset(**how)
        self.count = 0
        return self.observation_space.low + self.np_random.random(3).astype("f"), {}

    def step(self, action: Any) -> Any:
        self.count += 1
        if self.count == self.fails_at:
            raise ValueError("as it was told")
        seen = self.observation_space.low + self.count + action
        return seen, float(action), self.count >= 20, False, {"count": self.count}


def run(shared: bool) -> None:
    made = [Counting, Counting]
    with_processes = gymnasium.vector.AsyncVectorEnv(made, shared_memory=shared, context="spawn")
    seen, _ = with_processes.reset(seed=7)
    result("reset", seen.round(4).tolist())
    for turn in range(25):
        seen, reward, ended, _, info = with_processes.step([turn % 3, 1])
        result(turn, seen.tolist(), reward.tolist(), ended.tolist(), sorted(info))
    with_processes.close()


def main() -> None:
    install()
    run(shared=False)
    run(shared=True)
    failing = gymnasium.vector.AsyncVectorEnv([Counting, lambda: Counting(3)], context="fork")
    failing.reset(seed=1)
    try:
        for _ in range(5):
            failing.step([0, 0])
    except ValueError as err:
        result("failed", err)
    failing.close(terminate=True)


if __name__ == "__main__":
    main()
