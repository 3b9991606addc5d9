"""What a report says of a repurposer: what was done, with what data, and how to do it again."""

from __future__ import annotations

import ast
import os
from typing import Any

from xfer2._mxnet import mx
from xfer2._version import __version__
from xfer2.data.pictures import pictures_of
from xfer2.report import write_report
from xfer2.repurposers._examples import Examined, described
from xfer2.repurposers._registry import METHODS, REQUIRED, parameters_of

_NOT_SAID = ("source_model", "context_function", "num_devices", "callbacks", "checkpoint_dir", "validation", "old_data")


def write(repurposer: Any, path: str | os.PathLike[str], X: Any, examined: Examined, title: str | None,
          overwrite: bool) -> None:
    """Write the report of a repurposer and of what it says of X."""
    record, name = repurposer.trained_on_, type(repurposer).__name__
    method = METHODS.get(repurposer.method)
    changed = _changed(repurposer)
    counts = ", ".join(f"{label}: {count}" for label, count in
                       zip(repurposer.classes_.tolist(), record["class_counts"], strict=True))
    done = {"method": f"{name}, {method.summary}" if method else name, "source": record["source"],
            **{key: str(value) for key, value in changed.items()}, **repurposer._told(),
            "versions": f"xfer2 {__version__}, mxnet {mx.__version__}"}
    data = {"trained on": f"{record['data']}: {record['examples']} examples of {len(repurposer.classes_)} classes"
            + (f", {len(record['skipped'])} images that could not be read" if record["skipped"] else ""),
            "examples a class": counts, "reported on": f"{described(X)}: {len(examined.prediction)} examples"
            + ("" if examined.labels is not None else ", without labels")
            + (f", {len(examined.prediction.skipped)} images that could not be read" if examined.prediction.skipped else "")}
    if isinstance(X, (str, os.PathLike)) and f" {record['data']}".endswith(f" {described(X)}"):
        data["not new"] = "It learned from data of this name: it does better on what it has seen than it will on new data."
    write_report(path, title=title or f"{record['source']} repurposed to {len(repurposer.classes_)} classes",
                 sections={"What was done": done, "The data": data}, prediction=examined.prediction, labels=examined.labels,
                 images=pictures_of(X, examined.prediction.ids), features=examined.features,
                 reproduce=_again(repurposer, changed), overwrite=overwrite, **repurposer._drawn())


def _changed(repurposer: Any) -> dict[str, Any]:
    """Parameters that were given another value than their default, or have none."""
    values, found = repurposer._asked(), {}
    for name, default in parameters_of(type(repurposer)).items():
        if name not in _NOT_SAID and (default is REQUIRED or repr(values[name]) != repr(default)):
            found[name] = values[name]
    return found


def _again(repurposer: Any, changed: dict[str, Any]) -> str:
    """The command that did it, or lines of Python; what has no name there stands as a variable."""
    record = repurposer.trained_on_
    if "command" in record:
        return str(record["command"])
    source, data = (repr(record[key]) if named else key
                    for key, named in zip(("source", "data"), record["named"], strict=True))
    comments = [f"{key} = ...  # {record[key]}"
                for key, named in zip(("source", "data"), record["named"], strict=True) if not named]
    if record.get("given_labels", record["data"].startswith("an array")):
        comments.append("labels = ...")
        data += ", labels"
    arguments = [source]
    for name, value in changed.items():
        if _is_literal(value):
            arguments.append(f"{name}={value!r}")
        elif not callable(value):
            arguments.append(f"{name}={name}")
            comments.append(f"{name} = ...  # a {type(value).__name__}")
    own = type(repurposer)
    known, called = (["import xfer2"], f"xfer2.{own.__name__}") if repurposer.method in METHODS else (
        [f"from {own.__module__} import {own.__name__}"], own.__name__)
    return "\n".join([*known, "", *comments, f"repurposer = {called}({', '.join(arguments)})", f"repurposer.fit({data})"])


def _is_literal(value: Any) -> bool:
    """Whether what a value looks like is Python for it."""
    try:
        ast.literal_eval(repr(value))
    except (ValueError, SyntaxError, RecursionError):
        return False
    return True
