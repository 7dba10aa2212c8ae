"""ONNX and OpenVINO files with pre- and post-processing inside, compared with torch."""
