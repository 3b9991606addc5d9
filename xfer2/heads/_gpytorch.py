"""The one door to gpytorch: everything else says ``from xfer2.heads._gpytorch import gpytorch``."""

import warnings

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # of torch.jit.script, which linear_operator uses at its own import
    import gpytorch  # type: ignore[import-untyped]

__all__ = ["gpytorch"]
