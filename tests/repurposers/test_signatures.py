"""What a repurposer's signature tells, those of one's own among them."""

import functools
import inspect

import pytest
from sklearn.base import clone

import xfer2
from xfer2.repurposers._registry import METHODS, described_parameters, parameters_of


class Deeper(xfer2.NeuralNetworkRepurposer):
    def __init__(self, source_model, depth=2, **settings):
        super().__init__(source_model, **settings)
        self.depth = depth


class DenseFeatures(xfer2.LrRepurposer):
    def __init__(self, source_model, **settings):
        super().__init__(source_model, ["dense0"], **settings)


def test_parameters_that_are_handed_on_are_told():
    for cls in (Deeper, xfer2.TwoTowerRepurposer):
        parameters = inspect.signature(cls).parameters
        assert list(parameters) == list(dict.fromkeys(parameters))
        assert set(parameters) == set(cls("zoo:mnist-cnn").get_params(deep=False))
        assert parameters["patience"].kind is inspect.Parameter.KEYWORD_ONLY
        assert parameters["patience"].default == 10
    assert list(inspect.signature(Deeper).parameters)[:2] == ["source_model", "depth"]
    assert inspect.signature(Deeper.__init__).return_annotation is inspect.Signature.empty
    assert repr(Deeper("zoo:mnist-cnn", 3, patience=2)).split() == ["Deeper(depth=3,", "patience=2,",
                                                                     "source_model='zoo:mnist-cnn')"]


def test_a_constructor_that_settles_a_parameter_of_its_base_is_cloned_as_before():
    assert clone(DenseFeatures("zoo:mnist-cnn")).feature_layer_names == ["dense0"]
    assert list(inspect.signature(DenseFeatures).parameters) == ["source_model", "settings"]


def test_a_constructor_that_is_no_plain_function_is_left_alone():
    made = type("Made", (xfer2.LrRepurposer,), {"__init__": functools.partialmethod(xfer2.LrRepurposer.__init__, c=0.1)})
    assert made("zoo:mnist-cnn", ["dense0"]).c == 0.1


@pytest.mark.parametrize("name", METHODS)
def test_what_a_docstring_hands_on_to_another_is_told_in_full(name):
    cls = METHODS[name].load_class()
    told = described_parameters(cls)
    assert parameters_of(cls).keys() == told.keys()
    assert [parameter for parameter, text in told.items() if text.startswith("See ")] == []
