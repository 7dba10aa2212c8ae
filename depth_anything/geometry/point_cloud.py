"""Points and surfaces to files: binary PLY (ours) and textured GLB (trimesh, extra `3d`), in metres.

PLY keeps camera axes, x right, y down, z forward, or has OpenGL's. GLB has glTF's: x right, y up, z towards the viewer.
A surface is cut where neighbouring points differ in depth by more than camera.EDGE per pixel, so that objects are not
connected to their background.
"""

import io
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from depth_anything.geometry.camera import EDGE
from depth_anything.system.extras import needs

MAX_VERTICES = 1_000_000
"""A mesh takes every n-th pixel so that it has hardly more vertices than this; its texture keeps all pixels."""
AXES = {"opencv": "x right, y down, z forward", "opengl": "x right, y up, z towards the viewer"}
"""Of camera.py, OpenCV and COLMAP; of OpenGL, glTF and Blender's cameras."""
_MAX_TEXTURE_SIDE = 8192  # what graphics hardware takes everywhere


def write_ply(
    path: str | os.PathLike[str],
    points_HW3: np.ndarray,
    image_HW3: np.ndarray | None,
    text: Mapping[str, str],
    axes: str = "opencv",
) -> None:
    """Every known point, coloured by the image, as little-endian binary PLY with `text` as comments.

    Args:
        points_HW3: metres, camera axes; NaN where unknown.
        image_HW3: uint8 RGB, or None for points without colour.
        text: one comment line each; what is not ASCII becomes "?".
        axes: of the file: of AXES.

    Raises:
        ValueError: no point is known.
    """
    known_HW = np.isfinite(points_HW3).all(axis=2)
    count = int(np.count_nonzero(known_HW))
    if count == 0:
        raise ValueError("no point is known: there is nothing to write")
    fields = [(axis, "<f4") for axis in "xyz"]
    if image_HW3 is not None:
        fields += [(color, "u1") for color in ("red", "green", "blue")]
    vertices = np.empty(count, fields)
    for i, axis in enumerate("xyz"):
        sign = -1 if axes == "opengl" and axis != "x" else 1
        vertices[axis] = sign * points_HW3[:, :, i][known_HW]
    if image_HW3 is not None:
        for i, color in enumerate(("red", "green", "blue")):
            vertices[color] = image_HW3[:, :, i][known_HW]
    comments = {"axes": AXES[axes], "unit": "metre", **text}
    header = ["ply", "format binary_little_endian 1.0"]
    header += [f"comment {key}: {' '.join(value.split())}" for key, value in comments.items()]
    header += [f"element vertex {count}"]
    header += [f"property {'float' if kind == '<f4' else 'uchar'} {name}" for name, kind in fields]
    header += ["end_header", ""]
    with open(path, "wb") as file:
        file.write("\n".join(header).encode("ascii", errors="replace"))
        file.write(vertices.data)


def triangles(points_HW3: np.ndarray, edge: float = EDGE, is_panorama: bool = False) -> np.ndarray:
    """Two triangles per cell of four neighbouring pixels, without those that cross an edge or an unknown point.

    Args:
        points_HW3: camera axes, z forward.
        edge: a triangle is dropped where its farthest corner is more than 1 + edge times as far as its nearest.
        is_panorama: how far is the distance from the camera, not along z.

    Returns:
        int32 (F, 3), indices into the pixels row by row; counter-clockwise as the camera sees them.
    """
    height, width = points_HW3.shape[:2]
    index_HW = np.arange(height * width, dtype=np.int32).reshape(height, width)
    upper_left, upper_right = index_HW[:-1, :-1].ravel(), index_HW[:-1, 1:].ravel()
    lower_left, lower_right = index_HW[1:, :-1].ravel(), index_HW[1:, 1:].ravel()
    faces_F3 = np.concatenate(
        [
            np.stack([upper_left, lower_left, upper_right], axis=1),
            np.stack([upper_right, lower_left, lower_right], axis=1),
        ]
    )
    depth_HW = np.linalg.norm(points_HW3, axis=2) if is_panorama else points_HW3[:, :, 2]
    depth_F3 = depth_HW.ravel()[faces_F3]
    with np.errstate(invalid="ignore"):
        whole_F = depth_F3.max(axis=1) <= (1 + edge) * depth_F3.min(axis=1)  # False where NaN
    return faces_F3[whole_F]


def write_glb(
    path: str | os.PathLike[str],
    points_HW3: np.ndarray,
    image_HW3: np.ndarray,
    text: Mapping[str, str],
    is_panorama: bool = False,
) -> None:
    """The surface that the camera sees as GLB: a mesh with the image as its unlit texture, cut at edges, in metres.

    Args:
        points_HW3: metres, camera axes; NaN where unknown.
        image_HW3: uint8 RGB of the same size.
        text: stored as `asset.extras`; the licence of the weights also as `asset.copyright`.
        is_panorama: the surface goes all round, and is closed between the last column and the first.

    Raises:
        ValueError: no surface is left, or trimesh is not installed.
    """
    with needs("3d", "GLB"):
        import trimesh
        from trimesh.visual import TextureVisuals
        from trimesh.visual.material import PBRMaterial
    height, width = points_HW3.shape[:2]
    step = max(1, int(np.ceil(np.sqrt(height * width / MAX_VERTICES))))
    # every step-th row and column, and the last, so that a thinned mesh ends where the image ends
    grid_rows, grid_columns = (np.unique([*range(0, side, step), side - 1]) for side in (height, width))
    if is_panorama:
        grid_columns = np.append(grid_columns, width)  # the first column again, right of the texture
    grid_HW3 = points_HW3[np.ix_(grid_rows, grid_columns % width)]
    faces_F3 = triangles(grid_HW3, (1 + EDGE) ** step - 1, is_panorama)
    if len(faces_F3) == 0:
        raise ValueError("no surface is left: the map is unknown, one pixel wide, or an edge everywhere")
    used, faces_F3 = np.unique(faces_F3, return_inverse=True)
    rows, columns = grid_rows[used // len(grid_columns)], grid_columns[used % len(grid_columns)]
    # glTF turns y and z round; trimesh counts v from the bottom
    vertices_V3 = grid_HW3.reshape(-1, 3)[used] * np.array([1, -1, -1], np.float32)
    uv_V2 = np.stack([(columns + 0.5) / width, 1 - (rows + 0.5) / height], axis=1)
    material = PBRMaterial(
        baseColorTexture=_texture(image_HW3), metallicFactor=0.0, roughnessFactor=1.0, doubleSided=True
    )
    mesh = trimesh.Trimesh(
        vertices_V3, faces_F3.reshape(-1, 3), visual=TextureVisuals(uv=uv_V2, material=material), process=False
    )
    extras = {"unit": "metre", "axes": AXES["opengl"], **text}
    if step > 1:
        extras["mesh_step"] = f"every {step}th pixel is a vertex"

    def stamp(tree: dict) -> None:
        tree["asset"]["extras"] = extras
        tree["asset"]["copyright"] = (
            f"weights: {text.get('model', 'unknown')}, licence {text.get('licence', 'unknown')}"
        )
        tree["extensionsUsed"] = ["KHR_materials_unlit"]
        for entry in tree["materials"]:
            entry["extensions"] = {"KHR_materials_unlit": {}}

    data = trimesh.Scene(mesh).export(file_type="glb", tree_postprocessor=stamp)
    Path(path).write_bytes(data)  # type: ignore[arg-type]


def normals_image(normals_HW3: np.ndarray, directx: bool = False) -> np.ndarray:
    """Normals in camera axes as an image: uint8 (H, W, 3), 0.5 + 0.5 n with x right, y up, z to the viewer.

    Args:
        directx: y down instead (green inverted).
    """
    sign = np.array([1, 1 if directx else -1, -1], np.float32)
    image_HW3 = np.zeros(normals_HW3.shape, np.uint8)
    for image_W3, normals_W3 in zip(image_HW3, normals_HW3, strict=True):
        known_W = normals_W3.any(axis=1)
        image_W3[known_W] = np.round((normals_W3[known_W] * sign * 0.5 + 0.5) * 255)
    return image_HW3


def _texture(image_HW3: np.ndarray) -> Image.Image:
    """The image as JPEG inside the GLB."""
    image = Image.fromarray(image_HW3)
    image.thumbnail((_MAX_TEXTURE_SIDE, _MAX_TEXTURE_SIDE))
    data = io.BytesIO()
    image.save(data, format="JPEG", quality=92)
    return Image.open(data)
