"""Outdoor scenes: streets, nature, and a subject in front of a background."""

import numpy as np

from depth_anything.data.scenes.cameras import PHONE, Camera, hand_held
from depth_anything.data.scenes.furniture import chair
from depth_anything.data.scenes.light import Light, daylight
from depth_anything.data.scenes.materials import Material, Wardrobe
from depth_anything.data.scenes.objects import Floor, Part, Thing, potted_plant, ready_made
from depth_anything.data.scenes.people_animals_plants import animal, bush, grass_tuft, person, rock, statue, tree
from depth_anything.data.scenes.shapes import Mesh, box, grid, ground_height, ground_net, quad
from depth_anything.data.scenes.towns import (
    building,
    car,
    fence,
    garden_wall,
    guard_rail,
    hedge,
    lamp_post,
    wires,
)  # fmt: skip

FAR = 2500.0  # metres: where the ground ends


def level(
    floor: Floor, material: Material, label: str, z: float, repeat: float,
    x: tuple[float, float] = (-FAR, FAR), y: tuple[float, float] = (-FAR, FAR),
) -> None:  # fmt: skip
    """A level rectangle, to the horizon by default; the texture repeats every `repeat` metres."""
    corners = np.array([[x[0], y[0], z], [x[1], y[0], z], [x[1], y[1], z], [x[0], y[1], z]])
    floor.add(quad(corners, ((x[1] - x[0]) / repeat, (y[1] - y[0]) / repeat)), material, label)


def hills(rng, wardrobe: Wardrobe, floor: Floor) -> None:
    """One to three ridges between 150 m and 2 km away, all round."""
    for distance in sorted(rng.uniform(150, 1800, int(rng.integers(1, 4)))):
        n = 90
        angle = np.linspace(0, 2 * np.pi, n)
        rough = sum(rng.normal(0, 1.0 / k) * np.sin(k * angle + rng.uniform(0, 6)) for k in (1, 2, 3, 5, 8, 13, 21, 34))
        top = distance * np.clip(0.07 + 0.05 * rough, 0.0, 0.3)
        faces, uv = grid(n, 3)
        out = np.array([0.85, 1.0, 1.15])[:, None] * distance
        z = np.stack([np.full(n, -2.0), top, top * 0.2])
        vertices = np.stack([out * np.cos(angle), out * np.sin(angle), z], -1).reshape(-1, 3)
        cover = wardrobe.small("leaf" if distance < 600 else "ground", "small")
        floor.add(Mesh(vertices, faces, uv * [60, 2]), cover, "ground")


def border(rng, wardrobe: Wardrobe, floor: Floor, front: Material, hedges: bool, x: float, side: int) -> None:
    """What parts gardens from a street: pieces of hedge or wall of the material front, and of fence, with openings."""
    y, trim = rng.uniform(-9, -2), wardrobe.small("plain", "small")
    fenced = rng.choice([0.0, 0.3, 1.0])
    while y < 80:
        long = rng.uniform(2.5, 14.0)
        if rng.random() < fenced:
            piece = fence(rng, wardrobe, long)
        elif hedges:
            piece = hedge(rng, front, long)
        else:
            piece = garden_wall(rng, front, trim, long)
        floor.place(piece, side * x, y + long / 2, 0.0, -side * np.pi / 2)
        y += long + rng.choice([0.0, 0.0, 1.2, 4.0])


def street(rng: np.random.Generator, wardrobe: Wardrobe) -> tuple[list[Part], Camera, Light]:
    """A road with pavements, houses, cars, people, trees and poles, seen from a car, the pavement or across.

    A third are lanes as in old towns: hardly wider than two cars, with walls, hedges, fences or houses close on both
    sides. Every eighth is as wide as an avenue.
    """
    floor = Floor(rng)
    width = rng.random()
    lane = width < 0.34
    half = rng.uniform(1.9, 3.6) if lane else rng.uniform(9.0, 15.0) if width > 0.88 else rng.uniform(3.0, 9.0)
    walk = rng.uniform(0.3, 1.5) if lane else rng.uniform(1.2, 4.0)
    level(floor, wardrobe.large("ground"), "ground", -0.02, 2.5)
    level(floor, wardrobe.large("road"), "road", 0.0, rng.uniform(1.5, 5.0), (-half, half), (-60, 700))
    pave = wardrobe.large("pavement")
    for side in (-1, 1):
        if rng.random() < 0.85:
            slab = box(walk, 760, 0.14, repeat=rng.uniform(0.8, 2.5)).moved(side * (half + walk / 2), 320)
            floor.add(slab, pave, "road")
    paint = wardrobe.small("plain", "small")
    if rng.random() < 0.75:
        dashes = [box(0.14, 3.0, 0.004).moved(0.0, y) for y in np.arange(-20, 150, rng.choice([6.0, 9.0]))]
        dashes += [box(0.12, 300, 0.004).moved(s * (half - 0.4), 130) for s in (-1, 1) if rng.random() < 0.6]
        floor.add(dashes, paint, "road")
    if rng.random() < 0.3:
        at = rng.uniform(5, 20)
        floor.add([box(0.5, 3.0, 0.005).moved(x, at) for x in np.arange(-half + 0.5, half, 1.0)], paint, "road")
    fronts = [wardrobe.large("facade") for _ in range(2)]
    urban = rng.random()
    hedges = rng.random() < 0.5
    front = wardrobe.large("leaf" if hedges else "wall")
    for side in (-1, 1):
        y, gap = rng.uniform(-14, 6), rng.choice([0.0, 2.0, 8.0, 25.0])
        bordered = rng.random() < (0.6 if lane else 0.25)
        if bordered:
            border(rng, wardrobe, floor, front, hedges, half + walk + 0.6, side)
        offsets = [2.0, 4.0, 6.0, 12.0] if bordered else [0.0, 0.0, 0.3, 2.0] if lane else [0.0, 0.5, 3.0, 6.0, 12.0]
        back = half + walk + rng.choice(offsets)
        while y < 170:
            wide, deep = rng.uniform(6, 22), rng.uniform(6, 12)
            height = rng.uniform(3.0, 8.0) if urban < 0.5 else rng.uniform(7.0, 24.0)
            if rng.random() < (0.85 if urban > 0.25 else 0.35):
                house = building(rng, wardrobe, fronts[int(rng.integers(2))], wide, deep, height)
                floor.place(house, side * (back + deep / 2 + rng.uniform(0, 1)), y + wide / 2, 0, -side * np.pi / 2)
            elif rng.random() < 0.6:
                for _ in range(3):
                    plant = (tree if rng.random() < 0.7 else bush)(rng, wardrobe)
                    x = side * (back + rng.uniform(2, 10))
                    floor.place(plant, x, y + rng.uniform(0, wide), 0, rng.uniform(0, 6))
            y += wide + gap * rng.uniform(0.5, 1.5)
    if rng.random() < 0.6:
        end = rng.uniform(70, 260)
        for x in np.arange(-50.0, 51.0, 22.0):
            floor.place(building(rng, wardrobe, fronts[0], 21, 10, rng.uniform(5, 25)), x, end)
    if rng.random() < 0.5:
        hills(rng, wardrobe, floor)
    mode = rng.random()
    if lane or mode < 0.62:
        eye = np.array([rng.uniform(-0.5, 0.5) * half, 0.0, rng.uniform(1.2, 1.9)])
    else:
        eye = np.array([rng.choice([-1, 1]) * (half + rng.uniform(0.2, 0.9) * walk), 0.0, rng.uniform(1.2, 1.85)])
    floor.taken.append((eye[0], 0.0, 2.5))
    kerbs = [rng.choice([-1, 1]) * (half - 0.6)] if lane else [-half + 1.2, half - 1.2]
    for kerb in kerbs:
        y = rng.uniform(3, 14)
        while y < 110 and rng.random() < 0.88:
            if rng.random() < 0.65:
                parked = car(rng, wardrobe, large=rng.random() < 0.12)
                x = kerb + rng.normal(0, 0.15)
                floor.put(parked, x, y, 0.0, rng.choice([0.0, np.pi]) + rng.normal(0, 0.03))
            y += rng.uniform(5.5, 16)
    for _ in range(int(rng.integers(0, 4))):
        driven, x, y = car(rng, wardrobe), rng.uniform(-0.5, 0.5) * half, rng.uniform(7, 60)
        floor.put(driven, x, y, 0.0, rng.choice([0.0, np.pi]) + rng.normal(0, 0.05))
    for _ in range(int(rng.integers(0, 9))):
        y = float(np.exp(rng.uniform(np.log(3.0), np.log(45.0))))
        if rng.random() < 0.8:
            x = rng.choice([-1, 1]) * (half + rng.uniform(0.1, 1.0) * walk)
        else:
            x = rng.uniform(-half, half)
        floor.put(person(rng, wardrobe), x, y, 0.14)
    for _ in range(int(rng.integers(0, 4))):
        if furnished := ready_made(rng, wardrobe, "outdoor"):
            side = rng.choice([-1, 1])
            floor.put(furnished, side * (half + 0.8 * walk), rng.uniform(3, 30), 0.14, -side * np.pi / 2)
    for side in (-1, 1):
        y, step = rng.uniform(2, 12), rng.uniform(8, 28)
        planted = rng.random() < 0.5 and not lane
        while y < 120:
            grown = planted and rng.random() < 0.8
            thing = tree(rng, wardrobe, rng.uniform(4, 10)) if grown else lamp_post(rng, wardrobe)
            floor.put(thing, side * (half + 0.5), y + rng.normal(0, 1), 0.1, np.pi if side > 0 else 0.0)
            y += step
        if not lane and rng.random() < 0.15:
            floor.place(guard_rail(rng, wardrobe, 60.0), side * (half + 0.2), 30.0, 0.0, -side * np.pi / 2)
    if rng.random() < 0.3:
        floor.parts += wires(rng, wardrobe, np.array([-half - 1, 0, 7.0]), np.array([-half - 1, 60.0, 7.0]), 3).parts
    if mode < 0.8:
        target = eye + [rng.normal(0, 4.0), 20.0, rng.normal(-1.2, 1.4)]
    else:
        target = np.array([-np.sign(eye[0]) * (half + walk), rng.uniform(2, 14), rng.uniform(0.3, 5.0)])
    light = daylight(rng, fog=(0.15, 40, 300))
    return floor.parts, hand_held(rng, eye, target, PHONE if rng.random() < 0.4 else (35.0, 88.0)), light


def nature(rng: np.random.Generator, wardrobe: Wardrobe) -> tuple[list[Part], Camera, Light]:
    """Uneven ground with trees, bushes, rocks, paths, hills, sometimes water or fog; forest, meadow, park or field."""
    floor = Floor(rng)
    relief = rng.uniform(0.3, 2.5)
    seed = int(rng.integers(1 << 62))
    net = ground_net(np.random.default_rng(seed), FAR * 0.4, relief, 0.5)
    floor.add(net, wardrobe.large("ground"), "ground")
    level(floor, wardrobe.large("ground"), "ground", -25.0, 6.0)

    def height(x: float, y: float) -> float:
        return float(ground_height(np.random.default_rng(seed), np.array(x), np.array(y), relief, 0.5))

    eye = np.array([0.0, 0.0, rng.uniform(0.8, 1.8)])
    floor.taken.append((0.0, 0.0, 1.2))
    density = rng.choice([4, 14, 30, 60])
    makers = [tree, tree, bush, rock]
    species = [makers[int(rng.integers(4))](rng, wardrobe) for _ in range(6)] + [tree(rng, wardrobe) for _ in range(3)]
    for _ in range(int(density)):
        y = float(np.exp(rng.uniform(np.log(2.5), np.log(140.0))))
        x = rng.uniform(-1.0, 1.0) * y
        thing = species[int(rng.integers(len(species)))].moved(0, 0, 0, 0, rng.uniform(0.6, 1.4))
        floor.put(thing, x, y, height(x, y) - 0.05)
    small = [grass_tuft(rng, wardrobe, rng.uniform(0.15, 0.6)) for _ in range(3)]
    small += [rock(rng, wardrobe, rng.uniform(0.08, 0.35)), bush(rng, wardrobe, 0.4)]
    for _ in range(int(rng.choice([0, 25, 70]))):
        y = float(np.exp(rng.uniform(np.log(1.2), np.log(18.0))))
        x = rng.uniform(-0.9, 0.9) * y
        floor.put(small[int(rng.integers(len(small)))], x, y, height(x, y) - 0.01)
    if rng.random() < 0.5:
        hills(rng, wardrobe, floor)
    if rng.random() < 0.18:
        level(floor, wardrobe.large("paint", gloss=True), "water", -rng.uniform(0.1, 0.8), 2.5)
    for _ in range(int(rng.integers(0, 4))):
        y = float(np.exp(rng.uniform(np.log(2.5), np.log(40.0))))
        x = rng.uniform(-0.6, 0.6) * y
        kind = person if rng.random() < 0.55 else animal
        floor.put(kind(rng, wardrobe), x, y, height(x, y) - 0.02)
    if rng.random() < 0.25:
        y = rng.uniform(4, 30)
        floor.place(fence(rng, wardrobe, y * 1.5), rng.uniform(-3, 3), y, height(0.0, y) - 0.1, rng.normal(0, 0.3))
    if rng.random() < 0.2:
        y = rng.uniform(18, 90)
        house = building(rng, wardrobe, wardrobe.large("facade"), rng.uniform(7, 18), 8.0, rng.uniform(3, 8))
        floor.put(house, rng.uniform(-0.4, 0.4) * y, y, height(0.0, y) - 0.3, rng.normal(0, 0.6))
    target = np.array([0.0, 10.0, eye[2] + rng.normal(-1.0, 1.3)])
    light = daylight(rng, fog=(0.2, 40, 500))
    return floor.parts, hand_held(rng, eye, target, PHONE if rng.random() < 0.4 else (35.0, 85.0)), light


def subject(rng: np.random.Generator, wardrobe: Wardrobe) -> tuple[list[Part], Camera, Light]:
    """One to three people, animals, statues, plants or cars, 1 to 10 m away, with a background at its own distance."""
    floor = Floor(rng)
    ground = wardrobe.large(str(rng.choice(["ground", "pavement", "road", "floor"])))
    level(floor, ground, "ground", 0.0, rng.uniform(0.8, 4.0))
    makers = [person, person, animal, animal, statue, car, bush, rock, chair, potted_plant]
    distance = float(np.exp(rng.uniform(np.log(1.3), np.log(9.0))))
    chosen = makers[int(rng.integers(len(makers)))]
    first = chosen(rng, wardrobe)
    portrait = chosen is person and rng.random() < 0.35
    if not portrait and (model := ready_made(rng, wardrobe, "outdoor", "furniture", "storage", share=0.15)):
        first = model
    distance = max(distance, first.radius + 0.8, first.height * 0.75)
    if portrait:
        distance = rng.uniform(0.9, 2.2)
    floor.taken.append((0.0, 0.0, 0.5))
    floor.put(first, rng.uniform(-0.2, 0.2) * distance, distance)
    for _ in range(int(rng.integers(0, 4))):
        other = makers[int(rng.integers(len(makers)))](rng, wardrobe)
        y = distance * rng.uniform(0.8, 3.5) + other.radius
        floor.put(other, rng.uniform(-0.6, 0.6) * y, y)
    behind = distance + float(np.exp(rng.uniform(np.log(1.0), np.log(40.0))))
    kind = rng.random()
    if kind < 0.4:
        face = wardrobe.large("facade" if rng.random() < 0.5 else "wall")
        tall = rng.uniform(2.0, 9.0)
        house = Thing(radius=4.0)
        house.add(box(rng.uniform(6, 40), 0.4, tall, repeat=rng.uniform(1.5, 4.0)), face, "building")
        floor.place(house, rng.uniform(-3, 3), behind + 1, 0, rng.normal(0, 0.25))
    elif kind < 0.75:
        for _ in range(int(rng.integers(3, 14))):
            thing = tree(rng, wardrobe) if rng.random() < 0.6 else bush(rng, wardrobe)
            y = behind * rng.uniform(1.0, 2.5)
            floor.put(thing, rng.uniform(-0.9, 0.9) * y, y)
    if rng.random() < 0.5:
        hills(rng, wardrobe, floor)
    for _ in range(int(rng.integers(0, 5))):
        y = behind * rng.uniform(0.7, 2.0)
        thing = lamp_post(rng, wardrobe) if rng.random() < 0.4 else person(rng, wardrobe)
        floor.put(thing, rng.uniform(-0.7, 0.7) * y, y)
    if rng.random() < 0.2:
        floor.place(fence(rng, wardrobe, 14.0), 0.0, behind, 0.0, rng.normal(0, 0.1))
    tall = first.height
    eye = np.array([0.0, 0.0, np.clip(rng.normal(1.35, 0.35), 0.3, 1.9)])
    target = np.array([rng.uniform(-0.1, 0.1) * distance, distance, tall * rng.uniform(0.35, 0.75)])
    if portrait:  # head and shoulders
        eye[2] = tall * rng.uniform(0.7, 1.05)
        target[2] = tall * rng.uniform(0.72, 0.95)
        tall *= 0.4
    view = np.degrees(2 * np.arctan(max(first.radius * 1.2, tall * 0.75) / distance)) * rng.uniform(1.0, 1.9)
    view = float(np.clip(view, 35.0, 85.0))
    light = daylight(rng, fog=(0.15, 15, 200))
    return floor.parts, hand_held(rng, eye, target, (view * 0.95, min(90.0, view * 1.05))), light
