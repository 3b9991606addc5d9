"""Network <-> the files of a saved directory."""

import json

import pytest
from helpers import small_networks
from model_handler.running import assert_same, computed

from xfer2.exceptions import ModelError, PersistenceError
from xfer2.model_handler import ModelHandler, Network, Preprocessing, archive, params

NETWORKS = small_networks()


@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_comes_back_as_it_was(name):
    network = ModelHandler(NETWORKS[name]).freeze(NETWORKS[name].graph.layer_names[0]).network
    again = archive.from_files(archive.to_files(network))
    assert again.graph == network.graph
    assert again.frozen == network.frozen
    assert again.input_shapes == network.input_shapes
    assert (again.arg_params.keys(), again.aux_params.keys()) == (network.arg_params.keys(), network.aux_params.keys())
    assert_same(computed(again), computed(network))


def test_names_of_files_follow_the_name():
    assert set(archive.to_files(NETWORKS["chain"], "source")) == {"source-symbol.json", "source.safetensors", "source.json"}


def test_the_record_of_images_comes_back():
    old = NETWORKS["chain"]
    record = Preprocessing((3, 8, 8), color="BGR", resize_short=9, crop="center", scale=0.1, mean=(1, 2, 3), std=(4, 5, 6))
    network = Network(old.graph, old.arg_params, old.aux_params, preprocessing=record)
    assert archive.from_files(archive.to_files(network)).preprocessing == record


def test_types_of_parameters_are_kept():
    half = params.cast(NETWORKS["chain"], "float16")
    again = archive.from_files(archive.to_files(half))
    assert {str(array.dtype) for array in again.params.values()} == {"<class 'numpy.float16'>"}


@pytest.mark.parametrize("gone", ["network-symbol.json", "network.safetensors", "network.json"])
def test_a_missing_file_is_named(gone):
    files = archive.to_files(NETWORKS["two inputs"])
    del files[gone]
    with pytest.raises(PersistenceError, match=f"saved network 'network' cannot be read: '{gone}'"):
        archive.from_files(files)


@pytest.mark.parametrize(("name", "content"), [
    ("network.safetensors", b"x" * 50), ("network.safetensors", b""), ("network.json", b"{"), ("network.json", b"[]"),
    ("network.json", b"{}"), ("network.json", b'{"inputs": {"left": 3}, "frozen": [], "preprocessing": null}'),
    ("network-symbol.json", b"\xff\xfe")])
def test_a_damaged_file_is_a_persistence_error(name, content):
    files = {**archive.to_files(NETWORKS["two inputs"]), name: content}
    with pytest.raises(PersistenceError, match=r"saved network 'network' cannot be read"):
        archive.from_files(files)


def test_a_symbol_that_is_none_is_a_model_error():
    files = archive.to_files(NETWORKS["two inputs"])
    with pytest.raises(ModelError, match=r"no MXNet symbol"):
        archive.from_files({**files, "network-symbol.json": json.dumps([1]).encode()})
