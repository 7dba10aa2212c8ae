"""`depth-anything render`: labelled scenes."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from tyro.conf import Positional


def render(
    out: Positional[Path],
    count: int = 100,
    seed: int = 0,
    width: int = 256,
    height: int = 192,
    samples: int = 4,
    processes: int | None = None,
    models: Path | None = None,
    device: Literal["cpu", "cuda"] = "cpu",
) -> None:
    """Render labelled scenes: images with exact disparity, sky and classes, in tar shards (needs the extra render).

    Args:
        out: folder for the shards and sheet.png; finished shards in it are kept.
        count: number of scenes.
        seed: seed of the first scene; the same seed gives the same bytes.
        width: width of an image in pixels.
        height: height of an image in pixels.
        samples: light paths per pixel.
        processes: worker processes; by default one per core.
        models: folder of 3D models to add (OBJ, GLB, Sweet Home 3D's .sh3f); docs/scenes.md names free ones.
        device: device that traces the light; cuda needs an NVIDIA GPU, and gives other bytes than cpu.
    """
    from depth_anything.data.scenes.render import contact_sheet, render_shards

    shards = render_shards(
        out, count, seed, size=(width, height), spp=samples, processes=processes, models=models, device=device
    )
    contact_sheet(out, out / "sheet.png")
    print(f"{count} scenes in {len(shards)} shards in {out}; look at {out / 'sheet.png'}")
