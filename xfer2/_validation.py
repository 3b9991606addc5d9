"""One sentence for every wrong parameter: owner, name, what it must be, what came, what to do."""

from __future__ import annotations

import difflib
import numbers
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

import numpy as np

from xfer2.exceptions import ParameterError


def parameter_error(owner: str, name: str, must_be: str, got: Any, remedy: str = "") -> ParameterError:
    """Build the error for one parameter.

    Examples
    --------
    >>> str(parameter_error("LrRepurposer", "c", "a positive float", -1))
    'LrRepurposer: c must be a positive float; got -1 (int).'
    """
    shown = repr(got)
    if len(shown) > 120:
        shown = shown[:117] + "..."
    kind = "" if got is None or isinstance(got, str) else f" ({type(got).__name__})"
    return ParameterError(f"{owner}: {name} must be {must_be}; got {shown}{kind}.{' ' + remedy if remedy else ''}")


def check_choice(owner: str, name: str, value: Any, choices: Collection[Any]) -> None:
    """Raise unless `value` is one of `choices`, of its type."""
    plain = value.item() if isinstance(value, np.generic) else value
    if not any(isinstance(plain, type(choice)) and plain == choice for choice in choices):
        raise parameter_error(owner, name, "one of " + ", ".join(repr(c) for c in choices), value)


def check_kind(owner: str, name: str, value: Any, kinds: Any, must_be: str) -> Any:
    """Return `value`, or raise unless it is of one of the types."""
    if not isinstance(value, kinds):
        raise parameter_error(owner, name, must_be, value)
    return value


def check_switch(owner: str, name: str, value: Any) -> None:
    """Raise unless `value` is True or False."""
    check_choice(owner, name, value, (True, False))


def check_jobs(owner: str, n_jobs: Any) -> None:
    """Raise unless joblib can make so many jobs."""
    if n_jobs is not None and (not isinstance(n_jobs, numbers.Integral) or isinstance(n_jobs, bool) or n_jobs == 0):
        raise parameter_error(owner, "n_jobs", "an integer other than 0, or None", n_jobs)


def check_integer(owner: str, name: str, value: Any, minimum: int = 1) -> int:
    """Return `value` as an int, or raise unless it is an integer of at least `minimum`."""
    if not isinstance(value, numbers.Integral) or isinstance(value, bool) or value < minimum:
        raise parameter_error(owner, name, f"an integer of at least {minimum}", value)
    return int(value)


def check_positive(owner: str, name: str, value: Any) -> float:
    """Return `value` as a float, or raise unless it is a finite number above zero."""
    return _check_number(owner, name, value, lambda number: 0 < number < float("inf"), "a positive number")


def check_at_least_zero(owner: str, name: str, value: Any) -> float:
    """Return `value` as a float, or raise unless it is a finite number of at least zero."""
    return _check_number(owner, name, value, lambda number: 0 <= number < float("inf"), "a number of at least 0")


def check_fraction(owner: str, name: str, value: Any) -> float:
    """Return `value` as a float, or raise unless it is a number from 0 to below 1."""
    return _check_number(owner, name, value, lambda number: 0 <= number < 1, "at least 0 and below 1")


def check_inside(owner: str, name: str, value: Any, remedy: str = "") -> float:
    """Return `value` as a float, or raise unless it is a number above 0 and below 1."""
    return _check_number(owner, name, value, lambda number: 0 < number < 1, "between 0 and 1", remedy)


def _check_number(owner: str, name: str, value: Any, holds: Callable[[float], bool], must_be: str,
                  remedy: str = "") -> float:
    if not isinstance(value, numbers.Real) or isinstance(value, bool) or not holds(float(value)):
        raise parameter_error(owner, name, must_be, value, remedy)
    return float(value)


def check_shape(owner: str, name: str, value: Any) -> tuple[int, ...]:
    """Return a shape without the batch axis as a tuple, or raise unless it is a sequence of positive integers."""
    if isinstance(value, (tuple, list)) and all(isinstance(size, numbers.Integral) and int(size) > 0 for size in value):
        return tuple(int(size) for size in value)
    raise parameter_error(owner, name, "a shape without the batch axis, as in (3, 224, 224) or (10,)", value)


def check_class_weight(owner: str, class_weight: Mapping[Any, Any], classes: Collection[Any]) -> None:
    """Raise where a weight is for a label that is none of the classes, or below zero, or where all are zero."""
    unknown = [label for label in class_weight if label not in list(classes)]
    if unknown:
        raise parameter_error(owner, "class_weight", f"a dict of the classes {list(classes)}", unknown[0])
    for label, weight in class_weight.items():
        check_at_least_zero(owner, f"class_weight of {label!r}", weight)
    if not any(class_weight.get(label, 1.0) for label in classes):
        raise parameter_error(owner, "class_weight", "above zero for one class at least", class_weight)


def as_names(owner: str, name: str, value: str | Iterable[str] | None, may_be_empty: bool = False) -> tuple[str, ...]:
    """Return one name or several as a tuple; raise if it repeats a name, holds anything but strings, or is empty."""
    names = (value,) if isinstance(value, str) else tuple(value) if isinstance(value, Iterable) else None
    if may_be_empty and (value is None or names == () or (isinstance(value, str) and not value)):
        return ()
    if not names or not all(isinstance(n, str) for n in names):
        raise parameter_error(owner, name, "a layer name or a list of layer names", value)
    if len(set(names)) != len(names):
        raise parameter_error(owner, name, "a list without repeated names", value)
    return names


def nearest(name: str, names: Iterable[str], count: int = 5) -> list[str]:
    """The names most like `name`, best first; when none is alike, the last few (the layers near the output)."""
    candidates = list(names)
    lowered = {c.lower(): c for c in reversed(candidates)}
    found = [lowered[m] for m in difflib.get_close_matches(name.lower(), lowered, n=count, cutoff=0.5)]
    if name:
        found += [c for c in candidates if name.lower() in c.lower() and c not in found][: count - len(found)]
    return found or candidates[-count:]
