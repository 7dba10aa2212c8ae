"""Labelled and unlabelled images, and their augmentation."""
