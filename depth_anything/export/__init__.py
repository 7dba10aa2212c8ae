"""ONNX and OpenVINO files with pre- and post-processing inside, compared with torch."""

from depth_anything.system.moved import names_of

__getattr__ = names_of("export")
