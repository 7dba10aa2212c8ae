"""From one seed to a scene: which kind, what stands where, the light, the camera. Indoor here, outdoor in landscapes.py."""

from dataclasses import dataclass, field

import numpy as np

from . import objects, outdoors
from .cameras import Camera, hand_held
from .materials import Material, Wardrobe, hsv
from .objects import Part, Thing
from .shapes import Mesh, blob, box, cylinder, grid, joined, quad, tube


@dataclass
class Light:
    """Colours are linear. sky_top and sky_low (3,) fade into each other; clouds 0..1; sun points to the light."""

    sky_top: np.ndarray
    sky_low: np.ndarray
    clouds: float
    sun: np.ndarray
    sun_colour: np.ndarray
    lamps: list[tuple[np.ndarray, np.ndarray]] = field(default_factory=list)
    fog: float = 0.0  # 1/metres


@dataclass
class Scene:
    """Everything that the renderer needs."""

    seed: int
    kind: str
    parts: list[Part]
    wardrobe: Wardrobe
    camera: Camera
    light: Light


@dataclass
class Floor:
    """A place to stand things on without one standing in another: circles (x, y, radius) that are taken."""

    rng: np.random.Generator
    parts: list[Part] = field(default_factory=list)
    taken: list[tuple[float, float, float]] = field(default_factory=list)

    def free(self, x: float, y: float, radius: float) -> bool:
        """Whether a circle touches none that is taken."""
        return all((x - a) ** 2 + (y - b) ** 2 > (radius + r) ** 2 for a, b, r in self.taken)

    def put(self, thing: Thing, x: float, y: float, z: float = 0.0, yaw: float | None = None, margin: float = 0.0) -> bool:
        """Set a thing down if its place is free; says whether it was."""
        if not self.free(x, y, thing.radius + margin):
            return False
        self.taken.append((x, y, thing.radius))
        self.parts += thing.moved(x, y, z, self.rng.uniform(0, 6.28) if yaw is None else yaw).parts
        return True

    def scatter(self, thing: Thing, low: tuple[float, float], high: tuple[float, float], z: float = 0.0, yaw: float | None = None) -> bool:
        """Try a few places in a rectangle."""
        for _ in range(6):
            u, v = self.rng.random(2)
            if self.put(thing, low[0] + u * (high[0] - low[0]), low[1] + v * (high[1] - low[1]), z, yaw):
                return True
        return False

    def dress(self, wardrobe: Wardrobe, x: float, y: float, z: float, wide: float, deep: float, count: int, size: float = 0.2) -> None:
        """Small things on a top of wide x deep metres around x, y at height z."""
        top = Floor(self.rng)
        for _ in range(count):
            thing = objects.small_thing(self.rng, wardrobe, size * float(np.exp(self.rng.normal(0, 0.35))))
            top.scatter(thing, (x - wide / 2 + 0.03, y - deep / 2 + 0.03), (x + wide / 2 - 0.03, y + deep / 2 - 0.03), z)
        self.parts += top.parts


def daylight(rng: np.random.Generator) -> Light:
    """A clear, cloudy, overcast, low-sun or dusky sky."""
    kind = rng.choice(["clear", "cloudy", "overcast", "low", "dusk"], p=[0.34, 0.28, 0.2, 0.12, 0.06])
    azimuth, height = rng.uniform(0, 2 * np.pi), rng.uniform(0.35, 1.3)
    top, low = hsv(rng.normal(0.59, 0.02), rng.uniform(0.35, 0.75), rng.uniform(0.5, 0.9)), hsv(0.57, rng.uniform(0.05, 0.4), 0.95)
    sun, clouds = np.array([1.0, 0.95, 0.88]) * rng.uniform(3.0, 8.0), rng.uniform(0.0, 0.3)
    if kind == "cloudy":
        clouds, sun = rng.uniform(0.4, 0.9), sun * rng.uniform(0.2, 0.8)
    elif kind == "overcast":
        grey = hsv(0.58, rng.uniform(0, 0.12), rng.uniform(0.7, 1.0))
        top, low, clouds, sun = grey * rng.uniform(0.7, 1.0), grey, rng.uniform(0.2, 1.0), sun * rng.uniform(0.0, 0.06)
    elif kind == "low":
        height, low = rng.uniform(0.08, 0.3), hsv(rng.uniform(0.03, 0.12), rng.uniform(0.2, 0.6), 1.0)
        sun = np.array([1.0, 0.7, 0.42]) * rng.uniform(2.0, 5.0)
    elif kind == "dusk":
        top, low, sun = hsv(0.64, 0.6, 0.12), hsv(rng.uniform(0.55, 0.95), 0.4, 0.3), sun * 0.02
    direction = np.array([np.cos(azimuth) * np.cos(height), np.sin(azimuth) * np.cos(height), np.sin(height)])
    return Light(top**2.2, low**2.2, float(clouds), direction, sun)


def lamp_colour(rng: np.random.Generator) -> np.ndarray:
    """Warm to cool white."""
    return np.array([1.0, rng.uniform(0.78, 1.0), rng.uniform(0.5, 1.05)])


def wall(rng, parts: list[Part], material: Material, frame: Material, along: tuple[np.ndarray, np.ndarray], height: float,
         hole: tuple[float, float, float, float] | None = None, repeat: float = 1.5, pane: str = "glass") -> None:  # fmt: skip
    """A thin upright wall from along[0] to along[1] (x, y); hole = start, end (metres along), sill, top gets a pane and a frame."""
    a, b = np.append(along[0], 0.0), np.append(along[1], 0.0)
    length = float(np.linalg.norm(b - a))
    u, up = (b - a) / length, np.array([0, 0, 1.0])

    def piece(s0: float, s1: float, z0: float, z1: float) -> Mesh:
        mesh = quad(np.stack([a + u * s0 + up * z0, a + u * s1 + up * z0, a + u * s1 + up * z1, a + u * s0 + up * z1]))
        return Mesh(mesh.vertices, mesh.faces, np.array([[s0, z0], [s1, z0], [s1, z1], [s0, z1]]) / repeat)

    if hole is None:
        parts.append(Part(piece(0, length, 0, height), material, "wall"))
        return
    s0, s1, z0, z1 = hole
    around = [piece(0, s0, 0, height), piece(s1, length, 0, height), piece(s0, s1, z1, height)]
    if z0 > 0.01:
        around.append(piece(s0, s1, 0, z0))
    parts.append(Part(joined(around), material, "wall"))
    if pane:
        parts.append(Part(piece(s0, s1, z0, z1), Material("glass"), pane))
    turn = float(np.arctan2(u[1], u[0]))
    bars = []
    for s in np.linspace(s0, s1, int(rng.integers(2, 5))):
        at = a + u * s
        bars.append(box(0.05, 0.09, z1 - z0).moved(at[0], at[1], z0, turn))
    for z in (z0 - 0.03, z1 - 0.03, *([rng.uniform(z0, z1)] if rng.random() < 0.4 else [])):
        at = a + u * (s0 + s1) / 2
        bars.append(box(s1 - s0 + 0.1, 0.1, 0.06).moved(at[0], at[1], z, turn))
    parts.append(Part(joined(bars), frame, "wall"))


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
        thing.add(box(wide * 0.86, 0.012, tall * 0.86).moved(y=-0.016, z=tall * 0.07), wardrobe.small("print" if rng.random() < 0.8 else "plain"))
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
                thing.parts += objects.small_thing(rng, wardrobe, 0.16).moved(at, -0.11, 0.03, rng.uniform(0, 6)).parts
    floor.parts += thing.moved(x, y, min(z, height - 0.5), yaw).parts


def furnish(rng, wardrobe: Wardrobe, floor: Floor, style: str, wide: float, deep: float, height: float) -> None:
    """Furniture along three walls and in the middle of a room whose far wall is at y = deep."""

    def against(style: str) -> Thing:
        pick = rng.random()
        if style == "kitchen" and pick < 0.6:
            thing = objects.cabinet(rng, wardrobe, rng.uniform(0.6, 2.0), 0.6, 0.9 if rng.random() < 0.6 else 2.0)
        elif style == "bedroom" and pick < 0.35:
            return objects.bed(rng, wardrobe)
        elif style == "living" and pick < 0.4:
            return objects.sofa(rng, wardrobe)
        elif style == "office" and pick < 0.5:
            desk = objects.table(rng, wardrobe, rng.uniform(1.1, 1.8), 0.7, 0.73)
            desk.parts += objects.monitor(rng, wardrobe).moved(rng.uniform(-0.2, 0.2), 0.1, 0.73, rng.normal(0, 0.2)).parts
            thing = desk
        elif pick < 0.72:
            return objects.shelf(rng, wardrobe)
        elif pick < 0.9:
            thing = objects.cabinet(rng, wardrobe, rng.uniform(0.4, 1.6), rng.uniform(0.35, 0.6), rng.uniform(0.5, 2.0))
        elif pick < 0.95:
            return objects.floor_lamp(rng, wardrobe, rng.uniform(1.2, 1.8))
        else:
            return objects.potted_plant(rng, wardrobe, rng.uniform(0.6, 1.7))
        if thing.height < 1.4:
            top = Floor(rng)
            top.dress(wardrobe, 0, 0, thing.height, thing.radius * 1.7, 0.35, int(rng.integers(0, 6)))
            thing.parts += top.parts
        return thing

    for _ in range(int(rng.integers(2, 6))):
        thing = against(style)
        floor.scatter(thing, (-wide / 2 + thing.radius, deep - 0.4), (wide / 2 - thing.radius, deep - 0.32), 0.0, 0.0)
    for side in (-1, 1):
        for _ in range(int(rng.integers(0, 4))):
            thing = against(style)
            x = side * (wide / 2 - 0.4)
            floor.scatter(thing, (x, min(2.2, deep * 0.5)), (x, max(2.3, deep - 0.9)), 0.0, -side * np.pi / 2)
    middle = int(rng.integers(0, 4)) if style != "corridor" else 0
    for _ in range(middle):
        pick = rng.random()
        y = rng.uniform(1.6, max(1.8, deep - 1.2))
        x = rng.uniform(-0.35, 0.35) * wide
        if pick < 0.5:
            low = style == "living" and rng.random() < 0.6
            tx, ty, tz = rng.uniform(0.7, 1.8), rng.uniform(0.5, 0.95), 0.42 if low else rng.uniform(0.7, 0.78)
            table = objects.table(rng, wardrobe, tx, ty, tz)
            yaw = rng.choice([0.0, np.pi / 2]) + rng.normal(0, 0.1)
            top = Floor(rng)
            top.dress(wardrobe, 0, 0, tz, tx * 0.8, ty * 0.75, int(rng.integers(0, 7)))
            table.parts += top.parts
            if floor.put(table, x, y, 0.0, yaw) and not low:
                for turn in (0.0, np.pi / 2, np.pi, -np.pi / 2):
                    if rng.random() < 0.7:
                        away = (ty if turn in (0.0, np.pi) else tx) / 2 + rng.uniform(0.05, 0.3)
                        angle = yaw + turn
                        cx, cy = x - np.sin(angle) * away, y + np.cos(angle) * away
                        floor.parts += objects.chair(rng, wardrobe).moved(cx, cy, 0, angle + rng.normal(0, 0.2)).parts
        elif pick < 0.65:
            floor.put(objects.sofa(rng, wardrobe), x, y)
        elif pick < 0.85:
            floor.put(objects.chair(rng, wardrobe), x, y)
        else:
            floor.put(outdoors.person(rng, wardrobe, sitting=False), x, y)
    for _ in range(int(rng.integers(0, 5))):
        thing = objects.small_thing(rng, wardrobe, rng.uniform(0.2, 0.6))
        floor.scatter(thing, (-wide * 0.45, 1.2), (wide * 0.45, deep - 0.5))


def shell(rng, wardrobe: Wardrobe, floor: Floor, wide: float, deep: float, height: float) -> None:
    """Floor, ceiling and three walls with doors, windows and what hangs there; the side of the camera is open."""
    ground, paint = wardrobe.large("floor", gloss=rng.random() < 0.35), wardrobe.large("wall")
    other = wardrobe.large("wall") if rng.random() < 0.4 else paint
    trim = wardrobe.small("plain")
    left, right = -wide / 2, wide / 2
    near = -2.5
    repeat = rng.uniform(0.8, 3.0)
    corners = np.array([[left, near, 0], [right, near, 0], [right, deep, 0], [left, deep, 0.0]])
    floor.parts.append(Part(quad(corners, (wide / repeat, (deep - near) / repeat)), ground, "floor"))
    top = quad(corners + [0, 0, height], (wide / 2, (deep - near) / 2))
    floor.parts.append(Part(top, wardrobe.small("plain", "small") if rng.random() < 0.7 else wardrobe.large("wall"), "ceiling"))
    for (a, b), material in (
        (((left, deep), (right, deep)), other), (((left, near), (left, deep)), paint), (((right, near), (right, deep)), paint),
    ):  # fmt: skip
        a, b = np.array(a), np.array(b)
        length, hole, sill = float(np.linalg.norm(b - a)), None, 0.0
        if rng.random() < 0.45:
            start = rng.uniform(0.1, 0.6) * length
            sill = rng.choice([0.9, 0.75, 0.05])
            hole = (start, min(length - 0.1, start + rng.uniform(0.8, 2.6)), sill, min(height - 0.15, rng.uniform(1.9, 2.4)))
        wall(rng, floor.parts, material, trim, (a, b), height, hole, repeat=rng.uniform(1.0, 3.0))
        u = (b - a) / length
        yaw = float(np.arctan2(u[1], u[0])) + (np.pi if a[0] < 0 and a[0] == b[0] else 0.0)
        yaw = 0.0 if a[1] == b[1] else (np.pi / 2 if a[0] < 0 else -np.pi / 2)
        inward = np.array([np.sin(yaw), -np.cos(yaw)])
        if hole and rng.random() < 0.5:
            for at in (hole[0], hole[1]):
                x, y = a + u * at + inward * 0.1
                floor.parts += curtain(rng, wardrobe, rng.uniform(0.3, 0.9), height - 0.15).moved(x, y, 0.05, yaw).parts
        for at in np.arange(0.8, length - 0.5, rng.uniform(0.7, 1.8)):
            if rng.random() < 0.4 and not (hole and hole[0] - 0.6 < at < hole[1] + 0.6):
                x, y = a + u * at + inward * 0.02
                hang(rng, wardrobe, floor, x, y, yaw, height)
        if not hole and rng.random() < 0.35:
            x, y = a + u * rng.uniform(0.3, 0.8) * length + inward * 0.02
            door = Thing()
            door.add(box(0.9, 0.05, 2.03), wardrobe.small("wood" if rng.random() < 0.5 else "plain"), "wall")
            door.add(box(0.1, 0.09, 0.03).moved(x=0.35, y=-0.04, z=1.0), wardrobe.small("plain", "metal"), "object")
            floor.parts += door.moved(x, y, 0, yaw).parts
    skirting = [box(wide, 0.03, 0.09).moved(y=deep - 0.01), *[box(0.03, deep - near, 0.09).moved(x=s * wide / 2, y=(deep + near) / 2) for s in (-1, 1)]]
    floor.parts.append(Part(joined(skirting), trim, "wall"))
    lamp = wardrobe.small("plain")
    for _ in range(int(rng.integers(0, 4))):
        x, y = rng.uniform(-0.35, 0.35) * wide, rng.uniform(0.3, 0.95) * deep
        if rng.random() < 0.6:
            floor.parts.append(Part(box(0.6, rng.uniform(0.3, 1.2), 0.04).moved(x, y, height - 0.05), lamp, "ceiling"))
        else:
            low = rng.uniform(0.3, 0.9)
            floor.parts.append(Part(tube(np.array([[x, y, height], [x, y, height - low]]), 0.008, 5), lamp, "thin"))
            floor.parts.append(Part(cylinder(0.18, 0.16, 14, 0.07).moved(x, y, height - low - 0.1), lamp, "object"))
    if rng.random() < 0.4:
        outside = quad(np.array([[-300, deep + 0.2, -0.4], [300, deep + 0.2, -0.4], [300, 600, -0.4], [-300, 600, -0.4]]), (200, 200))
        floor.parts.append(Part(outside, wardrobe.large("ground"), "ground"))
        for _ in range(4):
            floor.parts += outdoors.tree(rng, wardrobe, 6.0).moved(rng.uniform(-8, 8), deep + rng.uniform(4, 25), -0.4).parts


def indoor_light(rng: np.random.Generator, wide: float, deep: float, height: float) -> Light:
    """A bright sky behind the camera and one or two lamps under the ceiling."""
    light = daylight(rng)
    light.sun_colour = light.sun_colour * (rng.random() < 0.4)
    power = rng.uniform(0.5, 4.0)
    for _ in range(2):
        at = np.array([rng.uniform(-0.4, 0.4) * wide, rng.uniform(0.1, 0.9) * deep, height - rng.uniform(0.15, 0.6)])
        light.lamps.append((at, lamp_colour(rng) * power * rng.uniform(0.2, 1.0)))
    return light


def room(rng: np.random.Generator, wardrobe: Wardrobe) -> tuple[list[Part], Camera, Light]:
    """A furnished room, seen from its open side."""
    style = rng.choice(["living", "kitchen", "office", "bedroom", "corridor", "hall"], p=[0.24, 0.17, 0.22, 0.17, 0.08, 0.12])
    wide, deep, height = rng.uniform(3.6, 9.0), rng.uniform(2.6, 7.0), rng.uniform(2.35, 3.0)
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
    if rng.random() < 0.4:
        rx, ry = rng.uniform(1.0, 2.6), rng.uniform(0.8, 2.0)
        floor.parts.append(Part(box(rx, ry, 0.012).moved(rng.uniform(-0.2, 0.2) * wide, deep * 0.5, 0.0), wardrobe.small("fabric"), "floor"))
    if rng.random() < 0.3:
        foreground(rng, wardrobe, floor, eye)
    reach = max(1.3, rng.uniform(0.35, 0.9) * deep)
    target = np.array([rng.uniform(-0.25, 0.25) * wide, reach, np.clip(rng.normal(0.5, 0.35), 0.0, 1.4)])
    camera = hand_held(rng, eye, target, (45.0, 80.0))
    return floor.parts, camera, indoor_light(rng, wide, deep, height)


def foreground(rng, wardrobe: Wardrobe, floor: Floor, eye: np.ndarray) -> None:
    """A table top or the back of a seat between the camera and the room."""
    y = eye[1] + rng.uniform(0.9, 1.3)
    x = eye[0] + rng.uniform(-0.4, 0.4)
    if rng.random() < 0.65:
        tx, ty, tz = rng.uniform(0.9, 1.8), rng.uniform(0.6, 0.9), rng.uniform(0.68, 0.78)
        floor.parts += objects.table(rng, wardrobe, tx, ty, tz).moved(x, y, 0, rng.normal(0, 0.15)).parts
        floor.dress(wardrobe, x, y, tz, tx * 0.9, ty * 0.8, int(rng.integers(1, 9)))
    else:
        floor.parts += (objects.sofa if rng.random() < 0.5 else objects.chair)(rng, wardrobe).moved(x, y, 0, np.pi + rng.normal(0, 0.3)).parts


def table_top(rng: np.random.Generator, wardrobe: Wardrobe) -> tuple[list[Part], Camera, Light]:
    """Things on a table, a counter or a floor, seen from close by; a room, a wall or a garden behind."""
    floor = Floor(rng)
    top = rng.choice([0.0, 0.45, 0.74, 0.9], p=[0.12, 0.13, 0.55, 0.2])
    wide, deep, height = rng.uniform(3.0, 6.0), rng.uniform(1.2, 4.5), rng.uniform(2.4, 2.9)
    shell(rng, wardrobe, floor, wide, deep, height)
    tx, ty = rng.uniform(0.6, 2.2), rng.uniform(0.5, 1.3)
    middle = min(rng.uniform(0.4, 0.9), deep - ty / 2 - 0.03)
    if top > 0:
        if rng.random() < 0.4:
            surface = wardrobe.large("wood" if rng.random() < 0.6 else "fabric", gloss=rng.random() < 0.5)
            slab = box(tx, ty, 0.04, repeat=rng.uniform(0.4, 1.2)).moved(0, middle, top - 0.04)
            floor.parts.append(Part(slab, surface, "furniture"))
            floor.parts.append(Part(box(tx * 0.9, ty * 0.8, top - 0.04).moved(0, middle), wardrobe.small("wood"), "furniture"))
        else:
            floor.parts += objects.table(rng, wardrobe, tx, ty, float(top)).moved(0, middle).parts
    if rng.random() < 0.6:
        furnish(rng, wardrobe, Floor(rng, floor.parts, [(0, middle, max(tx, ty) * 0.6), (0, -1, 1.2)]), "office", wide, deep, height)
    size = rng.uniform(0.12, 0.3)
    focus = Floor(rng)
    for _ in range(int(rng.integers(1, 12))):
        thing = objects.small_thing(rng, wardrobe, size * float(np.exp(rng.normal(0, 0.3))))
        focus.scatter(thing, (-min(tx, 0.9) * 0.42, middle - ty * 0.4), (min(tx, 0.9) * 0.42, middle + ty * 0.4), float(top))
    if rng.random() < 0.25:
        focus.scatter(objects.monitor(rng, wardrobe), (-0.3, middle), (0.3, middle + ty * 0.4), float(top), rng.normal(0, 0.4))
    if rng.random() < 0.25:
        focus.scatter(objects.floor_lamp(rng, wardrobe, 0.45), (-0.4, middle), (0.4, middle + ty * 0.4), float(top))
    floor.parts += focus.parts
    distance, pitch = rng.uniform(0.45, 1.5), np.radians(np.clip(rng.normal(30, 15), 2, 75))
    angle = rng.normal(0, 0.5)
    target = np.array([rng.uniform(-0.15, 0.15), middle + rng.uniform(-0.1, 0.1), top + rng.uniform(0.0, 0.15)])
    eye = target + distance * np.array([np.sin(angle) * np.cos(pitch), -np.cos(angle) * np.cos(pitch), np.sin(pitch)])
    eye[2] = max(eye[2], 0.15)
    return floor.parts, hand_held(rng, eye, target, (38.0, 68.0)), indoor_light(rng, wide, deep, height)


def clutter(rng: np.random.Generator, wardrobe: Wardrobe) -> tuple[list[Part], Camera, Light]:
    """Many shapes of many sizes, near and far, in front of a wall, a cloth or the open."""
    floor = Floor(rng)
    wide, deep, height = 6.0, rng.uniform(1.5, 6.0), 3.2
    shell(rng, wardrobe, floor, wide, deep, height)
    reach = deep - 0.3
    for _ in range(int(rng.integers(15, 50))):
        y = 0.7 + (reach - 0.7) * rng.random() ** 0.8
        thing = objects.small_thing(rng, wardrobe, rng.uniform(0.12, 0.3) * (0.6 + y))
        floor.scatter(thing, (-0.75 * y, y - 0.2), (0.75 * y, y + 0.1))
    if rng.random() < 0.5:
        faces, uv = grid(30, 30)
        waves = sum(rng.normal(0, 0.03) * np.sin(uv @ rng.normal(0, 14, 2) + rng.uniform(0, 6)) for _ in range(8))
        sheet = np.stack([(uv[:, 0] - 0.5) * 1.6, uv[:, 1] * 1.2, 0.1 + waves], -1)
        lift = rng.uniform(0.0, 0.9)
        sheet = Mesh(sheet, faces, uv).turned(0, lift).moved(rng.uniform(-0.3, 0.3), 0.7, 0.05)
        floor.parts.append(Part(sheet, wardrobe.large("fabric"), "object"))
    for _ in range(int(rng.integers(0, 4))):
        pole = box(0.03, 0.03, height) if rng.random() < 0.5 else cylinder(0.02, height, 8)
        floor.parts.append(Part(pole.moved(rng.uniform(-1.2, 1.2), rng.uniform(0.9, reach)), wardrobe.small("any"), "thin"))
    eye = np.array([rng.uniform(-0.3, 0.3), rng.uniform(-0.4, 0.1), rng.uniform(0.3, 1.1)])
    target = np.array([rng.uniform(-0.4, 0.4), rng.uniform(1.0, reach), rng.uniform(0.0, 0.5)])
    return floor.parts, hand_held(rng, eye, target, (45.0, 80.0)), indoor_light(rng, wide, deep, height)


def make_scene(seed: int, attempt: int = 0) -> Scene:
    """The scene of a seed, the same on every machine with the same numpy.

    Kinds: room 31 %, table 17 %, clutter 6 %, street 20 %, nature 13 %, subject 13 %.
    """
    from .landscapes import nature, street, subject

    rng = np.random.default_rng([seed, attempt, 0x5CE7E])
    kinds = {"room": room, "table": table_top, "clutter": clutter, "street": street, "nature": nature, "subject": subject}
    kind = str(rng.choice(list(kinds), p=[0.31, 0.17, 0.06, 0.20, 0.13, 0.13]))
    wardrobe = Wardrobe(rng)
    parts, camera, light = kinds[kind](rng, wardrobe)
    return Scene(seed, kind, parts, wardrobe, camera, light)


__all__ = ["Floor", "Light", "Scene", "blob", "daylight", "make_scene"]
