"""Figures of predictions with known labels, and their file."""

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, log_loss

from xfer2 import Prediction
from xfer2.exceptions import DataError
from xfer2.uncertainty.calibration import bootstrap_interval, brier_score, negative_log_likelihood
from xfer2.uncertainty.evaluation import Evaluation

CLASSES = np.array(["ant", "bee", "wasp"])


def some_evaluation(rows=200, **more):
    random = np.random.default_rng(0)
    chances = random.dirichlet([0.4, 0.4, 0.4], rows)
    labels = CLASSES[(chances.cumsum(axis=1) > random.random((rows, 1))).argmax(axis=1)]
    return Evaluation(Prediction(chances, CLASSES, [f"{n}.png" for n in range(rows)], **more), labels)


def test_figures_are_those_of_scikit_learn_inside_their_intervals():
    evaluation = some_evaluation()
    figures = evaluation.figures()
    told = evaluation.prediction
    assert figures["accuracy"].value == pytest.approx(accuracy_score(evaluation.labels, told.labels))
    assert figures["negative_log_likelihood"].value == pytest.approx(log_loss(evaluation.labels, told.probabilities))
    for figure in figures.values():
        assert figure.low < figure.high
    assert figures["accuracy"].low < figures["accuracy"].value < figures["accuracy"].high
    low, high = bootstrap_interval(negative_log_likelihood, evaluation.labels, told.probabilities, CLASSES, 0.95, 500, 0)
    assert (figures["negative_log_likelihood"].low, figures["negative_log_likelihood"].high) == (low, high)
    assert figures["brier_score"].value == brier_score(evaluation.labels, told.probabilities, CLASSES)
    assert figures == evaluation.figures()


def test_abstaining_above_the_limit_keeps_the_risk():
    evaluation = some_evaluation(3000)
    answered = evaluation.prediction.entropy <= evaluation.entropy_limit(0.1)
    assert 0.1 < answered.mean() < 1
    assert evaluation.wrong[answered].mean() <= 0.1
    assert some_evaluation(10).entropy_limit(0.01) == -np.inf


@pytest.mark.parametrize("more", [{}, {"aleatoric": np.ones(200), "epistemic": np.zeros(200), "logits": np.ones((200, 3)),
                                       "deviation": np.ones((200, 3)), "skipped": ["a.png: no image"],
                                       "distances": {"mahalanobis": np.arange(200.0)}}])
def test_what_is_written_is_read(more):
    evaluation = some_evaluation(**more)
    again = Evaluation.from_bytes(evaluation.to_bytes())
    assert again.prediction.to_frame().equals(evaluation.prediction.to_frame())
    assert again.labels.tolist() == evaluation.labels.tolist()
    assert list(again.prediction.skipped) == list(evaluation.prediction.skipped)
    assert (again.prediction.logits is None) == (evaluation.prediction.logits is None)
    assert evaluation.to_bytes() == evaluation.to_bytes()


def test_another_file_and_unknown_labels_are_named():
    with pytest.raises(DataError, match="held-out predictions cannot be read"):
        Evaluation.from_bytes(b"no archive")
    with pytest.raises(DataError, match="the label 'fly' is not among the classes"):
        Evaluation(some_evaluation(1).prediction, np.array(["fly"]))


def test_labels_may_be_a_list_or_a_column_of_a_table():
    import pandas

    evaluation = some_evaluation(30)
    for labels in (evaluation.labels.tolist(), pandas.Series(evaluation.labels, index=range(100, 130))):
        assert Evaluation(evaluation.prediction, labels).figures() == evaluation.figures()


@pytest.mark.parametrize("classes", [[3, 7], [False, True], ["a", "b"]])
def test_labels_that_come_as_objects_are_of_the_classes_type_and_come_back(classes):
    prediction = Prediction(np.array([[0.9, 0.1], [0.6, 0.4]]), np.array(classes), [0, 1])
    evaluation = Evaluation(prediction, np.array(classes, object))
    assert evaluation.labels.dtype == prediction.classes.dtype
    assert Evaluation.from_bytes(evaluation.to_bytes()).labels.tolist() == classes


def test_intervals_of_accuracy_have_a_width_where_all_is_right():
    told = Prediction(np.tile([0.9, 0.1], (10, 1)), np.array(["bee", "wasp"]), range(10))
    figure = Evaluation(told, np.array(["bee"] * 10)).figures()["accuracy"]
    assert figure.value == 1
    assert figure.high == pytest.approx(1)
    assert figure.low == pytest.approx(0.7225, abs=1e-4)  # Wilson's for 10 of 10
    assert Evaluation(told, np.array(["wasp"] * 10)).figures()["accuracy"].high == pytest.approx(0.2775, abs=1e-4)


def test_the_interval_of_the_calibration_error_holds_the_true_error():
    held = []
    for seed in range(40):
        random = np.random.default_rng(seed)
        chances = random.uniform(0.5, 1, 400)
        right = random.uniform(size=400) < chances - 0.1  # 10 points too sure, everywhere
        told = Prediction(np.stack([chances, 1 - chances], axis=1), np.array([0, 1]), range(400))
        figure = Evaluation(told, np.where(right, 0, 1)).figures()["expected_calibration_error"]
        assert 0 <= figure.low <= figure.high
        held.append(figure.low <= 0.1 <= figure.high)
    assert np.mean(held) > 0.8


def test_the_calibration_error_lies_in_its_interval():
    for seed in range(30):
        random = np.random.default_rng(seed)
        chances = random.uniform(0.5, 1, 200)
        told = Prediction(np.stack([chances, 1 - chances], axis=1), np.array([0, 1]), range(200))
        figure = Evaluation(told, (random.uniform(size=200) > chances).astype(int)).figures()["expected_calibration_error"]
        assert figure.low <= figure.value <= figure.high
