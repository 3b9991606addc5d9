"""One sentence for every wrong parameter: owner, name, what it must be, what came, what to do."""

import numpy as np
import pytest

from xfer2._optional import require
from xfer2._validation import (
    as_names,
    check_at_least_zero,
    check_choice,
    check_fraction,
    check_inside,
    check_integer,
    check_jobs,
    check_positive,
    check_switch,
    nearest,
    parameter_error,
)
from xfer2.exceptions import MissingDependencyError, ParameterError, XferError


@pytest.mark.parametrize(("got", "shown"), [(-1, "-1 (int)"), ("a", "'a'"), (None, "None"), (2.5, "2.5 (float)"),
                                            ([], "[] (list)")])
def test_the_sentence_has_owner_name_limits_and_what_came(got, shown):
    assert str(parameter_error("Owner", "depth", "odd", got)) == f"Owner: depth must be odd; got {shown}."
    assert str(parameter_error("Owner", "depth", "odd", got, "Try 3.")) == f"Owner: depth must be odd; got {shown}. Try 3."


def test_long_values_are_cut():
    message = str(parameter_error("Owner", "depth", "odd", list(range(1000))))
    assert len(message) < 180
    assert message.endswith("... (list).")


def test_errors_are_both_xfer2s_and_pythons():
    for kind in (XferError, ValueError):
        with pytest.raises(kind):
            check_positive("Owner", "depth", -1)


@pytest.mark.parametrize(("value", "minimum"), [(1, 1), (np.int64(7), 1), (0, 0), (2, 2)])
def test_integers_are_taken_as_pythons(value, minimum):
    found = check_integer("Owner", "depth", value, minimum)
    assert found == value
    assert type(found) is int


@pytest.mark.parametrize(("value", "minimum"), [(0, 1), (1, 2), (1.0, 1), (True, 1), ("3", 1), (None, 1),
                                              (np.float64(2), 1)])
def test_what_is_no_such_integer_is_refused(value, minimum):
    with pytest.raises(ParameterError, match=f"Owner: depth must be an integer of at least {minimum}; got"):
        check_integer("Owner", "depth", value, minimum)


@pytest.mark.parametrize("value", [1, 0.5, np.float32(0.5), np.int64(3)])
def test_positive_numbers_are_taken_as_floats(value):
    found = check_positive("Owner", "rate", value)
    assert found == value
    assert type(found) is float


@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf"), True, "1", None, 1j, [1]])
def test_what_is_not_positive_is_refused(value):
    with pytest.raises(ParameterError, match="Owner: rate must be a positive number; got"):
        check_positive("Owner", "rate", value)


@pytest.mark.parametrize("check", [check_inside, check_fraction, check_at_least_zero])
def test_limits_of_other_numbers(check):
    assert check("Owner", "risk", np.float32(0.5)) == 0.5
    taken = {check_inside: (), check_fraction: (0,), check_at_least_zero: (0, 1)}[check]
    for value in (0, 1, -1, float("nan"), float("inf"), False, "0.5", None):
        if value in taken and value is not False:
            assert check("Owner", "risk", value) == value
        else:
            with pytest.raises(ParameterError, match=r"^Owner: risk must be .*; got"):
                check("Owner", "risk", value)


def test_choices_are_listed():
    check_choice("Owner", "pool", None, (None, "avg"))
    with pytest.raises(ParameterError, match=r"^Owner: pool must be one of None, 'avg'; got 'sum'\.$"):
        check_choice("Owner", "pool", "sum", (None, "avg"))


@pytest.mark.parametrize(("value", "names"), [("a", ("a",)), (["a", "b"], ("a", "b")), (("b", "a"), ("b", "a")),
                                              ((n for n in "ab"), ("a", "b"))])
def test_names_come_as_a_tuple_in_their_order(value, names):
    assert as_names("Owner", "layers", value) == names


@pytest.mark.parametrize(("value", "message"), [([], "a layer name"), ([1], "a layer name"), (3, "a layer name"),
                                                (None, "a layer name"),
                                                (["a", "a"], "without repeated names")])
def test_what_is_no_list_of_names_is_refused(value, message):
    with pytest.raises(ParameterError, match=f"Owner: layers must be .*{message}"):
        as_names("Owner", "layers", value)


NAMES = ["conv1", "conv10", "Dense0", "pool1", "stage1_unit1_bn"]


@pytest.mark.parametrize(("wrong", "first"), [("conv01", "conv1"), ("dense0", "Dense0"), ("DENSE_0", "Dense0"),
                                              ("pol1", "pool1"),
                                              ("unit1", "stage1_unit1_bn")])
def test_the_nearest_name_comes_first(wrong, first):
    assert nearest(wrong, NAMES)[0] == first


def test_the_last_names_where_none_is_alike():
    assert nearest("zzz", NAMES, 2) == ["pool1", "stage1_unit1_bn"]
    assert nearest("", NAMES, 2) == ["pool1", "stage1_unit1_bn"]
    assert nearest("x", []) == []


def test_no_more_names_than_asked_for():
    many = [f"conv{n}" for n in range(50)]
    assert len(nearest("conv", many)) == 5
    assert len(set(nearest("conv", many))) == 5


def test_a_missing_package_comes_with_its_command():
    message = r"^export needs the package 'no_such_thing'.*pip install 'xfer2\[extra\]'$"
    with pytest.raises(MissingDependencyError, match=message):
        require("no_such_thing.part", "export", "xfer2[extra]")
    assert require("json", "nothing", "json").loads("1") == 1


@pytest.mark.parametrize("value", [1, 0, "yes", None, np.array([True, False])])
def test_a_switch_is_true_or_false(value):
    check_switch("Owner", "calibrate", np.bool_(True))
    check_switch("Owner", "calibrate", False)
    with pytest.raises(ParameterError, match="calibrate must be one of True, False; got"):
        check_switch("Owner", "calibrate", value)


@pytest.mark.parametrize("value", [0, True, 1.5, "all", [2]])
def test_jobs_are_a_number_or_left_out(value):
    for right in (None, 2, -1, np.int64(3)):
        check_jobs("Owner", right)
    with pytest.raises(ParameterError, match="n_jobs must be an integer other than 0, or None"):
        check_jobs("Owner", value)


def test_names_may_be_left_out_where_none_are_needed():
    for nothing in (None, "", [], (), np.array([], str)):
        assert as_names("Owner", "layers", nothing, may_be_empty=True) == ()
    assert as_names("Owner", "layers", np.array(["a", "b"]), may_be_empty=True) == ("a", "b")
    with pytest.raises(ParameterError, match="layers must be a layer name or a list"):
        as_names("Owner", "layers", np.array([1, 2]), may_be_empty=True)
