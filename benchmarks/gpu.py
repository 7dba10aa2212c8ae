"""One GPU: inference, labelling and training of ViT-S, -B and -L: images/s, and shares of the measured matrix rate.

    python benchmarks/gpu.py --out benchmarks/results/gpu.md        # under 8 minutes on one GPU
    python benchmarks/gpu.py --smoke                                # nano, tiny, on the processor: does the script run

Weights are random; speed does not depend on them. A product of two large matrices is timed first, in each format: its
rate is what the machine can do, and the shares (model FLOP utilisation) are of that, with the FLOPs of the plain graph,
two for a multiplication with its addition, three times the forward's for a training step.
"""

import argparse
import datetime
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from depth_anything.freeze import freeze
from depth_anything.losses import affine_invariant_pair
from depth_anything.model import DepthAnything


@dataclass(frozen=True)
class Plan:
    """What is timed; sizes that fit an 80 GB GPU."""

    device: str = "cuda"
    models: tuple[str, ...] = ("v2-small", "v2-base", "v2-large")
    batches: tuple[int, ...] = (1, 8, 32)
    side: int = 518
    training_batch: int = 16
    gemm: int = 8192
    seconds: float = 4.0
    """Of every measurement, after warming up."""
    compiled: bool = True


SMOKE = Plan(
    device="cpu", models=("nano",), batches=(1, 2), side=28, training_batch=2, gemm=64, seconds=0.05, compiled=False
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    if not arguments.smoke and not torch.cuda.is_available():
        parser.error("no CUDA device here; --smoke shows that the script runs")
    text = run(SMOKE if arguments.smoke else Plan())
    print(text)
    if arguments.out:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(text)


def run(plan: Plan) -> str:
    """All tables, in Markdown."""
    torch.manual_seed(0)
    rates = {dtype: gemm_rate(plan, dtype) for dtype in (torch.float32, torch.bfloat16)}
    name = torch.cuda.get_device_name() if plan.device == "cuda" else platform.processor() or "processor"
    lines = [
        f"{datetime.date.today()}. {name}, torch {torch.__version__}, pictures of {plan.side}x{plan.side}. Products of "
        f"{plan.gemm}x{plan.gemm} matrices: {rates[torch.float32] / 1e12:.3g} TFLOP/s in fp32, "
        f"{rates[torch.bfloat16] / 1e12:.3g} in bf16.\n",
        "| model | what | format | batch | ms | images/s | share of the matrix rate | peak memory GB |",
        "|---|---|---|---|---|---|---|---|",
    ]
    fp32, bf16, most = torch.float32, torch.bfloat16, plan.batches[-1]
    for model in plan.models:
        measured = [
            ("inference", fp32, most, inference(plan, model, fp32, most, compiled=False)),
            ("inference", bf16, most, inference(plan, model, bf16, most, compiled=False)),
            ("labelling, pictures in, maps on the host", bf16, most, labelling(plan, model)),
            ("training step", bf16, plan.training_batch, training(plan, model)),
        ]
        for batch in plan.batches if plan.compiled else ():
            seconds = inference(plan, model, bf16, batch, compiled=True)
            measured.append(("inference, compiled, CUDA graphs", bf16, batch, seconds))
        flops = forward_flops(model, plan.side)
        for what, dtype, batch, (seconds, memory) in measured:
            passes = 3 if what == "training step" else 1
            share = passes * flops * batch / seconds / rates[dtype]
            lines.append(
                f"| {model} | {what} | {'fp32' if dtype == fp32 else 'bf16'} | {batch} | {1e3 * seconds:.1f} | "
                f"{batch / seconds:.1f} | {share:.0%} | {memory:.1f} |"
            )
    return "\n".join(lines) + "\n"


def seconds_of(plan: Plan, call: Callable[[], object]) -> tuple[float, float]:
    """Median seconds of a call that is over when the device is, and the most GPU memory meanwhile, GB."""
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


def gemm_rate(plan: Plan, dtype: torch.dtype) -> float:
    """FLOP/s of a large product. float32 means float32, not TF32."""
    torch.backends.cuda.matmul.allow_tf32 = False
    a, b = (torch.randn(plan.gemm, plan.gemm, device=plan.device).to(dtype) for _ in range(2))
    return 2 * plan.gemm**3 / seconds_of(plan, lambda: a @ b)[0]


def forward_flops(model: str, side: int) -> int:
    """Of one picture through the plain graph."""
    with torch.device("meta"):
        network, image_13HW = DepthAnything(model), torch.zeros(1, 3, side, side)
    with FlopCounterMode(display=False) as counter:
        network(image_13HW)
    return counter.get_total_flops()


def inference(plan: Plan, model: str, dtype: torch.dtype, batch: int, compiled: bool) -> tuple[float, float]:
    """Seconds (and memory) of a batch that lies on the device."""
    network = freeze(DepthAnything(model), plan.device, dtype, compile=compiled)
    image_B3HW = torch.randn(batch, 3, plan.side, plan.side, device=plan.device, dtype=dtype)
    with torch.inference_mode():
        return seconds_of(plan, lambda: network(image_B3HW))


def labelling(plan: Plan, model: str) -> tuple[float, float]:
    """Seconds (and memory) of a batch of uint8 pictures on the host whose maps come back: step 2 of the papers."""
    from depth_anything.preprocess import normalise

    network = freeze(DepthAnything(model), plan.device, torch.bfloat16, compile=plan.compiled)
    picture_B3HW = torch.randint(0, 256, (plan.batches[-1], 3, plan.side, plan.side), dtype=torch.uint8)
    if plan.device == "cuda":
        picture_B3HW = picture_B3HW.pin_memory()

    def label() -> torch.Tensor:
        image_B3HW = normalise(picture_B3HW.to(plan.device, non_blocking=True).float() / 255)
        return network(image_B3HW.bfloat16()).half().cpu()

    with torch.inference_mode():
        return seconds_of(plan, label)


def training(plan: Plan, model: str) -> tuple[float, float]:
    """Seconds (and memory) of a step of the teacher's recipe: bf16 autocast, V2's losses, AdamW."""
    network = DepthAnything(model).to(plan.device).train()
    last = network.depth_head.scratch.output_conv2[2]
    assert isinstance(last, nn.Conv2d) and last.bias is not None
    nn.init.constant_(last.bias, 0.5)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-6, fused=plan.device == "cuda")
    forward = torch.compile(network) if plan.compiled else network
    image_B3HW = torch.randn(plan.training_batch, 3, plan.side, plan.side, device=plan.device)
    truth_BHW = torch.rand(plan.training_batch, plan.side, plan.side, device=plan.device)
    valid_BHW = torch.ones_like(truth_BHW, dtype=torch.bool)

    def step() -> None:
        with torch.autocast(plan.device, torch.bfloat16):
            disparity_BHW = forward(image_B3HW)
        main_loss, matching = affine_invariant_pair(disparity_BHW.float(), truth_BHW, valid_BHW)
        optimizer.zero_grad(set_to_none=True)
        (main_loss + 2 * matching).backward()
        optimizer.step()

    return seconds_of(plan, step)


if __name__ == "__main__":
    main()
