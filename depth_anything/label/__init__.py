"""Pseudo labels: a teacher labels unlabelled pictures, on one process, many ranks or a Ray cluster."""
