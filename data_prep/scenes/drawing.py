"""Images of scene graphs: 64 x 64 pixels, one object per quadrant, drawn with anti-aliased edges."""

from __future__ import annotations

import math
import random

from PIL import Image, ImageDraw

from data_prep.scenes.scene_graph import PLACES, Scene, SceneObject

IMAGE_SIZE = 64
SUPERSAMPLING = 4
RADIUS = {"small": 6.0, "large": 13.0}  # pixels; a quadrant is 32 pixels wide
COLOUR_VALUES = {
    "red": (220, 30, 35),
    "orange": (250, 140, 10),
    "yellow": (245, 225, 40),
    "green": (35, 160, 60),
    "blue": (35, 80, 220),
    "purple": (135, 45, 180),
    "pink": (255, 130, 190),
    "brown": (120, 70, 30),
    "white": (250, 250, 250),
    "gray": (150, 150, 150),
    "black": (15, 15, 15),
    "beige": (235, 215, 180),
}

Point = tuple[float, float]


def draw(scene: Scene, rng: random.Random) -> Image.Image:
    """Draw a scene; positions, radii and colours vary a little, by `rng`."""
    side = IMAGE_SIZE * SUPERSAMPLING
    behind = _shade(scene.background, rng)
    image = Image.new("RGB", (side, side), behind)
    canvas = ImageDraw.Draw(image)
    for item in scene.objects:
        _draw_object(canvas, item, behind, rng)
    return image.resize((IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.LANCZOS)


def _draw_object(canvas: ImageDraw.ImageDraw, item: SceneObject, behind: tuple[int, ...], rng: random.Random) -> None:
    row, column = divmod(PLACES.index(item.place), 2)
    radius = RADIUS[item.size] * rng.uniform(0.92, 1.08)
    x, y = ((32 * cell + 16 + rng.uniform(-1.5, 1.5)) * SUPERSAMPLING for cell in (column, row))
    radius *= SUPERSAMPLING
    colour = _shade(item.colour, rng)
    if item.shape in ("circle", "ring", "moon"):
        canvas.ellipse(_box(x, y, radius), fill=colour)
        if item.shape == "ring":
            canvas.ellipse(_box(x, y, radius * 0.55), fill=behind)
        if item.shape == "moon":
            canvas.ellipse(_box(x + radius * 0.5, y, radius * 0.8), fill=behind)
        return
    canvas.polygon([(x + dx * radius, y + dy * radius) for dx, dy in _OUTLINES[item.shape]], fill=colour)


def _box(x: float, y: float, radius: float) -> tuple[float, float, float, float]:
    return (x - radius, y - radius, x + radius, y + radius)


def _shade(colour: str, rng: random.Random) -> tuple[int, ...]:
    return tuple(max(0, min(255, value + rng.randint(-8, 8))) for value in COLOUR_VALUES[colour])


def _star() -> list[Point]:
    points = []
    for step in range(10):
        length = 1.1 if step % 2 == 0 else 0.45
        angle = math.pi * step / 5 - math.pi / 2
        points.append((length * math.cos(angle), length * math.sin(angle)))
    return points


def _heart() -> list[Point]:
    points = []
    for step in range(40):
        t = 2 * math.pi * step / 40
        x = 16 * math.sin(t) ** 3
        y = -(13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t))
        points.append((x / 16, y / 16))
    return points


_OUTLINES: dict[str, list[Point]] = {
    "square": [(-0.85, -0.85), (0.85, -0.85), (0.85, 0.85), (-0.85, 0.85)],
    "triangle": [(0, -1), (1, 0.8), (-1, 0.8)],
    "diamond": [(0, -1.05), (0.7, 0), (0, 1.05), (-0.7, 0)],
    "cross": [
        (-0.35, -1), (0.35, -1), (0.35, -0.35), (1, -0.35), (1, 0.35), (0.35, 0.35),
        (0.35, 1), (-0.35, 1), (-0.35, 0.35), (-1, 0.35), (-1, -0.35), (-0.35, -0.35),
    ],
    "arrow": [(-1, -0.3), (0.1, -0.3), (0.1, -0.9), (1, 0), (0.1, 0.9), (0.1, 0.3), (-1, 0.3)],
    "star": _star(),
    "heart": _heart(),
}  # fmt: skip
