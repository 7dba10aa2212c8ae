"""The exported forms against torch: with preprocessing inside, at sizes not seen in tracing, in both runtimes."""

import copy
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from PIL import Image
from tiny_models import TINY, random_model, tiny

from depth_anything.__main__ import main
from depth_anything.checkpoints import file_metadata
from depth_anything.export import parity
from depth_anything.export.agreement import correlation
from depth_anything.export.export_model import (
    export,
    export_network,
    openvino_model,
    save_onnx,
    save_openvino,
    set_metadata,
    store_half,
    with_image_input,
)
from depth_anything.export.options import SUFFIX, ExportOptions
from depth_anything.export.preprocessing_graph import before_network
from depth_anything.geometry import camera
from depth_anything.network.model import DepthAnything
from depth_anything.network.resize import PATCH, network_size, to_tensor
from depth_anything.predict import openvino_graph
from depth_anything.predict.backends import NANO_ONNX, OnnxBackend, OpenVinoBackend
from depth_anything.predict.openvino_graph import core
from depth_anything.predict.predictor import Predictor
from depth_anything.variants import VARIANTS

EXAMPLES = Path(__file__).parents[2] / "examples"


def photograph(height: int, width: int) -> np.ndarray:
    """A smooth image with some texture, as photographs are."""
    rows, columns = np.mgrid[0:height, 0:width] / 40
    waves = np.stack([np.sin(rows + columns * k) + np.cos(columns * 2 - k) for k in (1, 2, 3)], -1)
    noise = np.random.default_rng(0).normal(0, 0.1, waves.shape)
    return np.clip(127 + 50 * (waves + noise), 0, 255).astype(np.uint8)


def written(model: DepthAnything, folder: Path) -> tuple[DepthAnything, Path, onnx.ModelProto]:
    """`model`, its file model.onnx in `folder` beside model.xml, and the bare network in it."""
    network = export_network(model)
    graph = with_image_input(network, model.variant)
    set_metadata(graph, model.variant)
    save_onnx(graph, folder / "model.onnx")
    save_openvino(openvino_model(graph), folder / "model.xml", half=False)
    return model, folder / "model.onnx", network


@pytest.fixture(scope="module")
def relative(tmp_path_factory) -> tuple[DepthAnything, Path, onnx.ModelProto]:
    """A V2 model whose weights are float16 numbers, and its exports."""
    model = random_model(tiny())
    model.half().float()
    return written(model, tmp_path_factory.mktemp("relative"))


@pytest.fixture(scope="module")
def metric(tmp_path_factory) -> tuple[DepthAnything, Path, onnx.ModelProto]:
    """The other branches: sigmoid, SwiGLU, V1's post-processing."""
    model = random_model(tiny(head="sigmoid", max_depth=20.0, swiglu=True, align_corners_back=False))
    return written(model, tmp_path_factory.mktemp("metric"))


@pytest.mark.parametrize("which", ["relative", "metric"])
def test_exported_files_equal_torch(which, request):
    """In ONNX Runtime, in OpenVINO, and in OpenVINO from the ONNX file."""
    model, path, _ = request.getfixturevalue(which)
    exported = [OnnxBackend(path), OpenVinoBackend(path.with_suffix(".xml")), OpenVinoBackend(path)]
    for height, width, input_size in [
        (61, 47, 70),
        (70, 70, 70),
        (90, 400, 70),
        (33, 80, 140),
        (2, 3, 28),
        (60, 47, 42),
    ]:
        image = photograph(height, width)
        expected = model.infer_rgb(image, input_size)
        assert np.ptp(expected) > 1e-3
        for backend in exported:
            found = backend([image], input_size)[0]
            assert found.shape == (height, width)
            scale = max(1.0, float(np.abs(expected).max()))
            assert np.abs(found - expected).max() < 1e-4 * scale, (height, width, backend)


@pytest.mark.parametrize("name", ["kodak_12", "kodak_17", "kodak_19"])
def test_bfloat16_in_openvino_keeps_pre_and_postprocessing_in_float32(name):
    """A map without steps: as many values as in float32, not the few hundred that eight bits hold.

    How close it is depends on the image: on these three, torch's bfloat16 also has a correlation above 0.9999.
    """
    image = np.asarray(Image.open(EXAMPLES / f"{name}.jpg").resize((192, 128)))
    exact, coarse = (OpenVinoBackend(NANO_ONNX, dtype=dtype)([image], 224)[0] for dtype in ("fp32", "bf16"))
    assert correlation(exact, coarse) > 0.999
    assert len(np.unique(coarse)) > 0.9 * len(np.unique(exact)) > 0.6 * exact.size


def runners(graph: onnx.ModelProto, folder: Path):
    """The same graph in both runtimes: inputs by name to its one output."""
    session = onnxruntime.InferenceSession(graph.SerializeToString())
    onnx.save(graph, folder / "graph.onnx")
    compiled = core().compile_model(folder / "graph.onnx", "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return [lambda feed: session.run(None, feed)[0], lambda feed: compiled(feed)[0]]


def test_preprocessing_in_the_graph_equals_that_of_resize(tmp_path):
    """The stretch before the network alone: sizes of hostile images, and pixels, in both runtimes.

    White noise is the hardest image: OpenCV's float32 positions are good to 6e-5 of a pixel at 1,000 of them.
    """
    rng = np.random.default_rng(0)
    sizes = [(1, 1), (480, 640), (300, 200), (9, 900), (1, 900), (106, 159), (900, 600)]
    sizes += rng.integers(1, 500, (20, 2)).tolist()
    for input_size in (14, 98):
        runs = runners(onnx.parser.parse_model(before_network(input_size, PATCH)), tmp_path)
        for height, width in sizes:
            image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
            size = network_size(height, width, input_size)
            expected = to_tensor(image, size).numpy()
            for run in runs:
                found = run({"image": image, "network_size": np.array(size)})
                np.testing.assert_allclose(found, expected, atol=5e-4)


@pytest.mark.slow
def test_the_file_chooses_the_official_size_itself(tmp_path):
    """With zeros for the size. Where float64 rounds a tie, one patch more or less: two in 100,000, none of these."""
    rng = np.random.default_rng(1)
    photographs = [(480, 640), (512, 768), (768, 512), (1000, 1500), (667, 1000), (333, 1000), (1080, 1920), (9, 900)]
    sizes = photographs + [(height, width) for height, width in rng.integers(200, 1200, (30, 2)).tolist()]
    for run in runners(onnx.parser.parse_model(before_network(518, PATCH)), tmp_path):
        for height, width in sizes:
            image = np.zeros((height, width, 3), np.uint8)
            found = run({"image": image, "network_size": np.zeros(2, np.int64)}).shape[2:]
            assert found == network_size(height, width, 518), (height, width)


def test_the_size_is_optional_in_onnx_runtime(relative):
    """What a program in another language does: only an image."""
    model, path, _ = relative
    image = photograph(61, 47)
    found = OnnxBackend(path).session.run(None, {"image": image})[0]
    np.testing.assert_allclose(found, model.infer_rgb(image), atol=1e-4)


def test_half_halves_the_file_and_keeps_the_map(relative, tmp_path):
    path = relative[1]
    graph = onnx.load(path)
    store_half(graph)
    half = tmp_path / "half.onnx"
    onnx.save(graph, half)
    assert half.stat().st_size < 0.8 * path.stat().st_size
    image = photograph(61, 47)
    np.testing.assert_allclose(OnnxBackend(half)([image], 70)[0], OnnxBackend(path)([image], 70)[0], atol=1e-5)


def test_metadata_states_what_the_file_is(metric):
    assert b"dpt.py" not in metric[1].read_bytes()  # no traces of the machine that exported it
    in_onnx, in_openvino = OnnxBackend(metric[1]), OpenVinoBackend(metric[1].with_suffix(".xml"))
    for backend in (in_onnx, in_openvino, OpenVinoBackend(metric[1])):
        assert backend.variant.quantity == "depth_m"
        assert backend.variant.max_depth == 20.0
    assert [output.name for output in in_onnx.session.get_outputs()] == ["depth_m"]
    assert in_openvino.model.output(0).get_any_name() == "depth_m"


def test_bundled_onnx_equals_bundled_weights():
    """The two files of nano, at three sizes, on an image with the statistics of a photograph."""
    model = DepthAnything.from_pretrained("nano")
    exported = OnnxBackend(NANO_ONNX)
    for height, width in [(480, 640), (512, 300), (333, 1000)]:
        image = photograph(height, width)
        found = exported([image], model.variant.input_size)[0]
        assert np.abs(found - model.infer_rgb(image)).max() < 1e-4


def test_not_an_export(tmp_path):
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"broken\.onnx"):
        OnnxBackend(broken)
    with pytest.raises(ValueError, match="no such file"):
        OnnxBackend(tmp_path / "absent.onnx")
    (tmp_path / "broken.xml").write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"broken\.xml"):
        OpenVinoBackend(tmp_path / "broken.xml")


# -- the proof -------------------------------------------------------------------------------------------------------


@pytest.fixture
def photos(tmp_path) -> tuple[Path, ...]:
    paths = []
    for height, width in [(60, 90), (90, 60), (45, 90)]:
        paths.append(tmp_path / f"{height}x{width}.png")
        Image.fromarray(photograph(height, width)).save(paths[-1])
    return tuple(paths)


@pytest.fixture
def exported_once(relative, monkeypatch) -> DepthAnything:
    """The model of `relative`, whose bare network is not exported again: that takes seconds."""
    network = relative[2]

    def copy_of_it(model, size=None):
        copied = onnx.ModelProto()
        copied.CopyFrom(network)
        return copied

    monkeypatch.setattr("depth_anything.export.export_model.export_network", copy_of_it)
    return relative[0]


def test_an_export_proves_itself(exported_once, photos, tmp_path):
    """Both forms, and the bare network, with their reports."""
    model = exported_once
    for name, options in [
        ("image.onnx", ExportOptions()),
        ("image.xml", ExportOptions(to="openvino")),
        ("half.onnx", ExportOptions(half=True)),
        ("bare.onnx", ExportOptions(bare=True)),
        ("bare.xml", ExportOptions(to="openvino", bare=True)),
    ]:
        report = export(model, tmp_path / name, options, photos)
        assert not report.failures
        assert max(report.stages.values()) < (1e-2 if options.half else 1e-4)
        assert len(report.agreements) == 3
        written = json.loads((tmp_path / name).with_suffix(".parity.json").read_text())
        assert written["agreements"][0]["largest_difference"] < 1e-4  # half, too: these weights are float16 numbers
        assert (tmp_path / name).is_file()
        with Image.open((tmp_path / name).with_suffix(".parity.png")) as png:
            assert png.height == 3 * 200
    with pytest.raises(ValueError, match="bare network"):
        OnnxBackend(tmp_path / "bare.onnx")


@pytest.mark.slow
def test_a_fixed_size_has_no_free_dimension(photos, tmp_path):
    model = random_model(tiny())
    export(model, tmp_path / "fixed.onnx", ExportOptions(bare=True, size=(70, 98)), photos)
    shape = onnx.load(tmp_path / "fixed.onnx").graph.input[0].type.tensor_type.shape
    assert [dim.dim_value for dim in shape.dim] == [1, 3, 70, 98]


@pytest.mark.slow
@pytest.mark.parametrize("bins", ["softplus", "normed"])
def test_the_bare_network_of_the_bins(bins, photos, tmp_path):
    """V1's metric models: both kinds of bins, in both runtimes, at sizes they were not traced at."""
    row = VARIANTS["v1-metric-nyu-large"]
    model = random_model(replace(row, **{**TINY, "bins": bins, "fixed_size": (70, 98)}))
    in_onnx = export(model, tmp_path / "bins.onnx", ExportOptions(bare=True), photos)
    save_openvino(openvino_model(onnx.load(tmp_path / "bins.onnx")), tmp_path / "bins.xml", half=False)
    in_openvino = parity.compare(model, tmp_path / "bins.xml", ExportOptions(to="openvino", bare=True), photos)
    for report in (in_onnx, in_openvino):
        assert report.quantity == "depth_m" and not report.failures
        assert min(one.largest_value for one in report.agreements) > 1e-3


@pytest.mark.parametrize("stage", ["block_02", "fusion_2"])
def test_an_export_that_differs_is_refused_and_the_stage_named(stage, exported_once, photos, tmp_path):
    """The torch model is another one at one stage, as if that stage had been exported wrong."""
    model = copy.deepcopy(exported_once)
    scratch = model.depth_head.scratch
    part = model.pretrained.blocks[2].mlp.fc1 if stage == "block_02" else scratch.refinenet2.out_conv
    with torch.no_grad():
        part.weight.mul_(1.05)
    with pytest.raises(ValueError, match=f"starting at {stage}"):
        export(model, tmp_path / "wrong.onnx", ExportOptions(), photos)
    assert not (tmp_path / "wrong.onnx").exists()
    assert stage in (tmp_path / "wrong.parity.md").read_text()


def test_options_that_do_not_go_together():
    for options, message in [
        (ExportOptions(size=(518, 518)), "--bare"),
        (ExportOptions(size=(500, 518), bare=True), "multiples of 14"),
        (ExportOptions(to="openvino", int8=True), "--calibrate"),
        (ExportOptions(to="openvino", int8=True, bare=True, calibrate=(Path("a"),)), "cannot be combined with"),
        (ExportOptions(int8=True, half=True, calibrate=(Path("a"),)), "cannot be combined with"),
    ]:
        with pytest.raises(ValueError, match=message):
            options.check(VARIANTS["v2-small"])
    with pytest.raises(ValueError, match="ZoeDepth"):
        ExportOptions().check(VARIANTS["v1-metric-nyu-large"])


@pytest.mark.slow
@pytest.mark.parametrize("form", ["onnx", "openvino"])
def test_int8_keeps_within_its_limit_and_is_refused_beyond_it(form, tmp_path, capsys):
    """nano on the examples, through the command; then the same with a limit that nothing keeps."""
    from depth_anything.export import int8

    name = tmp_path / f"nano{SUFFIX[form]}"
    examples = Path(__file__).parents[2] / "examples"
    command = ["export", "nano", "--to", form, "--int8", "--calibrate", str(examples), "-o", str(name)]
    main(command)
    weights = name.with_suffix({"onnx": ".onnx", "openvino": ".bin"}[form])
    assert weights.stat().st_size < 0.5 * 4 * sum(p.numel() for p in DepthAnything("nano").parameters())
    report = json.loads(name.with_suffix(".parity.json").read_text())
    assert 1e-5 < max(one["abs_rel"] for one in report["agreements"]) < 0.02
    name.unlink()
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as stop:
        patch.setattr(int8, "LIMIT", 1e-6)
        main(command)
    assert stop.value.code == 2
    assert "not written" in capsys.readouterr().err
    assert not name.exists()
    assert not list(tmp_path.glob(".export*"))


def test_a_process_with_several_openvino_models_survives_a_signal(tmp_path):
    """OpenVINO gives the main thread a stack for signals and takes it away; see `openvino_graph.core`."""
    program = (
        "import faulthandler, gc, os, signal\nfaulthandler.enable()\n"
        "from depth_anything.predict.backends import load_backend\n"
        "for _ in range(2):\n    backend = load_backend('nano', 'openvino')\n"
        "del backend\ngc.collect()\n"
        "signal.signal(signal.SIGTERM, lambda *_: print('asked to stop'))\nos.kill(os.getpid(), signal.SIGTERM)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0 and "asked to stop" in done.stdout, done


@pytest.mark.slow
def test_a_camera_aware_file_predicts_the_same_metres_in_openvino(tmp_path, monkeypatch):
    model = random_model(tiny(head="sigmoid", max_depth=20.0, canonical_focal=60.0))
    report = export(model, tmp_path / "aware.xml", ExportOptions(to="openvino"))
    assert not report.failures
    image_HW3 = photograph(90, 120)
    K_33 = camera.from_numbers([40.0, 40.0, 59.5, 44.5])
    found = Predictor(tmp_path / "aware.xml")(image_HW3).with_camera(K_33).depth_m
    np.testing.assert_allclose(found, model.infer_rgb(image_HW3, None, K_33), rtol=1e-4)

    without = {name: text for name, text in file_metadata.FIELDS.items() if name != "canonical_focal"}
    monkeypatch.setattr(openvino_graph, "FIELDS", without)  # a carrier that forgets the camera
    for half in (False, True):
        with pytest.raises(ValueError, match=r"differs from torch on .*AbsRel 0\.\d"):
            export(model, tmp_path / "lost.xml", ExportOptions(to="openvino", half=half))
    assert not (tmp_path / "lost.xml").exists()
