"""Depth Anything V1 and V2, complete."""

__version__ = "0.1.0"
