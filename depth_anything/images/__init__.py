"""Images and maps in files: decoding, colour modes, EXIF, colour maps."""
