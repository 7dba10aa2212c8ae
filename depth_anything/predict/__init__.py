"""From images to predictions: backends, tiles, the prediction and its files."""
