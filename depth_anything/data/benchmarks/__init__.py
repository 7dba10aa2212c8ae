"""Readers of measured test sets, each in its official layout on disk. numpy only."""
