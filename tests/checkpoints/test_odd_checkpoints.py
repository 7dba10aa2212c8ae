"""Odd checkpoints as people have them, written here, and what each is answered: read for what it is, or one line that
names the file, what it is and what to do. docs/checkpoints.md shows this table."""

import argparse
import gzip
import json
import os
import pickle
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save, save_file

from depth_anything.checkpoints import official
from depth_anything.checkpoints.official import load_backbone, load_state
from depth_anything.checkpoints.transformers import to_transformers
from depth_anything.network.model import DepthAnything
from depth_anything.predict.backends import NANO_ONNX

READ = "read"
State = dict[str, torch.Tensor]
PAGES = Path(__file__).parents[2] / "docs" / "checkpoints.md"


@pytest.fixture(scope="module")
def state() -> State:
    """Of nano-vit: what these files have, every model of the papers has."""
    torch.manual_seed(0)
    return DepthAnything("nano-vit").state_dict()


def prefixed(state: State, prefix: str) -> State:
    return {prefix + key: tensor for key, tensor in state.items()}


def saved(value: object, path: Path, **options) -> Path:
    torch.save(value, path, **options)
    return path


def written(path: Path, content: bytes | str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def with_header(path: Path, header: object, numbers: int = 4, length: int | None = None) -> Path:
    """A safetensors file by hand: eight bytes of length, JSON, numbers."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return written(path, struct.pack("<Q", len(text) if length is None else length) + text + bytes(numbers))


def floats(start: int, end: int, *shape: int) -> dict:
    return {"dtype": "F32", "shape": shape or (1,), "data_offsets": [start, end]}


def changed(state: State, key: str, value: float) -> State:
    tensor = state[key].clone()
    tensor.view(-1)[5] = value
    return {**state, key: tensor}


def in_memory(state: State) -> State:
    """The names that transformers 5 has in memory, written out."""
    names = {
        ".attention.attention.query.": ".attention.q_proj.",
        ".attention.attention.key.": ".attention.k_proj.",
        ".attention.attention.value.": ".attention.v_proj.",
        ".attention.output.dense.": ".attention.o_proj.",
    }
    theirs = to_transformers(state)
    for published, ours in names.items():
        theirs = {key.replace(published, ours): tensor.contiguous() for key, tensor in theirs.items()}
    return theirs


def torchscript(path: Path, _: State) -> Path:
    torch.jit.trace(torch.nn.Linear(2, 2), torch.zeros(1, 2)).save(str(path))
    return path


def exported_program(path: Path, _: State) -> Path:
    torch.export.save(torch.export.export(torch.nn.Linear(2, 2), (torch.ones(1, 2),)), path)
    return path


def zipped(path: Path, state: State) -> Path:
    with zipfile.ZipFile(path, "w") as file:
        file.write(saved(state, path.with_name("plain.pth")), "depth_anything_v2_vits.pth")
    return path


def tarred(path: Path, state: State) -> Path:
    with tarfile.open(path, "w") as file:
        file.add(saved(state, path.with_name("plain.pth")), "plain.pth")
    return path


def archive(path: Path, _: State) -> Path:
    with path.open("wb") as file:
        np.savez(file, a=np.ones(3))
    return path


def array(path: Path, _: State) -> Path:
    with path.open("wb") as file:
        np.save(file, np.ones(3))
    return path


def folder(path: Path, state: State, names: Callable = to_transformers, pickled: bool = False) -> Path:
    """A transformers folder with those key names."""
    path.mkdir()
    model = DepthAnything("nano-vit")
    official.save_transformers(model, path)
    (path / "model.safetensors").unlink()
    theirs = {key: tensor.contiguous() for key, tensor in names(state).items()}
    if pickled:
        torch.save(theirs, path / "pytorch_model.bin")
    else:
        save_file(theirs, path / "model.safetensors")
    return path


def with_config(path: Path, state: State, **changes) -> Path:
    config = json.loads((folder(path, state) / "config.json").read_text())
    (path / "config.json").write_text(json.dumps({**config, **changes}))
    return path


def sharded_pickles(path: Path, state: State) -> Path:
    whole = folder(path, state, pickled=True)
    theirs = torch.load(whole / "pytorch_model.bin")
    (whole / "pytorch_model.bin").unlink()
    half = dict(list(theirs.items())[:60])
    torch.save(half, path / "pytorch_model-1.bin")
    torch.save({key: tensor for key, tensor in theirs.items() if key not in half}, path / "pytorch_model-2.bin")
    index = {key: f"pytorch_model-{1 if key in half else 2}.bin" for key in theirs}
    written(path / "pytorch_model.bin.index.json", json.dumps({"weight_map": index}))
    return path


def fifo(path: Path, _: State) -> Path:
    os.mkfifo(path)
    return path


def onnx_by_another_name(path: Path, _: State) -> Path:
    return written(path, NANO_ONNX.read_bytes())


NORM = "pretrained.norm.weight"
ODD: dict[str, tuple[str, Callable[[Path, State], Path], str]] = {
    # kind: file name, writer, answer
    "the state dict under `model_state_dict`": (
        "a.pth", lambda path, state: saved({"model_state_dict": state, "epoch": 3}, path), READ),
    "... under `model_ema` alone": ("a.ckpt", lambda path, state: saved({"model_ema": state, "step": 3}, path), READ),
    "... under `state_dict` in `model`": (
        "a.pth", lambda path, state: saved({"model": {"state_dict": state}}, path), READ),
    "... under `module`, as DeepSpeed saves it": (
        "a.pt", lambda path, state: saved({"module": state, "dp_world_size": 8}, path), READ),
    "both `model` and `model_ema`": (
        "a.pth", lambda path, state: saved({"model": state, "model_ema": state}, path),
        "holds several sets of weights (model, model_ema): save only the one you mean"),
    "Lightning: keys begin with `model.`, a loss beside it": (
        "a.ckpt", lambda path, state: saved({"state_dict": {**prefixed(state, "model."), "loss.w": state[NORM]}}, path),
        READ),
    "`module.` (DistributedDataParallel), in safetensors too": (
        "a.safetensors", lambda path, state: (save_file(prefixed(state, "module."), path), path)[1], READ),
    "`_orig_mod.` (torch.compile)": ("a.pth", lambda path, state: saved(prefixed(state, "_orig_mod."), path), READ),
    "`module._orig_mod.model.`": (
        "a.pth", lambda path, state: saved(prefixed(state, "module._orig_mod.model."), path), READ),
    "blocks compiled or checkpointed one by one": (
        "a.pth", lambda path, state: saved(
            {key.replace("blocks.1.", "blocks.1._checkpoint_wrapped_module."): state[key] for key in state}, path),
        READ),
    "two models side by side": (
        "a.pth", lambda path, state: saved({**prefixed(state, "student."), **prefixed(state, "teacher.")}, path),
        "holds several models (prefixes: student., teacher.): save only the one you mean"),
    "a transformers folder": ("a", folder, READ),
    "... with the names that transformers 5 has in memory": (
        "a", lambda path, state: folder(path, state, in_memory), READ),
    "... the same in pytorch_model.bin": (
        "a", lambda path, state: folder(path, state, in_memory, pickled=True), READ),
    "torch.save(model.state_dict()) of transformers' model": (
        "a.pth", lambda path, state: saved(in_memory(state), path), READ),
    "a folder with sharded pickles": ("a", sharded_pickles, READ),
    "torch's format before 1.6": (
        "a.pth", lambda path, state: saved(state, path, _use_new_zipfile_serialization=False), READ),
    "parameters that want gradients": (
        "a.pth", lambda path, state: saved({key: torch.nn.Parameter(state[key]) for key in state}, path), READ),
    "a NaN in a weight": (
        "a.pth", lambda path, state: saved(changed(state, NORM, float("nan")), path),
        "1 of the 192 numbers in the tensor pretrained.norm.weight are NaN or infinite"),
    "an infinity in float16": (
        "a.safetensors", lambda path, state: (
            save_file({key: t.half() for key, t in changed(state, NORM, 1e6).items()}, path), path)[1],
        "in the tensor pretrained.norm.weight are NaN or infinite"),
    "integers for weights (quantised)": (
        "a.safetensors", lambda path, state: (save_file({key: state[key].char() for key in state}, path), path)[1],
        "keys 155 not of floats, perhaps quantised (first: pretrained.cls_token)"),
    "tensors of the meta device": (
        "a.pth", lambda path, state: saved({key: state[key].to("meta") for key in state}, path),
        "the tensor pretrained.cls_token has no values"),
    "a whole model instead of its state dict": (
        "a.pth", lambda path, _: saved(DepthAnything("nano-vit"), path),
        "a pickle with code in it (depth_anything.network.model.DepthAnything); nothing of it was run"),
    "weights beside argparse's options": (
        "a.pth", lambda path, state: saved({"model": state, "args": argparse.Namespace(lr=1)}, path),
        "a pickle with code in it (argparse.Namespace); nothing of it was run"),
    "NumPy arrays in a pickle": (
        "a.pth", lambda path, state: saved({key: state[key].numpy() for key in state}, path),
        "a pickle with code in it (numpy._core.multiarray._reconstruct)"),
    "a plain pickle": ("a.pth", lambda path, _: written(path, pickle.dumps({"a": 1})), "nothing of it was run"),
    "an optimizer without its model": (
        "a.pth", lambda path, _: saved({"optimizer": {"state": {}}, "epoch": 3}, path),
        "holds a dict that is no state dict (its keys: optimizer, epoch)"),
    "an empty dict": ("a.pth", lambda path, _: saved({}, path), "no state dict (its keys: nothing)"),
    "a list of tensors": ("a.pth", lambda path, _: saved([torch.ones(2)], path), "holds a list that is no state dict"),
    "a LoRA adapter": (
        "a.safetensors", lambda path, _: (save_file({"base.layer.0.lora_A.weight": torch.ones(2)}, path), path)[1],
        "holds an adapter (LoRA) without its model: merge both"),
    "another network": (
        "a.pth", lambda path, _: saved({"conv1.weight": torch.ones(2)}, path),
        "holds no Depth Anything weights (first key: conv1.weight)"),
    "a TorchScript archive": ("a.pt", torchscript, "is a TorchScript archive (torch.jit)"),
    "a program of torch.export": ("a.pt2", exported_program, "is a program of torch.export"),
    "a zip with a checkpoint in it": (
        "a.pth", zipped,
        "is a zip archive (1 files, first depth_anything_v2_vits.pth), not a checkpoint of torch: unpack it"),
    "a tar": ("a.pth", tarred, "a tar archive (unpack it)"),
    "a gzip": ("a.pth", lambda path, _: written(path, gzip.compress(b"x")), "a gzip archive (unpack it)"),
    "a Git LFS pointer": (
        "a.pth", lambda path, _: written(path, "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"),
        "a Git LFS pointer, not the file itself (run `git lfs pull`"),
    "a folder whose config.json is a Git LFS pointer": (
        "a", lambda path, state: written(
            folder(path, state) / "config.json", "version https://git-lfs.github.com/spec/v1\n").parent,
        "config.json is a Git LFS pointer"),
    "a git-annex pointer": ("a.pth", lambda path, _: written(path, "/annex/objects/SHA256E-s9"), "run `git annex get`"),
    "a web page": ("a.pth", lambda path, _: written(path, "<!DOCTYPE html>"), "but a web page or XML (the link"),
    "an error in JSON": ("a.pth", lambda path, _: written(path, '{"error": "not found"}'), "is not a checkpoint (it"),
    "an empty file": ("a.pth", lambda path, _: written(path, b""), "is not a checkpoint (it is empty)"),
    "an ONNX model by another name": ("a.pth", onnx_by_another_name, "give it a name that ends in .onnx"),
    "an NPZ": ("a.pth", archive, "is an NPZ of NumPy arrays"),
    "an .npy": ("a.pth", array, "but a NumPy array"),
    "HDF5": ("a.pth", lambda path, _: written(path, b"\x89HDF\r\n\x1a\n" + bytes(99)), "an HDF5 file (Keras, TensorF"),
    "GGUF": ("a.pth", lambda path, _: written(path, b"GGUF" + bytes(99)), "a GGUF file of llama.cpp"),
    "a named pipe": ("a.pth", fifo, "is not a regular file"),
    "a checkpoint of torch.distributed in parts": (
        "a", lambda path, _: written(path / ".metadata", b"x").parent, "join them with `python -m torch.distributed"),
    "a clone of an official repository": (
        "a", lambda path, _: written(path / "depth_anything_v2_vits.pth", b"x").parent,
        "give the path of a file in it (depth_anything_v2_vits.pth)"),
    "a folder for TensorFlow": (
        "a", lambda path, _: written(path / "tf_model.h5", b"x").parent, "for another library only (tf_model.h5)"),
    "an index that names no parts": (
        "a", lambda path, _: written(path / "model.safetensors.index.json", '{"weight_map": ["a"]}').parent,
        "holds no weight_map"),
    "an index that names files elsewhere": (
        "a", lambda path, _: written(
            path / "model.safetensors.index.json", '{"weight_map": {"a": "../../etc/passwd"}}').parent,
        "passwd, which its index names: download all parts"),
    "a config.json of another model": (
        "a", lambda path, state: with_config(path, state, model_type="dpt"), "model_type 'dpt': expected 'depth_any"),
    "a config.json with text for a number": (
        "a", lambda path, state: with_config(path, state, max_depth="far"), "config.json has a value of the wrong"),
    "a config.json with text for the backbone": (
        "a", lambda path, state: with_config(path, state, backbone_config="x"), "config.json has a value of the wrong"),
    "safetensors: two tensors in the same bytes": (
        "a.safetensors", lambda path, _: with_header(path, {"a": floats(0, 4), "b": floats(0, 4)}),
        "invalid offset for tensor"),
    "... a gap between two": (
        "a.safetensors", lambda path, _: with_header(path, {"a": floats(0, 4), "b": floats(8, 12)}, 12),
        "invalid offset for tensor"),
    "... more numbers than the file has": (
        "a.safetensors", lambda path, _: with_header(path, {"a": floats(0, 400, 100)}), "file not fully covered"),
    "... a shape of 2^80 numbers": (
        "a.safetensors", lambda path, _: with_header(path, {"a": floats(0, 4, 2**40, 2**40)}), "overflow"),
    "... a header of 2^60 bytes": (
        "a.safetensors", lambda path, _: with_header(path, b"{}", length=2**60), "header too large"),
    "... a header of 150 MB in a short file": (
        "a.safetensors", lambda path, _: with_header(path, b"{}", length=150_000_000), "header too large"),
    "... a header that nests 100,000 deep": (
        "a.safetensors", lambda path, _: with_header(path, b'{"a":' + b"[" * 100_000), "recursion limit"),
    "... a number type that is unknown": (
        "a.safetensors", lambda path, _: with_header(path, {"a": {**floats(0, 4), "dtype": "F99"}}), "unknown variant"),
    "... bytes behind its end": (
        "a.safetensors", lambda path, state: written(path, save(state) + b"x"), "is damaged or cut short"),
    "... cut short": ("a.safetensors", lambda path, state: written(path, save(state)[:-9]), "is damaged or cut short"),
    "a .pth cut short": (
        "a.pth", lambda path, state: written(path, saved(state, path).read_bytes()[:99_999]),
        "is damaged or cut short"),
}  # fmt: skip


@pytest.mark.parametrize("kind", ODD)
def test_odd_checkpoint(kind, tmp_path, state):
    name, write, answer = ODD[kind]
    path = write(tmp_path / name, state)
    if answer == READ:
        found, row = load_state(path, "nano")
        assert row.name == "nano-vit" and found.keys() == state.keys()
        assert all(torch.equal(found[key], state[key]) for key in state)
        encoder = load_backbone(path, "nano-vit")
        assert all(torch.equal(encoder[key], state[f"pretrained.{key}"]) for key in encoder)
        return
    with pytest.raises(ValueError) as error:
        load_state(path, "nano")
    said = str(error.value)
    assert answer in said and str(tmp_path) in said and "\n" not in said


def test_docs_list_every_kind():
    """The table in docs/checkpoints.md has a row for each kind, with the beginning of its answer."""
    rows = [line.split(" | ") for line in PAGES.read_text().splitlines() if line.startswith("| ")]
    table = {cells[0].removeprefix("| ").strip(): cells[-1].removesuffix(" |").strip() for cells in rows}
    for kind, (_, _, answer) in ODD.items():
        assert kind in table, f"docs/checkpoints.md: no row for {kind!r}"
        assert table[kind] == READ if answer == READ else answer[:20] in table[kind], kind
    assert len(ODD) >= 40


def test_the_giant_s_gate_is_two_tensors_in_memory(state):
    """Transformers has SwiGLU's first layer as two tensors, in the order in which the files join them."""
    from depth_anything.checkpoints.transformers import published_names

    joined = torch.arange(12.0).reshape(6, 2)
    key = "backbone.encoder.layer.0.mlp.{}.weight"
    found = published_names({key.format("gate_proj"): joined[:3], key.format("up_proj"): joined[3:]})
    assert found.keys() == {key.format("weights_in")} and torch.equal(found[key.format("weights_in")], joined)


def test_dinov2_s_own_training_checkpoint(tmp_path, state):
    """{"teacher": {"backbone.cls_token": ..., "dino_head...": ...}}"""
    encoder = {key.removeprefix("pretrained."): state[key] for key in state if key.startswith("pretrained.")}
    torch.save({"teacher": {**prefixed(encoder, "backbone."), "dino_head.w": torch.ones(2)}}, tmp_path / "t.pth")
    found = load_backbone(tmp_path / "t.pth", "nano-vit")
    assert all(torch.equal(found[key], encoder[key]) for key in encoder)


def test_large_finite_numbers_are_no_fault(tmp_path, state):
    """Only their sum is infinite."""
    large = {**state, NORM: torch.full_like(state[NORM], 3e38)}
    save_file(large, tmp_path / "a.safetensors")
    assert torch.equal(load_state(tmp_path / "a.safetensors", "nano")[0][NORM], large[NORM])
