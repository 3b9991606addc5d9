"""Learning rate by step, as MXNet's schedulers count steps: from 1."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

from xfer2._mxnet import mx
from xfer2._validation import parameter_error

SCHEDULES: dict[str, Callable[[float], float]] = {
    "constant": lambda done: 1.0,
    "cosine": lambda done: (1 + math.cos(math.pi * done)) / 2,
    "linear": lambda done: 1 - done,
    "poly": lambda done: (1 - done) ** 2,
    "step": lambda done: 1.0 if done < 0.5 else 0.1 if done < 0.75 else 0.01,
}


class Schedule(mx.lr_scheduler.LRScheduler):
    """A warm-up along a line, then one of `SCHEDULES` over the steps that are left.

    MXNet's own cosine starts one step late and leaves nothing for the last step.

    Parameters
    ----------
    shape : {"constant", "cosine", "linear", "poly", "step"}
        ``"cosine"``: Loshchilov and Hutter 2017, arXiv:1608.03983. ``"poly"``: the square of what is left, as MXNet's.
        ``"step"``: a tenth from half of the steps on, a hundredth from three quarters on.
    steps, warm_up : int
        In all, and of them at the beginning.
    base_lr : float
    """

    def __init__(self, shape: str, steps: int, warm_up: int, base_lr: float) -> None:
        super().__init__(base_lr=base_lr)
        self._shape, self._steps, self._warm_up = SCHEDULES[shape], steps, warm_up

    def __call__(self, num_update: int) -> float:
        """The rate of a step."""
        before = max(num_update - 1, 0)
        if before < self._warm_up:
            return self.base_lr * (before + 1) / self._warm_up
        done = (before - self._warm_up) / max(self._steps - self._warm_up, 1)
        return self.base_lr * self._shape(min(done, 1.0))


def make_schedule(owner: str, schedule: Any, steps: int, warm_up: int, learning_rate: float) -> Any:
    """A `Schedule` by name, or a copy of an MXNet scheduler of the user's: they count, and a second run begins anew.

    A scheduler's rates become those of one made with `learning_rate`; its warm-up is its own.
    """
    if isinstance(schedule, mx.lr_scheduler.LRScheduler):
        own = copy.deepcopy(schedule)
        for name in ("base_lr", "base_lr_orig", "warmup_final_lr"):
            if hasattr(own, name):
                setattr(own, name, learning_rate)
        return own
    if not isinstance(schedule, str) or schedule not in SCHEDULES:
        names = ", ".join(map(repr, SCHEDULES))
        raise parameter_error(owner, "schedule", f"one of {names}, or an mx.lr_scheduler", schedule)
    return Schedule(schedule, steps, warm_up, learning_rate)
