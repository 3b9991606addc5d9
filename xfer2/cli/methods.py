"""``xfer2 methods``: what there is to repurpose with, and the parameters of each."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from xfer2.cli import _models
from xfer2.cli._output import Json, print_json, print_table
from xfer2.repurposers._registry import METHODS, REQUIRED, Method, described_parameters, get_method, parameters_of


def methods(name: Annotated[str | None, typer.Argument(help="One of them, to see its parameters.",
                                                       autocompletion=_models.method_names)] = None,
            as_json: Json = False) -> None:
    """List the methods; or the parameters of one, for `xfer2 repurpose --set NAME=VALUE`.

    \b
    Example:
      xfer2 methods laplace
    """
    if as_json:
        chosen = METHODS.values() if name is None else [get_method(name)]
        print_json([{"name": one.name, "class": one.class_name, "summary": one.summary, "tags": sorted(one.tags),
                     "parameters": [{"name": key, "default": _default(value), "description": text}
                                    for key, value, text in _parameters(one)]} for one in chosen])
    elif name is None:
        print_table(("method", "what it is", "can do"),
                    [(one.name, one.summary, _abilities(one)) for one in METHODS.values()])
    else:
        method = get_method(name)
        print(f"{method.name}: {method.summary} (xfer2.{method.class_name})")
        print_table(("parameter", "default", "what it is"), [(key, _default(value), text)
                                                             for key, value, text in _parameters(method)])


def _abilities(method: Method) -> str:
    needs = ["Python only"] if method.needs_objects else []
    return ", ".join([*sorted(method.tags), *needs])


def _parameters(method: Method) -> list[tuple[str, Any, str]]:
    cls = method.load_class()
    told = described_parameters(cls)
    return [(name, default, told.get(name, "")) for name, default in parameters_of(cls).items() if name != "source_model"]


def _default(value: Any) -> str:
    if value is REQUIRED:
        return "needed"
    return f"mx.{value.__name__}" if callable(value) else repr(value)
