"""Exported files as people have them: with their numbers elsewhere, cut short, or no model at all; both runtimes."""

import os
from pathlib import Path

import numpy as np
import onnx
import pytest

from depth_anything.predict.backends import NANO_ONNX, OnnxBackend, OpenVinoBackend

BACKENDS = [OnnxBackend, OpenVinoBackend]


@pytest.fixture(scope="module")
def apart(tmp_path_factory) -> Path:
    """nano with its numbers in a file beside it."""
    folder = tmp_path_factory.mktemp("apart")
    model = onnx.load(NANO_ONNX)
    onnx.save(model, folder / "model.onnx", save_as_external_data=True, location="numbers.bin", size_threshold=1024)
    return folder / "model.onnx"


def elsewhere(apart: Path, path: Path, **fields: str) -> Path:
    """The same, with other words about where its numbers lie; they lie in another folder than `path`."""
    model = onnx.load(apart, load_external_data=False)
    for weight in model.graph.initializer:
        for entry in weight.external_data:
            entry.value = fields.get(entry.key, entry.value)
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(model.SerializeToString())
    return path


@pytest.mark.parametrize("backend", BACKENDS)
def test_numbers_beside_the_file_are_read(apart, backend):
    image_HW3 = np.full((40, 60, 3), 90, np.uint8)
    found, expected = (backend(path)([image_HW3], 56)[0] for path in (apart, NANO_ONNX))
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"location": "../secret.bin"}, r"outside the base directory|escapes model directory"),
        ({"location": "ABSOLUTE"}, r"outside the base directory|[Aa]bsolute path not allowed"),
        ({"location": "/dev/zero"}, r"outside the base directory|[Aa]bsolute path not allowed"),
        ({"location": "link.bin"}, r"outside the base directory|escapes model directory"),
        ({"location": "absent.bin"}, r"externally stored data in file \(absent\.bin|does not exist: .*absent\.bin"),
        ({"location": "."}, r"externally stored data|regular file"),
        ({"location": "numbers.bin", "offset": str(2**50)}, r"externally stored data|out of bounds"),
        ({"location": "numbers.bin", "offset": "-4096"}, r"externally stored data|out of bounds"),
        ({"location": "numbers.bin", "length": str(2**50)}, r"externally stored data|size mismatch"),
    ],
)
def test_numbers_elsewhere_are_refused(apart, tmp_path, backend, fields, said):
    secret = tmp_path / "secret.bin"
    secret.write_bytes((apart.parent / "numbers.bin").read_bytes())
    if fields["location"] == "ABSOLUTE":
        fields = {"location": str(secret)}
    path = elsewhere(apart, tmp_path / "models" / "model.onnx", **fields)
    os.symlink(secret, path.with_name("link.bin"))
    os.link(secret, path.with_name("numbers.bin"))
    with pytest.raises(ValueError, match=rf"model\.onnx: not a model that .* can read \(.*({said})") as error:
        backend(path)
    assert "\n" not in str(error.value) and len(str(error.value)) < 500


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty; expected a file that `depth-anything export` wrote"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer"),
        (b"<!DOCTYPE html>", "a web page"),
        (b"\x1f\x8b\x08", "a gzip archive"),
        (b"\x08\x08garbage", "not a model that"),
        (NANO_ONNX.read_bytes()[:100_000], "not a model that"),
    ],
)
def test_what_is_no_export_is_named(tmp_path, backend, content, said, capfd):
    (tmp_path / "model.onnx").write_bytes(content)
    with pytest.raises(ValueError, match=said) as error:
        backend(tmp_path / "model.onnx")
    assert "model.onnx" in str(error.value) and "\n" not in str(error.value)
    if backend is OnnxBackend:  # OpenVINO's readers of other formats log what they think of it
        assert not capfd.readouterr().err
