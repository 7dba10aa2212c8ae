"""People, animals, plants and stones; the same conventions as objects.py."""

import numpy as np

from depth_anything.data.scenes.materials import Wardrobe
from depth_anything.data.scenes.objects import Thing, ready_made
from depth_anything.data.scenes.shapes import Mesh, ball, blob, box, cylinder, lathe, leaves, tube


def person(rng, wardrobe: Wardrobe, height: float | None = None, sitting: bool = False) -> Thing:
    """A clothed figure that stands, walks or sits; about `height` metres tall when it stands."""
    if not sitting and (model := ready_made(rng, wardrobe, "person")):
        return model
    h = height or float(np.clip(rng.normal(1.68, 0.15), 1.0, 1.95))
    thing = Thing(radius=0.3, height=h)
    skin, hair = wardrobe.small("skin", "small"), wardrobe.small("bark", "small")
    top, trousers = wardrobe.small("fabric", "small"), wardrobe.small("fabric", "small")
    hip, shoulder, head = 0.52 * h, 0.81 * h, 0.13 * h
    drop = hip - 0.3 * h if sitting else 0.0
    wide = rng.uniform(0.11, 0.15) * h
    torso = lathe(
        [
            (0.0, hip - 0.03),
            (wide * 0.75, hip),
            (wide * 0.65, hip + 0.1 * h),
            (wide, shoulder - 0.06 * h),
            (wide * 0.8, shoulder),
            (0.03 * h, shoulder + 0.02 * h),
        ],
        12,
        0.62,
    )
    thing.add(torso.moved(z=-drop), top, "person")
    skull = ball(head * 0.5, 12).stretched(0.78, 0.92, 1.1).moved(z=h - head * 0.55 - drop)
    neck = cylinder(0.03 * h, 0.07 * h, 8).moved(z=shoulder - drop)
    thing.add([skull, neck], skin, "person")
    thing.add(
        ball(head * 0.53, 12).stretched(0.82, 0.95, 0.9).moved(y=0.02 * h, z=h - head * 0.42 - drop), hair, "person"
    )
    if rng.random() < 0.25:
        thing.add(blob(rng, 0.09 * h, 0.2, 12).moved(y=0.04 * h, z=h - head * 0.7 - drop), hair, "person")
    stride, legs, shoes = (rng.uniform(0, 0.35) if rng.random() < 0.6 else 0.03), [], []
    for side in (-1, 1):
        foot = np.array([side * 0.06 * h, side * stride * 0.3 * h, 0.03 * h])
        if sitting:
            points = np.array(
                [
                    [side * 0.05 * h, 0, 0.3 * h],
                    [side * 0.07 * h, -0.25 * h, 0.3 * h],
                    [side * 0.07 * h, -0.25 * h, 0.03 * h],
                ]
            )
            foot = points[-1]
        else:
            points = np.array(
                [[side * 0.05 * h, 0, hip], (foot + [side * 0.05 * h, 0, hip]) / 2 + [0, -0.04 * h * stride, 0], foot]
            )
        legs.append(tube(points, np.array([0.055, 0.042, 0.03]) * h, 8))
        shoes.append(box(0.05 * h, 0.14 * h, 0.045 * h).moved(foot[0], foot[1] - 0.03 * h))
    thing.add(legs, trousers, "person")
    thing.add(shoes, wardrobe.small("plain"), "person")
    sleeves, hands = [], []
    for side in (-1, 1):
        start = np.array([side * wide * 0.95, 0, shoulder - 0.04 * h - drop])
        swing, lift = rng.normal(0, 0.35), abs(rng.normal(0, 0.5)) if rng.random() < 0.3 else 0.1
        elbow = start + 0.17 * h * np.array([side * np.sin(lift), -np.sin(swing), -np.cos(lift) * np.cos(swing)])
        bend = swing + rng.uniform(0, 1.2)
        hand = elbow + 0.16 * h * np.array([side * 0.1, -np.sin(bend), -np.cos(bend)])
        sleeves.append(tube(np.stack([start, elbow, hand]), np.array([0.036, 0.03, 0.024]) * h, 7))
        hands.append(ball(0.028 * h, 8).moved(*hand))
    thing.add(sleeves, top, "person")
    thing.add(hands, skin, "person")
    return thing


def animal(rng, wardrobe: Wardrobe, size: float | None = None) -> Thing:
    """A four-legged animal, from a cat to a cow, or a bird; it looks along +x."""
    if size is None and (model := ready_made(rng, wardrobe, "animal")):
        return model
    s = size or float(np.exp(rng.normal(np.log(0.6), 0.5)))
    thing = Thing(radius=s * 0.5, height=s)
    coat = wardrobe.small(("skin", "bark", "stone")[int(rng.integers(3))], "small")
    if rng.random() < 0.15:
        s *= 0.5
        parts = [
            blob(rng, 0.3 * s, 0.05, 14).stretched(1.4, 0.9, 1).moved(z=0.6 * s),
            ball(0.15 * s, 10).moved(0.35 * s, 0, 0.95 * s),
        ]
        parts += [cylinder(0.02 * s, 0.4 * s, 6).moved(0.05 * s, sy * 0.1 * s) for sy in (-1, 1)]
        parts.append(cylinder(0.05 * s, 0.2 * s, 6, 0.0).turned(1, 1.57).moved(0.45 * s, 0, 0.93 * s))
        thing.add(parts, coat, "animal")
        return thing
    leg, long, fat = rng.uniform(0.35, 0.6) * s, rng.uniform(0.45, 0.7) * s, rng.uniform(0.13, 0.22) * s
    body = blob(rng, 1.0, 0.06, 16).stretched(long * 0.62, fat, fat * 1.1).moved(z=leg + fat * 0.6)
    nose = np.array([long * 0.75, 0, leg + fat + rng.uniform(0.0, 0.45) * s])
    neck = tube(np.stack([[long * 0.45, 0, leg + fat * 0.8], nose]), np.array([fat * 0.75, fat * 0.45]), 9)
    head = ball(fat * 0.75, 12).stretched(1.2, 0.85, 0.9).moved(*nose)
    snout = tube(np.stack([nose, nose + [fat * 1.4, 0, -fat * 0.4]]), np.array([fat * 0.5, fat * 0.28]), 8)
    ears = [
        cylinder(fat * 0.25, fat * rng.uniform(0.4, 1.0), 7, 0.0).moved(
            nose[0] - fat * 0.2, sy * fat * 0.45, nose[2] + fat * 0.4
        )
        for sy in (-1, 1)
    ]
    legs = [
        tube(
            np.array(
                [
                    [sx * long * 0.42, sy * fat * 0.55, leg + fat * 0.4],
                    [sx * long * 0.42 + rng.normal(0, 0.05) * s, sy * fat * 0.55, 0.0],
                ]
            ),
            np.array([fat * 0.4, fat * 0.22]),
            7,
        )
        for sx in (-1, 1)
        for sy in (-1, 1)
    ]
    tail = tube(
        np.array([[-long * 0.55, 0, leg + fat], [-long * 0.8, 0.05 * s, leg + fat * rng.uniform(-1, 3)]]), fat * 0.15, 6
    )
    thing.add([body, neck, head, snout, *ears, *legs, tail], coat, "animal")
    return thing


def tree(rng, wardrobe: Wardrobe, height: float | None = None, bare: float = 0.15) -> Thing:
    """A broad-leaved tree, a conifer, or a bare one: trunk, branches, clumps and leaf cards."""
    if model := ready_made(rng, wardrobe, "tree", share=0.25):
        return model.moved(0, 0, scale=height / model.height if height else 1.0)
    h = height or float(rng.uniform(3.0, 14.0))
    thing = Thing(radius=0.05 * h + 0.1, height=h)
    bark, leaf = wardrobe.small("bark", "small"), wardrobe.small("leaf", "small")
    r = h * rng.uniform(0.012, 0.035)
    t = np.linspace(0, 1, 7)
    lean = rng.normal(0, 0.04, 2) * h
    stem = np.stack([lean[0] * t**2, lean[1] * t**2, t * h * 0.9], -1)
    wood = [tube(stem, r * (1.25 - t), 9)]
    if rng.random() < 0.3:
        low = rng.uniform(0.05, 0.3)
        for k in range(int(rng.integers(4, 8))):
            f = low + (1 - low) * k / 8
            wide = h * 0.24 * (1 - f) * rng.uniform(0.85, 1.15)
            cone = lathe([(wide, f * h), (wide * 0.35, (f + 0.16) * h), (0.0, (f + 0.22) * h)], 11)
            jitter = rng.normal(0, 0.06 * wide, (len(cone.vertices), 3))
            thing.add(Mesh(cone.vertices + jitter, cone.faces, cone.uv * [3, 1]), leaf, "tree")
        thing.add(wood, bark, "tree")
        return thing
    tips = []
    for _ in range(int(rng.integers(5, 11))):
        start = stem[int(rng.integers(2, 6))]
        angle, reach = rng.uniform(0, 6.28), h * rng.uniform(0.12, 0.32)
        tip = start + [np.cos(angle) * reach, np.sin(angle) * reach, reach * rng.uniform(0.3, 1.1)]
        wood.append(
            tube(np.stack([start, (start + tip) / 2 + [0, 0, -0.05 * reach], tip]), np.array([0.5, 0.35, 0.12]) * r, 5)
        )
        tips.append(tip)
    thing.add(wood, bark, "tree")
    if rng.random() < bare:
        twigs = [tube(np.stack([tip, tip + rng.normal(0, 0.1, 3) * h]), r * 0.1, 4) for tip in tips for _ in range(4)]
        thing.add(twigs, bark, "tree")
        return thing
    clumps = np.array([*tips, stem[-1]])
    spread = h * rng.uniform(0.05, 0.11)
    if rng.random() < 0.75:
        crowns = [blob(rng, spread * rng.uniform(0.9, 1.8), 0.3, 12).moved(*c) for c in clumps]
        thing.add(crowns, leaf, "tree")
    thing.add(
        leaves(rng, clumps, spread * 1.2, h * rng.uniform(0.015, 0.035), int(rng.integers(150, 420))), leaf, "tree"
    )
    return thing


def bush(rng, wardrobe: Wardrobe, size: float | None = None) -> Thing:
    """A bush: two to four clumps with leaf cards."""
    s = size or float(rng.uniform(0.3, 1.5))
    thing = Thing(radius=s * 0.7, height=s)
    leaf = wardrobe.small("leaf", "small")
    centres = rng.normal(0, 0.3 * s, (int(rng.integers(2, 5)), 3)) * [1, 1, 0.2] + [0, 0, 0.4 * s]
    thing.add([blob(rng, 0.42 * s, 0.25, 12).moved(*c) for c in centres], leaf, "plant")
    thing.add(leaves(rng, centres, 0.3 * s, 0.07 * s, 120), leaf, "plant")
    return thing


def grass_tuft(rng, wardrobe: Wardrobe, size: float = 0.3) -> Thing:
    """Blades that rise from one foot."""
    thing = Thing(radius=size * 0.4, height=size)
    count = int(rng.integers(12, 40))
    foot = rng.normal(0, 0.12 * size, (count, 3)) * [1, 1, 0]
    tip = (
        foot
        + rng.normal(0, 0.3 * size, (count, 3)) * [1, 1, 0]
        + [0, 0, 1.0] * rng.uniform(0.5, 1.0, (count, 1)) * size
    )
    side = rng.normal(0, 0.03 * size, (count, 3)) * [1, 1, 0]
    vertices = np.stack([foot - side, foot + side, tip], 1).reshape(-1, 3)
    uv = np.tile(np.array([[0, 0], [1, 0], [0.5, 1.0]]), (count, 1))
    thing.add(Mesh(vertices, np.arange(count * 3).reshape(-1, 3), uv), wardrobe.small("leaf", "small"), "plant")
    return thing


def rock(rng, wardrobe: Wardrobe, size: float | None = None) -> Thing:
    """A stone, half sunk."""
    s = size or float(np.exp(rng.normal(np.log(0.35), 0.7)))
    thing = Thing(radius=s, height=s)
    mesh = blob(rng, s, 0.3, 16)
    wide, deep = rng.uniform(0.7, 1.3, 2)
    mesh = mesh.stretched(wide, deep, rng.uniform(0.4, 1.0))
    thing.add(mesh.moved(z=0.25 * s), wardrobe.small("stone", "small"), "object")
    return thing


def statue(rng, wardrobe: Wardrobe) -> Thing:
    """A figure or a bust of one stone on a plinth."""
    stone = wardrobe.small("stone", "small")
    plinth = rng.uniform(0.2, 1.2)
    figure = (person(rng, wardrobe) if rng.random() < 0.7 else animal(rng, wardrobe, 1.3)).moved(0, 0, plinth)
    thing = Thing(radius=0.5, height=plinth + figure.height)
    thing.add([part.mesh for part in figure.parts], stone, "object")
    thing.add(box(0.8, 0.8, plinth), stone, "object")
    return thing
