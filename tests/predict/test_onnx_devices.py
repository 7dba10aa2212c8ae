"""Devices of ONNX Runtime and OpenVINO: the list of providers that is asked for, and what is said of what came of it.

No GPU here: a stand-in for the module onnxruntime has the providers of other wheels, and starts those it is told to.
"""

import logging
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from depth_anything.predict import backends, onnx_devices, openvino_graph
from depth_anything.predict.backends import NANO_ONNX, OnnxBackend, OpenVinoBackend, load_backend

CPU = "CPUExecutionProvider"
CUDA = "CUDAExecutionProvider"
TENSORRT = "TensorrtExecutionProvider"


@pytest.fixture
def runtime(monkeypatch):
    """The real module, but for the providers that it was built with and those that start.

    ONNX Runtime leaves out a provider without its libraries (CUDA), or raises (TensorRT).
    """
    import onnxruntime

    real = onnxruntime.InferenceSession
    sessions = []

    def use(built: tuple[str, ...], starts: tuple[str, ...] = (), raises: tuple[str, ...] = ()):
        def session(path, options, providers, **others):
            sessions.append((providers, options, others))
            names = [one if isinstance(one, str) else one[0] for one in providers]
            assert set(names) <= {*built, CPU}, "a provider was asked for that is not there"
            if set(names) & set(raises):
                raise RuntimeError("Please install TensorRT\n libraries")
            made = real(path, options, providers=[CPU])
            got = [name for name in names if name in (*starts, CPU)]
            return SimpleNamespace(run=made.run, get_modelmeta=made.get_modelmeta, get_providers=lambda: got)

        fake = SimpleNamespace(**{name: getattr(onnxruntime, name) for name in dir(onnxruntime) if name[0] != "_"})
        fake.get_available_providers = lambda: [*built, CPU]
        fake.InferenceSession = session
        fake.preload_dlls = lambda: sys.stdout.write("Failed to load libcublas")
        monkeypatch.setitem(sys.modules, "onnxruntime", fake)
        return sessions

    return use


def names(session) -> list[str]:
    return [one if isinstance(one, str) else one[0] for one in session[0]]


@pytest.mark.parametrize(
    ("device", "expected", "options"),
    [
        ("cpu", [CPU], {}),
        ("cuda", [CUDA, CPU], {"device_id": "0"}),
        ("cuda:2", [CUDA, CPU], {"device_id": "2"}),
        ("tensorrt:1", [TENSORRT, CUDA, CPU], {"device_id": "1"}),
        ("directml:1", ["DmlExecutionProvider", CPU], {"device_id": "1"}),
        ("coreml", ["CoreMLExecutionProvider", CPU], {}),
        ("gpu", ["OpenVINOExecutionProvider", CPU], {"device_type": "GPU"}),
        ("gpu:1", ["OpenVINOExecutionProvider", CPU], {"device_type": "GPU.1"}),
        ("npu", ["OpenVINOExecutionProvider", CPU], {"device_type": "NPU"}),
        ("auto", [CUDA, "DmlExecutionProvider", CPU], {}),
    ],
)  # fmt: skip
def test_the_list_of_providers(runtime, caplog, device, expected, options):
    everything = tuple(onnx_devices.PROVIDERS.values())[1:]
    sessions = runtime(everything, starts=everything)
    backend = OnnxBackend(NANO_ONNX, device=device)
    assert names(sessions[-1]) == expected
    first = sessions[-1][0][0]
    if options:
        assert options.items() <= first[1].items()
    assert backend.device == ("cuda" if device == "auto" else device) and not caplog.records
    assert sessions[-1][1].enable_mem_pattern is (expected[0] != "DmlExecutionProvider")
    assert backend([np.zeros((20, 30, 3), np.uint8)], 32)[0].shape == (20, 30)


def test_auto_names_no_provider_that_is_slower_or_slow_to_start(runtime):
    sessions = runtime((TENSORRT, CUDA, "CoreMLExecutionProvider", "OpenVINOExecutionProvider"), starts=(CUDA,))
    assert OnnxBackend(NANO_ONNX, device="auto").device == "cuda"
    assert names(sessions[-1]) == [CUDA, CPU]
    sessions = runtime(("CoreMLExecutionProvider",), starts=("CoreMLExecutionProvider",))
    assert OnnxBackend(NANO_ONNX, device="auto").device == "cpu"
    assert names(sessions[-1]) == [CPU]


def test_a_provider_that_does_not_start_is_one_line(runtime, caplog, capfd):
    runtime((TENSORRT, CUDA))
    with caplog.at_level(logging.WARNING):
        assert OnnxBackend(NANO_ONNX, device="cuda").device == "cpu"
    [record] = caplog.records
    assert "CUDAExecutionProvider did not start" in record.message and "CPUExecutionProvider runs" in record.message
    assert "\n" not in record.message and capfd.readouterr().out == ""


def test_where_tensorrt_raises_cuda_is_tried(runtime, caplog):
    sessions = runtime((TENSORRT, CUDA), starts=(CUDA,), raises=(TENSORRT,))
    assert OnnxBackend(NANO_ONNX, device="tensorrt").device == "cuda"
    assert [names(session) for session in sessions] == [[TENSORRT, CUDA, CPU], [CUDA, CPU]]
    assert all(session[2] == {"enable_fallback": 0} for session in sessions), "its own way prints boxes"
    [record] = caplog.records
    assert "(Please install TensorRT libraries); CUDAExecutionProvider runs" in record.message


def test_a_damaged_file_is_no_fault_of_a_provider(runtime, caplog, tmp_path):
    runtime((CUDA,), starts=(CUDA,))
    (tmp_path / "x.onnx").write_bytes(b"\x08\x0a\x12\xff\xff")
    with pytest.raises(ValueError, match="not a model that ONNX Runtime can read"):
        OnnxBackend(tmp_path / "x.onnx", device="cuda")
    assert not caplog.records


@pytest.mark.parametrize(
    ("device", "told"),
    [
        ("cuda", "built without it; pip uninstall -y onnxruntime, then pip install onnxruntime-gpu"),
        ("tensorrt", "pip install onnxruntime-gpu"),
        ("directml", "pip install onnxruntime-directml"),
        ("npu", "pip install onnxruntime-openvino"),
        ("coreml", "only onnxruntime for macOS"),
        ("mps", "expected auto or one of cpu, cuda, tensorrt, coreml, directml, gpu, npu"),
        ("cuda:", "expected auto or one of"),
        ("cuda:x", "expected auto or one of"),
        ("tpu", "expected auto or one of"),
    ],
)  # fmt: skip
def test_a_device_that_this_wheel_has_not(runtime, device, told):
    runtime(())
    with pytest.raises(ValueError, match=f"device '{device}'.*{told}"):
        OnnxBackend(NANO_ONNX, device=device)


def test_two_wheels_are_one_line(runtime, caplog, monkeypatch):
    here = {"onnxruntime", "onnxruntime-gpu"}
    monkeypatch.setattr(onnx_devices, "is_installed", here.__contains__)
    line = (
        "onnxruntime and onnxruntime-gpu are installed and overwrite each other's files: pip uninstall -y onnxruntime "
    )
    runtime((CUDA,), starts=(CUDA,))
    OnnxBackend(NANO_ONNX, device="cuda")
    assert [line in record.message for record in caplog.records] == [True]
    runtime(())
    with pytest.raises(ValueError, match=line):
        OnnxBackend(NANO_ONNX, device="cuda")
    here.remove("onnxruntime")
    caplog.clear()
    runtime((CUDA,), starts=(CUDA,))
    OnnxBackend(NANO_ONNX, device="cuda")
    assert not caplog.records


def test_nano_runs_where_the_device_is(runtime, monkeypatch):
    """In ONNX Runtime where that has the device, in torch where only torch may have it."""
    monkeypatch.setattr(backends, "best_device", lambda: "cuda")
    monkeypatch.setattr(
        backends, "load_torch_backend", lambda model, variant, device, *_: SimpleNamespace(device=f"torch {device}")
    )
    runtime(())
    assert load_backend("nano", device="cuda").device == "torch cuda"
    assert load_backend("nano", device="auto").device == "torch cuda"
    assert load_backend("nano", device="mps").device == "torch mps"
    with pytest.raises(ValueError, match="onnxruntime-directml"):
        load_backend("nano", device="directml")
    runtime((CUDA,), starts=(CUDA,))
    assert load_backend("nano", device="cuda:1").device == "cuda:1"
    assert load_backend("nano", device="auto").device == "cuda"
    assert load_backend("nano", device="cuda", dtype="bf16").device == "torch cuda"
    assert load_backend("nano", device="cuda", compile=True).device == "torch cuda"


def test_openvino_s_devices(monkeypatch):
    image_HW3 = np.zeros((20, 30, 3), np.uint8)
    expected_HW = OpenVinoBackend(NANO_ONNX)([image_HW3], 32)[0]
    for device in ("auto", "AUTO", "CPU"):
        backend = OpenVinoBackend(NANO_ONNX, device=device)
        assert backend.device.lower() == "cpu"
        np.testing.assert_array_equal(backend([image_HW3], 32)[0], expected_HW)
    with pytest.raises(ValueError, match="device 'npu': OpenVINO does not find it; expected auto or one of cpu"):
        OpenVinoBackend(NANO_ONNX, device="npu")
    monkeypatch.setattr(
        openvino_graph, "core", lambda: SimpleNamespace(available_devices=["CPU", "GPU.0", "GPU.1", "NPU"])
    )
    asked = [("gpu", "fp32"), ("gpu:1", "fp16"), ("GPU.0", "fp32"), ("npu", "fp16"), ("cpu", "bf16"), ("auto", "fp32")]
    assert [openvino_graph.device_name(*one) for one in asked] == ["GPU", "GPU.1", "GPU.0", "NPU", "CPU", "AUTO"]
    for device, dtype, told in (("gpu:2", "fp32", "gpu:0, gpu:1, npu"), ("npu", "fp32", "computes in fp16")):
        with pytest.raises(ValueError, match=told):
            openvino_graph.device_name(device, dtype)


def test_a_device_without_free_sizes_gets_every_size_compiled(monkeypatch):
    """As NPUs need it; here the processor stands in for one."""
    from depth_anything.predict.openvino_graph import core

    image_HW3 = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)
    expected_HW = OpenVinoBackend(NANO_ONNX)([image_HW3], 56)[0]
    compiled = []

    class Core:
        available_devices = ("NPU",)

        def compile_model(self, model, device, settings):
            compiled.append((device, model.is_dynamic()))
            return core().compile_model(model, "CPU", {**settings, "INFERENCE_PRECISION_HINT": "f32"})

        def read_model(self, *args):
            return core().read_model(*args)

    monkeypatch.setattr(openvino_graph, "core", Core)
    found_HW = OpenVinoBackend(NANO_ONNX, device="npu", dtype="fp16")([image_HW3], 56)[0]
    assert compiled == [("NPU", False)]
    np.testing.assert_allclose(found_HW, expected_HW, atol=1e-4)
