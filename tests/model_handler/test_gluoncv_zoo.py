"""Every image-classification network of gluoncv's list, with random weights: round trip and all layers' features.

The list is gluoncv's own, without what is no image classifier (detection, segmentation, pose, video, tracking, depth)
without the two int8 names, whose graphs exist only as downloads, and without the two GroupNorm networks, which read
shapes while they compute, so that MXNet cannot make a graph of them. 127 names are left, the seven pruned ones included.
"""

import re

import numpy as np
import pytest

from xfer2._mxnet import gluoncv, mx
from xfer2.features.extractor import extract_features
from xfer2.model_handler import ModelHandler
from xfer2.model_handler.sources import _trace, preprocessing_of_gluoncv

OTHER_TASKS = re.compile(
    r"^(ssd|faster|mask|doublehead|custom|yolo|fcn|psp|deeplab|icnet|fastscnn|danet|mobile_pose|simple_pose|alpha|center_net"
    r"|i3d|slowfast|siamrpn|monodepth|c3d|p3d|r2plus|inceptionv[13]_|vgg16_(ucf|hmdb|kin|sth))"
    r"|(kinetics|ucf101|hmdb51|sthsth)|_s$|_custom$|int8|_gn$")
FEW = ("resnet18_v1", "resnet18_v2", "resnest14", "se_resnet18_v1", "squeezenet1.1", "mobilenet0.25", "mobilenetv2_0.25",
       "mobilenetv3_small", "densenet121", "shufflenet_v2", "dla34", "cifar_resnet20_v1", "cifar_resnext29_32x4d",
       "xception", "hrnet_w18_small_v1_c")


def classification_names():
    return [name for name in gluoncv().model_zoo.get_model_list() if not OTHER_TASKS.search(name)]


def untrained(name):
    """The block with random weights and statistics, and an image it takes."""
    block = gluoncv().model_zoo.get_model(name, pretrained=False)
    block.initialize(mx.init.Xavier())
    shape = preprocessing_of_gluoncv(name).input_shape
    image = mx.nd.random.uniform(shape=(1, *shape))
    block(image)
    for key, parameter in block.collect_params().items():
        if key.endswith("running_mean"):
            parameter.set_data(mx.nd.random.uniform(-0.1, 0.1, shape=parameter.shape))
    return block, image


def internal_outputs(block, image):
    """All outputs of all operators, as MXNet's own internals give them."""
    internals = _trace(block)[0].get_internals()
    variables = set(internals.list_inputs())
    positions = [i for i, name in enumerate(internals.list_outputs()) if name not in variables]
    symbol = mx.sym.Group([internals[i] for i in positions])
    params = block.collect_params()
    arguments = [image if name == "data" else params[name].data() for name in symbol.list_inputs()]
    return [array.asnumpy() for array in as_list(mx.nd.CachedOp(symbol)(*arguments))]


def as_list(outputs):
    return list(outputs) if isinstance(outputs, (list, tuple)) else [outputs]


def all_output_names(graph):
    """Name of every output of every layer, in the graph's order."""
    names = []
    for layer in graph.layer_names:
        node = graph.by_name[layer]
        count = int(node.attrs["num_outputs"]) if node.op in ("SliceChannel", "split") else 1
        names += [layer] if count == 1 else [f"{layer}_output{number}" for number in range(count)]
    return names


def check_network(name):
    block, image = untrained(name)
    handler = ModelHandler(block)
    block.hybridize()
    expected, found = as_list(block(image)), as_list(handler.get_block()(image))
    assert len(expected) == len(found)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one.asnumpy(), other.asnumpy())
    names = all_output_names(handler.network.graph)
    features = extract_features(handler, image.asnumpy(), names)
    reference = internal_outputs(block, image)
    assert len(names) == len(reference)
    for layer, values in zip(names, reference, strict=True):
        np.testing.assert_array_equal(features[layer], values.reshape(features[layer].shape), err_msg=f"{name}: {layer}")
    return len(names)


@pytest.mark.parametrize("name", FEW)
def test_round_trip_and_every_layer(name):
    assert check_network(name) > 10


def test_the_few_are_among_the_list():
    names = classification_names()
    assert len(names) == 127
    assert set(FEW) <= set(names)


@pytest.mark.slow
def test_all_classification_networks(capsys):
    names = classification_names()
    failures = []
    layers = 0
    for number, name in enumerate(names, 1):
        try:
            layers += check_network(name)
            verdict = "equal"
        except Exception as error:  # noqa: BLE001 - every network is tried, and each failure named
            verdict = f"{type(error).__name__}: {str(error)[:300]}"
            failures.append(f"{name}: {verdict}")
        with capsys.disabled():
            print(f"{number:3d}/{len(names)} {name}: {verdict}", flush=True)
    with capsys.disabled():
        print(f"{len(names) - len(failures)} of {len(names)} networks round-trip bit-equal, "
              f"and all their {layers} layer outputs are equal")
    assert not failures, "\n".join(failures)
