"""`depth-anything render`: labelled scenes."""

from __future__ import annotations

from pathlib import Path

from tyro.conf import Positional


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
    from ..scenes.render import contact_sheet, render_shards

    shards = render_shards(out, count, seed, size=(width, height), spp=samples, processes=processes)
    contact_sheet(out, out / "sheet.png")
    print(f"{count} scenes in {len(shards)} shards in {out}; look at {out / 'sheet.png'}")
