"""Files, folders and devices of the machine."""
