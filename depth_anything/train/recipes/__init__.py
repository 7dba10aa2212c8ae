"""Every run of the papers, and ours, as a function that returns its configuration."""

from depth_anything.system.moved import names_of

__getattr__ = names_of("train.recipes")
