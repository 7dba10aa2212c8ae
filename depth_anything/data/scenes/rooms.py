"""Indoor scenes: rooms, table tops and clutter."""

import numpy as np

from depth_anything.data.scenes.cameras import PHONE, Camera, hand_held
from depth_anything.data.scenes.furniture import bed, cabinet, chair, floor_lamp, monitor, shelf, sofa, table
from depth_anything.data.scenes.light import Light, indoor_light
from depth_anything.data.scenes.materials import Wardrobe
from depth_anything.data.scenes.objects import Floor, Part, Thing, potted_plant, ready_made, small_thing
from depth_anything.data.scenes.people_animals_plants import animal, person
from depth_anything.data.scenes.shapes import Mesh, box, cylinder, grid
from depth_anything.data.scenes.towns import car
from depth_anything.data.scenes.walls import shell


def furnish(rng, wardrobe: Wardrobe, floor: Floor, style: str, wide: float, deep: float, height: float) -> None:
    """Furniture along three walls and in the middle of a room whose far wall is at y = deep."""

    def against(style: str) -> Thing:
        pick = rng.random()
        if model := ready_made(rng, wardrobe, "storage", "furniture", share=0.3):
            thing = model
        elif style == "kitchen" and pick < 0.6:
            thing = cabinet(rng, wardrobe, rng.uniform(0.6, 2.0), 0.6, 0.9 if rng.random() < 0.6 else 2.0)
        elif style == "bedroom" and pick < 0.35:
            return bed(rng, wardrobe)
        elif style == "living" and pick < 0.4:
            return sofa(rng, wardrobe)
        elif style == "office" and pick < 0.5:
            desk = table(rng, wardrobe, rng.uniform(1.1, 1.8), 0.7, 0.73)
            desk.place(monitor(rng, wardrobe), rng.uniform(-0.2, 0.2), 0.1, 0.73, rng.normal(0, 0.2))
            thing = desk
        elif pick < 0.72:
            return shelf(rng, wardrobe)
        elif pick < 0.9:
            thing = cabinet(rng, wardrobe, rng.uniform(0.4, 1.6), rng.uniform(0.35, 0.6), rng.uniform(0.5, 2.0))
        elif pick < 0.95:
            return floor_lamp(rng, wardrobe, rng.uniform(1.2, 1.8))
        else:
            return potted_plant(rng, wardrobe, rng.uniform(0.6, 1.7))
        if thing.flat and thing.height < 1.4:
            top = Floor(rng, thing.parts)
            top.dress(wardrobe, 0, 0, thing.height, thing.radius * 1.7, 0.35, int(rng.integers(0, 6)))
        return thing

    for _ in range(int(rng.integers(2, 8))):
        thing = against(style)
        floor.scatter(thing, (-wide / 2 + thing.radius, deep - 0.4), (wide / 2 - thing.radius, deep - 0.32), 0.0, 0.0)
    for side in (-1, 1):
        for _ in range(int(rng.integers(0, 5))):
            thing = against(style)
            x = side * (wide / 2 - 0.4)
            floor.scatter(thing, (x, min(2.2, deep * 0.5)), (x, max(2.3, deep - 0.9)), 0.0, -side * np.pi / 2)
    middle = int(rng.integers(0, 5)) if style != "corridor" else 0
    for _ in range(middle):
        pick = rng.random()
        y = rng.uniform(1.6, max(1.8, deep - 1.2))
        x = rng.uniform(-0.35, 0.35) * wide
        if pick < 0.5:
            low = style == "living" and rng.random() < 0.6
            tx, ty, tz = rng.uniform(0.7, 1.8), rng.uniform(0.5, 0.95), 0.42 if low else rng.uniform(0.7, 0.78)
            board = table(rng, wardrobe, tx, ty, tz)
            yaw = rng.choice([0.0, np.pi / 2]) + rng.normal(0, 0.1)
            Floor(rng, board.parts).dress(wardrobe, 0, 0, tz, tx * 0.8, ty * 0.75, int(rng.integers(0, 7)))
            if floor.put(board, x, y, 0.0, yaw) and not low:
                for turn in (0.0, np.pi / 2, np.pi, -np.pi / 2):
                    if rng.random() < 0.7:
                        away = (ty if turn in (0.0, np.pi) else tx) / 2 + rng.uniform(0.05, 0.3)
                        angle = yaw + turn
                        cx, cy = x - np.sin(angle) * away, y + np.cos(angle) * away
                        floor.place(chair(rng, wardrobe), cx, cy, 0, angle + rng.normal(0, 0.2))
        elif pick < 0.65:
            floor.put(sofa(rng, wardrobe), x, y)
        elif pick < 0.85:
            floor.put(chair(rng, wardrobe), x, y)
        elif pick < 0.93:
            floor.put(person(rng, wardrobe, sitting=False), x, y)
        else:
            floor.put(animal(rng, wardrobe, rng.uniform(0.25, 0.7)), x, y)
    for _ in range(int(rng.integers(0, 7))):
        thing = small_thing(rng, wardrobe, rng.uniform(0.2, 0.6))
        floor.scatter(thing, (-wide * 0.45, 1.2), (wide * 0.45, deep - 0.5))


def room(rng: np.random.Generator, wardrobe: Wardrobe) -> tuple[list[Part], Camera, Light]:
    """A furnished room, seen from its open side."""
    style = rng.choice(
        ["living", "kitchen", "office", "bedroom", "corridor", "hall"], p=[0.24, 0.17, 0.22, 0.17, 0.08, 0.12]
    )
    wide, deep, height = rng.uniform(3.0, 8.0), rng.uniform(2.4, 6.5), rng.uniform(2.35, 3.0)
    if style == "corridor":
        wide, deep = rng.uniform(1.6, 3.0), rng.uniform(6.0, 22.0)
    elif style == "hall":
        wide, deep, height = rng.uniform(7.0, 16.0), rng.uniform(6.0, 16.0), rng.uniform(2.8, 5.0)
    floor = Floor(rng)
    eye = np.array([rng.uniform(-0.25, 0.25) * wide, rng.uniform(-0.6, 0.3), np.clip(rng.normal(1.35, 0.25), 0.5, 1.8)])
    floor.taken.append((eye[0], eye[1], 0.85))
    shell(rng, wardrobe, floor, wide, deep, height)
    furnish(rng, wardrobe, floor, str(style), wide, deep, height)
    if style == "hall":
        furnish(rng, wardrobe, floor, "office", wide * 0.7, deep * 0.7, height)
        stock(rng, wardrobe, floor, wide, deep, height)
    if rng.random() < 0.4:
        rx, ry = rng.uniform(1.0, 2.6), rng.uniform(0.8, 2.0)
        floor.add(
            box(rx, ry, 0.012).moved(rng.uniform(-0.2, 0.2) * wide, deep * 0.5, 0.0), wardrobe.small("fabric"), "floor"
        )
    if rng.random() < 0.3:
        foreground(rng, wardrobe, floor, eye)
    reach = max(1.3, rng.uniform(0.35, 0.9) * deep)
    target = np.array([rng.uniform(-0.35, 0.35) * wide, reach, np.clip(rng.normal(0.6, 0.35), 0.0, 1.5)])
    things = [(x, y) for x, y, _ in floor.taken[1:] if y > eye[1] + 1.0]
    if things and rng.random() < 0.35:  # one piece of furniture is the subject
        target[:2] = things[int(rng.integers(len(things)))]
        away = float(np.hypot(*(target - eye)[:2]))
        closer = rng.uniform(1.3, 3.0)
        if away > closer and rng.random() < 0.4:
            eye[:2] = target[:2] + (eye - target)[:2] * closer / away
    light = indoor_light(rng, wide, deep, height, eye)
    return floor.parts, hand_held(rng, eye, target, PHONE if rng.random() < 0.6 else (40.0, 75.0)), light


def stock(rng, wardrobe: Wardrobe, floor: Floor, wide: float, deep: float, height: float) -> None:
    """Contents of garages, stores and basements: pillars, stacks of crates, sometimes a car."""
    if rng.random() < 0.5:
        coat = wardrobe.small("wall", "small")
        for _ in range(int(rng.integers(1, 4))):
            side = rng.uniform(0.25, 0.6)
            pillar = Thing(radius=side * 0.7, height=height)
            pillar.add(box(side, side, height), coat, "wall")
            floor.scatter(pillar, (-wide * 0.4, 1.5), (wide * 0.4, deep - 0.5), 0.0, 0.0)
    for _ in range(int(rng.integers(0, 5))):
        side, stack, z = rng.uniform(0.3, 1.1), Thing(height=0.0), 0.0
        stack.radius = side * 0.7
        paper = wardrobe.small("print" if rng.random() < 0.5 else "wood", "small")
        for _ in range(int(rng.integers(1, 4))):
            tall = side * rng.uniform(0.4, 0.9)
            crate = box(side * rng.uniform(0.7, 1.0), side * rng.uniform(0.7, 1.0), tall)
            stack.add(crate.moved(z=z, yaw=rng.normal(0, 0.08)), paper)
            z += tall
        floor.scatter(stack, (-wide * 0.45, 1.2), (wide * 0.45, deep - 0.5), 0.0, rng.normal(0, 0.4))
    if rng.random() < 0.2:
        floor.scatter(car(rng, wardrobe), (-wide * 0.3, 3.5), (wide * 0.3, max(3.6, deep - 2.5)))


def foreground(rng, wardrobe: Wardrobe, floor: Floor, eye: np.ndarray) -> None:
    """A table top or the back of a seat between the camera and the room."""
    y = eye[1] + rng.uniform(0.9, 1.3)
    x = eye[0] + rng.uniform(-0.4, 0.4)
    if rng.random() < 0.65:
        tx, ty, tz = rng.uniform(0.9, 1.8), rng.uniform(0.6, 0.9), rng.uniform(0.68, 0.78)
        floor.place(table(rng, wardrobe, tx, ty, tz), x, y, 0, rng.normal(0, 0.15))
        floor.dress(wardrobe, x, y, tz, tx * 0.9, ty * 0.8, int(rng.integers(1, 9)))
    else:
        floor.place((sofa if rng.random() < 0.5 else chair)(rng, wardrobe), x, y, 0, np.pi + rng.normal(0, 0.3))


def table_top(rng: np.random.Generator, wardrobe: Wardrobe) -> tuple[list[Part], Camera, Light]:
    """Things on a table, a counter or a floor, seen from close by; a room, a wall or a garden behind."""
    floor = Floor(rng)
    top = rng.choice([0.0, 0.45, 0.74, 0.9], p=[0.12, 0.13, 0.55, 0.2])
    wide, deep, height = rng.uniform(3.0, 6.0), rng.uniform(1.2, 4.5), rng.uniform(2.4, 2.9)
    shell(rng, wardrobe, floor, wide, deep, height)
    tx, ty = rng.uniform(0.6, 2.2), rng.uniform(0.5, 1.3)
    filling = rng.random() < 0.45  # the top fills most of the image, as when people show one thing
    if filling:
        tx, ty = rng.uniform(1.2, 2.6), rng.uniform(0.9, 1.8)
    middle = min(rng.uniform(0.4, 0.9), deep - ty / 2 - 0.03)
    if top > 0:
        if rng.random() < 0.4:
            surface = wardrobe.large("wood" if rng.random() < 0.6 else "fabric", gloss=rng.random() < 0.5)
            slab = box(tx, ty, 0.04, repeat=rng.uniform(0.4, 1.2)).moved(0, middle, top - 0.04)
            floor.add(slab, surface, "furniture")
            floor.add(box(tx * 0.9, ty * 0.8, top - 0.04).moved(0, middle), wardrobe.small("wood"), "furniture")
        else:
            floor.place(table(rng, wardrobe, tx, ty, float(top)), 0, middle)
    if rng.random() < 0.6:
        furnish(
            rng,
            wardrobe,
            Floor(rng, floor.parts, [(0, middle, max(tx, ty) * 0.6), (0, -1, 1.2)]),
            "office",
            wide,
            deep,
            height,
        )
    size = rng.uniform(0.12, 0.3)
    focus = Floor(rng)
    for _ in range(int(rng.integers(1, 6 if filling else 12))):
        thing = small_thing(rng, wardrobe, size * float(np.exp(rng.normal(0, 0.3))))
        focus.scatter(
            thing, (-min(tx, 0.9) * 0.42, middle - ty * 0.4), (min(tx, 0.9) * 0.42, middle + ty * 0.4), float(top)
        )
    if rng.random() < 0.25:
        focus.scatter(monitor(rng, wardrobe), (-0.3, middle), (0.3, middle + ty * 0.4), float(top), rng.normal(0, 0.4))
    if rng.random() < 0.25:
        focus.scatter(floor_lamp(rng, wardrobe, 0.45), (-0.4, middle), (0.4, middle + ty * 0.4), float(top))
    floor.parts += focus.parts
    distance, pitch = rng.uniform(0.45, 1.5), np.radians(np.clip(rng.normal(27, 14), 2, 75))
    if filling:
        distance, pitch = rng.uniform(0.6, 1.3), np.radians(np.clip(rng.normal(44, 11), 20, 85))
    angle = rng.normal(0, 0.5)
    target = np.array([rng.uniform(-0.15, 0.15), middle + rng.uniform(-0.1, 0.1), top + rng.uniform(0.0, 0.15)])
    eye = target + distance * np.array([np.sin(angle) * np.cos(pitch), -np.cos(angle) * np.cos(pitch), np.sin(pitch)])
    eye[2] = max(eye[2], 0.15)
    camera = hand_held(rng, eye, target, PHONE if rng.random() < 0.4 else (35.0, 65.0))
    return floor.parts, camera, indoor_light(rng, wide, deep, height, eye)


def clutter(rng: np.random.Generator, wardrobe: Wardrobe) -> tuple[list[Part], Camera, Light]:
    """Many shapes of many sizes, near and far, in front of a wall, a cloth or the open."""
    floor = Floor(rng)
    wide, deep, height = 6.0, float(np.exp(rng.uniform(np.log(1.1), np.log(6.0)))), 3.2
    shell(rng, wardrobe, floor, wide, deep, height)
    reach = deep - 0.3
    for _ in range(int(rng.integers(15, 50))):
        y = 0.7 + (reach - 0.7) * rng.random() ** 0.8
        thing = small_thing(rng, wardrobe, rng.uniform(0.12, 0.3) * (0.6 + y))
        floor.scatter(thing, (-0.75 * y, y - 0.2), (0.75 * y, y + 0.1))
    if rng.random() < 0.5:
        faces, uv = grid(30, 30)
        waves = sum(rng.normal(0, 0.03) * np.sin(uv @ rng.normal(0, 14, 2) + rng.uniform(0, 6)) for _ in range(8))
        sheet = np.stack([(uv[:, 0] - 0.5) * 1.6, uv[:, 1] * 1.2, 0.1 + waves], -1)
        lift = rng.uniform(0.0, 0.9)
        sheet = Mesh(sheet, faces, uv).turned(0, lift).moved(rng.uniform(-0.3, 0.3), 0.7, 0.05)
        floor.add(sheet, wardrobe.large("fabric"), "object")
    for _ in range(int(rng.integers(0, 4))):
        pole = box(0.03, 0.03, height) if rng.random() < 0.5 else cylinder(0.02, height, 8)
        floor.add(
            pole.moved(rng.uniform(-1.2, 1.2), rng.uniform(0.9 * min(1.0, reach), reach)), wardrobe.small("any"), "thin"
        )
    eye = np.array([rng.uniform(-0.3, 0.3), rng.uniform(-0.4, 0.1), rng.uniform(0.3, 1.1)])
    target = np.array([rng.uniform(-0.4, 0.4), rng.uniform(0.9 * min(1.1, reach), reach), rng.uniform(0.0, 0.5)])
    return floor.parts, hand_held(rng, eye, target, (35.0, 80.0)), indoor_light(rng, wide, deep, height, eye)
