"""The command `depth-anything`: one function per command, heavy imports inside.

Exit codes: 0 all done; 1 some inputs failed, the rest is done; 2 bad options, or every input failed.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import tyro
from tyro.conf import Positional

from . import __version__

app = tyro.extras.SubcommandApp()


class Failed(Exception):
    """Some inputs failed; their lines are printed already."""

    def __init__(self, code: int):
        self.code = code


@app.command
def predict(
    inputs: Positional[tuple[str, ...]],
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])] = Path("out"),
    model: str = "nano",
    save: str = "color,png16",
    variant: str | None = None,
    backend: Literal["onnx", "torch"] | None = None,
    device: str = "cpu",
    dtype: Literal["fp32", "bf16", "fp16"] = "fp32",
    input_size: int | None = None,
    threads: int | None = None,
    colormap: str | None = None,
    overwrite: bool = False,
    accept_license: bool = False,
) -> None:
    """Depth maps of pictures.

    Args:
        inputs: files, folders, patterns, a .txt list of paths, or - for standard input.
        out: folder for the results; the folders of the input are mirrored.
        model: a name that `depth-anything models` lists, a hub id, a checkpoint, a transformers folder, an .onnx file.
        save: what to write, separated by commas: color, png16, npz.
        variant: which model a checkpoint holds, where the file does not say it.
        backend: onnx (base install) or torch; by default onnx for nano and .onnx files, torch for the rest.
        device: cpu, cuda, mps.
        dtype: fp32, bf16, fp16.
        input_size: lower bound of the shorter side at the network; by default the model's own (518, nano 224).
        threads: processor threads.
        colormap: Spectral_r, inferno, turbo, gray.
        overwrite: replace results that exist.
        accept_license: needed once for weights whose owner does not clearly allow commercial use.
    """
    from tqdm import tqdm

    from .inputs import find_images
    from .predictor import Predictor

    kinds = [kind.strip() for kind in save.split(",") if kind.strip()]
    sources = find_images(inputs, exclude=out)
    predictor = Predictor(
        model,
        backend=backend,
        variant=variant,
        device=device,
        dtype=dtype,
        input_size=input_size,
        accept_license=accept_license,
        threads=threads,
    )
    written: list[Path] = []
    failed = 0
    last = None
    progress = tqdm(sources, unit="picture", disable=None if len(sources) > 1 else True)
    for source in progress:
        try:
            last = predictor(source)
            written += last.save(out, source.stem, kinds, colormap=colormap, overwrite=overwrite)
        except ValueError as error:
            failed += 1
            progress.write(f"error: {error}", file=sys.stderr)
    progress.close()
    for path in written[:20]:
        print(path)
    if len(written) > 20:
        print(f"... {len(written)} files in all, in {out}")
    if last is not None:
        print(last.describe())
    if failed:
        raise Failed(2 if failed == len(sources) else 1)


@app.command
def models() -> None:
    """The models, what their numbers mean, their licences."""
    from .variants import VARIANTS

    rows = [("model", "answers", "licence", "commercial use", "official file")]
    for row in VARIANTS.values():
        answers = "disparity" if row.max_depth is None else f"metres, up to {row.max_depth:g}"
        commercial = {True: "yes", False: "no", None: "not stated"}[row.commercial]
        rows.append((row.name, answers, row.licence, commercial, row.hub_file or row.note))
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    print(
        "\nWeights that are not clearly free for commercial use need --accept-license once. "
        "Official files come from the Hugging Face hub, or from a path that you give with --variant."
    )


@app.command
def render(
    out: Positional[Path],
    count: int = 100,
    seed: int = 0,
    width: int = 256,
    height: int = 192,
    samples: int = 4,
    processes: int | None = None,
) -> None:
    """Labelled scenes: pictures with exact disparity, sky and classes, as tar shards (needs the extra render).

    Args:
        out: folder for the shards and sheet.png; finished shards in it are kept.
        count: scenes.
        seed: of the first scene; the same seed gives the same bytes.
        width: of a picture, in pixels.
        height: of a picture, in pixels.
        samples: light paths per pixel.
        processes: workers; by default one per core.
    """
    from .scenes.render import contact_sheet, render_shards

    shards = render_shards(out, count, seed, size=(width, height), spp=samples, processes=processes)
    contact_sheet(out, out / "sheet.png")
    print(f"{count} scenes in {len(shards)} shards in {out}; look at {out / 'sheet.png'}")


@app.command
def evaluate(
    table: Positional[str],
    data: Path,
    model: str = "nano",
    json: bool = False,
) -> None:
    """Score a model under a named protocol.

    Args:
        table: pairs.
        data: the manifest of pairs.
        model: a model of ours, or `row` and `constant` for the floors.
        json: print one JSON object.
    """
    from .evaluate.pairs import run_pairs

    if table != "pairs":
        raise ValueError(f"table {table!r}: expected pairs")
    print(run_pairs(data, model, json))


@app.command
def export(
    model: Positional[str],
    to: Literal["onnx"] = "onnx",
    out: Annotated[Path | None, tyro.conf.arg(aliases=["-o"])] = None,
    variant: str | None = None,
    half: bool = False,
    accept_license: bool = False,
) -> None:
    """One ONNX file with the whole road inside: a uint8 picture of any size in, its map at that size out.

    Args:
        model: a name of `depth-anything models` or a checkpoint.
        to: the form.
        out: the file; by default MODEL.onnx.
        variant: which model a checkpoint holds, where the file does not say it.
        half: store the weights as float16; half the size, computed in float32.
        accept_license: as for predict.
    """
    from .export import export_onnx
    from .model import DepthAnything

    network = DepthAnything.from_pretrained(model, variant=variant, accept_license=accept_license)
    path = out or Path(f"{Path(model).stem}.onnx")
    export_onnx(network, path, half=half)
    print(f"{path}: uint8 (H, W, 3) RGB in, {network.variant.quantity} (H, W) out, licence {network.variant.licence}")


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point: runs a command and leaves with its exit code."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if arguments == ["--version"]:
        print(__version__)
        return
    try:
        app.cli(
            prog="depth-anything",
            description="Depth Anything V1 and V2, complete.",
            args=arguments,
            config=(tyro.conf.FlagCreatePairsOff,),
        )
    except Failed as failed:
        sys.exit(failed.code)
    except (ValueError, ModuleNotFoundError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("stopped; what is written is whole, run the command again for the rest", file=sys.stderr)
        sys.exit(130)
