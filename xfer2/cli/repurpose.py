"""``xfer2 repurpose``: a network learns a new task, and says on images it has not seen how well."""

from __future__ import annotations

import ast
import os
import shlex
import sys
import warnings
from numbers import Real
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from xfer2._validation import check_integer, nearest, parameter_error
from xfer2.cli import _models
from xfer2.cli._output import (
    Data,
    Json,
    Model,
    Overwrite,
    Quiet,
    UnfinishedError,
    be_quiet,
    check_errors,
    check_output,
    note,
    print_json,
    print_table,
    say_skipped,
)
from xfer2.data.files import FileRows, labels_at
from xfer2.exceptions import DataError, ParameterError, XferError
from xfer2.model_handler.graph.stages import STAGES
from xfer2.persistence import check_writable
from xfer2.repurposers._examples import held_out_rows
from xfer2.repurposers._registry import Method, get_method, parameters_of

OWNER = "xfer2 repurpose"
_KINDS: dict[str, tuple[Any, str]] = {"hold_out": (Real, "a number"), "seed": (int, "a whole number"),
                                      "batch_size": (int, "a whole number")}  # the others are texts
_DEFAULTS: dict[str, Any] = {"method": "lr", "layers": None, "pool": None, "test": None, "hold_out": 0.2, "seed": 0,
                             "batch_size": None, "errors": None}
_SAME = {"feature_layer_names": "layers", "transfer_layer_name": "layers", "pool": "pool", "batch_size": "batch_size",
         "errors": "errors"}  # parameters, and the options that say them; --seed says more than random_state


def repurpose(model: Model, data: Data,
              output: Annotated[str, typer.Option("--output", "-o", help="A new folder, for predict, report and export.")],
              method: Annotated[str | None, typer.Option(help="`xfer2 methods` lists them.  [default: lr]",
                                                         autocompletion=_models.method_names)] = None,
              layers: Annotated[str | None, typer.Option(
                  help="Names between commas; by default what the last dense layer or convolution reads, and for methods on "
                       "features the means of what is below it that they are better with: 'stages'.")] = None,
              pool: Annotated[str | None, typer.Option(
                  help="Reduce maps to a number a channel: avg, max or none.  [default: avg]")] = None,
              hold_out: Annotated[float | None, typer.Option(
                  help="Part of the data to measure on, 0 for none.  [default: 0.2]")] = None,
              test: Annotated[str | None, typer.Option(help="Other data to measure on, in place of a part.")] = None,
              settings: Annotated[list[str] | None, typer.Option(
                  "--set", metavar="NAME=VALUE", help="Any parameter of the method; may be repeated.")] = None,
              config: Annotated[str | None, typer.Option(
                  help="A TOML file of these options, and a table [parameters].")] = None,
              seed: Annotated[int | None, typer.Option(help="Of all that is drawn.  [default: 0]")] = None,
              batch_size: Annotated[int | None, typer.Option(help="Images a batch.")] = None,
              errors: Annotated[str | None, typer.Option(
                  help="Images that cannot be read: 'skip' or 'raise'.  [default: skip]")] = None,
              overwrite: Overwrite = False, as_json: Json = False, quiet: Quiet = False) -> None:
    """Repurpose a network to the classes of some images, and print figures on images that were held out.

    \b
    Example:
      xfer2 repurpose zoo:cifar10-cnn photos --method laplace \\
        --set random_state=1 -o photos-laplace
    """
    be_quiet(quiet)
    given = {"method": method, "layers": layers, "pool": pool, "test": test, "hold_out": hold_out, "seed": seed,
             "batch_size": batch_size, "errors": errors}
    options, parameters = _read_config(config)
    options = {**_DEFAULTS, **options, **{name: value for name, value in given.items() if value is not None}}
    parameters.update(_parsed(one) for one in settings or ())
    check_output(output, overwrite, folder=True)
    check_writable(Path(output), overwrite)
    repurposer = _make(get_method(options["method"]), model, options, parameters)
    train, held_out = _split(data, options)
    interrupted = _fit(repurposer, train)
    repurposer.trained_on_.update(source=model, command=shlex.join(["xfer2", *sys.argv[1:]]))
    _measure_and_save(repurposer, held_out, output, overwrite)
    _say(repurposer, output, as_json, quiet)
    if interrupted:
        raise UnfinishedError(f"the training was interrupted; what it had learned by then is in {output!r}.")


def _read_config(path: str | None) -> tuple[dict[str, Any], dict[str, Any]]:
    if path is None:
        return {}, {}
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib

    try:
        with open(path, "rb") as file:
            options = tomllib.load(file)
    except (OSError, ValueError) as error:
        raise DataError(f"The configuration {path!r} cannot be read: {error}.") from error
    parameters = options.pop("parameters", {})
    if not isinstance(parameters, dict):
        raise parameter_error(path, "parameters", "a table, as in [parameters]", parameters)
    for name, value in options.items():
        if name not in _DEFAULTS:
            raise ParameterError(f"{path}: there is no option {name!r}. Options: {', '.join(nearest(name, _DEFAULTS, 8))}; "
                                 "parameters of the method belong into [parameters].")
        kind, called = _KINDS.get(name, (str, "a text"))
        if name == "layers" and isinstance(value, list) and all(isinstance(one, str) for one in value):
            options[name] = ",".join(value)
        elif not isinstance(value, kind) or isinstance(value, bool):
            raise parameter_error(path, name, called, value)
    return options, parameters


def _parsed(text: str) -> tuple[str, Any]:
    """NAME=VALUE, the value as Python writes it (0.1, None, [1, 2], {'momentum': 0.9}), else a text."""
    name, equals, value = text.partition("=")
    if not equals or not name.isidentifier():
        raise parameter_error(OWNER, "--set", "NAME=VALUE, as in --set c=0.1", text)
    try:
        return name, ast.literal_eval(value)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):  # no literal of Python
        return name, value


def _make(method: Method, model: str, options: dict[str, Any], parameters: dict[str, Any]) -> Any:
    """The repurposer, with what the command line says."""
    cls = method.load_class()
    known = {name: default for name, default in parameters_of(cls).items() if name != "source_model"}
    if method.needs_objects:
        raise ParameterError(f"{OWNER}: the method {method.name!r} needs {', '.join(method.needs_objects)}, which no "
                             "command line can say; use it in Python, or choose another method.")
    for name in parameters:
        if name not in known:
            raise ParameterError(f"{OWNER}: the method {method.name!r} has no parameter {name!r}. Nearest: "
                                 f"{', '.join(nearest(name, known))}. `xfer2 methods {method.name}` lists all.")
        if name in _SAME and options[_SAME[name]] is not None:
            raise ParameterError(f"{OWNER}: --{_SAME[name].replace('_', '-')} and {name} are one parameter, said twice; "
                                 "leave one of them out.")
    if options["pool"] is not None and "pool" not in known:
        raise ParameterError(f"{OWNER}: the method {method.name!r} pools nothing, so there is no --pool to choose; "
                             f"`xfer2 methods {method.name}` lists its parameters.")
    network, default = _models.read_model(model)
    values = {"random_state": options["seed"], "batch_size": options["batch_size"],
              "errors": check_errors("skip" if options["errors"] is None else options["errors"]),
              "pool": _models.chosen_pool("avg" if options["pool"] is None else options["pool"])}
    values = {name: value for name, value in values.items() if name in known and value is not None}
    if "feature_layer_names" in known:
        values["feature_layer_names"] = _models.chosen_layers(network, options["layers"], default or [STAGES])
    elif "transfer_layer_name" in known:
        layers = _models.chosen_layers(network, options["layers"], default)
        if len(layers) != 1:
            raise parameter_error(OWNER, "--layers", f"one layer for the method {method.name!r}", options["layers"])
        values["transfer_layer_name"] = layers[0]
    elif options["layers"] is not None:
        raise ParameterError(f"{OWNER}: the method {method.name!r} has no single layers to name with --layers; "
                             f"`xfer2 methods {method.name}` lists its parameters.")
    return cls(network, **{**values, **parameters})


def _split(data: str, options: dict[str, Any]) -> tuple[Any, Any]:
    """What to learn from, and what to measure on."""
    labels = labels_at(data)
    if labels is None:
        raise DataError(f"{OWNER}: the images of {data!r} have no classes. Put them into one folder a class, or name a "
                        ".csv of paths and labels.")
    if options["test"] is not None:
        if os.path.realpath(options["test"]) == os.path.realpath(data):
            raise parameter_error(OWNER, "--test", "other images than those it learns from", options["test"],
                                  "Leave it out to have --hold-out of them held out.")
        others = labels_at(options["test"])
        if others is None:
            raise DataError(f"{OWNER}: the images of --test {options['test']!r} have no classes.")
        unknown = sorted({*others.tolist()} - {*labels.tolist()}, key=str)
        if unknown:
            raise DataError(f"{OWNER}: --test {options['test']!r} has the class {unknown[0]!r}, which {data!r} does not "
                            "have. Leave it out, or train on it too.")
        return data, options["test"]
    part, seed = options["hold_out"], check_integer(OWNER, "--seed", options["seed"], 0)
    if isinstance(part, bool) or not isinstance(part, (int, float)) or not 0 <= part < 1:
        raise parameter_error(OWNER, "--hold-out", "at least 0 and below 1", part)
    chosen = np.zeros(len(labels), bool)
    chosen[held_out_rows(np.unique(labels, return_inverse=True)[1], part, seed)] = True
    return (FileRows(data, ~chosen), FileRows(data, chosen)) if chosen.any() else (data, None)


def _fit(repurposer: Any, train: Any) -> bool:
    """Fit, and say whether that was interrupted and kept what it had learned."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        repurposer.fit(train)
    messages = [str(one.message) for one in caught if issubclass(one.category, (UserWarning, RuntimeWarning))]
    interrupted = [text for text in messages if "was interrupted" in text]
    for text in messages:
        if text not in interrupted:
            print(f"xfer2: {text}", file=sys.stderr)
    return bool(interrupted)


def _measure_and_save(repurposer: Any, held_out: Any, output: str, overwrite: bool) -> None:
    """Predict what was held out, and save; what was learned is saved too where that fails."""
    try:
        if held_out is not None:
            repurposer.held_out_ = repurposer.evaluate(held_out)
    except (XferError, OSError, MemoryError, KeyboardInterrupt) as error:
        repurposer.save(output, overwrite)
        reason = "interrupted" if isinstance(error, KeyboardInterrupt) else str(error).rstrip(".")
        raise UnfinishedError(f"it could not be measured on the images that were held out ({reason}); without them it is "
                              f"saved in {output!r}.") from error
    repurposer.save(output, overwrite)


def _say(repurposer: Any, output: str, as_json: bool, quiet: bool) -> None:
    record, held_out = repurposer.trained_on_, repurposer.held_out_
    figures = {} if held_out is None else held_out.figures()
    skipped = [*record["skipped"], *(() if held_out is None else held_out.prediction.skipped)]
    say_skipped(skipped, record["examples"] + (0 if held_out is None else len(held_out)) + len(skipped))
    if as_json:
        print_json({"path": output, "method": repurposer.method, "classes": repurposer.classes_, "trained_on": record,
                    "held_out": 0 if held_out is None else len(held_out), "skipped": skipped,
                    "figures": {name: vars(figure) for name, figure in figures.items()},
                    **({"outcome": repurposer.outcome_} if hasattr(repurposer, "outcome_") else {})})
        return
    if hasattr(repurposer, "outcome_"):
        note(repurposer.outcome_, quiet)
    if held_out is not None:
        print(f"{repurposer.method} on {len(held_out)} images it has not seen, of {len(repurposer.classes_)} classes:")
        print_table(("figure", "value", "95% interval"),
                    [(name.replace("_", " "), f"{figure.value:.3f}", f"{figure.low:.3f} to {figure.high:.3f}")
                     for name, figure in figures.items()], numeric=("value",))
    note(f"Saved in {output}: {record['examples']} training images, {len(repurposer.classes_)} classes"
         + ("." if held_out is not None else "; none was held out to measure on."), quiet)
