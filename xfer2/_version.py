"""The version, stated once in code; setup.py states it again because its metadata are static, and a test compares."""

__version__ = "0.1.0"
