"""Data sets in their official layouts, a few tiny images each, with known ground truth: for rehearsals and tests."""
