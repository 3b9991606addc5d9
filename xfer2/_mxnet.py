"""The one door to mxnet and gluoncv: everything else says ``from xfer2._mxnet import mx``.

MXNet 1.9.1 is the last release and was made for NumPy 1.23 and Python 3.8. What it misses on today's platform is
restored here before it loads, and only where it is missing:

* NumPy 1.24 removed the aliases ``np.bool``, ``np.int`` and others, which MXNet reads at import and at run time.
* Python 3.12 removed ``distutils``; setuptools carries a copy and puts it in place when imported.
* MXNet starts half of the logical processors as OpenMP threads; where processors are whole cores, that halves its speed.
* gluoncv 0.10.5 refuses to load when torch 2 can be imported.
"""

from __future__ import annotations

import importlib.util
import math
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any, TypeAlias

import numpy as np

_ALIASES = {"bool": bool, "int": int, "float": float, "complex": complex, "object": object, "str": str}


def _restore_numpy_aliases() -> None:
    for name, builtin in _ALIASES.items():
        if name not in vars(np):
            setattr(np, name, builtin)


def _restore_distutils() -> None:
    if "distutils" not in sys.modules and importlib.util.find_spec("distutils") is None:
        importlib.import_module("setuptools")


def _read_first_line(path: str) -> str:
    try:
        with open(path, encoding="ascii") as file:
            return file.readline().strip()
    except (OSError, UnicodeDecodeError):
        return ""


def available_cores() -> int:
    """Physical cores this process may use: affinity, hyper-threads and the cgroup's quota counted."""
    processors = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))
    topology = "/sys/devices/system/cpu/cpu{}/topology/thread_siblings_list"
    cores = {_read_first_line(topology.format(p)) or str(p) for p in processors}
    quota, _, period = _read_first_line("/sys/fs/cgroup/cpu.max").partition(" ")
    if not quota:  # cgroup version 1
        quota = _read_first_line("/sys/fs/cgroup/cpu/cpu.cfs_quota_us")
        period = _read_first_line("/sys/fs/cgroup/cpu/cpu.cfs_period_us")
    limit = math.ceil(int(quota) / int(period)) if quota.isdigit() and period.isdigit() else len(cores)
    return max(1, min(len(cores), limit))


@contextmanager
def hidden(package: str) -> Iterator[None]:
    """Let `package` look as if it were not installed, to what is imported meanwhile."""
    loaded = {name: module for name, module in sys.modules.items() if name.partition(".")[0] == package}
    for name in loaded:
        del sys.modules[name]
    sys.modules[package] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[package]
        sys.modules.update(loaded)


def _import_mxnet() -> ModuleType:
    _restore_numpy_aliases()
    _restore_distutils()
    threads = os.environ["OMP_NUM_THREADS"] = os.environ.get("OMP_NUM_THREADS") or str(available_cores())
    if not threads.strip().lstrip("-").isdigit():  # MXNet ends the process
        raise ImportError(f"MXNet takes one whole number for OMP_NUM_THREADS; it is {threads!r}. Set it to the number of "
                          "threads, or unset it.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of NumPy's and distutils', at MXNet's own import
            with hidden("sklearn"):  # mxnet.model would load it, and pandas with it, for a base class long deprecated
                import mxnet
    except OSError as error:
        raise ImportError(
            f"MXNet's library cannot be loaded: {error}. On Debian or Ubuntu: apt-get install libgomp1 libquadmath0"
        ) from error
    return mxnet


mx: Any = _import_mxnet()
THREADS = max(int(os.environ["OMP_NUM_THREADS"]), 0)  # what MXNet has read; 0 leaves the number to others' choice

# MXNet has no type information; these names say in signatures what is meant.
NDArray: TypeAlias = Any
Symbol: TypeAlias = Any
Block: TypeAlias = Any
Module: TypeAlias = Any


@contextmanager
def numpy_interface() -> Iterator[None]:
    """Let MXNet compute by its NumPy interface inside, as after ``mx.npx.set_np()``."""
    with mx.util.np_shape(True), mx.util.np_array(True):
        yield


def several(outputs: Any) -> list[Any]:
    """What a block or an operator gives, as a list: of a single output MXNet gives that alone."""
    return list(outputs) if isinstance(outputs, (list, tuple)) else [outputs]


@contextmanager
def own_draws() -> Iterator[None]:
    """Let what is inside seed MXNet's generator: outside it goes on as if one number had been drawn."""
    after = int(mx.nd.random.randint(0, 2**31 - 1).asscalar())
    try:
        yield
    finally:
        mx.random.seed(after)


def gluoncv() -> ModuleType:
    """Import gluoncv beside torch 2: it is kept from seeing torch while it loads, and torch is put back after."""
    if "gluoncv" in sys.modules:
        return sys.modules["gluoncv"]
    from PIL import ImageFile

    strict = ImageFile.LOAD_TRUNCATED_IMAGES
    try:
        with hidden("torch"):
            return importlib.import_module("gluoncv")
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = strict  # gluoncv makes all of Pillow pass over truncated images
