"""``xfer2 predict``: labels of images, with what is not known of them."""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
import typer

from xfer2._validation import parameter_error
from xfer2.cli import _models
from xfer2.cli._output import (
    Data,
    Errors,
    Json,
    Overwrite,
    Quiet,
    Saved,
    be_quiet,
    check_errors,
    check_output,
    note,
    plain,
    say_skipped,
    write_text,
)
from xfer2.exceptions import DataError

OWNER = "xfer2 predict"
_DISTANCES = ("nearest_neighbour", "mahalanobis")


def predict(saved: Saved, data: Data,
            output: Annotated[str, typer.Option("--output", "-o", help="A .csv (or .json) file; - prints it.")] = "-",
            uncertainty: Annotated[bool, typer.Option("--uncertainty", help=(
                "Add entropy, its two parts where there are, and an out-of-distribution score."))] = False,
            coverage: Annotated[float | None, typer.Option(
                help="Add sets of labels that hold the true one this often, as in 0.9.")] = None,
            abstain_risk: Annotated[float | None, typer.Option(
                help="Abstain so that at most this part of the answers is wrong, as in 0.05.")] = None,
            errors: Errors = "skip", overwrite: Overwrite = False, as_json: Json = False, quiet: Quiet = False) -> None:
    """Predict images: file, label, probability; and, where asked for, what is not known of them.

    Prediction sets and abstaining are calibrated on the images that `xfer2 repurpose` held out.

    \b
    Example:
      xfer2 predict photos-laplace photos -o predictions.csv \\
        --uncertainty --coverage 0.9 --abstain-risk 0.05
    """
    be_quiet(quiet)
    check_output(output, overwrite, pipe=True)
    check_errors(errors)
    if output != "-" and not output.endswith((".csv", ".json")):
        raise parameter_error(OWNER, "--output", "a .csv or .json file, or -", output)
    repurposer = _models.read_saved(saved).set_params(errors=errors)
    known = _known(repurposer, saved, coverage, abstain_risk)
    sets = None
    if coverage is not None:
        from xfer2.uncertainty.conformal import ConformalSets

        sets = ConformalSets(coverage, random_state=0).fit(known.prediction, known.labels)
    limit = None if abstain_risk is None else known.entropy_limit(abstain_risk)
    prediction = repurposer.predict_uncertainty(data)
    columns: dict[str, Any] = {"file": list(prediction.ids), "label": prediction.labels,
                               "probability": prediction.confidence}
    if uncertainty:
        columns.update(entropy=prediction.entropy, aleatoric=prediction.aleatoric, epistemic=prediction.epistemic)
    if sets is not None:
        columns["prediction_set"] = [row.tolist() for row in sets.label_sets(prediction)]
    if limit is not None:
        columns["abstained"] = prediction.entropy > limit
        _say_limit(limit, abstain_risk, len(known), int(columns["abstained"].sum()), len(prediction), quiet)
    if uncertainty:
        columns["out_of_distribution"] = next((prediction.distances[name] for name in _DISTANCES
                                               if name in prediction.distances), None)
    write_text(output, _as_json(columns) if as_json or output.endswith(".json") else _as_csv(columns))
    say_skipped(prediction.skipped, len(prediction) + len(prediction.skipped))


def _known(repurposer: Any, saved: str, coverage: float | None, risk: float | None) -> Any:
    """The held-out predictions, where they are needed."""
    if coverage is None and risk is None:
        return None
    if repurposer.held_out_ is None:
        raise DataError(f"{OWNER}: --coverage and --abstain-risk are calibrated on images that were held out, and {saved!r} "
                        "has none. Repurpose with --hold-out or --test; in Python, set held_out_ = evaluate(X, y).")
    return repurposer.held_out_


def _say_limit(limit: float, risk: float | None, known: int, abstained: int, total: int, quiet: bool) -> None:
    if np.isneginf(limit):
        note(f"xfer2: with {known} held-out images no threshold promises a risk of {risk}; it abstains from all. "
             "Hold out more, or allow more risk.")
    else:
        note(f"It abstains from {abstained} of {total}, where the entropy is above {limit:.3f}.", quiet)


def _as_csv(columns: dict[str, Any]) -> str:
    import pandas

    count = len(columns["file"])
    cells = {name: [""] * count if values is None else
             list(map(_joined, values)) if name == "prediction_set" else values for name, values in columns.items()}
    return str(pandas.DataFrame(cells).to_csv(index=False))


def _joined(labels: Any) -> str:
    """Labels between ``|``; one that is in a label has a backslash before it."""
    return "|".join(str(label).replace("|", r"\|") for label in labels)


def _as_json(columns: dict[str, Any]) -> str:
    import json

    given = {name: [None] * len(columns["file"]) if values is None else plain(list(values))
             for name, values in columns.items()}
    rows = [dict(zip(given, row, strict=True)) for row in zip(*given.values(), strict=True)]
    return json.dumps(rows, indent=2, allow_nan=False) + "\n"
