"""One GPU: ours, the official code and transformers: inference, labelling and training of ViT-L, -B and -S.

    python benchmarks/gpu.py --official ../Depth-Anything-V2 --out benchmarks/results/gpu.md    # 8 minutes at most
    PYTHONPATH=. python benchmarks/gpu.py       # without an install: torch with CUDA and numpy are enough for ours
    python benchmarks/gpu.py --smoke            # tiny, on the processor: does the script run

Images/s, and shares of the rate of a product of two large matrices in the same format (model FLOP utilisation): with
the FLOPs of the plain graph, two for a multiplication with its addition, three times the forward's for a training step.
Weights are random; speed does not depend on them. What cannot run here (no transformers, no compiler, not enough
memory) is a line that says so; what no time is left for is left out. Rows are printed as they come.
"""

import argparse
import copy
import datetime
import gc
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from contenders import ENCODERS, official_network, transformers_network
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from depth_anything.losses import affine_invariant_pair
from depth_anything.network.model import DepthAnything
from depth_anything.network.resize import normalise
from depth_anything.predict.optimise import optimise

FP32, BF16 = torch.float32, torch.bfloat16


@dataclass(frozen=True)
class Plan:
    """What is timed; sizes that fit an 80 GB GPU."""

    device: str = "cuda"
    models: tuple[str, ...] = ("v2-large", "v2-base", "v2-small")
    batch: int = 32
    side: int = 518
    training_batch: int = 16
    gemm: int = 8192
    seconds: float = 2.0
    """Of every measurement, after warming up."""
    compiled: bool = True
    last_start: float = 360.0
    """Seconds after which nothing new is begun: compiling a training step can take two minutes."""


SMOKE = Plan(
    device="cpu", models=("v2-small",), batch=2, side=28, training_batch=2, gemm=64, seconds=0.01, compiled=False
)
Measured = tuple[float, float]
"""Seconds of a batch, and the most GPU memory meanwhile, GB."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--official", type=Path, help="a checkout of DepthAnything/Depth-Anything-V2; else skipped")
    parser.add_argument("--models", nargs="+", help="v2-large v2-base v2-small, in this order")
    parser.add_argument("--smoke", action="store_true")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    if not arguments.smoke and not torch.cuda.is_available():
        parser.error("no CUDA device here; --smoke shows that the script runs")
    if arguments.official and not (arguments.official / "depth_anything_v2").is_dir():
        parser.error(f"{arguments.official}: no folder depth_anything_v2 in it; give a checkout of Depth-Anything-V2")
    plan = SMOKE if arguments.smoke else Plan(models=tuple(arguments.models or Plan.models))
    lines = []
    for line in run(plan, arguments.official):
        print(line, flush=True)
        lines.append(line)
        if arguments.out:  # after each line: whatever ends the run, what was measured is there
            arguments.out.parent.mkdir(parents=True, exist_ok=True)
            arguments.out.write_text("\n".join(lines) + "\n")


def run(plan: Plan, official: Path | None = None) -> Iterator[str]:
    """The table in Markdown, line by line."""
    begin = time.perf_counter()
    torch.manual_seed(0)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False  # float32 means float32
    rates = {dtype: gemm_rate(plan, dtype) for dtype in (FP32, BF16)}
    name = torch.cuda.get_device_name() if plan.device == "cuda" else platform.processor() or "processor"
    yield (
        f"{datetime.date.today()}. {name}, torch {torch.__version__}, images of {plan.side}x{plan.side}. Products of "
        f"{plan.gemm}x{plan.gemm} matrices: {rates[FP32] / 1e12:.3g} TFLOP/s in fp32, {rates[BF16] / 1e12:.3g} in bf16."
    )
    yield ""
    yield "| model | what | format | batch | ms | images/s | share of the matrix rate | peak memory GB |"
    yield "|---|---|---|---|---|---|---|---|"
    for model in plan.models:
        flops = forward_flops(model, plan.side)
        with tempfile.TemporaryDirectory() as folder:
            for what, dtype, batch, measure in measurements(plan, model, official, Path(folder)):
                row = f"| {model} | {what} | {'fp32' if dtype == FP32 else 'bf16'} | {batch} |"
                if time.perf_counter() - begin > plan.last_start:
                    yield f"{row} no time left | | | |"
                    continue
                try:
                    seconds, memory = measure()
                except Exception as error:  # one contender less, not all of them
                    yield f"{row} did not run: {(str(error) or repr(error)).splitlines()[0]} | | | |"
                else:
                    share = (3 if "training" in what else 1) * flops * batch / seconds / rates[dtype]
                    yield f"{row} {1e3 * seconds:.1f} | {batch / seconds:.1f} | {share:.0%} | {memory:.1f} |"
                release(plan)


def measurements(
    plan: Plan, model: str, official: Path | None, folder: Path
) -> Iterator[tuple[str, torch.dtype, int, Callable[[], Measured]]]:
    """(what, format, batch, how to measure it), what matters most first."""
    network = DepthAnything(model)
    last = network.depth_head.scratch.output_conv2[2]
    assert isinstance(last, nn.Conv2d) and last.bias is not None
    nn.init.constant_(last.bias, 0.5)
    batch = plan.batch

    def ours(dtype: torch.dtype, size: int, compiled: bool = False) -> Measured:
        return inference(plan, frozen(plan, network, dtype, compiled), dtype, size)

    def official_code(dtype: torch.dtype) -> Measured:
        torch.save(network.state_dict(), folder / "official.pth")
        assert official is not None
        return inference(plan, official_network(official, folder, model).to(plan.device, dtype), dtype, batch)

    def transformers(dtype: torch.dtype) -> Measured:
        from depth_anything.checkpoints.official import save_transformers

        save_transformers(network, folder / "transformers")
        theirs = transformers_network(folder, "sdpa").to(plan.device, dtype)
        return inference(plan, lambda image: theirs(pixel_values=image).predicted_depth, dtype, batch)

    yield "inference, ours", BF16, batch, lambda: ours(BF16, batch)
    if plan.compiled:
        yield "inference, ours, compiled, CUDA graphs", BF16, batch, lambda: ours(BF16, batch, compiled=True)
    yield "training step, ours", BF16, plan.training_batch, lambda: training(plan, network)
    yield "labelling, ours: images in, maps on the host", BF16, batch, lambda: labelling(plan, network)
    if official is not None and model in ENCODERS:
        yield "inference, official", BF16, batch, lambda: official_code(BF16)
        yield "inference, official", FP32, batch, lambda: official_code(FP32)
    if model in ENCODERS:
        yield "inference, transformers, sdpa", BF16, batch, lambda: transformers(BF16)
    yield "inference, ours", FP32, batch, lambda: ours(FP32, batch)
    yield "inference, ours", BF16, 1, lambda: ours(BF16, 1)
    if plan.compiled:
        yield "inference, ours, compiled, CUDA graphs", BF16, 1, lambda: ours(BF16, 1, compiled=True)


def seconds_of(plan: Plan, call: Callable[[], object]) -> Measured:
    """Median of a call that is over when the device is."""
    for _ in range(3):
        call()
    synchronise(plan)
    if plan.device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    times: list[float] = []
    while sum(times) < plan.seconds or len(times) < 3:
        start = time.perf_counter()
        call()
        synchronise(plan)
        times.append(time.perf_counter() - start)
    memory = torch.cuda.max_memory_allocated() / 2**30 if plan.device == "cuda" else float("nan")
    return statistics.median(times), memory


def synchronise(plan: Plan) -> None:
    if plan.device == "cuda":
        torch.cuda.synchronize()


def release(plan: Plan) -> None:
    """Forget compiled code and its CUDA graphs, and give their memory back."""
    torch.compiler.reset()
    gc.collect()
    if plan.device == "cuda":
        torch.cuda.empty_cache()


def gemm_rate(plan: Plan, dtype: torch.dtype) -> float:
    """FLOP/s of a large product."""
    a, b = (torch.randn(plan.gemm, plan.gemm, device=plan.device).to(dtype) for _ in range(2))
    return 2 * plan.gemm**3 / seconds_of(plan, lambda: a @ b)[0]


def forward_flops(model: str, side: int) -> int:
    """Of one image through the plain graph."""
    with torch.device("meta"):
        network, image_13HW = DepthAnything(model), torch.zeros(1, 3, side, side)
    with FlopCounterMode(display=False) as counter:
        network(image_13HW)
    return counter.get_total_flops()


def frozen(plan: Plan, network: DepthAnything, dtype: torch.dtype, compiled: bool) -> DepthAnything:
    return optimise(copy.deepcopy(network), plan.device, dtype, compile=compiled)


def inference(plan: Plan, network: Callable, dtype: torch.dtype, batch: int) -> Measured:
    """A batch in the device's memory."""
    image_B3HW = torch.randn(batch, 3, plan.side, plan.side, device=plan.device, dtype=dtype)
    with torch.inference_mode():
        return seconds_of(plan, lambda: network(image_B3HW))


def labelling(plan: Plan, network: DepthAnything) -> Measured:
    """A batch of uint8 images on the host whose maps come back: step 2 of the papers."""
    teacher = frozen(plan, network, BF16, compiled=False)
    uint8_B3HW = torch.randint(0, 256, (plan.batch, 3, plan.side, plan.side), dtype=torch.uint8)
    if plan.device == "cuda":
        uint8_B3HW = uint8_B3HW.pin_memory()

    def label() -> torch.Tensor:
        image_B3HW = normalise(uint8_B3HW.to(plan.device, non_blocking=True).float() / 255)
        return teacher(image_B3HW.bfloat16()).half().cpu()

    with torch.inference_mode():
        return seconds_of(plan, label)


def training(plan: Plan, network: DepthAnything) -> Measured:
    """A step of the teacher's recipe: bf16 autocast, V2's losses, AdamW."""
    student = copy.deepcopy(network).to(plan.device).train()
    optimizer = torch.optim.AdamW(student.parameters(), lr=1e-6, fused=plan.device == "cuda")
    forward = torch.compile(student) if plan.compiled else student
    image_B3HW = torch.randn(plan.training_batch, 3, plan.side, plan.side, device=plan.device)
    ground_truth_BHW = torch.rand(plan.training_batch, plan.side, plan.side, device=plan.device)
    valid_BHW = torch.ones_like(ground_truth_BHW, dtype=torch.bool)

    def step() -> None:
        with torch.autocast(plan.device, BF16):
            disparity_BHW = forward(image_B3HW)
        main_loss, matching = affine_invariant_pair(disparity_BHW.float(), ground_truth_BHW, valid_BHW)
        optimizer.zero_grad(set_to_none=True)
        (main_loss + 2 * matching).backward()
        optimizer.step()

    return seconds_of(plan, step)


if __name__ == "__main__":
    main()
