"""The errors of the model handler, under the import path that Xfer's users know."""

from xfer2.exceptions import LayerNotFoundError, MissingParametersError, ModelError

ModelArchitectureError = ModelError

__all__ = ["LayerNotFoundError", "MissingParametersError", "ModelArchitectureError", "ModelError"]
