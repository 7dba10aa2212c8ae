"""Writing the frames of a clip: value ranges that change slowly or not at all, and the files of one chunk."""

from __future__ import annotations

import shutil
import zipfile
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from depth_anything.geometry import stereo
from depth_anything.images import colormap, map_files
from depth_anything.images.formats import ExrChannel, SaveOptions
from depth_anything.images.map_files import MILLIMETRES, PNG16_MAX
from depth_anything.predict.prediction import Prediction
from depth_anything.predict.prediction_files import WRITERS
from depth_anything.video.decode import Clip, Frame
from depth_anything.video.encode import CodecName, Piece
from depth_anything.video.stabilise import StabilisedFrame

TO_WATCH = ("color", "gray", "side", "sbs", "anaglyph")
VIDEOS = (*TO_WATCH, "gray16")
FORMATS = (*VIDEOS, "png16", "exr", "npz", "confidence")
FOLLOW = 0.02
"""How far the colour range moves towards the range of each frame: 50 frames cover two thirds of a change."""


class Ranges:
    """Converts maps to 8 and 16 bits without flicker, which a separate range for every frame would cause.

    - Colours: the given range, or from the 1st to the 99th percentile, which change slowly and are reset at a cut.
      Metres: the given range, or from 0 to the model's maximum.
    - 16-bit disparity: one linear range between two cuts, which extends the range of the first frame by half its width
      on both sides. A value outside widens it from that frame on, so nothing is clipped.
    - 16-bit metres: millimetres.

    Args:
        fixed: (low, high) for the colours of the whole clip.
        is_metric: the maps are metres.
    """

    def __init__(self, fixed: tuple[float, float] | None, is_metric: bool):
        self.fixed, self.is_metric = fixed, is_metric
        self.low, self.high = fixed or (0.0, 0.0)
        self.low16, self.high16 = (0.0, PNG16_MAX / MILLIMETRES) if is_metric else (0.0, 0.0)
        self.is_new = True

    def follow(self, values_HW: np.ndarray, cut: bool) -> None:
        """Take the next frame into account."""
        anew = cut or self.is_new
        self.is_new = False
        if self.fixed is None:
            step = max(1, min(values_HW.shape) // 256)
            low, high = np.percentile(values_HW[::step, ::step], [1, 99])
            share = 1.0 if anew else FOLLOW
            self.low, self.high = self.low + share * (low - self.low), self.high + share * (high - self.high)
        if self.is_metric:
            return
        least, most = float(values_HW.min()), float(values_HW.max())
        span = most - least
        if anew:
            self.low16, self.high16 = least - span / 2, most + span / 2
        elif least < self.low16 or most > self.high16:
            self.low16, self.high16 = min(self.low16, least - span / 2), max(self.high16, most + span / 2)

    def nearness(self, values_HW: np.ndarray) -> np.ndarray:
        """float32 (H, W) within the colour range: 1 is near, 0 is far."""
        span = self.high - self.low
        if span <= 0:
            return np.zeros(values_HW.shape, np.float32)
        nearness_HW = np.clip((values_HW - self.low) / span, 0, 1).astype(np.float32)
        return np.where(values_HW > 0, 1 - nearness_HW, 0).astype(np.float32) if self.is_metric else nearness_HW

    def nearness_for_eyes(self, values_HW: np.ndarray) -> np.ndarray:
        """float32 (H, W), linear in 1/distance: disparity by the range of the colours; of metres 1 at a metre or less
        and 0 at infinity, in all frames alike, as two eyes at a fixed distance see them."""
        if not self.is_metric:
            return self.nearness(values_HW)
        return np.where(values_HW > 0, 1 / np.maximum(values_HW, 1), 0).astype(np.float32)

    def in_16_bits(self, values_HW: np.ndarray) -> np.ndarray:
        """uint16 (H, W): disparity from low16 (0) to high16 (65535); metres in millimetres, 0 unknown."""
        if self.is_metric:
            millimetres_HW = np.clip(np.round(values_HW * MILLIMETRES), 1, PNG16_MAX)
            return np.where(values_HW > 0, millimetres_HW, 0).astype(np.uint16)
        span = self.high16 - self.low16
        factor = PNG16_MAX / span if span > 0 else 0.0
        return np.round((values_HW.astype(np.float64) - self.low16) * factor).astype(np.uint16)

    def state(self) -> np.ndarray:
        """State that the next chunk needs."""
        return np.array([self.low, self.high, self.low16, self.high16, self.is_new])

    def restore(self, state: np.ndarray) -> None:
        """Resume after the chunk that saved this state."""
        self.low, self.high, self.low16, self.high16 = (float(number) for number in state[:4])
        self.is_new = bool(state[4])


@dataclass(frozen=True)
class FrameRow:
    """The row of one frame in `<stem>_frames.csv`."""

    frame: int
    pts: int
    duration: int
    cut: bool
    scale: float
    shift: float
    low16: float
    high16: float


class ChunkWriter:
    """The files of one chunk in a folder of its own.

    Args:
        folder: folder to create.
        formats: names in FORMATS.
        codec: codec of the 8-bit videos.
        colors: name in colormap.COLORMAPS.
        exr_channel: one of map_files.EXR_CHANNELS.
        eye_distance: of sbs and anaglyph, as a share of the width.
        clip: clip that the frames belong to.
    """

    def __init__(
        self,
        folder: Path,
        formats: tuple[str, ...],
        codec: CodecName,
        colors: str,
        exr_channel: ExrChannel,
        eye_distance: float,
        clip: Clip,
    ):
        self.folder, self.formats, self.colors = folder, formats, colors
        self.exr_channel: ExrChannel = exr_channel
        self.eye_distance = eye_distance
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        self.pieces = {
            name: Piece(folder / f"{name}.mkv", "ffv1" if name == "gray16" else codec, clip)
            for name in formats
            if name in VIDEOS
        }
        self.rows: list[FrameRow] = []
        self.raw: BinaryIO | None = (folder / "npz.raw").open("wb") if "npz" in formats else None
        self.text: dict[str, str] = {}
        self.shape: tuple[int, ...] = ()
        for name in ("png16", "exr", "confidence"):
            if name in formats:
                (folder / name).mkdir()

    def add(self, frame: Frame, prediction: Prediction, stabilised: StabilisedFrame, ranges: Ranges) -> None:
        """Write the next frame, whose prediction is already stabilised."""
        values_HW, name = prediction.values, f"frame_{frame.index:06d}"
        self.text, self.shape = prediction.text(), values_HW.shape
        seen = {"color", "gray", "side"} & set(self.formats)  # sbs and anaglyph have a range of their own
        nearness_HW = ranges.nearness(values_HW) if seen else values_HW
        colored_HW3 = colormap.colored(nearness_HW, self.colors) if seen - {"gray"} else frame.image_HW3
        for form in self.formats:
            if form == "color":
                self.pieces[form].add(colored_HW3)
            elif form == "side":
                self.pieces[form].add(np.concatenate([frame.image_HW3, colored_HW3], axis=1))
            elif form in ("sbs", "anaglyph"):
                shift_HW = stereo.shifts(ranges.nearness_for_eyes(values_HW), self.eye_distance)
                pair = stereo.side_by_side if form == "sbs" else stereo.anaglyph
                self.pieces[form].add(pair(frame.image_HW3, shift_HW))
            elif form == "gray":
                self.pieces[form].add(np.round(nearness_HW * 255).astype(np.uint8))
            elif form == "gray16":
                self.pieces[form].add(ranges.in_16_bits(values_HW))
            elif form == "png16":
                ends = {"disparity_min": repr(ranges.low16), "disparity_max": repr(ranges.high16)}
                text = {**self.text, **({} if ranges.is_metric else ends)}
                map_files.write_image(self.folder / form / f"{name}.png", ranges.in_16_bits(values_HW), text)
            elif form == "exr":
                map_files.write_exr(self.folder / form / f"{name}.exr", values_HW, self.text, self.exr_channel)
            elif form == "confidence":
                WRITERS[form](self.folder / form / f"{name}.png", prediction, SaveOptions())
            elif self.raw is not None:
                self.raw.write(np.ascontiguousarray(values_HW, "<f4").data)
        self.rows.append(
            FrameRow(frame.index, frame.pts, frame.duration, stabilised.cut, stabilised.scale, stabilised.shift,
                     ranges.low16, ranges.high16)
        )  # fmt: skip

    def close(self, quantity: str) -> None:
        """Finish all files and write the rows."""
        for piece in self.pieces.values():
            piece.close()
        if self.raw is not None:
            self.raw.close()
            self._write_npz(quantity)
        np.save(self.folder / "rows.npy", np.array([astuple(row) for row in self.rows], np.float64))

    def _write_npz(self, quantity: str) -> None:
        """Writes the maps of a chunk as one array float32 (frames, H, W), without holding all of it in memory."""
        raw = self.folder / "npz.raw"
        header = {"descr": "<f4", "fortran_order": False, "shape": (len(self.rows), *self.shape)}
        with zipfile.ZipFile(self.folder / "maps.npz", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            with archive.open(f"{quantity}.npy", "w", force_zip64=True) as member, raw.open("rb") as values:
                np.lib.format.write_array_header_1_0(member, header)
                shutil.copyfileobj(values, member, 1 << 20)
            extra = {"frame": np.array([row.frame for row in self.rows]), **self.text}
            for name, value in extra.items():
                with archive.open(f"{name}.npy", "w") as member:
                    np.lib.format.write_array(member, np.asarray(value), allow_pickle=False)
        raw.unlink()
