"""Simplify the meshes of model files and bake their colours into one small texture."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from depth_anything.data.scenes.shapes import Mesh
from depth_anything.system.extras import needs

SIDE = 160
"""Pixels of a side of a model's image."""
MAX_FACES = 5_000
"""An image of 256 x 192 shows no more of one thing."""
MAX_READ = 60_000
"""Models with more triangles are mostly leaves, and merging their vertices leaves nothing to recognise."""

_MIX = np.random.default_rng(0).integers(1 << 61, size=9) | 1  # a row of integers to one that tells rows apart


class CannotUse(Exception):
    """A model that no scene has a use for, or that cannot be read."""


@dataclass(frozen=True)
class Piece:
    """The faces of one material: normals (V,3) where the file has them, and a texture (with uv) or a plain colour."""

    vertices: np.ndarray
    faces: np.ndarray
    normals: np.ndarray | None
    uv: np.ndarray | None
    texture: np.ndarray | None
    colour: np.ndarray


def read_model(path: Path, rotation: tuple[float, ...] | None = None) -> list[Piece]:
    """The pieces of a model file, turned so that z is up and the front looks towards -y.

    Raises:
        ValueError: trimesh is missing.
        CannotUse: the file cannot be read, or holds too much or nothing.
    """
    with needs("3d", "reading models"):
        import trimesh
    try:
        meshes = trimesh.load_scene(path, process=False).dump()
    except Exception as error:  # any of trimesh's readers may fail in any way on a broken file
        raise CannotUse(f"{path}: {error}") from error
    turn = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])
    if rotation is not None:
        turn = turn @ np.reshape(rotation, (3, 3))
    # What the file does not have, trimesh computes, smooth over every edge.
    with_normals = path.suffix.lower() != ".obj" or b"\nvn " in path.read_bytes()
    pieces = []
    for mesh in meshes:
        if not isinstance(mesh, trimesh.Trimesh) or not len(mesh.faces):
            continue
        texture, colour = _look(mesh.visual)
        uv = getattr(mesh.visual, "uv", None)
        normals = np.asarray(mesh.vertex_normals) @ turn.T if with_normals else None
        pieces.append(Piece(np.asarray(mesh.vertices) @ turn.T, np.asarray(mesh.faces), normals, uv, texture, colour))
    count = sum(len(piece.faces) for piece in pieces)
    if not 0 < count <= MAX_READ or not all(np.isfinite(piece.vertices).all() for piece in pieces):
        raise CannotUse(f"{path}: {count} triangles")
    return pieces


def _look(visual) -> tuple[np.ndarray | None, np.ndarray]:
    """Texture sRGB uint8 (h,w,3), where there is one, and the plain colour (3,) of a trimesh visual."""
    material = getattr(visual, "material", None)
    if material is None:
        return None, np.asarray(visual.main_color)[:3]
    if hasattr(material, "to_simple"):
        material = material.to_simple()
    colour = np.asarray(material.main_color)[:3]
    image = getattr(material, "image", None)
    if image is None or min(image.size) < 2:
        return None, colour
    image = image.convert("RGBA")
    image.thumbnail((2 * SIDE, 2 * SIDE))
    pixels = np.asarray(image).astype(np.float32)
    solid = pixels[..., 3:] / 255
    mean = (pixels[..., :3] * solid).sum((0, 1)) / max(float(solid.sum()), 1.0)
    return (pixels[..., :3] * solid + mean * (1 - solid)).astype(np.uint8), mean.astype(np.uint8)


def bake(pieces: list[Piece], size_m: tuple[float, float, float] | None) -> tuple[Mesh, np.ndarray]:
    """One mesh on the ground, scaled to size_m (x, y, z) when given, and the image (SIDE,SIDE,3) of its colours."""
    uvs, image = _paint(pieces)
    vertices, faces, marks, start = [], [], [], 0
    for number, (piece, uv) in enumerate(zip(pieces, uvs, strict=True)):
        if piece.normals is None:  # without normals a box would be shaded as a ball
            corners = piece.faces.ravel()
            vertices.append(piece.vertices[corners])
            uvs[number] = uv[corners]
            faces.append(np.arange(len(corners)).reshape(-1, 3) + start)
            a, b, c = (piece.vertices[piece.faces[:, k]] for k in range(3))
            normal = np.cross(b - a, c - a)
            normal = np.repeat(normal / np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-12), 3, axis=0)
        else:
            vertices.append(piece.vertices)
            faces.append(piece.faces + start)
            normal = piece.normals
        marks.append(np.column_stack([np.round(normal * 2), np.full(len(normal), number)]))
        start += len(vertices[-1])
    points = np.concatenate(vertices)
    low, high = points.min(axis=0), points.max(axis=0)
    extent = np.maximum(high - low, 1e-6)
    scale = np.array(size_m) / extent if size_m else np.ones(3)
    points = (points - [*(low + high)[:2] / 2, low[2]]) * scale
    mesh = Mesh(points, np.concatenate(faces), np.concatenate(uvs))
    return fewer(mesh, np.concatenate(marks)), image


def fewer(mesh: Mesh, marks: np.ndarray, limit: int = MAX_FACES) -> Mesh:
    """A mesh of at most `limit` faces: vertices in one cell of a grid become one where their marks (V,M) agree."""
    if len(mesh.faces) <= limit:
        return mesh
    extent = float(np.ptp(mesh.vertices, axis=0).max())
    for cells in (400, 250, 160, 110, 80, 60, 45, 32, 22, 14):
        keys = np.column_stack([np.round(mesh.vertices / extent * cells), np.round(mesh.uv * 24), marks]).astype(int)
        if cells < 60:
            keys = keys[:, :3]
        mixed = keys.astype(np.int64) @ _MIX[: keys.shape[1]]
        _, first, member = np.unique(mixed, return_index=True, return_inverse=True)
        faces = member[mesh.faces]
        whole = (faces[:, 0] != faces[:, 1]) & (faces[:, 1] != faces[:, 2]) & (faces[:, 0] != faces[:, 2])
        faces = faces[whole]
        _, once = np.unique(np.sort(faces, axis=1) @ _MIX[:3], return_index=True)
        if 0 < len(once) <= limit:
            return Mesh(mesh.vertices[first], faces[np.sort(once)], mesh.uv[first])
    raise CannotUse("too many triangles")


def _paint(pieces: list[Piece]) -> tuple[list[np.ndarray], np.ndarray]:
    """Texture coordinates (V,2) of each piece in the common image, v = 0 its first row, and that image."""
    from PIL import Image

    area = [float(np.ptp(piece.vertices, axis=0).max()) for piece in pieces]
    textured = [k for k, piece in enumerate(pieces) if piece.texture is not None and piece.uv is not None]
    textured = sorted(textured, key=lambda k: -area[k])[:9]
    plain = [k for k in range(len(pieces)) if k not in textured]
    side = int(np.ceil(np.sqrt(len(textured) + bool(plain))))
    cell = SIDE // side
    image = np.zeros((SIDE, SIDE, 3), np.uint8)
    uvs: list[np.ndarray] = [np.zeros((0, 2))] * len(pieces)
    for place, k in enumerate(textured):
        row, column = divmod(place, side)
        texture, uv = pieces[k].texture, np.array(pieces[k].uv, float)
        assert texture is not None
        uv = np.where(np.isfinite(uv), uv, 0.0) * [1, -1] + [0, 1]
        low, span = uv.min(axis=0), np.ptp(uv, axis=0)
        repeats = np.clip(np.ceil(span - 0.02), 1, 4).astype(int)
        if (low < -0.01).any() or (low + span > 1.01).any():
            uv = (uv - low) / np.maximum(span, 1.0)
        tiled = np.tile(texture, (repeats[1], repeats[0], 1))
        small = np.asarray(Image.fromarray(tiled).resize((cell, cell), Image.Resampling.BOX))
        image[row * cell : (row + 1) * cell, column * cell : (column + 1) * cell] = small
        inside = (np.clip(uv, 0, 1) * (cell - 1) + 0.5) / SIDE
        uvs[k] = inside + np.array([column, row]) * cell / SIDE
    if plain:
        row, column = divmod(len(textured), side)
        blocks = int(np.ceil(np.sqrt(len(plain))))
        edges = np.linspace(0, cell, blocks + 1).astype(int)
        for place, k in enumerate(plain):
            j, i = divmod(place, blocks)
            top, left = row * cell + edges[j], column * cell + edges[i]
            bottom, right = row * cell + edges[j + 1], column * cell + edges[i + 1]
            image[top:bottom, left:right] = pieces[k].colour
            middle = np.array([(left + right) / 2, (top + bottom) / 2]) / SIDE
            uvs[k] = np.tile(middle, (len(pieces[k].vertices), 1))
    return uvs, image
