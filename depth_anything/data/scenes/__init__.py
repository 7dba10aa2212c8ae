"""Rendered scenes with exact disparity: one integer seed makes one labelled image.

layout -> which objects are where; objects -> the shapes; materials -> the textures; cameras -> how people hold a
camera; render -> Mitsuba, labels, shards. numpy only, except render.py, which imports Mitsuba inside its functions."""
