"""A training run on disk: written after every epoch, read by the same run when it starts again."""

from __future__ import annotations

import json
import numbers
import os
import warnings
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from xfer2._mxnet import mx
from xfer2._random import root_seed
from xfer2.exceptions import PersistenceError

FILE = "training.safetensors"
_KINDS = ("parameter", "best", "sum", "optimizer", "losses")
_SEED_FILE = "seed.json"
_REMEMBERED = ("m_schedule", "last_lr", "cur_lr")  # what Nadam and LARS keep beside their arrays


@dataclass
class State:
    """All that the epochs to come depend on.

    Attributes
    ----------
    run : dict
        What tells this run from others: settings, sizes, a sum over the data.
    epoch : int
        The last one finished.
    stop : bool
        Whether a callback made it the last.
    history : list of dict
    best_epoch : int
        Whose values are kept.
    arrays : dict of str to dict of str to numpy.ndarray
        ``parameter``, ``best`` (the values that are kept), ``sum`` (of those of the last epochs), ``optimizer``, and the
        ``losses`` by which they are chosen, by name.
    updates : dict of str to int
        Steps the optimizer has made, by index.
    """

    run: dict[str, Any]
    epoch: int
    stop: bool
    history: list[dict[str, float]]
    best_epoch: int
    arrays: dict[str, dict[str, np.ndarray]]
    updates: dict[str, int]


def write(folder: str | os.PathLike[str], state: State) -> None:
    """Write a state; where that fails, the one before stays, and training goes on with a warning."""
    from safetensors.numpy import save_file

    path, scratch = Path(folder) / FILE, Path(folder) / f".{FILE}.new"
    said = {name: getattr(state, name) for name in ("run", "epoch", "stop", "history", "best_epoch", "updates")}
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        save_file({f"{kind}/{name}": np.ascontiguousarray(array) for kind in _KINDS
                   for name, array in state.arrays[kind].items()}, str(scratch), metadata={"training": json.dumps(said)})
        with scratch.open("rb") as file:
            os.fsync(file.fileno())
        scratch.replace(path)
    except Exception as error:  # noqa: BLE001 - safetensors has its own errors for a full disk
        with suppress(OSError):
            scratch.unlink()
        warnings.warn(f"The checkpoint of epoch {state.epoch} could not be written to {str(path)!r} ({error}); the one "
                      "before stays, and training goes on.", RuntimeWarning, stacklevel=2)


def read(folder: str | os.PathLike[str], run: Mapping[str, Any]) -> State | None:
    """The state in a folder, None where there is none.

    Raises
    ------
    PersistenceError
        It is of another run than `run`, or cannot be read.
    """
    from safetensors import safe_open

    path = Path(folder) / FILE
    if not path.exists():
        return None
    try:
        with safe_open(str(path), "numpy") as file:
            said = json.loads((file.metadata() or {})["training"])
            arrays: dict[str, dict[str, np.ndarray]] = {kind: {} for kind in _KINDS}
            for key in file.keys():  # noqa: SIM118 - it is no dict
                kind, _, name = key.partition("/")
                arrays[kind][name] = file.get_tensor(key)
        state = State(arrays=arrays, **said)
    except Exception as error:
        raise PersistenceError(f"The checkpoint {str(path)!r} cannot be read: {error}. Remove it to begin anew.") from error
    different = [name for name in run if state.run.get(name) != run[name]]
    if different:
        name = different[0]
        raise PersistenceError(f"The checkpoint {str(path)!r} is of another run: its {name} is {state.run.get(name)!r}, "
                               f"this run's {run[name]!r}. Choose another checkpoint_dir, or remove it to begin anew.")
    return state


def kept_seed(owner: str, folder: str | os.PathLike[str] | None, random_state: Any) -> int:
    """The seed of a run: `random_state` where it is a number; else that of the run that the folder keeps.

    What is drawn is drawn once and kept, so that a run that is started again goes on as it was.
    """
    if folder is not None and (not os.fspath(folder) or (os.path.exists(folder) and not os.path.isdir(folder))):
        raise PersistenceError(f"{owner}: checkpoint_dir must be a folder, a new one or that of this run; got {folder!r}.")
    if folder is None or isinstance(random_state, numbers.Integral):
        return root_seed(owner, random_state)
    path = Path(folder) / _SEED_FILE
    if path.exists():
        try:
            return root_seed(owner, json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError) as error:
            raise PersistenceError(f"{str(path)!r} holds no seed ({error}). Remove it to begin anew.") from error
    seed = root_seed(owner, random_state)
    scratch = path.with_name(f".{_SEED_FILE}.new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch.write_text(json.dumps(seed), encoding="utf-8")
        scratch.replace(path)
    except OSError as error:
        raise PersistenceError(f"{owner}: nothing can be kept in checkpoint_dir ({error}). Choose another.") from error
    return seed


def optimizer_state(trainer: Any) -> tuple[dict[str, np.ndarray], dict[str, int]]:
    """What a Gluon trainer's optimizer remembers: arrays by ``INDEX/PART/PARTS``, 0 parts for one alone; steps by index."""
    arrays = {}
    for index, value in trainer._updaters[0].states.items():
        parts = value if isinstance(value, (list, tuple)) else [value]
        for part, array in enumerate(parts):
            if array is not None:
                arrays[f"{index}/{part}/{0 if array is value else len(parts)}"] = array.asnumpy()
    for name in _REMEMBERED:
        if getattr(trainer._optimizer, name, None) is not None:
            arrays[name] = np.array(getattr(trainer._optimizer, name), np.float64)
    return arrays, {str(index): int(count) for index, count in trainer._optimizer._index_update_count.items()}


def restore_optimizer(trainer: Any, arrays: Mapping[str, np.ndarray], updates: Mapping[str, int]) -> None:
    """Give a new Gluon trainer what another one's optimizer remembered."""
    contexts = trainer._contexts
    for number, updater in enumerate(trainer._updaters):
        states: dict[int, Any] = {}
        for key in arrays.keys() - set(_REMEMBERED):
            index, part, parts = map(int, key.split("/"))
            array = mx.nd.array(arrays[key], ctx=contexts[number], dtype=arrays[key].dtype)
            if parts:
                states.setdefault(index, [None] * parts)[part] = array
            else:
                states[index] = array
        updater.states = {index: tuple(state) if isinstance(state, list) else state for index, state in states.items()}
        updater.states_synced = dict.fromkeys(states, True)
    counts = {int(index): count for index, count in updates.items()}
    optimizer = trainer._optimizer
    for name in set(_REMEMBERED) & arrays.keys():
        setattr(optimizer, name, float(arrays[name].item()))
    for number in {0, *(context.device_id for context in contexts)}:  # a new optimizer knows of device 0 alone
        optimizer._all_index_update_counts[number] = dict(counts)
    optimizer._index_update_count = optimizer._all_index_update_counts[0]
    optimizer.num_update = max(counts.values(), default=0)
