"""One HTML file that says what was done, how good it is, and where it is uncertain."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from xfer2 import _report_page as page
from xfer2 import visualization
from xfer2._files import replacing
from xfer2._validation import check_kind, parameter_error
from xfer2.exceptions import DataError
from xfer2.uncertainty.evaluation import Evaluation, Figure
from xfer2.uncertainty.predictions import Prediction
from xfer2.uncertainty.ranking import most_confidently_wrong, most_uncertain

_OWNER = "write_report"
_MOST_ROWS = 5000
_SHOWN = 6  # images in a grid
_THUMBNAIL = 96  # pixels
_MEANINGS = {
    "accuracy": ("accuracy", "Share of the examples whose predicted class is the true one; 1 is best."),
    "negative_log_likelihood": (
        "negative log likelihood", "Mean of minus the log probability of the true class, in nats; 0 is best."),
    "brier_score": ("Brier score", "Mean squared distance of the probabilities from the truth, 0 to 2; 0 is best."),
    "expected_calibration_error": (
        "expected calibration error", "Mean distance between confidence and accuracy, 0 to 1; 0 is calibrated."),
    "area_under_risk_coverage": (
        "area under the risk-coverage curve", "Mean error of the answered part as more is answered, by entropy; 0 is best."),
}
Images = Callable[[Sequence[int]], Mapping[int, np.ndarray]]
Drawings = list[tuple[str, str, Callable[[Any], Any]]]


def write_report(path: str | os.PathLike[str], *, title: str, sections: Mapping[str, Mapping[str, Any]],
                 prediction: Prediction, labels: Any = None, images: Images | None = None, features: Any = None,
                 history: Any = None, gates: Any = None, reproduce: str = "", overwrite: bool = False) -> None:
    """Write one self-contained HTML file: figures with intervals, plots, examples, tables, and how to make it again.

    It needs no network, follows the reader's light or dark theme, and fits a phone. The same input gives the same bytes.

    Parameters
    ----------
    path : path
        Of the file. It appears whole or not at all.
    title : str
    sections : mapping of str to mapping of str to text
        What is said before the figures, by heading, as in ``{"What was done": {"method": "lr"}, "The data": {...}}``.
    prediction : Prediction
        Of the examples reported on, n of k classes, which should not have been used for training.
    labels : array-like (n,), optional
        True labels. Without them, the report says nothing that needs the truth.
    images : callable, optional
        Gives for row numbers a mapping of row number to image, uint8 (height, width) or (height, width, 1, 3 or 4); rows
        without an image may be absent. They are shown at most 96 pixels wide and high.
    features : array-like (n, d), optional
        For the map of examples.
    history : pandas.DataFrame, optional
        As `plot_history` takes.
    gates : pandas.DataFrame, optional
        As `plot_gates` takes.
    reproduce : str
        Commands or Python that make the predictions again.
    overwrite : bool
        Whether a file at `path` may be replaced.

    Raises
    ------
    ParameterError
        `title` is no text, or the file is there already and `overwrite` is false.
    DataError
        The folder of `path` is not there, there are no examples, or labels, features or images do not fit the prediction.

    Examples
    --------
    >>> import tempfile
    >>> prediction = Prediction(np.array([[0.9, 0.1], [0.3, 0.7]]), np.array(["bee", "wasp"]), ["a.png", "b.png"])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_report(f"{folder}/report.html", title="Bees", sections={"The data": {"examples": 2}},
    ...                  prediction=prediction, labels=["bee", "bee"])
    ...     Path(folder, "report.html").read_text(encoding="utf-8")[:15]
    '<!DOCTYPE html>'
    """
    check_kind(_OWNER, "title", title, str, "a text")
    target = _target(path, overwrite)
    if len(prediction) == 0:
        raise DataError(f"{_OWNER}: the prediction has no examples. Predict at least one.")
    if features is not None and len(features) != len(prediction):
        raise DataError(f"{_OWNER}: features must have one row for each of {len(prediction)} examples; got {len(features)}.")
    evaluation = None if labels is None else Evaluation(prediction, np.asarray(labels))
    figures = evaluation.figures(random_state=0) if evaluation else {}
    body = [f"<h1>{escape(title)}</h1>", page.paragraph(_summary(prediction, figures), "summary")]
    body += [page.section(heading, page.definitions(said)) for heading, said in sections.items()]
    if prediction.skipped:
        body.append(page.section("Left out", page.definitions({str(n): why for n, why in enumerate(prediction.skipped, 1)})))
    if figures:
        body.append(page.section("Figures", _figures_table(figures), page.paragraph(
            f"Intervals are 95% intervals for other examples like these {len(prediction):,}.")))
    drawings = _drawings(evaluation, history, gates) + _feature_map(prediction, evaluation, features)
    drawings += _examples(prediction, evaluation, images)
    if drawings:
        body.append(page.section("Plots", page.plots(drawings)))
    body.append(page.section("Classes", _classes_table(prediction, evaluation)))
    body.append(page.section("Predictions", *_predictions_table(prediction, evaluation)))
    if reproduce:
        body.append(page.section("How to reproduce it", page.code(reproduce)))
    with replacing(str(target)) as scratch:
        Path(scratch).write_bytes(page.page(title, body).encode("utf-8", "replace"))  # names of files may be no text


def _target(path: str | os.PathLike[str], overwrite: bool) -> Path:
    target = Path(path)
    if not target.parent.is_dir():
        raise DataError(f"{_OWNER}: the folder {str(target.parent)!r} is not there. Make it first.")
    if target.is_dir():
        raise parameter_error(_OWNER, "path", "the path of a file, not of a folder", str(target))
    if target.exists() and not overwrite:
        raise parameter_error(_OWNER, "path", "the path of a new file", str(target), "Say overwrite=True to replace it.")
    return target


def _summary(prediction: Prediction, figures: Mapping[str, Figure]) -> str:
    said = f"{len(prediction):,} example{'s' * (len(prediction) != 1)} of {len(prediction.classes):,} classes"
    if not figures:
        return f"{said}, without true labels: mean confidence {prediction.confidence.mean():.3f}."
    accuracy, error = figures["accuracy"], figures["expected_calibration_error"]
    return f"{said}: accuracy {accuracy}, expected calibration error {error}."


def _figures_table(figures: Mapping[str, Figure]) -> str:
    columns: dict[str, Any] = {
        "figure": [_MEANINGS[name][0] for name in figures], "value": [one.value for one in figures.values()],
        "95% interval": [f"{one.low:.3f} to {one.high:.3f}" for one in figures.values()],
        "what it is": [_MEANINGS[name][1] for name in figures]}
    return page.table("Figures", columns, {"value": ".3f"}, sortable=False)


def _drawings(evaluation: Evaluation | None, history: Any, gates: Any) -> Drawings:
    """The plots of numbers: name, caption, and what draws it."""
    drawings: Drawings = []
    if evaluation is not None:
        told, labels = evaluation.prediction, evaluation.labels
        measures = {"entropy": told.entropy} | ({} if told.epistemic is None else {"epistemic": told.epistemic})
        drawings += [
            ("Reliability diagram", "Whether confidence can be believed: below the diagonal the classifier is too sure.",
             lambda ax: visualization.plot_reliability(labels, told.probabilities, told.classes, ax=ax)),
            ("Risk-coverage curve", "The error of the answered part where the most uncertain examples are left unanswered.",
             lambda ax: visualization.plot_risk_coverage(measures, evaluation.wrong, ax)),
            ("Confusion matrix", "Which classes are taken for which.",
             lambda ax: visualization.plot_confusion(labels, told.labels, told.classes, ax=ax))]
    if history is not None and len(history):
        drawings.append(("Training history", "The loss by epoch.", lambda ax: visualization.plot_history(history, ax)))
    if gates is not None and len(gates):
        drawings.append(("Gates", "How much each layer takes from its source.",
                         lambda ax: visualization.plot_gates(gates, ax)))
    return drawings


def _feature_map(prediction: Prediction, evaluation: Evaluation | None, features: Any) -> Drawings:
    """The map of examples, where there are enough rows and columns that vary."""
    if features is None:
        return []
    X = np.asarray(features).reshape(len(prediction), -1)
    if len(X) < 3 or X.shape[1] < 2 or not np.ptp(X, axis=0).any():
        return []
    labels, kind = (prediction.labels, "predicted") if evaluation is None else (evaluation.labels, "true")
    return [("Map of the features", f"The features' first two principal components; colours are {kind} classes.",
             lambda ax: visualization.plot_feature_map(X, labels, ax=ax))]


def _examples(prediction: Prediction, evaluation: Evaluation | None,
              images: Images | None) -> Drawings:
    """The grids of images."""
    if images is None:
        return []
    labels = None if evaluation is None else evaluation.labels
    choices = {"Most uncertain": most_uncertain(prediction, _SHOWN).tolist()}
    if evaluation is not None:
        choices["Most confidently wrong"] = most_confidently_wrong(prediction, labels, _SHOWN).tolist()
    found = images(sorted({row for rows in choices.values() for row in rows}))
    small = {row: _thumbnail(image) for row, image in found.items()}
    captions = {"Most uncertain": "The examples whose probabilities have the largest entropy.",
                "Most confidently wrong": "The wrong predictions of the largest probability."}
    drawings: Drawings = []
    for name, rows in choices.items():
        shown = [row for row in rows if row in small]
        if shown:
            drawings.append((name, captions[name], partial(_draw_images, small, prediction, shown, labels)))
    return drawings


def _draw_images(small: Mapping[int, np.ndarray], prediction: Prediction, rows: list[int], labels: Any, ax: Any) -> None:
    visualization.plot_predictions(small, prediction, rows, labels, ax=ax)


def _thumbnail(image: Any) -> np.ndarray:
    """An image of at most 96 pixels a side; what is no image is left to the plot, whose error names the row."""
    from PIL import Image

    array = np.asarray(image)
    if array.dtype != np.uint8 or array.ndim < 2 or array.shape[2:] not in ((), (1,), (3,), (4,)):
        return array
    picture = Image.fromarray(array[..., 0] if array.shape[2:] == (1,) else array)
    picture.thumbnail((_THUMBNAIL, _THUMBNAIL))
    return np.asarray(picture)


def _classes_table(prediction: Prediction, evaluation: Evaluation | None) -> str:
    """By class: examples and what is predicted, precision, recall, F1, mean confidence of what is predicted so."""
    predicted = prediction.labels[:, np.newaxis] == prediction.classes
    often = predicted.sum(axis=0)
    columns: dict[str, Any] = {"class": prediction.classes, "predicted": often}
    if evaluation is not None:
        true = evaluation.labels[:, np.newaxis] == prediction.classes
        right, examples = (true & predicted).sum(axis=0), true.sum(axis=0)
        columns = {"class": prediction.classes, "examples": examples, "predicted": often, "precision": _share(right, often),
                   "recall": _share(right, examples), "F1": _share(2 * right, often + examples)}
    columns["mean confidence"] = _share((predicted * prediction.confidence[:, np.newaxis]).sum(axis=0), often)
    formats = {name: ",d" if name in ("examples", "predicted") else ".3f" for name in list(columns)[1:]}
    return page.table("Figures of each class", columns, formats)


def _predictions_table(prediction: Prediction, evaluation: Evaluation | None) -> list[str]:
    """The most uncertain examples first, and how many are left out."""
    rows = most_uncertain(prediction, _MOST_ROWS)
    columns: dict[str, Any] = {"id": [prediction.ids[row] for row in rows], "label": prediction.labels[rows]}
    if evaluation is not None:
        columns |= {"truth": evaluation.labels[rows], "right": np.where(evaluation.wrong[rows], "no", "yes")}
    numbers = {"confidence": prediction.confidence, "entropy": prediction.entropy, "aleatoric": prediction.aleatoric,
               "epistemic": prediction.epistemic, **prediction.distances}
    given = {name: np.asarray(values)[rows] for name, values in numbers.items() if values is not None}
    said = "The most uncertain come first; entropy and its parts are in nats."
    if len(rows) < len(prediction):
        said = f"The {len(rows):,} most uncertain of {len(prediction):,} examples; entropy and its parts are in nats."
    formats = {name: ".4g" if name in prediction.distances else ".4f" for name in given}
    return [page.paragraph(said), page.table("Predictions", columns | given, formats)]


def _share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """A share by class, NaN where there is nothing to share."""
    return np.where(whole > 0, part / np.maximum(whole, 1), np.nan)
