"""Prediction against plain loops."""

import math

import numpy as np
import pytest

from xfer2 import Prediction
from xfer2.exceptions import ParameterError
from xfer2.uncertainty.evaluation import Evaluation

CLASSES = np.array(["bee", "hornet", "wasp"])


def random_prediction(count=50, **parts):
    chances = np.random.default_rng(0).dirichlet([0.3] * 3, count)
    return Prediction(chances, CLASSES, [f"{n}.png" for n in range(count)], **parts)


def test_labels_confidence_and_entropy_are_those_of_loops():
    prediction = random_prediction()
    for row, chances in enumerate(prediction.probabilities.tolist()):
        best = max(range(3), key=chances.__getitem__)
        assert prediction.labels[row] == CLASSES[best]
        assert prediction.confidence[row] == chances[best]
        assert prediction.entropy[row] == pytest.approx(-sum(p * math.log(p) for p in chances if p > 0), abs=1e-12)


def test_entropy_at_its_ends():
    prediction = Prediction(np.array([[0.0, 1.0, 0.0], [1 / 3, 1 / 3, 1 / 3]]), CLASSES, [0, 1])
    assert prediction.entropy[0] == 0
    assert not np.signbit(prediction.entropy[0])
    assert prediction.entropy[1] == pytest.approx(math.log(3))


def test_labels_keep_the_type_of_the_classes():
    prediction = Prediction(np.array([[0.2, 0.8]], np.float32), np.array([3, 7]), [0])
    assert prediction.labels.tolist() == [7]
    assert prediction.labels.dtype.kind == "i"


def test_frame_has_a_row_an_example_and_a_column_a_class():
    parts = {"aleatoric": np.full(50, 0.25), "epistemic": np.linspace(0, 1, 50)}
    prediction = random_prediction(**parts)
    frame = prediction.to_frame()
    assert list(frame.columns) == ["id", "label", "confidence", "entropy", "aleatoric", "epistemic", "probability_bee",
                                   "probability_hornet", "probability_wasp"]
    assert frame["id"].tolist() == prediction.ids
    assert frame["label"].tolist() == prediction.labels.tolist()
    np.testing.assert_array_equal(frame["probability_wasp"], prediction.probabilities[:, 2])
    np.testing.assert_array_equal(frame["epistemic"], parts["epistemic"])


def test_frame_leaves_out_parts_that_the_method_does_not_know():
    assert list(random_prediction().to_frame().columns[:5]) == ["id", "label", "confidence", "entropy", "probability_bee"]


def test_no_examples_are_no_error():
    prediction = Prediction(np.empty((0, 3)), CLASSES, [])
    assert (len(prediction), prediction.labels.tolist(), prediction.entropy.tolist()) == (0, [], [])


@pytest.mark.parametrize("shape", [(4, 3), (5, 2), (5,)])
def test_probabilities_of_another_shape_are_refused(shape):
    with pytest.raises(ParameterError, match=r"Prediction: probabilities must be an array of shape \(5, 3\)"):
        Prediction(np.zeros(shape), CLASSES, range(5))


def test_frame_has_the_deviation_of_the_predicted_class_and_every_distance():
    deviation = np.random.default_rng(1).random((50, 3))
    distances = {"mahalanobis": np.arange(50.0), "nearest_neighbour": np.linspace(0, 2, 50)}
    prediction = random_prediction(deviation=deviation, logits=np.zeros((50, 3)), distances=distances)
    frame = prediction.to_frame()
    assert list(frame.columns[4:]) == ["deviation", "mahalanobis", "nearest_neighbour", "probability_bee",
                                       "probability_hornet", "probability_wasp"]
    for row, label in enumerate(prediction.labels):
        assert frame["deviation"][row] == deviation[row, CLASSES.tolist().index(label)]
    np.testing.assert_array_equal(frame["nearest_neighbour"], distances["nearest_neighbour"])


def test_no_examples_with_every_part_have_an_empty_frame():
    nothing = np.empty((0, 3))
    frame = Prediction(nothing, CLASSES, [], deviation=nothing, logits=nothing, distances={"far": np.empty(0)}).to_frame()
    assert len(frame) == 0
    assert {"deviation", "far"} < set(frame.columns)


@pytest.mark.parametrize(("part", "shape", "expected"), [
    ("aleatoric", (4,), r"\(5,\)"), ("epistemic", (5, 3), r"\(5,\)"), ("deviation", (5,), r"\(5, 3\)"),
    ("logits", (5, 2), r"\(5, 3\)")])
def test_parts_of_another_shape_are_refused(part, shape, expected):
    with pytest.raises(ParameterError, match=f"Prediction: {part} must be an array of shape {expected}"):
        random_prediction(5, **{part: np.zeros(shape)})


def test_distances_are_arrays_with_a_row_an_example_under_names_of_their_own():
    with pytest.raises(ParameterError, match=r"distances\['far'\] must be an array of shape \(5,\); got \(4,\)"):
        random_prediction(5, distances={"far": np.zeros(4)})
    for bad in (None, np.zeros(5), [("far", np.zeros(5))]):
        with pytest.raises(ParameterError, match="distances must be a mapping of names to arrays"):
            random_prediction(5, distances=bad)
    for name in ("entropy", "energy", "probability_bee", 3):
        with pytest.raises(ParameterError, match="distances must be named by strings that no other column has; got"):
            random_prediction(5, distances={name: np.zeros(5)})


def test_predictions_do_not_share_their_distances():
    assert random_prediction().distances == {}
    assert random_prediction().distances is not random_prediction().distances


def test_a_prediction_cannot_be_changed():
    with pytest.raises(AttributeError):
        random_prediction().classes = CLASSES[:2]


def test_entropy_does_not_depend_on_the_order_of_the_classes():
    chances = np.random.default_rng(0).dirichlet([1] * 7, 50)
    entropies = {tuple(Prediction(chances[:, order], np.arange(7), range(50)).entropy.tolist())
                 for order in (np.arange(7), np.arange(7)[::-1], [3, 1, 0, 6, 5, 2, 4])}
    assert len(entropies) == 1


def test_what_is_printed_is_short():
    prediction = Prediction(np.full((300, 4), 0.25), np.arange(4), range(300), epistemic=np.zeros(300),
                            distances={"mahalanobis": np.zeros(300)})
    assert repr(prediction) == "Prediction(300 examples, 4 classes, epistemic, mahalanobis)"
    assert repr(Evaluation(prediction, np.arange(300) % 4)) == "Evaluation(300 examples, 225 of them wrong)"
