"""Triangle meshes in metres, z up: the few primitives that every object is made of."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np


@dataclass(frozen=True)
class Mesh:
    """vertices float (V,3), faces int (F,3), uv float (V,2) in texture repeats."""

    vertices: np.ndarray
    faces: np.ndarray
    uv: np.ndarray

    def moved(self, x: float = 0.0, y: float = 0.0, z: float = 0.0, yaw: float = 0.0, scale: float = 1.0) -> "Mesh":
        """Scaled, then turned about the vertical by yaw radians, then moved."""
        c, s = np.cos(yaw) * scale, np.sin(yaw) * scale
        turn = np.array([[c, s, 0.0], [-s, c, 0.0], [0.0, 0.0, scale]])
        return Mesh(self.vertices @ turn + [x, y, z], self.faces, self.uv)

    def turned(self, axis: int, angle: float) -> "Mesh":
        """Turned about the x, y or z axis (0, 1, 2) through the origin."""
        c, s = np.cos(angle), np.sin(angle)
        i, j = [(1, 2), (2, 0), (0, 1)][axis]
        turn = np.eye(3)
        turn[i, i], turn[i, j], turn[j, i], turn[j, j] = c, s, -s, c
        return Mesh(self.vertices @ turn, self.faces, self.uv)

    def stretched(self, x: float, y: float, z: float) -> "Mesh":
        """Scaled by another factor along each axis."""
        return Mesh(self.vertices * [x, y, z], self.faces, self.uv)


def joined(meshes: list[Mesh]) -> Mesh:
    """Several meshes as one."""
    offsets = np.cumsum([0] + [len(mesh.vertices) for mesh in meshes])
    return Mesh(
        np.concatenate([mesh.vertices for mesh in meshes]),
        np.concatenate([mesh.faces + offset for mesh, offset in zip(meshes, offsets, strict=False)]),
        np.concatenate([mesh.uv for mesh in meshes]),
    )


def quad(corners: np.ndarray, repeats: tuple[float, float] = (1.0, 1.0)) -> Mesh:
    """A flat four-sided face; corners (4,3) in order, the texture repeats along the first and the last edge."""
    uv = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], float) * repeats
    return Mesh(np.asarray(corners, float), np.array([[0, 1, 2], [0, 2, 3]]), uv)


@lru_cache(maxsize=1)
def _cube() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    vertices, axes = [], []
    for axis in range(3):
        a, b = (axis + 1) % 3, (axis + 2) % 3
        for side in (-0.5, 0.5):
            for u, v in ((-0.5, -0.5), (0.5, -0.5), (0.5, 0.5), (-0.5, 0.5)):
                corner = [0.0, 0.0, 0.0]
                corner[axis], corner[a], corner[b] = side, u, v
                vertices.append(corner)
                # the upright edge of a side face is the v axis of the texture
                axes.append({0: (a, b), 1: (b, a), 2: (a, b)}[axis])
    faces = [[4 * k + i for i in tri] for k in range(6) for tri in ((0, 1, 2), (0, 2, 3))]
    return np.array(vertices), np.array(faces), np.array(axes)


def box(x: float, y: float, z: float, repeat: float | None = None) -> Mesh:
    """A box standing on z = 0, centred in x and y. The texture covers a face once, or repeats every `repeat` metres."""
    cube, faces, axes = _cube()
    size = np.array([x, y, z], float)
    unit = np.take_along_axis(cube, axes, axis=1) + 0.5
    uv = unit if repeat is None else unit * size[axes] / repeat
    return Mesh(cube * size + [0, 0, z / 2], faces, uv)


def grid(columns: int, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """faces (2*(columns-1)*(rows-1), 3) and unit uv (rows*columns, 2) of a rectangular net, row by row."""
    index = np.arange(rows * columns).reshape(rows, columns)
    a, b, c, d = index[:-1, :-1], index[:-1, 1:], index[1:, 1:], index[1:, :-1]
    faces = np.stack([a, b, c, a, c, d], axis=-1).reshape(-1, 3)
    v, u = np.meshgrid(np.linspace(0, 1, rows), np.linspace(0, 1, columns), indexing="ij")
    return faces, np.stack([u.ravel(), v.ravel()], axis=-1)


_grid = lru_cache(maxsize=64)(grid)


def lathe(profile: list[tuple[float, float]], sides: int = 14, squash: float = 1.0) -> Mesh:
    """A profile of (radius, height) turned about the vertical; squash narrows it along y."""
    points = np.asarray(profile, float)
    angle = np.linspace(0, 2 * np.pi, sides + 1)
    x = points[:, :1] * np.cos(angle)
    y = points[:, :1] * np.sin(angle) * squash
    z = np.broadcast_to(points[:, 1:], x.shape)
    faces, uv = _grid(sides + 1, len(points))
    return Mesh(np.stack([x, y, z], -1).reshape(-1, 3), faces, uv)


def cylinder(radius: float, height: float, sides: int = 14, top: float | None = None) -> Mesh:
    """A cylinder on z = 0, or a cone when `top` is another radius; closed above, open below. Its rim stays sharp."""
    top = radius if top is None else top
    parts = [lathe([(radius, 0.0), (top, height)], sides), lathe([(top, height), (0.0, height)], sides)]
    return joined(parts)


def ball(radius: float, sides: int = 14) -> Mesh:
    """A sphere about the origin."""
    angle = np.linspace(0, np.pi, sides // 2 + 2)
    return lathe([(radius * np.sin(a), -radius * np.cos(a)) for a in angle], sides)


def blob(rng: np.random.Generator, radius: float, roughness: float = 0.25, sides: int = 18) -> Mesh:
    """A sphere pushed in and out by a few random waves: potatoes, rocks, bushes, cushions."""
    mesh = ball(1.0, sides)
    waves = rng.normal(0, 1, (5, 3)) * rng.uniform(1.0, 4.0, (5, 1))
    swell = np.sin(mesh.vertices @ waves.T + rng.uniform(0, 6.28, 5)) @ (rng.normal(0, 1, 5) / np.abs(waves).max(1))
    return Mesh(mesh.vertices * (radius * np.exp(roughness * swell))[:, None], mesh.faces, mesh.uv * [3, 1])


def _cross(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Cross products of rows; np.cross spends ten times as long on a handful of them."""
    return a[:, [1, 2, 0]] * b[:, [2, 0, 1]] - a[:, [2, 0, 1]] * b[:, [1, 2, 0]]


def tube(path: np.ndarray, radius: float | np.ndarray, sides: int = 7) -> Mesh:
    """A round tube along the points of path (P,3), with one radius or one for each point."""
    path = np.asarray(path, float)
    along = np.empty_like(path)
    along[1:-1], along[0], along[-1] = path[2:] - path[:-2], path[1] - path[0], path[-1] - path[-2]
    along /= np.maximum(np.linalg.norm(along, axis=1, keepdims=True), 1e-9)
    side = _cross(along, np.array([[0.31, 0.17, 0.94] if abs(along[:, 2]).mean() < 0.8 else [0.94, 0.31, 0.17]]))
    side /= np.maximum(np.linalg.norm(side, axis=1, keepdims=True), 1e-9)
    other = _cross(along, side)
    angle = np.linspace(0, 2 * np.pi, sides + 1)[None, :, None]
    ring = np.cos(angle) * side[:, None] + np.sin(angle) * other[:, None]
    width = np.broadcast_to(np.asarray(radius, float), len(path))[:, None, None]
    faces, uv = _grid(sides + 1, len(path))
    return Mesh((path[:, None] + ring * width).reshape(-1, 3), faces, uv)


def sections(outlines: list[np.ndarray]) -> Mesh:
    """A skin over closed outlines (each (P,3)), with the first and the last closed by a fan."""
    net = np.stack([np.concatenate([line, line[:1]]) for line in outlines])
    rows, columns = net.shape[:2]
    faces, uv = _grid(columns, rows)
    parts = [Mesh(net.reshape(-1, 3), faces, uv)]
    for line in (outlines[0], outlines[-1]):
        fan = np.array([[0, i, i + 1] for i in range(1, len(line) - 1)])
        flat = line - line.min(0)
        parts.append(Mesh(line, fan, (flat / max(float(flat.max()), 1e-6))[:, [1, 2]]))
    return joined(parts)


def leaves(rng: np.random.Generator, centres: np.ndarray, spread: float, size: float, count: int) -> Mesh:
    """`count` small leaf cards, each a bent quad, scattered about the centres (C,3) with a normal spread."""
    middle = centres[rng.integers(0, len(centres), count)] + rng.normal(0, spread, (count, 3))
    a = rng.normal(0, 1, (count, 3))
    a /= np.linalg.norm(a, axis=1, keepdims=True)
    b = _cross(a, rng.normal(0, 1, (count, 3)))
    b /= np.linalg.norm(b, axis=1, keepdims=True)
    length = size * rng.uniform(0.6, 1.4, (count, 1))
    corners = np.stack(
        [middle - a * length, middle - b * length * 0.5, middle + a * length, middle + b * length * 0.5], 1
    )
    faces = (np.arange(count)[:, None, None] * 4 + np.array([[0, 1, 2], [0, 2, 3]])).reshape(-1, 3)
    uv = np.tile(np.array([[0, 0], [1, 0], [1, 1], [0, 1.0]]), (count, 1))
    return Mesh(corners.reshape(-1, 3), faces, uv)


def ground_net(rng: np.random.Generator, reach: float, relief: float, near: float = 0.0) -> Mesh:
    """Uneven ground about the origin: a net that is fine near the camera and coarse far away, reach metres wide.

    relief is the height in metres of the waves at 10 m; the ground is kept level near the camera.
    """
    n = 72
    t = np.linspace(-1, 1, n)
    axis = np.sign(t) * np.expm1(np.abs(t) * 6.0) / np.expm1(6.0) * reach
    y, x = np.meshgrid(axis, axis, indexing="ij")
    z = ground_height(rng, x, y, relief, near)
    faces, _ = _grid(n, n)
    return Mesh(np.stack([x, y, z], -1).reshape(-1, 3), faces, np.stack([x.ravel(), y.ravel()], -1) / 3.0)


def ground_height(
    rng: np.random.Generator, x: np.ndarray, y: np.ndarray, relief: float, near: float = 0.0
) -> np.ndarray:
    """The height that `ground_net` has at x, y when it is called with a generator in the same state."""
    waves = rng.normal(0, 1, (10, 2))
    length = np.array([2.5, 4, 6, 9, 14, 20, 35, 60, 110, 200.0])
    phase = rng.uniform(0, 2 * np.pi, 10)
    weight = rng.uniform(0.3, 1.0, 10)
    z = np.zeros(np.shape(x))
    for wave, metres, start, strength in zip(waves, length, phase, weight, strict=True):
        wave = wave / np.hypot(*wave) * 2 * np.pi / metres
        z = z + strength * relief * (metres / 40.0) * np.sin(wave[0] * x + wave[1] * y + start)
    fade = np.clip((np.hypot(x, y) - near) / 12.0, 0.0, 1.0)
    return z * fade
