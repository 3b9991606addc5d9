"""Graphs of MXNet operators as immutable values: pure Python, no mxnet."""
