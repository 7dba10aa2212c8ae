"""Cars, houses and street furniture; the same conventions as objects.py."""

import numpy as np

from depth_anything.data.scenes.materials import Material, Wardrobe
from depth_anything.data.scenes.objects import Thing, ready_made
from depth_anything.data.scenes.shapes import Mesh, box, cylinder, leaves, sections, tube


def car(rng, wardrobe: Wardrobe, large: bool = False) -> Thing:
    """A car, van, bus or lorry; it drives along +y. large: no car, but one of the others."""
    if not large and (model := ready_made(rng, wardrobe, "car")):
        return model
    kind = rng.uniform(0.72, 1.0) if large else rng.random()
    if kind < 0.72:
        long, wide, tall, bonnet, roof = (
            rng.uniform(3.6, 4.9),
            rng.uniform(1.65, 1.9),
            rng.uniform(1.38, 1.75),
            0.27,
            0.5,
        )
    elif kind < 0.9:
        long, wide, tall, bonnet, roof = rng.uniform(4.5, 6.0), 2.0, rng.uniform(1.9, 2.6), 0.14, 0.84
    else:
        long, wide, tall, bonnet, roof = rng.uniform(7.0, 12.0), 2.5, rng.uniform(2.8, 3.4), 0.03, 0.96
    thing = Thing(radius=long / 2, height=tall)
    paint, dark = wardrobe.small("paint", "shiny"), wardrobe.small("paint", "shiny")
    belt, low, tail = tall * 0.58, 0.22 + 0.05 * tall, max(0.02, 1 - bonnet - roof)
    if kind >= 0.72:
        belt = tall * 0.5
    front, back = long / 2, -long / 2
    a, b = front - bonnet * long, back + tail * long * 0.7

    def ring(y: float, z0: float, z1: float, half: float, top: float) -> np.ndarray:
        return np.array(
            [
                [-half, y, z0],
                [half, y, z0],
                [half, y, (z0 + z1) / 2],
                [top, y, z1],
                [-top, y, z1],
                [-half, y, (z0 + z1) / 2],
            ]
        )

    half = wide / 2
    body = sections(
        [
            ring(back, low + 0.1, belt * 0.92, half * 0.9, half * 0.85),
            ring(back + 0.15, low, belt, half, half * 0.94),
            ring(a, low, belt, half, half * 0.94),
            ring(front - 0.2, low, belt * 0.86, half, half * 0.9),
            ring(front, low + 0.1, belt * 0.72, half * 0.88, half * 0.8),
        ]
    )
    slope = 0.16 * long * (0.4 if kind >= 0.72 else 1.0)
    cabin = sections(
        [
            ring(b, belt - 0.05, belt, half * 0.9, half * 0.88),
            ring(b + slope * 0.6, belt - 0.05, tall, half * 0.92, half * 0.76),
            ring(a - slope, belt - 0.05, tall, half * 0.92, half * 0.76),
            ring(a + 0.05, belt - 0.05, belt, half * 0.9, half * 0.88),
        ]
    )
    roof_plate = box(half * 1.54, max(0.3, a - slope - b - slope * 0.6), 0.05).moved(
        y=(a - slope + b + slope * 0.6) / 2, z=tall - 0.02
    )
    pillars = [box(0.07, 0.08, tall - belt).moved(sx * half * 0.86, y, belt) for sx in (-1, 1) for y in ((a + b) / 2,)]
    thing.add([body, roof_plate, *pillars], paint, "vehicle")
    thing.add(cabin, dark, "vehicle")
    tyre = cylinder(0.31 if kind < 0.9 else 0.48, 0.2, 16).turned(1, np.pi / 2)
    wheels = [
        tyre.moved(sx * (half - 0.1) - 0.1, y, 0.31 if kind < 0.9 else 0.48)
        for sx in (-1, 1)
        for y in (back + 0.19 * long, front - 0.18 * long)
    ]
    thing.add(wheels, wardrobe.small("road", "small"), "vehicle")
    lights = [
        box(0.3, 0.05, 0.13).moved(sx * half * 0.68, y, belt * 0.7)
        for sx in (-1, 1)
        for y in (front - 0.04, back + 0.02)
    ]
    thing.add(lights, wardrobe.small("plain", "shiny"), "vehicle")
    return thing


def lamp_post(rng, wardrobe: Wardrobe) -> Thing:
    """A street lamp, a traffic light or a sign on its pole."""
    h = rng.uniform(2.2, 7.0)
    thing = Thing(radius=0.15, height=h)
    metal = wardrobe.small("plain", "metal" if rng.random() < 0.4 else "small")
    parts = [cylinder(rng.uniform(0.03, 0.09), h, 8)]
    kind = rng.random()
    if kind < 0.4:
        reach = rng.uniform(0.5, 2.0)
        parts.append(tube(np.array([[0, 0, h - 0.1], [reach * 0.5, 0, h + 0.2], [reach, 0, h + 0.2]]), 0.04, 6))
        parts.append(box(0.5, 0.2, 0.1).moved(x=reach, z=h + 0.12))
    elif kind < 0.6:
        thing.add(box(0.28, 0.22, 0.85).moved(y=-0.1, z=h * 0.72), wardrobe.small("paint", "small"), "object")
    else:
        sign = (
            cylinder(0.33, 0.02, 20).turned(0, np.pi / 2)
            if rng.random() < 0.5
            else box(rng.uniform(0.4, 1.5), 0.02, rng.uniform(0.3, 0.9))
        )
        thing.add(sign.moved(y=-0.06, z=h * 0.85), wardrobe.small("print", "small"), "object")
    thing.add(parts, metal, "thin")
    return thing


def fence(rng, wardrobe: Wardrobe, length: float) -> Thing:
    """A fence or railing along x."""
    h, gap = rng.uniform(0.7, 1.8), rng.uniform(0.1, 0.35)
    thing = Thing(radius=length / 2, height=h)
    posts = np.arange(-length / 2, length / 2, max(gap, length / 60))
    slat = box(gap * rng.uniform(0.15, 0.7), 0.025, h)
    rails = [box(length, 0.04, 0.06).moved(z=h * f) for f in (0.2, 0.85)]
    wood = wardrobe.small("wood" if rng.random() < 0.6 else "plain", "small")
    thing.add([*[slat.moved(x=float(x)) for x in posts], *rails], wood, "thin")
    return thing


def hedge(rng, leaf: Material, length: float) -> Thing:
    """A clipped hedge along x."""
    h, deep = rng.uniform(0.8, 3.2), rng.uniform(0.5, 1.1)
    thing = Thing(radius=length / 2, height=h)
    outline = np.array([[-0.5, 0], [-0.5, 0.55], [-0.4, 0.97], [0.0, 1.0], [0.4, 0.97], [0.5, 0.55], [0.5, 0]])
    along = np.linspace(-length / 2, length / 2, max(4, int(length / 0.5)))
    rough = rng.uniform(0.02, 0.08)
    rows = [np.column_stack([np.full(7, x), outline * [deep, h] + rng.normal(0, rough, (7, 2))]) for x in along]
    skin = sections(rows)
    thing.add(Mesh(skin.vertices, skin.faces, skin.vertices[:, [0, 2]] / 1.2), leaf, "plant")
    centres = rng.uniform([-length / 2, -deep / 2, 0.1 * h], [length / 2, deep / 2, h], (40, 3))
    thing.add(leaves(rng, centres, 0.25, rng.uniform(0.05, 0.11), int(min(500, 50 * length))), leaf, "plant")
    return thing


def garden_wall(rng, stone: Material, trim: Material, length: float) -> Thing:
    """A wall along x with a coping and, at times, pillars."""
    h, deep = rng.uniform(0.4, 2.4), rng.uniform(0.15, 0.4)
    thing = Thing(radius=length / 2, height=h)
    thing.add(box(length, deep, h, repeat=rng.uniform(1.0, 2.5)), stone, "building")
    coping = [box(length, deep + 0.08, 0.07).moved(z=h - 0.01)]
    if rng.random() < 0.5:
        step = rng.uniform(2.0, 4.0)
        coping += [box(0.45, 0.45, h + 0.25).moved(x=float(x)) for x in np.arange(-length / 2, length / 2, step)]
    thing.add(coping, trim, "building")
    return thing


def guard_rail(rng, wardrobe: Wardrobe, length: float) -> Thing:
    """A crash barrier along x."""
    thing = Thing(radius=length / 2, height=0.75)
    posts = [box(0.1, 0.12, 0.7).moved(x=float(x)) for x in np.arange(-length / 2, length / 2, 2.0)]
    rails = [box(length, 0.06, 0.12).moved(y=-0.08, z=z) for z in (0.46, 0.63)]
    thing.add([*posts, *rails], wardrobe.small("plain", "metal" if rng.random() < 0.5 else "small"), "thin")
    return thing


def wires(rng, wardrobe: Wardrobe, start: np.ndarray, end: np.ndarray, count: int) -> Thing:
    """Sagging cables between two points."""
    thing = Thing(radius=0.1, height=0.1)
    t = np.linspace(0, 1, 12)[:, None]
    meshes = []
    for _ in range(count):
        a, b = start + rng.normal(0, 0.25, 3), end + rng.normal(0, 0.25, 3)
        path = a + (b - a) * t
        path[:, 2] -= 4 * rng.uniform(0.2, 0.9) * (t * (1 - t))[:, 0]
        meshes.append(tube(path, 0.012, 4))
    thing.add(meshes, wardrobe.small("road", "small"), "thin")
    return thing


def building(rng, wardrobe: Wardrobe, front: Material, wide: float, deep: float, height: float) -> Thing:
    """A house whose front faces -y: doors and shop windows, sills, cornice, sometimes balconies and a pitched roof."""
    thing = Thing(radius=wide / 2, height=height)
    storey = rng.uniform(2.8, 3.6)
    thing.add(box(wide, deep, height, repeat=storey * rng.integers(1, 4)), front, "building")
    trim = wardrobe.small("plain", "small")
    ledges = [box(wide + 0.3, 0.3, 0.25).moved(y=-deep / 2, z=height - 0.25)]
    if rng.random() < 0.6:
        ledges.append(box(wide + 0.1, 0.2, 0.2).moved(y=-deep / 2, z=storey))
    if rng.random() < 0.5:
        for x in np.arange(-wide / 2 + 1.2, wide / 2 - 1.0, rng.uniform(1.8, 3.5)):
            for z in np.arange(storey, height - 1.5, storey):
                ledges.append(box(1.0, 0.25, 0.1).moved(x, -deep / 2 - 0.05, z + 0.8))
    thing.add(ledges, trim, "building")
    panes, doors = [], []
    for x in np.arange(-wide / 2 + 1.3, wide / 2 - 1.0, rng.uniform(2.2, 4.0)):
        if rng.random() < 0.3:
            doors.append(box(1.0, 0.12, 2.1).moved(x, -deep / 2))
        else:
            panes.append(box(rng.uniform(1.0, 2.0), 0.08, rng.uniform(1.0, 1.8)).moved(x, -deep / 2, 0.8))
    if doors:
        thing.add(doors, wardrobe.small("wood"), "building")
    if panes:
        thing.add(panes, wardrobe.small("road", "shiny"), "glass")
    if rng.random() < 0.5 and height < 13:
        rise, over = deep * rng.uniform(0.2, 0.5), 0.4
        x, y = wide / 2 + over, deep / 2 + over
        vertices = np.array([[-x, -y, 0], [x, -y, 0], [x, 0, rise], [-x, 0, rise], [x, y, 0], [-x, y, 0]]) + [
            0,
            0,
            height - 0.1,
        ]
        faces = np.array([[0, 1, 2], [0, 2, 3], [3, 2, 4], [3, 4, 5], [0, 3, 5], [1, 4, 2]])
        thing.add(
            Mesh(vertices, faces, vertices[:, [0, 2]] / 1.5),
            wardrobe.small("stone" if rng.random() < 0.5 else "bark", "small"),
            "building",
        )
    if rng.random() < 0.3:
        balcony = [
            box(rng.uniform(1.5, 3), 1.0, 1.0).moved(rng.uniform(-0.3, 0.3) * wide, -deep / 2 - 0.5, storey * k)
            for k in range(1, int(height / storey))
        ]
        if balcony:
            thing.add(balcony, trim, "building")
    return thing
