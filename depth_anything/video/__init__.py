"""Videos: decoding, temporal stabilisation, encoding, resuming."""

from depth_anything.system.moved import names_of

__getattr__ = names_of("video")
