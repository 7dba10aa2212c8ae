"""Measuring depth maps: one fit, metrics with a direction, named protocols, the papers' tables. numpy only, float64."""
