"""Furniture; the same conventions as objects.py."""

from dataclasses import replace
from itertools import pairwise

import numpy as np

from depth_anything.data.scenes.materials import Wardrobe
from depth_anything.data.scenes.objects import Thing, ready_made
from depth_anything.data.scenes.shapes import Mesh, blob, box, cylinder, joined, lathe


def _legs(x: float, y: float, height: float, thick: float, round_: bool) -> Mesh:
    leg = cylinder(thick / 2, height, 8) if round_ else box(thick, thick, height)
    return joined([leg.moved(sx * x, sy * y) for sx in (-0.5, 0.5) for sy in (-0.5, 0.5)])


def table(rng, wardrobe: Wardrobe, x: float, y: float, height: float) -> Thing:
    """A table with four legs, or a round one on a column; its top is at `height`."""
    model = ready_made(rng, wardrobe, "table")
    if model and model.flat:
        mesh = model.parts[0].mesh
        wide, deep = np.ptp(mesh.vertices[:, :2], axis=0)
        if (wide > deep) != (x > y):
            mesh, wide, deep = mesh.moved(yaw=np.pi / 2), deep, wide
        stretched = mesh.stretched(x / wide, y / deep, height / model.height)
        return Thing([replace(model.parts[0], mesh=stretched)], max(x, y) / 2, height)
    thing = Thing(radius=max(x, y) / 2, height=height)
    top, frame = wardrobe.small("wood" if rng.random() < 0.7 else "any"), wardrobe.small("wood")
    thick = rng.uniform(0.02, 0.06)
    if rng.random() < 0.25:
        thing.add(cylinder(min(x, y) / 2, thick, 28).moved(z=height - thick), top, "furniture")
        thing.add(cylinder(0.04, height - thick, 10), frame, "furniture")
        thing.add(cylinder(min(x, y) * 0.28, 0.03, 16), frame, "furniture")
        return thing
    thing.add(box(x, y, thick).moved(z=height - thick), top, "furniture")
    wide = rng.uniform(0.03, 0.08)
    thing.add(_legs(x - wide - 0.02, y - wide - 0.02, height - thick, wide, rng.random() < 0.3), frame, "furniture")
    if rng.random() < 0.3:
        thing.add(box(x * 0.9, 0.02, 0.3).moved(y=y * 0.4, z=height - 0.35), frame, "furniture")
    return thing


def chair(rng, wardrobe: Wardrobe) -> Thing:
    """A chair: four legs or an office column, seat, back; the back is at +y."""
    if model := ready_made(rng, wardrobe, "chair"):
        return model
    thing = Thing(radius=0.3, height=0.9)
    seat_z, wide = rng.uniform(0.42, 0.5), rng.uniform(0.38, 0.5)
    cloth, frame = wardrobe.small("fabric"), wardrobe.small("wood", "metal" if rng.random() < 0.3 else None)
    thing.add(box(wide, wide, rng.uniform(0.03, 0.09)).moved(z=seat_z), cloth, "furniture")
    if rng.random() < 0.7:
        thing.add(
            _legs(wide - 0.05, wide - 0.05, seat_z, rng.uniform(0.025, 0.045), rng.random() < 0.5), frame, "furniture"
        )
    else:
        arms = [box(0.6, 0.05, 0.04).moved(z=0.05, yaw=a) for a in (0.2, 1.45, 2.5)]
        thing.add([cylinder(0.03, seat_z, 8), *arms], frame, "furniture")
    back = rng.uniform(0.35, 0.6)
    if rng.random() < 0.5:
        thing.add(box(wide, 0.04, back * 0.75).moved(y=wide / 2, z=seat_z + back * 0.25), cloth, "furniture")
        posts = [box(0.035, 0.035, back).moved(x=sx * wide * 0.42, y=wide / 2, z=seat_z) for sx in (-1, 1)]
        thing.add(posts, frame, "furniture")
    else:
        slats = int(rng.integers(3, 7))
        posts = [
            box(0.03, 0.03, back).moved(x=t * wide * 0.45, y=wide / 2, z=seat_z) for t in np.linspace(-1, 1, slats)
        ]
        posts.append(box(wide * 0.95, 0.035, 0.06).moved(y=wide / 2, z=seat_z + back))
        thing.add(posts, frame, "furniture")
    if rng.random() < 0.3:
        arms = [box(0.05, wide, 0.04).moved(x=sx * wide / 2, z=seat_z + 0.22) for sx in (-1, 1)]
        thing.add(arms, frame, "furniture")
    return thing


def sofa(rng, wardrobe: Wardrobe) -> Thing:
    """A sofa or an armchair."""
    if model := ready_made(rng, wardrobe, "sofa"):
        return model
    x, y = (rng.uniform(0.8, 1.0) if rng.random() < 0.4 else rng.uniform(1.5, 2.4)), rng.uniform(0.75, 0.95)
    seat, back = rng.uniform(0.36, 0.46), rng.uniform(0.7, 0.95)
    thing = Thing(radius=x / 2, height=back)
    cloth = wardrobe.small("fabric")
    arm = rng.uniform(0.1, 0.22)
    body = [box(x, y, seat * 0.7).moved(z=0.08), box(x, y * 0.25, back - 0.08).moved(y=y * 0.38, z=0.08)]
    body += [box(arm, y, seat + 0.15).moved(x=sx * (x - arm) / 2, z=0.05) for sx in (-1, 1)]
    n = max(1, round(x / 0.75))
    inner = (x - 2 * arm) / n
    for k in range(n):
        at = -x / 2 + arm + inner * (k + 0.5)
        body.append(box(inner * 0.97, y * 0.7, 0.16).moved(x=at, y=-0.08, z=seat * 0.7 + 0.06))
    thing.add(body, cloth, "furniture")
    for _ in range(int(rng.integers(0, 4))):
        cushion = blob(rng, 0.2, 0.05, 14).stretched(1.0, 0.45, 0.9).turned(0, rng.uniform(-0.4, 0.1))
        thing.add(cushion.moved(rng.uniform(-0.4, 0.4) * x, y * 0.12, seat + 0.24), wardrobe.small("fabric"), "object")
    return thing


def bed(rng, wardrobe: Wardrobe) -> Thing:
    """A bed with head board at +y, pillows and a rumpled blanket."""
    if model := ready_made(rng, wardrobe, "bed"):
        return model
    x, y, z = rng.uniform(0.9, 1.9), rng.uniform(1.9, 2.2), rng.uniform(0.35, 0.6)
    thing = Thing(radius=y / 2, height=z)
    wood = wardrobe.small("wood")
    thing.add([box(x, y, z * 0.5).moved(z=0.08), box(x, 0.06, rng.uniform(0.7, 1.3)).moved(y=y / 2)], wood, "furniture")
    thing.add(box(x * 0.98, y * 0.97, z * 0.5).moved(z=z * 0.5), wardrobe.small("plain"), "furniture")
    cover = box(x * 1.04, y * 0.65, z * 0.35).moved(y=-y * 0.17, z=z * 0.68)
    thing.add(cover, wardrobe.small("fabric"), "furniture")
    for k in range(1 if x < 1.2 else 2):
        pillow = blob(rng, 0.28, 0.06, 14).stretched(1.2, 0.8, 0.35)
        thing.add(
            pillow.moved((k - 0.5) * x * 0.48 if x >= 1.2 else 0.0, y * 0.36, z + 0.1),
            wardrobe.small("plain"),
            "object",
        )
    return thing


def shelf(rng, wardrobe: Wardrobe, filled: float = 0.8) -> Thing:
    """An open shelf with books, boxes and bottles on its boards."""
    if model := ready_made(rng, wardrobe, "storage"):
        return model
    x, y, z = rng.uniform(0.5, 1.8), rng.uniform(0.25, 0.4), rng.uniform(0.7, 2.2)
    thing = Thing(radius=x / 2, height=z)
    wood = wardrobe.small("wood")
    boards = max(2, round(z / rng.uniform(0.28, 0.45)))
    heights = np.linspace(0.04, z - 0.03, boards)
    frame = [box(x, y, 0.025).moved(z=h) for h in heights]
    frame += [box(0.025, y, z).moved(x=sx * x / 2) for sx in (-1, 1)]
    if rng.random() < 0.7:
        frame.append(box(x, 0.015, z).moved(y=y / 2))
    thing.add(frame, wood, "furniture")
    spines = [wardrobe.small("print") for _ in range(4)]
    for low, high in pairwise(heights):
        if rng.random() > filled:
            continue
        at, books = -x / 2 + 0.03, [[] for _ in spines]
        while at < x / 2 - 0.08:
            if rng.random() < 0.12:
                at += rng.uniform(0.05, 0.3)
                continue
            wide, tall = rng.uniform(0.015, 0.06), (high - low - 0.03) * rng.uniform(0.55, 0.95)
            deep = y * rng.uniform(0.5, 0.85)
            book = box(wide, deep, tall).moved(at + wide / 2, (y - deep) / 2 - 0.02, low + 0.025)
            books[int(rng.integers(len(spines)))].append(book)
            at += wide + 0.002
        for meshes, spine in zip(books, spines, strict=True):
            if meshes:
                thing.add(meshes, spine, "object")
    return thing


def cabinet(rng, wardrobe: Wardrobe, x: float, y: float, z: float) -> Thing:
    """A closed cabinet with doors or drawers and handles."""
    thing = Thing(radius=x / 2, height=z)
    thing.add(box(x, y, z), wardrobe.small("wood" if rng.random() < 0.6 else "plain"), "furniture")
    front = wardrobe.small("wood" if rng.random() < 0.6 else "plain")
    metal = wardrobe.small("plain", "metal")
    columns, rows = max(1, round(x / 0.5)), int(rng.integers(1, 4)) if z < 1.3 else int(rng.integers(1, 3))
    doors, handles = [], []
    for i in range(columns):
        for j in range(rows):
            cx, cz = (i + 0.5) / columns * x - x / 2, j / rows * z
            doors.append(box(x / columns - 0.015, 0.02, z / rows - 0.02).moved(cx, -y / 2 - 0.01, cz + 0.01))
            handles.append(box(0.12, 0.02, 0.015).moved(cx, -y / 2 - 0.035, cz + z / rows * 0.75))
    thing.add(doors, front, "furniture")
    thing.add(handles, metal, "furniture")
    return thing


def floor_lamp(rng, wardrobe: Wardrobe, height: float) -> Thing:
    """A lamp with a shade on a pole."""
    thing = Thing(radius=0.2, height=height)
    r = height * rng.uniform(0.1, 0.16)
    pole = [cylinder(0.008 + 0.006 * height, height * 0.85, 8), cylinder(r * 0.8, 0.025, 14)]
    thing.add(pole, wardrobe.small("plain", "metal"), "thin")
    shade = lathe([(r * 1.3, height * 0.75), (r * rng.uniform(0.6, 1.2), height)], 16)
    thing.add(shade, wardrobe.small("plain"), "object")
    return thing


def monitor(rng, wardrobe: Wardrobe) -> Thing:
    """A screen on a foot; the image faces -y."""
    x = rng.uniform(0.35, 1.2)
    z = x * 0.58
    thing = Thing(radius=x / 2, height=z + 0.12)
    case = wardrobe.small("paint", "shiny")
    body = [box(x, 0.03, z).moved(z=0.1), box(x * 0.12, 0.03, 0.12).moved(y=0.02), box(x * 0.4, 0.18, 0.015)]
    thing.add(body, case, "object")
    thing.add(
        box(x * 0.95, 0.004, z * 0.92).moved(y=-0.017, z=0.1 + z * 0.04), wardrobe.small("print", "shiny"), "object"
    )
    return thing
