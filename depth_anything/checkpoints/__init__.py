"""Weights in files: official, transformers, DINOv2 backbones and ours, from disk or from the hub."""

from depth_anything.system.moved import names_of

__getattr__ = names_of("checkpoints")
