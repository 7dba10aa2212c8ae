"""What bounds a room and what hangs there: walls with windows, doors, curtains, pictures, mirrors, lamps."""

import numpy as np

from depth_anything.data.scenes.materials import Material, Wardrobe
from depth_anything.data.scenes.objects import Floor, Thing, small_thing
from depth_anything.data.scenes.people_animals_plants import tree
from depth_anything.data.scenes.shapes import Mesh, box, cylinder, grid, quad, tube


def wall(
    rng,
    floor: Floor,
    material: Material,
    frame: Material,
    along: tuple[np.ndarray, np.ndarray],
    height: float,
    hole: tuple[float, float, float, float] | None = None,
    repeat: float = 1.5,
    pane: str = "glass",
) -> None:
    """A thin upright wall from along[0] to along[1] (x, y).

    hole is start, end (metres along), sill and top of an opening; it gets a frame and a pane of that class.
    """
    a, b = np.append(along[0], 0.0), np.append(along[1], 0.0)
    length = float(np.linalg.norm(b - a))
    u, up = (b - a) / length, np.array([0, 0, 1.0])

    def piece(s0: float, s1: float, z0: float, z1: float) -> Mesh:
        mesh = quad(np.stack([a + u * s0 + up * z0, a + u * s1 + up * z0, a + u * s1 + up * z1, a + u * s0 + up * z1]))
        return Mesh(mesh.vertices, mesh.faces, np.array([[s0, z0], [s1, z0], [s1, z1], [s0, z1]]) / repeat)

    if hole is None:
        floor.add(piece(0, length, 0, height), material, "wall")
        return
    s0, s1, z0, z1 = hole
    around = [piece(0, s0, 0, height), piece(s1, length, 0, height), piece(s0, s1, z1, height)]
    if z0 > 0.01:
        around.append(piece(s0, s1, 0, z0))
    floor.add(around, material, "wall")
    if pane:
        floor.add(piece(s0, s1, z0, z1), Material("glass"), pane)
    turn = float(np.arctan2(u[1], u[0]))
    bars = []
    for s in np.linspace(s0, s1, int(rng.integers(2, 5))):
        at = a + u * s
        bars.append(box(0.05, 0.09, z1 - z0).moved(at[0], at[1], z0, turn))
    for z in (z0 - 0.03, z1 - 0.03, *([rng.uniform(z0, z1)] if rng.random() < 0.4 else [])):
        at = a + u * (s0 + s1) / 2
        bars.append(box(s1 - s0 + 0.1, 0.1, 0.06).moved(at[0], at[1], z, turn))
    floor.add(bars, frame, "wall")


def curtain(rng, wardrobe: Wardrobe, length: float, height: float) -> Thing:
    """Hanging cloth with folds, along x."""
    faces, uv = grid(36, 3)
    fold = rng.uniform(0.03, 0.07) * np.sin(uv[:, 0] * length * rng.uniform(18, 40) + rng.normal(0, 1))
    vertices = np.stack([(uv[:, 0] - 0.5) * length, fold, uv[:, 1] * height], -1)
    thing = Thing(radius=length / 2, height=height)
    thing.add(Mesh(vertices, faces, uv), wardrobe.small("fabric", "small"))
    return thing


def hang(rng, wardrobe: Wardrobe, floor: Floor, x: float, y: float, yaw: float, height: float) -> None:
    """Something on a wall: pictures, a mirror, a white board, a clock, hooks, a wall shelf."""
    kind, z = rng.random(), rng.uniform(1.1, 1.7)
    thing = Thing()
    if kind < 0.55:
        wide, tall = rng.uniform(0.25, 1.1), rng.uniform(0.25, 0.9)
        thing.add(box(wide, 0.03, tall), wardrobe.small("wood"))
        thing.add(
            box(wide * 0.86, 0.012, tall * 0.86).moved(y=-0.016, z=tall * 0.07),
            wardrobe.small("print" if rng.random() < 0.8 else "plain"),
        )
    elif kind < 0.7:
        wide, tall = rng.uniform(0.4, 1.1), rng.uniform(0.5, 1.3)
        thing.add(box(wide, 0.03, tall), wardrobe.small("wood"))
        face = quad(np.array([[-wide / 2, 0, 0], [wide / 2, 0, 0], [wide / 2, 0, tall], [-wide / 2, 0, tall]]) * 0.9)
        thing.add(face.moved(y=-0.02, z=tall * 0.05), Material("mirror"), "mirror")
        z = min(z, height - tall)
    elif kind < 0.8:
        thing.add(box(rng.uniform(1.2, 2.2), 0.03, 1.0), wardrobe.small("plain", "shiny"))
        z = 0.9
    elif kind < 0.88:
        thing.add(cylinder(0.16, 0.04, 20).turned(0, np.pi / 2).moved(y=0.02), wardrobe.small("plain"))
        z = 1.9
    else:
        wide = rng.uniform(0.5, 1.4)
        thing.add(box(wide, 0.22, 0.03).moved(y=-0.11), wardrobe.small("wood"), "furniture")
        for at in np.arange(-wide / 2 + 0.1, wide / 2 - 0.05, 0.16):
            if rng.random() < 0.7:
                thing.place(small_thing(rng, wardrobe, 0.16), at, -0.11, 0.03, rng.uniform(0, 6))
    floor.place(thing, x, y, min(z, height - 0.5), yaw)


def shell(rng, wardrobe: Wardrobe, floor: Floor, wide: float, deep: float, height: float) -> None:
    """Floor, ceiling and three walls with doors, windows and wall decoration; the side of the camera is open."""
    ground, paint = wardrobe.large("floor", gloss=rng.random() < 0.35), wardrobe.large("wall")
    other = wardrobe.large("wall") if rng.random() < 0.4 else paint
    trim = wardrobe.small("plain")
    left, right = -wide / 2, wide / 2
    near = -2.5
    repeat = rng.uniform(0.8, 3.0)
    corners = np.array([[left, near, 0], [right, near, 0], [right, deep, 0], [left, deep, 0.0]])
    floor.add(quad(corners, (wide / repeat, (deep - near) / repeat)), ground, "floor")
    top = quad(corners + [0, 0, height], (wide / 2, (deep - near) / 2))
    floor.add(top, wardrobe.small("plain", "small") if rng.random() < 0.7 else wardrobe.large("wall"), "ceiling")
    for (a, b), material in (
        (((left, deep), (right, deep)), other),
        (((left, near), (left, deep)), paint),
        (((right, near), (right, deep)), paint),
    ):
        a, b = np.array(a), np.array(b)
        length, hole, sill = float(np.linalg.norm(b - a)), None, 0.0
        if rng.random() < 0.45:
            start = rng.uniform(0.1, 0.6) * length
            sill = rng.choice([0.9, 0.75, 0.05])
            hole = (
                start,
                min(length - 0.1, start + rng.uniform(0.8, 2.6)),
                sill,
                min(height - 0.15, rng.uniform(1.9, 2.4)),
            )
        pane = "glass" if rng.random() < 0.75 else ""  # an open window lets the sun in
        wall(rng, floor, material, trim, (a, b), height, hole, rng.uniform(1.0, 3.0), pane)
        u = (b - a) / length
        yaw = 0.0 if a[1] == b[1] else (np.pi / 2 if a[0] < 0 else -np.pi / 2)
        inward = np.array([np.sin(yaw), -np.cos(yaw)])
        if hole and rng.random() < 0.5:
            for at in (hole[0], hole[1]):
                x, y = a + u * at + inward * 0.1
                floor.place(curtain(rng, wardrobe, rng.uniform(0.3, 0.9), height - 0.15), x, y, 0.05, yaw)
        for at in np.arange(0.8, length - 0.5, rng.uniform(0.7, 1.8)):
            if rng.random() < 0.4 and not (hole and hole[0] - 0.6 < at < hole[1] + 0.6):
                x, y = a + u * at + inward * 0.02
                hang(rng, wardrobe, floor, x, y, yaw, height)
        if not hole and rng.random() < 0.35:
            x, y = a + u * rng.uniform(0.3, 0.8) * length + inward * 0.02
            door = Thing()
            door.add(box(0.9, 0.05, 2.03), wardrobe.small("wood" if rng.random() < 0.5 else "plain"), "wall")
            door.add(box(0.1, 0.09, 0.03).moved(x=0.35, y=-0.04, z=1.0), wardrobe.small("plain", "metal"), "object")
            floor.place(door, x, y, 0, yaw)
    skirting = [
        box(wide, 0.03, 0.09).moved(y=deep - 0.01),
        *[box(0.03, deep - near, 0.09).moved(x=s * wide / 2, y=(deep + near) / 2) for s in (-1, 1)],
    ]
    floor.add(skirting, trim, "wall")
    lamp = wardrobe.small("plain")
    for _ in range(int(rng.integers(0, 4))):
        x, y = rng.uniform(-0.35, 0.35) * wide, rng.uniform(0.3, 0.95) * deep
        if rng.random() < 0.6:
            floor.add(box(0.6, rng.uniform(0.3, 1.2), 0.04).moved(x, y, height - 0.05), lamp, "ceiling")
        else:
            low = rng.uniform(0.3, 0.9)
            floor.add(tube(np.array([[x, y, height], [x, y, height - low]]), 0.008, 5), lamp, "thin")
            floor.add(cylinder(0.18, 0.16, 14, 0.07).moved(x, y, height - low - 0.1), lamp, "object")
    if rng.random() < 0.4:
        outside = quad(
            np.array([[-300, deep + 0.2, -0.4], [300, deep + 0.2, -0.4], [300, 600, -0.4], [-300, 600, -0.4]]),
            (200, 200),
        )
        floor.add(outside, wardrobe.large("ground"), "ground")
        for _ in range(4):
            floor.place(tree(rng, wardrobe, 6.0), rng.uniform(-8, 8), deep + rng.uniform(4, 25), -0.4)
