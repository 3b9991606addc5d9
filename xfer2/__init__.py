"""xfer2 repurposes trained MXNet and Gluon networks for new tasks with little data.

Public names load at first use, so that ``import xfer2`` costs what mxnet costs.
"""

from xfer2 import _mxnet as _mxnet  # restores what mxnet misses on this platform, before anybody imports mxnet
from xfer2._lazy import lazy_exports
from xfer2._version import __version__ as __version__

_HOMES = {
    "BnnRepurposer": "xfer2.repurposers.bnn",
    "ConformalSets": "xfer2.uncertainty.conformal",
    "Features": "xfer2.features.store",
    "GpRepurposer": "xfer2.repurposers.gp",
    "LaplaceRepurposer": "xfer2.repurposers.laplace",
    "LrRepurposer": "xfer2.repurposers.lr",
    "LwfRepurposer": "xfer2.repurposers.lwf",
    "MetaModelRepurposer": "xfer2.repurposers._meta_model",
    "ModelHandler": "xfer2.model_handler.handler",
    "NeuralNetworkFineTuneRepurposer": "xfer2.repurposers.fine_tune",
    "NeuralNetworkRandomFreezeRepurposer": "xfer2.repurposers.random_freeze",
    "NeuralNetworkRepurposer": "xfer2.repurposers._network",
    "Prediction": "xfer2.uncertainty.predictions",
    "Preprocessing": "xfer2.model_handler.network",
    "PtuRepurposer": "xfer2.repurposers.ptu",
    "Repurposer": "xfer2.repurposers._base",
    "SklearnRepurposer": "xfer2.repurposers.sklearn_head",
    "StitchRepurposer": "xfer2.repurposers.stitch",
    "SvmRepurposer": "xfer2.repurposers.svm",
    "TwoTowerRepurposer": "xfer2.repurposers.two_tower",
    "extract_features": "xfer2.features.extractor",
    "load": "xfer2.repurposers.loading",
}
__all__ = list(_HOMES)
__getattr__, __dir__ = lazy_exports(__name__, _HOMES)
