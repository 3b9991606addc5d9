"""Broken checkpoints, each read in a process of its own: an error that says what is wrong, and never the process's end."""

import json
import re
from pathlib import Path

from helpers import chain_symbol, two_input_symbol, with_values
from model_handler.running import run_python, write_checkpoint

READ_ALL = """
import pathlib, sys
from xfer2.exceptions import ModelError, ParameterError
from xfer2.model_handler import sources
for prefix in sorted(str(p)[:-len("-symbol.json")] for p in pathlib.Path(sys.argv[1]).glob("*-symbol.json")):
    print(pathlib.Path(prefix).name, end=": ", flush=True)
    try:
        sources.read(prefix)
        print("read", flush=True)
    except (ModelError, ParameterError) as error:
        print(type(error).__name__, str(error).replace("\\n", " "), flush=True)
"""


def results_of_reading(folder):
    code, printed, errors = run_python(READ_ALL, folder)
    assert code == 0, f"exit code {code} at {printed.splitlines()[-1:]}: {errors[-2000:]}"
    return dict(line.split(": ", 1) for line in printed.splitlines())


def test_parameters_cut_short_anywhere_are_an_error(tmp_path):
    network = with_values(two_input_symbol(), left=(5,), right=(3,))
    whole = Path(f"{write_checkpoint(network, tmp_path / 'whole')}-0000.params").read_bytes()
    cuts = [*range(0, len(whole) - 1, 23), *range(0, 40), len(whole) - 1]
    for cut in cuts:
        (tmp_path / f"cut{cut}-symbol.json").write_bytes((tmp_path / "whole-symbol.json").read_bytes())
        (tmp_path / f"cut{cut}-0000.params").write_bytes(whole[:cut])
    results = results_of_reading(tmp_path)
    assert results.pop("whole") == "read"
    assert len(results) == len(set(cuts)) > 60
    wrong = {name: said for name, said in results.items() if not said.startswith("ModelError")}
    assert wrong == {}
    assert all(re.search("cut short|without names", said) for said in results.values())


BROKEN = {
    "empty": "", "list": "[1, 2]", "text": '"symbol"', "no heads": '{"nodes": []}',
    "forward": lambda d: node(d, "conv1")["inputs"].__setitem__(0, [5, 0, 0]),
    "cyclic": lambda d: node(d, "bn1")["inputs"].__setitem__(0, [at(d, "relu1"), 0, 0]),
    "itself": lambda d: node(d, "flat")["inputs"].__setitem__(0, [at(d, "flat"), 0, 0]),
    "negative node": lambda d: node(d, "conv1")["inputs"].__setitem__(0, [-1, 0, 0]),
    "negative output": lambda d: node(d, "conv1")["inputs"].__setitem__(0, [0, -1, 0]),
    "output of a variable": lambda d: node(d, "conv1")["inputs"].__setitem__(0, [0, 7, 0]),
    "output of a layer": lambda d: node(d, "relu1")["inputs"].__setitem__(0, [at(d, "bn1"), 7, 0]),
    "hidden output of a layer": lambda d: node(d, "relu1")["inputs"].__setitem__(0, [at(d, "bn1"), 3, 0]),
    "head beyond": lambda d: d["heads"].__setitem__(0, [at(d, "fc2"), 7, 0]),
    "head of a variable": lambda d: d["heads"].__setitem__(0, [0, 7, 0]),
    "huge output": lambda d: d["heads"].__setitem__(0, [at(d, "fc2"), 2**64, 0]),
    "huge version": lambda d: node(d, "conv1")["inputs"].__setitem__(0, [0, 0, 2**64]),
    "norm without inputs": lambda d: node(d, "bn1").update(inputs=[]),
    "norm without statistics": lambda d: node(d, "bn1").update(inputs=node(d, "bn1")["inputs"][:3]),
    "take of nothing": lambda d: node(d, "flat").update(op="take", inputs=[]),
    "too many inputs": lambda d: node(d, "flat").update(inputs=[[0, 0, 0]] * 3),
    "no groups": lambda d: node(d, "conv10")["attrs"].update(num_group="0"),
    "pointer": lambda d: node(d, "flat").update(op="_Native", attrs={"info": "1"}),
    "unknown operator": lambda d: node(d, "flat").update(op="Flatten2"),
    "unknown attribute": lambda d: node(d, "fc1")["attrs"].update(hidden="6"),
    "version": lambda d: d.update(attrs={"mxnet_version": ["int", 2**70]}),
    "surrogate": lambda d: node(d, "flat").update(name="\ud800"),
    "edge in a body": lambda d: node(d, "flat").update(op="_foreach", subgraphs=[
        {"nodes": [{"op": "null", "name": "x", "inputs": []}, {"op": "relu", "name": "y", "inputs": [[0, 7, 0]]}],
         "arg_nodes": [0], "heads": [[1, 0, 0]]}]),
}


def at(document, name):
    return next(position for position, raw in enumerate(document["nodes"]) if raw["name"] == name)


def node(document, name):
    return document["nodes"][at(document, name)]


def test_every_broken_symbol_is_an_error_and_none_ends_the_process(tmp_path):
    prefix = write_checkpoint(with_values(chain_symbol(), data=(3, 8, 8)), tmp_path / "whole")
    for name, change in BROKEN.items():
        text = change
        if callable(change):
            document = json.loads(Path(f"{prefix}-symbol.json").read_text())
            change(document)
            text = json.dumps(document)
        (tmp_path / f"{name}-symbol.json").write_text(text)
        (tmp_path / f"{name}-0000.params").write_bytes((tmp_path / "whole-0000.params").read_bytes())
    results = results_of_reading(tmp_path)
    assert results.pop("whole") == "read"
    assert results.keys() == BROKEN.keys()
    assert {name: said for name, said in results.items() if not said.startswith("ModelError")} == {}
    assert "not valid JSON" in results["empty"]
    assert "takes output 7 of 'bn1', which has 1 output" in results["output of a layer"]
    assert "takes output 7 of 'data', which does not exist" in results["output of a variable"]
    assert "points to node 5, which does not come before it" in results["forward"]
    assert "'bn1' (BatchNorm) takes 5 inputs; it has 0" in results["norm without inputs"]
    assert "num_group of the layer 'conv10' must be at least 1" in results["no groups"]
    assert "holds a memory address" in results["pointer"]


FUZZ = """
import copy, json, pathlib, random, sys
from xfer2.exceptions import ModelError, ParameterError
from xfer2.model_handler import sources
folder = pathlib.Path(sys.argv[1])
whole = json.loads((folder / "whole-symbol.json").read_text())
values = [None, True, 0, 1, 2, 3, -1, 7, 10**20, 0.5, "", "0", "-1", "(0, 0)", "()", "data", "conv1", "relu", "null", "nan",
          "Concat", "BatchNorm", "SliceChannel", [], {}, [0, 0, 0], [0, 7, 0], [3, 1, 0], [[0, 0, 0]], "\\u00e9", "\\n"]

def places(part, path=()):
    yield path
    for key, value in part.items() if isinstance(part, dict) else enumerate(part) if isinstance(part, list) else ():
        yield from places(value, (*path, key))

def mutated(generator):
    document = copy.deepcopy(whole)
    for _ in range(generator.choice((1, 1, 2))):
        *path, key = generator.choice([place for place in places(document) if place])
        parent = document
        for step in path:
            parent = parent[step]
        kind = generator.randrange(6)
        if kind == 0:
            del parent[key]
        elif kind == 1 and isinstance(parent, list):
            parent.insert(key, copy.deepcopy(generator.choice(parent)))
        elif kind == 2:
            other = generator.choice(list(parent) if isinstance(parent, dict) else range(len(parent)))
            parent[key], parent[other] = parent[other], parent[key]
        else:
            parent[key] = copy.deepcopy(generator.choice(values))
    text = json.dumps(document)
    if generator.random() < 0.1:
        cut = generator.randrange(len(text))
        text = text[:cut] + generator.choice(["", text[cut + 1:], "[" + text[cut:]])
    return text

outcomes = {"read": 0, "refused": 0}
for seed in range(400):
    text = mutated(random.Random(seed))
    (folder / "fuzz-symbol.json").write_text(text)
    print(seed, end=" ", flush=True)
    try:
        sources.read(str(folder / "fuzz"))
        outcomes["read"] += 1
    except (ModelError, ParameterError) as error:
        assert str(error)
        outcomes["refused"] += 1
print(json.dumps(outcomes))
"""


def test_symbols_mutated_at_random_are_read_or_refused(tmp_path):
    prefix = write_checkpoint(with_values(chain_symbol(), data=(3, 8, 8)), tmp_path / "whole")
    for kind, text in (("0000.params", Path(f"{prefix}-0000.params").read_bytes()),
                       ("preprocessing.json", b'{"input_shape": [3, 8, 8]}')):
        (tmp_path / f"fuzz-{kind}").write_bytes(text)
    code, printed, errors = run_python(FUZZ, tmp_path)
    assert code == 0, f"exit code {code} at the seeds {printed[-20:]}: {errors[-3000:]}"
    outcomes = json.loads(printed[printed.index("{"):])
    assert outcomes["read"] > 20
    assert outcomes["refused"] > 200
