"""From pictures to predictions: backends, tiles, the prediction and its files."""
