"""Weights in files: official, transformers, DINOv2 backbones and ours, from disk or from the hub."""
