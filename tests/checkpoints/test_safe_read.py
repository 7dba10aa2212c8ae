"""Files as people have them: whole, cut short, hostile, or no checkpoint at all."""

import json
import os
import pickle
import warnings
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from depth_anything.checkpoints.safe_read import read

STATE = {"a.weight": torch.arange(12.0).reshape(3, 4), "b.bias": torch.ones(5, dtype=torch.float16)}


def same(found: dict, expected: dict) -> bool:
    return found.keys() == expected.keys() and all(torch.equal(found[key], expected[key]) for key in expected)


@pytest.mark.parametrize("zipped", [True, False])
def test_pickle_of_tensors(tmp_path, zipped):
    torch.save(STATE, tmp_path / "w.pth", _use_new_zipfile_serialization=zipped)
    assert same(read(tmp_path / "w.pth").state, STATE)


def test_training_checkpoint_of_v2_metric(tmp_path):
    """metric_depth/train.py saves the model, wrapped for DDP, beside the optimizer."""
    parallel = {f"module.{key}": tensor for key, tensor in STATE.items()}
    torch.save({"model": parallel, "optimizer": {"lr": 5e-6}, "epoch": 3}, tmp_path / "latest.pth")
    assert same(read(tmp_path / "latest.pth").state, STATE)


def test_safetensors_by_content_not_by_name(tmp_path):
    save_file(STATE, tmp_path / "w.pth", {"variant": "nano"})
    contents = read(tmp_path / "w.pth")
    assert same(contents.state, STATE)
    assert contents.metadata == {"variant": "nano"}


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_every_truncation_is_one_clear_line(tmp_path, suffix):
    whole, cut = tmp_path / f"whole{suffix}", tmp_path / f"cut{suffix}"
    if suffix == ".pth":
        torch.save(STATE, whole)
    else:
        save_file(STATE, whole)
    data = whole.read_bytes()
    for size in [*range(0, len(data), max(1, len(data) // 60)), len(data) - 1]:
        cut.write_bytes(data[:size])
        with pytest.raises(ValueError, match=r"cut\.\w+ is (damaged|not a checkpoint)") as error:
            read(cut)
        assert "\n" not in str(error.value)


def test_damage_inside(tmp_path):
    torch.save(STATE, tmp_path / "w.pth")
    data = bytearray((tmp_path / "w.pth").read_bytes())
    for at in range(0, 200, 5):  # the zip's first entry is the pickle
        data[at] ^= 0xFF
    (tmp_path / "w.pth").write_bytes(data)
    with pytest.raises(ValueError, match=r"w\.pth is"):
        read(tmp_path / "w.pth")


class Hostile:
    """Unpickling this would create the file `mark`."""

    def __init__(self, mark: Path):
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


@pytest.mark.parametrize("zipped", [True, False])
def test_code_in_a_pickle_never_runs(tmp_path, zipped):
    mark, path = tmp_path / "it_ran", tmp_path / "w.pth"
    torch.save({"a": STATE["a.weight"], "b": Hostile(mark)}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(ValueError, match=r"a pickle with code in it \(\w+\.mkdir\)") as error:
        read(path)
    assert "\n" not in str(error.value)
    assert not mark.exists()
    torch.load(path, weights_only=False)  # the file is what it claims to be
    assert mark.exists()


def test_plain_pickle_of_an_object(tmp_path):
    """Not torch's protocol, so torch's reader stops before it can say what the file wants."""
    mark = tmp_path / "it_ran"
    (tmp_path / "w.pth").write_bytes(pickle.dumps(Hostile(mark), protocol=5))
    with warnings.catch_warnings(action="error"), pytest.raises(ValueError, match="nothing of it was run"):
        read(tmp_path / "w.pth")
    assert not mark.exists()


@pytest.mark.parametrize(
    "data",
    [b"", b"<!DOCTYPE html><p>404", b"version https://git-lfs.github.com/spec/v1\noid", b"\x89PNG\r\n\x1a\n", b"[1]"],
)
def test_no_checkpoint_at_all(tmp_path, data):
    (tmp_path / "w.pth").write_bytes(data)
    with pytest.raises(ValueError, match=r"w\.pth is not a checkpoint"):
        read(tmp_path / "w.pth")


@pytest.mark.parametrize("value", [torch.ones(3), [torch.ones(3)], {"epoch": 3}, 7])
def test_pickle_without_a_state_dict(tmp_path, value):
    torch.save(value, tmp_path / "w.pth")
    with pytest.raises(ValueError, match="no state dict"):
        read(tmp_path / "w.pth")


def test_nothing_there(tmp_path):
    with pytest.raises(ValueError, match="no such file"):
        read(tmp_path / "w.pth")
    with pytest.raises(ValueError, match=r"holds none of .*model\.safetensors"):
        read(tmp_path)


def test_shards(tmp_path):
    index = {"weight_map": {"a.weight": "model-1.safetensors", "b.bias": "model-2.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    save_file({"a.weight": STATE["a.weight"]}, tmp_path / "model-1.safetensors")
    with pytest.raises(ValueError, match=r"model-2\.safetensors, which its index names"):
        read(tmp_path)
    save_file({"b.bias": STATE["b.bias"]}, tmp_path / "model-2.safetensors")
    assert same(read(tmp_path).state, STATE)


def test_broken_config(tmp_path):
    save_file({"backbone.x": torch.ones(1)}, tmp_path / "model.safetensors")
    for text, message in (("{", "not readable as JSON"), ("[]", "a JSON list")):
        (tmp_path / "config.json").write_text(text)
        with pytest.raises(ValueError, match=message):
            read(tmp_path)
