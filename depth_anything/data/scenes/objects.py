"""Objects: each function returns a Thing whose foot is at the origin and whose front faces -y."""

from dataclasses import dataclass, field

import numpy as np

from depth_anything.data.scenes.materials import Material, Wardrobe
from depth_anything.data.scenes.shapes import Mesh, blob, box, cylinder, joined, lathe, leaves, tube

CLASSES = (
    "sky", "floor", "wall", "ceiling", "ground", "road", "building", "glass", "mirror", "tree", "plant", "person",
    "animal", "vehicle", "furniture", "object", "thin", "water",
)  # fmt: skip


@dataclass
class Part:
    """A mesh of one material and one class (a name of CLASSES)."""

    mesh: Mesh
    material: Material
    label: str


class Group:
    """What is made of parts: Thing, Floor."""

    parts: list[Part]

    def add(self, mesh: Mesh | list[Mesh], material: Material, label: str = "object") -> None:
        """One more part; several meshes are joined."""
        self.parts.append(Part(joined(mesh) if isinstance(mesh, list) else mesh, material, label))

    def place(self, thing: "Thing", x: float, y: float, z: float = 0.0, yaw: float = 0.0, scale: float = 1.0) -> None:
        """The parts of a thing, moved."""
        self.parts += thing.moved(x, y, z, yaw, scale).parts


@dataclass
class Thing(Group):
    """Parts that belong together; radius is half of its footprint, height its top, both in metres.

    flat: whether other objects can be put on it.
    """

    parts: list[Part] = field(default_factory=list)
    radius: float = 0.3
    height: float = 1.0
    flat: bool = True

    def moved(self, x: float, y: float, z: float = 0.0, yaw: float = 0.0, scale: float = 1.0) -> "Thing":
        """Scaled, turned about the vertical and set down at x, y, z."""
        parts = [Part(part.mesh.moved(x, y, z, yaw, scale), part.material, part.label) for part in self.parts]
        return Thing(parts, self.radius * scale, self.height * scale, self.flat)


def ready_made(rng, wardrobe: Wardrobe, *roles: str, share: float = 0.6) -> Thing | None:
    """A model of one of these roles from the library, about its real size; None without a library and by chance."""
    if wardrobe.models is None or rng.random() > share:
        return None
    found = wardrobe.model(roles)
    if found is None:
        return None
    model, material = found
    x, y, z = model.entry.size
    thing = Thing([Part(model.mesh, material, model.entry.label)], max(x, y) / 2, z, model.entry.flat)
    return thing.moved(0, 0, scale=float(np.exp(rng.normal(0, 0.06))))


def carton(rng, wardrobe: Wardrobe, size: float = 0.2) -> Thing:
    """A printed box, sometimes lying."""
    x, y, z = size * rng.uniform(0.3, 1.0, 3)
    thing = Thing(radius=max(x, y) / 2, height=z)
    thing.add(box(x, y, z), wardrobe.small("print"))
    return thing


def bottle(rng, wardrobe: Wardrobe, size: float = 0.25) -> Thing:
    """A bottle, can, jar, vase or cup: a turned profile."""
    h, r = size * rng.uniform(0.5, 1.2), size * rng.uniform(0.12, 0.25)
    neck = r * rng.uniform(0.25, 0.9)
    kind = rng.random()
    if kind < 0.3:
        profile = [(0, 0), (r, 0), (r, 0.001), (r, h), (r * 0.95, h), (0, h)]
    elif kind < 0.65:
        profile = [(0, 0), (r, 0), (r, h * 0.6), (neck, h * 0.75), (neck, h), (0, h)]
    elif kind < 0.85:
        bend = [rng.uniform(0.5, 1.3) for _ in range(5)]
        profile = [(0, 0), *[(r * b, h * (k + 0.2) / 5) for k, b in enumerate(bend)], (neck, h), (neck * 0.8, h * 0.9)]
    else:
        profile = [(0, 0), (r * 0.7, 0), (r, h * 0.5), (r * 0.93, h * 0.5), (r * 0.6, 0.01), (0, 0.01)]
    thing = Thing(radius=r, height=h)
    look = "shiny" if rng.random() < 0.6 else None
    thing.add(lathe(profile, 18), wardrobe.small("any" if rng.random() < 0.6 else "print", look))
    if kind >= 0.85:
        angle = np.linspace(-1.4, 1.4, 8)
        loop = np.stack([r * 0.9 + h * 0.2 * np.cos(angle), 0 * angle, h * 0.27 + h * 0.2 * np.sin(angle)], -1)
        thing.add(tube(loop, r * 0.1), thing.parts[0].material)
    return thing


def bowl(rng, wardrobe: Wardrobe, size: float = 0.15) -> Thing:
    """A bowl or a plate, often with fruit."""
    r, h = size * rng.uniform(0.5, 1.0), size * rng.uniform(0.1, 0.6)
    thing = Thing(radius=r, height=h)
    outer = [(r * (0.4 + 0.6 * np.sqrt(t)), h * t) for t in np.linspace(0, 1, 6)]
    inner = [(0.95 * a, b + 0.004) for a, b in outer[::-1]]
    thing.add(lathe([(0, 0), *outer, *inner, (0, 0.005)], 20), wardrobe.small("any", "shiny"))
    for _ in range(int(rng.integers(0, 5))):
        fruit = blob(rng, r * rng.uniform(0.2, 0.38), 0.08, 12)
        x, y = rng.uniform(-0.4, 0.4, 2) * r
        thing.add(fruit.moved(x, y, h * 0.5 + r * 0.2), wardrobe.small("any"))
    return thing


def books(rng, wardrobe: Wardrobe, size: float = 0.25) -> Thing:
    """A pile of books."""
    thing, z = Thing(radius=size / 2, height=0.1), 0.0
    for _ in range(int(rng.integers(1, 6))):
        thick = rng.uniform(0.01, 0.05)
        book = box(size * rng.uniform(0.5, 0.9), size * rng.uniform(0.6, 1.0), thick)
        thing.add(book.moved(rng.normal(0, 0.01), rng.normal(0, 0.01), z, rng.normal(0, 0.3)), wardrobe.small("print"))
        z += thick
    thing.height = z
    return thing


def lump(rng, wardrobe: Wardrobe, size: float = 0.15) -> Thing:
    """Something organic: a potato, a soft toy, a stone."""
    r = size * rng.uniform(0.3, 0.7)
    mesh = blob(rng, r, rng.uniform(0.05, 0.5)).stretched(*rng.uniform(0.6, 1.4, 3))
    lift = -float(mesh.vertices[:, 2].min())
    thing = Thing(radius=r, height=2 * lift)
    thing.add(mesh.moved(z=lift * 0.97), wardrobe.small("any"))
    return thing


def gadget(rng, wardrobe: Wardrobe, size: float = 0.2) -> Thing:
    """A bent wire, pipe or handle on a base: taps, headphones, tools, toys."""
    thing = Thing(radius=size / 2, height=size)
    n = int(rng.integers(3, 6))
    knots = np.cumsum(rng.normal(0, size * 0.35, (n, 3)), axis=0)
    t = np.linspace(0, n - 1, 14)
    path = np.stack([np.interp(t, np.arange(n), knots[:, c]) for c in range(3)], -1)
    path[:, 2] = np.abs(path[:, 2])
    radius = size * rng.uniform(0.02, 0.1)
    path[:, 2] += radius
    path[:, :2] -= path[:, :2].mean(0)
    thing.add(
        tube(path, radius),
        wardrobe.small("any", "metal" if rng.random() < 0.3 else None),
        "thin" if radius < 0.008 else "object",
    )
    if rng.random() < 0.5:
        thing.add(cylinder(size * 0.25, size * 0.1), wardrobe.small("any"))
    return thing


def potted_plant(rng, wardrobe: Wardrobe, size: float = 0.4) -> Thing:
    """A plant in a pot."""
    if model := ready_made(rng, wardrobe, "plant", share=0.5):
        return model
    pot = size * rng.uniform(0.25, 0.4)
    thing = Thing(radius=size * 0.3, height=size)
    wall = [(0, 0), (pot * 0.4, 0), (pot * 0.55, pot), (pot * 0.48, pot), (pot * 0.45, pot * 0.85), (0, pot * 0.85)]
    thing.add(lathe(wall, 16), wardrobe.small("any"))
    centres = []
    stems = []
    for _ in range(int(rng.integers(3, 9))):
        tip = np.array([*rng.normal(0, size * 0.22, 2), size * rng.uniform(0.6, 1.1)])
        t = np.linspace(0, 1, 6)[:, None]
        path = np.array([0, 0, pot * 0.8]) + t * (tip - [0, 0, pot * 0.8]) * np.array([1, 1, 1]) * (1 - 0.2 * t)
        stems.append(tube(path, size * 0.012, 5))
        centres.append(path[2:])
    leaf = wardrobe.small("leaf")
    thing.add(stems, leaf, "plant")
    thing.add(
        leaves(rng, np.concatenate(centres), size * 0.05, size * rng.uniform(0.05, 0.14), int(rng.integers(40, 160))),
        leaf,
        "plant",
    )
    return thing


SMALL_THINGS = (carton, carton, bottle, bottle, bowl, books, lump, gadget, potted_plant)


def small_thing(rng, wardrobe: Wardrobe, size: float | None = None) -> Thing:
    """Any of the small things, 5 to 40 cm."""
    if model := ready_made(rng, wardrobe, "small"):
        return model
    kind = SMALL_THINGS[int(rng.integers(len(SMALL_THINGS)))]
    return kind(rng, wardrobe, size or float(np.exp(rng.normal(np.log(0.2), 0.35))))


@dataclass
class Floor(Group):
    """An area on which objects are placed without overlap: occupied circles (x, y, radius)."""

    rng: np.random.Generator
    parts: list[Part] = field(default_factory=list)
    taken: list[tuple[float, float, float]] = field(default_factory=list)

    def free(self, x: float, y: float, radius: float) -> bool:
        """Whether a circle touches none that is taken."""
        return all((x - a) ** 2 + (y - b) ** 2 > (radius + r) ** 2 for a, b, r in self.taken)

    def put(
        self, thing: Thing, x: float, y: float, z: float = 0.0, yaw: float | None = None, margin: float = 0.0
    ) -> bool:
        """Place an object if its position is free; returns whether it was."""
        if not self.free(x, y, thing.radius + margin):
            return False
        self.taken.append((x, y, thing.radius))
        self.place(thing, x, y, z, self.rng.uniform(0, 6.28) if yaw is None else yaw)
        return True

    def scatter(
        self,
        thing: Thing,
        low: tuple[float, float],
        high: tuple[float, float],
        z: float = 0.0,
        yaw: float | None = None,
    ) -> bool:
        """Try a few places in a rectangle."""
        for _ in range(6):
            u, v = self.rng.random(2)
            if self.put(thing, low[0] + u * (high[0] - low[0]), low[1] + v * (high[1] - low[1]), z, yaw):
                return True
        return False

    def dress(
        self, wardrobe: Wardrobe, x: float, y: float, z: float, wide: float, deep: float, count: int, size: float = 0.2
    ) -> None:
        """Small things on a top of wide x deep metres around x, y at height z."""
        top = Floor(self.rng)
        for _ in range(count):
            thing = small_thing(self.rng, wardrobe, size * float(np.exp(self.rng.normal(0, 0.35))))
            top.scatter(
                thing, (x - wide / 2 + 0.03, y - deep / 2 + 0.03), (x + wide / 2 - 0.03, y + deep / 2 - 0.03), z
            )
        self.parts += top.parts
