"""Everything that xfer2 raises on purpose.

::

    XferError
     +-- ParameterError (ValueError)         an argument is not what it must be
     +-- DataError (ValueError)              the data cannot be read or do not fit the network
     |    +-- ImageError                     one image file cannot be decoded
     +-- ModelError                          a network cannot be read or edited
     |    +-- LayerNotFoundError (ValueError)
     |    +-- MissingParametersError         layers without values where values are needed
     +-- TrainingError                       a loss is no longer finite, or there is no room for what training keeps
     +-- PersistenceError (ValueError)       a saved directory is incomplete, changed or of another format
     +-- MissingDependencyError (ImportError)

An estimator used before ``fit`` raises :class:`sklearn.exceptions.NotFittedError`, as users of scikit-learn expect.
"""

from __future__ import annotations


class XferError(Exception):
    """Base of every error that xfer2 raises on purpose."""


class ParameterError(XferError, ValueError):
    """An argument is not what it must be; the message names it, its owner, its limits and what came."""


class DataError(XferError, ValueError):
    """The data cannot be read, or do not fit the network or the task."""


class ImageError(DataError):
    """One image cannot be decoded; the message names the file or record."""


class ModelError(XferError):
    """A network cannot be read, or an edit of it cannot be done."""


class LayerNotFoundError(ModelError, ValueError):
    """No layer of that name; the message lists the nearest names."""


class MissingParametersError(ModelError):
    """A computation needs parameters that have no values yet."""


class TrainingError(XferError):
    """Training cannot go on: it diverged, or its disk is full; the message says what to change."""


class PersistenceError(XferError, ValueError):
    """A saved directory is incomplete, has been changed, or is of a format this version cannot read."""


class MissingDependencyError(XferError, ImportError):
    """An optional dependency is not installed; the message gives the pip command."""
