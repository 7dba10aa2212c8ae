"""Videos: decoding, temporal stabilisation, encoding, resuming."""
