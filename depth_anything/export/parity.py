"""Compare an exported file with torch on photographs; write the report.

The report has three files next to the export: JSON for programs, Markdown and an image for people. It also compares
the intermediate stages of the network, to locate a difference.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from depth_anything.export.agreement import EXACT, HALF, INT8, NEAR_ENOUGH, Agreement, Tolerance, agreement
from depth_anything.geometry import camera
from depth_anything.images import colormap
from depth_anything.images.map_files import write_image
from depth_anything.images.read import read_image
from depth_anything.network.resize import network_size_of, to_tensor
from depth_anything.predict.backends import exported_backend
from depth_anything.predict.openvino_graph import core
from depth_anything.predict.predictor import Predictor
from depth_anything.system.files import atomic_path

if TYPE_CHECKING:
    import torch

    from depth_anything.export.options import ExportOptions
    from depth_anything.network.model import DepthAnything

PHOTOGRAPHS = Path(__file__).parents[1] / "photographs"
"""Three photographs of the Kodak suite, 3:2, 2:3 and 2:1."""
TAP = "tap/"
"""Prefix of the names of the stages' outputs in an exported graph."""
FOV_DEGREES = 55.0
"""Horizontal field of view for the comparison of camera-aware models. It differs from the one that they assume."""


@dataclass(frozen=True)
class Report:
    """The comparison of an exported file with torch."""

    file: str
    model: str
    quantity: str
    form: str
    tolerance: Tolerance
    agreements: list[Agreement]
    stages: dict[str, float]
    """Mean difference of each stage on the first photograph, relative to the stage's mean absolute value."""
    image_HW3: np.ndarray

    @property
    def failures(self) -> list[str]:
        """Photographs on which the export differs from torch by more than the tolerance."""
        limit = self.tolerance
        return [
            one.photograph
            for one in self.agreements
            if not one.abs_rel <= limit.abs_rel
            or (limit.difference is not None and one.largest_difference > limit.difference * max(1, one.largest_value))
        ]

    @property
    def first_drift(self) -> str:
        """Name of the first stage that has drifted."""
        drifted = [name for name, difference in self.stages.items() if not difference <= self.tolerance.stage]
        return drifted[0] if drifted else "the last layers or the post-processing"

    def check(self) -> None:
        """Raise ValueError if the tolerance is exceeded."""
        if self.failures:
            worst = max(self.agreements, key=lambda one: one.abs_rel)
            raise ValueError(
                f"{self.file} differs from torch on {', '.join(self.failures)} (largest difference "
                f"{worst.largest_difference:.2g}, AbsRel {worst.abs_rel:.2g}), starting at {self.first_drift}: not "
                "written; see the report, and try another form or version of the runtime"
            )

    def save(self, path: Path) -> None:
        """Write <name>.parity.json, .md and .png beside `path`."""
        values = {
            "file": self.file,
            "model": self.model,
            "quantity": self.quantity,
            "form": self.form,
            "tolerance": asdict(self.tolerance),
            "failures": self.failures,
            "first_drift": self.first_drift if self.failures else None,
            "agreements": [asdict(one) for one in self.agreements],
            "stages": self.stages,
        }
        with atomic_path(path.with_suffix(".parity.json")) as temporary:
            temporary.write_text(json.dumps(values, indent=1) + "\n")
        with atomic_path(path.with_suffix(".parity.md")) as temporary:
            temporary.write_text(self.markdown())
        with atomic_path(path.with_suffix(".parity.png")) as temporary:
            write_image(temporary, self.image_HW3, {"software": "depth-anything"})

    def markdown(self) -> str:
        """The report as Markdown."""
        verdict = f"**Differs**, starting at {self.first_drift}." if self.failures else "Agrees."
        lines = [
            f"# {self.file} compared with torch",
            "",
            f"{self.model}, {self.quantity}, {self.form}. {verdict}",
            "",
            "| photograph | size | at the network | correlation | largest difference | mean | AbsRel |",
            "|---|---|---|---|---|---|---|",
        ]
        lines += [
            f"| {one.photograph} | {one.width}x{one.height} | {one.network_width}x{one.network_height} | "
            f"{one.correlation:.6f} | {one.largest_difference:.2e} | {one.mean_difference:.2e} | "
            f"{one.abs_rel:.2e} |"
            for one in self.agreements
        ]
        lines += [
            "",
            f"AbsRel: mean |export - torch| / torch where torch's map is above {NEAR_ENOUGH:g} of its largest value;",
            "disparity is aligned first by least-squares scale and shift. The image shows photograph, torch, export,",
            "difference.",
            "",
            "| stage inside the network | mean difference / mean absolute value |",
            "|---|---|",
            *(f"| {name} | {difference:.1e} |" for name, difference in self.stages.items()),
        ]
        return "\n".join(lines) + "\n"


def compare(model: DepthAnything, candidate: Path, options: ExportOptions, photos: tuple[Path, ...] = ()) -> Report:
    """Compare the predictions of an exported file and of torch, for the same camera if the model is camera-aware. For a
    bare network, compare the network's maps.

    Raises:
        ValueError: a photograph cannot be read.
    """
    paths = photos or photographs()
    input_size = model.variant.asked_size(options.input_size)
    run = bare_network(candidate) if options.bare else None
    predictor = None if options.bare else Predictor.of(exported_backend(candidate), options.input_size)
    agreements, rows = [], []
    for path in paths:
        image_HW3 = read_image(path)
        size = options.size or network_size_of(model.variant, image_HW3.shape[0], image_HW3.shape[1], input_size)
        if run is not None:
            expected_HW, found_HW = network_maps(model, run, image_HW3, size)
        else:
            assert predictor is not None
            height, width = image_HW3.shape[:2]
            K_33 = camera.from_fov(width, height, FOV_DEGREES)
            expected_HW = model.infer_rgb(image_HW3, options.input_size, K_33)
            found_HW = predictor(image_HW3).with_camera(K_33).values
        agreements.append(agreement(path.stem, image_HW3, size, expected_HW, found_HW, model.variant.quantity))
        rows.append(image_row(image_HW3, expected_HW, found_HW))
    first_HW3 = read_image(paths[0])
    size = options.size or network_size_of(model.variant, first_HW3.shape[0], first_HW3.shape[1], input_size)
    return Report(
        file=candidate.name,
        model=model.variant.name,
        quantity=model.variant.quantity,
        form=" ".join([options.to, *(name for name in ("bare", "half", "fp16", "int8") if getattr(options, name))]),
        tolerance=INT8 if options.int8 else HALF if options.half or options.fp16 else EXACT,
        agreements=agreements,
        stages=stage_differences(model, candidate, first_HW3, size),
        image_HW3=np.concatenate([pad_to(row, max(row.shape[1] for row in rows)) for row in rows]),
    )


def photographs() -> tuple[Path, ...]:
    """The photographs of the package."""
    return tuple(sorted(PHOTOGRAPHS.glob("*.jpg")))


class Watched:
    """A network that also returns the outputs of its stages in order: every block, every fusion, the first output
    convolution."""

    def __init__(self, model: DepthAnything):
        import torch

        scratch = model.depth_head.scratch
        stages: dict[str, torch.nn.Module] = {"patch_embed": model.pretrained.patch_embed}
        stages |= {f"block_{index:02d}": block for index, block in enumerate(model.pretrained.blocks)}
        stages |= {f"fusion_{level}": getattr(scratch, f"refinenet{level}") for level in (4, 3, 2, 1)}
        stages["output_conv1"] = scratch.output_conv1

        class Module(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.model = model

            def forward(self, image_B3HW: torch.Tensor) -> tuple[torch.Tensor, ...]:
                outputs: list = []
                hooks = [
                    stage.register_forward_hook(lambda _module, _inputs, output: outputs.append(output))
                    for stage in stages.values()
                ]
                try:
                    map_BHW = self.model(image_B3HW)
                finally:
                    for hook in hooks:
                        hook.remove()
                return (map_BHW, *outputs)

        self.names = list(stages)
        self.module = Module().eval()


def network_maps(model: DepthAnything, run, image_HW3: np.ndarray, size: tuple[int, int]):
    """The maps of torch and of a bare network, at the network's size."""
    import torch

    image_13HW = to_tensor(image_HW3, size, rule=model.variant.resize)
    with torch.inference_mode():
        expected_HW = model(image_13HW)[0].float().numpy()
    return expected_HW, run({"network_input": image_13HW.numpy()})[0][0]


def bare_network(path: Path, watch: list[str] | None = None):
    """A function from inputs by name to a list of outputs: those of the file, then the intermediate values `watch`."""
    watch = watch or []
    if path.suffix == ".onnx":
        import onnx
        import onnxruntime

        graph = onnx.load(path)
        graph.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in watch)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        session = onnxruntime.InferenceSession(graph.SerializeToString(), options, providers=["CPUExecutionProvider"])
        return lambda inputs: session.run(None, inputs)
    model = core().read_model(path)
    model.add_outputs(watch)
    compiled = core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})

    def run(inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
        results = compiled(inputs)
        return [results[index] for index in range(len(compiled.outputs))]

    return run


def stage_differences(
    model: DepthAnything, path: Path, image_HW3: np.ndarray, size: tuple[int, int]
) -> dict[str, float]:
    """Mean difference of the output of each stage, relative to its mean absolute value, in the network's order."""
    import torch

    watched = Watched(model)
    image_13HW = to_tensor(image_HW3, size, rule=model.variant.resize)
    with torch.inference_mode():
        expected = [output.float().numpy() for output in watched.module(image_13HW)[1:]]
    is_bare = "image" not in input_names(path)
    names = [("" if is_bare else "network/") + TAP + name for name in watched.names]
    inputs = {"network_input": image_13HW.numpy()} if is_bare else {"image": image_HW3, "network_size": np.array(size)}
    found = bare_network(path, names)(inputs)[1:]
    return {
        name: float(np.abs(b - a).mean() / max(np.abs(a).mean(), 1e-12))
        for name, a, b in zip(watched.names, expected, found, strict=True)
    }


def input_names(path: Path) -> list[str]:
    """Names of the inputs of an exported file."""
    if path.suffix == ".onnx":
        import onnx

        return [value.name for value in onnx.load(path, load_external_data=False).graph.input]
    return [value.get_any_name() for value in core().read_model(path).inputs]


def image_row(image_HW3: np.ndarray, expected_HW: np.ndarray, found_HW: np.ndarray, height: int = 200) -> np.ndarray:
    """Photograph, torch, export and difference side by side, uint8."""
    from PIL import Image

    low, high = float(expected_HW.min()), float(expected_HW.max())
    spread = high - low or 1.0
    apart_HW = np.abs(found_HW - expected_HW)
    views = [
        image_HW3,
        colormap.colored((expected_HW - low) / spread),
        colormap.colored((found_HW - low) / spread),
        colormap.colored(apart_HW / (apart_HW.max() or 1.0), "gray"),
    ]
    width = max(1, round(height * image_HW3.shape[1] / image_HW3.shape[0]))
    return np.concatenate([np.asarray(Image.fromarray(view).resize((width, height))) for view in views], axis=1)


def pad_to(row_HW3: np.ndarray, width: int) -> np.ndarray:
    """Pad with white on the right."""
    return np.pad(row_HW3, ((0, 0), (0, width - row_HW3.shape[1]), (0, 0)), constant_values=255)
