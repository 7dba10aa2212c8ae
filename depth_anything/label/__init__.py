"""Pseudo labels: a teacher labels unlabelled images, on one process, many ranks or a Ray cluster."""
