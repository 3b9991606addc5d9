"""Engines compute a network's outputs for a batch. They agree on one small protocol, in ``base.py``."""
