"""Draw four of the reference images that ship with graftwork; `workflow_scripts.draw_scene` drew the two scenes.

python resources/references/draw.py           draws them into this folder
python resources/references/draw.py --check   exits with 1 if a file's pixels differ from what is drawn

Only Pillow is needed. Everything is drawn SCALE times too large and reduced, which smooths the edges; there is
no randomness but a fixed sequence. The images are CC0 (see LICENSE.md).
"""

import math
import sys
from itertools import pairwise
from pathlib import Path

from PIL import Image, ImageDraw, ImageFilter

SIZE = 512
SCALE = 3
FOLDER = Path(__file__).resolve().parent


class Canvas:
    """A picture in units of the final pixels, drawn SCALE times larger."""

    def __init__(self, background):
        self.image = Image.new("RGB", (SIZE * SCALE, SIZE * SCALE), background)
        self.draw = ImageDraw.Draw(self.image)

    def polygon(self, points, fill, outline=None, width=0):
        scaled = [(x * SCALE, y * SCALE) for x, y in points]
        self.draw.polygon(scaled, fill=fill)
        if outline:
            self.line([*points, points[0]], outline, width)

    def line(self, points, fill, width):
        self.draw.line([(x * SCALE, y * SCALE) for x, y in points], fill=fill, width=round(width * SCALE))
        for x, y in points:  # round joints and ends
            self.disc(x, y, width / 2, fill)

    def disc(self, x, y, radius, fill):
        box = [(x - radius) * SCALE, (y - radius) * SCALE, (x + radius) * SCALE, (y + radius) * SCALE]
        self.draw.ellipse(box, fill=fill)

    def ellipse(self, x0, y0, x1, y1, fill):
        self.draw.ellipse([x0 * SCALE, y0 * SCALE, x1 * SCALE, y1 * SCALE], fill=fill)

    def box(self, x0, y0, x1, y1, fill, pen=(None, 0)):
        """Draw a rectangle; `pen` is colour and width of its outline."""
        self.polygon([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], fill, *pen)

    def gradient(self, top, bottom, stops):
        """Fill the rows from top to bottom with colours interpolated between (position, colour) stops."""
        for row in range(round(top * SCALE), round(bottom * SCALE)):
            at = (row / SCALE - top) / (bottom - top)
            self.draw.line([(0, row), (SIZE * SCALE, row)], fill=between(stops, at))

    def finish(self):
        return self.image.resize((SIZE, SIZE), Image.Resampling.BOX)


def between(stops, at):
    """The colour at a position of a gradient given as (position, colour) stops."""
    for (start, first), (end, second) in pairwise(stops):
        if at <= end:
            part = max(0.0, (at - start) / (end - start))
            return tuple(round(a + (b - a) * part) for a, b in zip(first, second, strict=True))
    return stops[-1][1]


def sequence(seed):
    """A fixed sequence of numbers from 0 to 1 that is the same everywhere (a linear congruential generator)."""
    state = seed
    while True:
        state = (1664525 * state + 1013904223) % 2**32
        yield state / 2**32


INK = (45, 38, 60)
PEN = (INK, 6)


def cartoon_house():
    """A storybook house: flat bright colours, thick dark outlines."""
    c = Canvas((135, 206, 250))
    draw_sky(c)
    c.ellipse(-160, 330, 360, 640, INK)  # hills
    c.ellipse(-154, 336, 354, 640, (120, 205, 85))
    c.ellipse(-140, 352, 860, 900, INK)
    c.ellipse(-134, 358, 854, 900, (98, 187, 71))
    path = [(236, 424), (286, 424), (330, 512), (176, 512)]
    c.polygon(path, (240, 214, 160), *PEN)
    draw_house(c)
    draw_tree(c)
    return c.finish()


def draw_sky(c):
    """Sun and clouds."""
    for angle in range(0, 360, 30):  # sun
        x, y = math.cos(math.radians(angle)), math.sin(math.radians(angle))
        c.line([(84 + 58 * x, 84 + 58 * y), (84 + 74 * x, 84 + 74 * y)], (255, 190, 30), 8)
    c.disc(84, 84, 49, INK)
    c.disc(84, 84, 43, (255, 221, 51))
    for x, y, size in ((262, 66, 0.9), (70, 216, 0.65)):  # clouds
        blobs = ((-44, 8, 26), (-12, -10, 34), (28, -2, 28), (52, 12, 20))
        for grown, colour in ((PEN[1], INK), (0, (255, 255, 255))):
            for dx, dy, radius in blobs:
                c.disc(x + dx * size, y + dy * size, radius * size + grown, colour)
            c.box(x - 44 * size, y + 8 * size, x + 52 * size, y + 32 * size + grown, colour)


def draw_house(c):
    """Chimney with smoke, wall, roof, door and windows."""
    c.box(352, 178, 388, 262, (196, 84, 70), PEN)  # chimney
    c.box(345, 166, 395, 186, (160, 62, 56), PEN)
    for x, y, radius in ((382, 142, 12), (398, 116, 15), (420, 88, 19)):  # smoke
        c.disc(x, y, radius + 5, INK)
        c.disc(x, y, radius, (236, 236, 242))
    c.box(136, 256, 386, 428, (255, 236, 179), PEN)  # wall
    c.box(139, 400, 383, 425, (214, 170, 120))
    c.line([(136, 400), (386, 400)], INK, 4)
    draw_roof(c)
    c.disc(261, 226, 25, INK)
    c.disc(261, 226, 19, (160, 222, 250))
    c.line([(261, 207), (261, 245)], INK, 4)
    c.line([(242, 226), (280, 226)], INK, 4)
    c.disc(261, 338, 34, INK)  # door
    c.box(227, 338, 295, 428, INK)
    c.disc(261, 338, 28, (58, 124, 200))
    c.box(233, 338, 289, 425, (58, 124, 200))
    c.line([(261, 318), (261, 424)], (40, 92, 160), 4)
    c.disc(277, 382, 5, (255, 221, 51))
    for x in (156, 314):  # windows
        c.box(x, 292, x + 54, 352, (160, 222, 250), PEN)
        c.polygon([(x + 6, 326), (x + 26, 298), (x + 38, 298), (x + 6, 342)], (208, 240, 255))
        c.line([(x + 27, 292), (x + 27, 352)], INK, 4)
        c.line([(x, 322), (x + 54, 322)], INK, 4)
        c.box(x - 6, 354, x + 60, 366, (226, 74, 66), (INK, 5))


def draw_roof(c):
    """The roof and its tiles."""
    c.polygon([(106, 264), (261, 128), (416, 264)], (226, 74, 66), *PEN)
    for row, y in enumerate((172, 204, 236)):
        half = (y - 134) * 155 / 136
        c.line([(261 - half + 8, y), (261 + half - 8, y)], (173, 46, 48), 4)
        count = 3 + 2 * row
        for k in range(count):
            x = 261 - half + 2 * half * (k + 0.5 + 0.25 * (row % 2)) / count
            if abs(x + 0 - 261) < half - 10:
                c.line([(x, y), (x, y + 16)], (173, 46, 48), 4)


def draw_tree(c):
    """The tree beside the house, and flowers."""
    c.box(438, 330, 458, 430, (140, 92, 56), PEN)  # tree
    crown = ((448, 268, 40), (426, 302, 28), (476, 302, 28), (450, 316, 34))
    for grown, colour in ((PEN[1], INK), (0, (46, 148, 74))):
        for x, y, radius in crown:
            c.disc(x, y, radius + grown, colour)
    for x, y in ((432, 268), (464, 284), (440, 322), (478, 310), (422, 300)):
        c.disc(x, y, 8, INK)
        c.disc(x, y, 6, (232, 62, 62))
    petals = ((255, 120, 170), (255, 255, 255), (255, 170, 60), (190, 120, 240))
    for k, (x, y) in enumerate(((50, 452), (98, 480), (140, 448), (372, 462), (420, 488), (470, 458))):
        c.line([(x, y), (x, y + 22)], (36, 110, 50), 5)
        for angle in range(0, 360, 72):
            dx, dy = math.cos(math.radians(angle)), math.sin(math.radians(angle))
            c.disc(x + 8 * dx, y + 8 * dy, 7, petals[k % len(petals)])
        c.disc(x, y, 5, (255, 214, 0) if k % 4 != 2 else (150, 70, 30))


def hexagon(x, y, radius, turn=0.0):
    corners = [math.radians(60 * k + turn) for k in range(6)]
    return [(x + radius * math.cos(a), y + radius * math.sin(a)) for a in corners]


def purple_hexagon():
    """A cut gem: one purple hexagon in facets on a pale ground, pure geometry."""
    c = Canvas((244, 240, 232))
    shadow = Image.new("L", c.image.size, 0)
    corners = [((x + 10) * SCALE, (y + 22) * SCALE) for x, y in hexagon(256, 256, 186)]
    ImageDraw.Draw(shadow).polygon(corners, fill=120)
    shadow = shadow.filter(ImageFilter.BoxBlur(14 * SCALE)).filter(ImageFilter.BoxBlur(9 * SCALE))
    c.image.paste((116, 96, 130), (0, 0), shadow)
    c.draw = ImageDraw.Draw(c.image)

    light = math.radians(-120)

    def shade(angle, dark, bright):
        part = (1 + math.cos(math.radians(angle) - light)) / 2
        return between([(0, dark), (1, bright)], part)

    rings = [hexagon(256, 256, radius) for radius in (190, 132, 78)]
    for k in range(6):
        after = (k + 1) % 6
        outer, middle, inner = rings
        face = 60 * k + 30
        c.polygon(
            [outer[k], outer[after], middle[after], middle[k]], shade(face, (58, 14, 110), (150, 84, 214))
        )
        knee = [(p + q) / 2 for p, q in zip(middle[k], middle[after], strict=True)]
        c.polygon([middle[k], knee, inner[k]], shade(face - 40, (78, 22, 140), (176, 112, 236)))
        c.polygon([middle[after], knee, inner[after]], shade(face + 40, (78, 22, 140), (176, 112, 236)))
        c.polygon([inner[k], knee, inner[after]], shade(face, (96, 34, 164), (200, 146, 246)))
        c.polygon([inner[k], inner[after], (256, 256)], shade(face + 180, (120, 58, 196), (166, 104, 230)))
    for k in range(6):
        c.line([rings[0][k], rings[1][k]], (214, 184, 250), 1.6)
    for ring in rings[:2]:
        c.line([*ring, ring[0]], (214, 184, 250), 1.6)
    c.line([*rings[0], rings[0][0]], (42, 8, 84), 4)
    for x, y, size in ((172, 150, 26), (330, 196, 12)):  # glints
        points = []
        for k in range(8):
            radius = size if k % 2 == 0 else size * 0.16
            angle = math.radians(45 * k)
            points.append((x + radius * math.cos(angle), y + radius * math.sin(angle)))
        c.polygon(points, (255, 255, 255))
    return c.finish()


def ridge(seed, base, height, peaks):
    """A mountain outline: straight flanks between given peaks, broken up by midpoint displacement."""
    numbers = sequence(seed)
    points = [(-40, base), *[(x, base - height * part) for x, part in peaks], (560, base)]
    offset = 30
    for _ in range(5):
        finer = [points[0]]
        for (x0, y0), (x1, y1) in pairwise(points):
            shift = (next(numbers) - 0.5) * min(offset, abs(x1 - x0))
            finer += [((x0 + x1) / 2, (y0 + y1) / 2 + shift), (x1, y1)]
        points, offset = finer, offset * 0.55
    return points


def draw_snow(c, outline):
    """Snow on the two high peaks of a ridge."""
    numbers = sequence(17)
    for peak, half in ((176, 50), (440, 40)):
        lit = [(x, y) for x, y in outline if abs(x - peak) <= half]
        teeth, x, deep = [], lit[-1][0] - 6, True
        while x > lit[0][0] + 5:
            _, top = min(lit, key=lambda point: abs(point[0] - x))
            middle = 1 - abs(x - peak) / half
            teeth.append(
                (
                    x,
                    top + (6 + 34 * middle * (0.6 + 0.4 * next(numbers)) if deep else 3 + 15 * middle),
                )
            )
            x -= 4 + 7 * next(numbers)
            deep = not deep
        c.polygon([*lit, *teeth], (240, 204, 204))
        shaded = [(px, py) for px, py in teeth if px <= peak]
        side = [(px, py) for px, py in lit if px <= peak]
        c.polygon([*side, *shaded], (196, 160, 186))


def draw_firs(c, shore):
    """Firs along the shore, fewer in the middle."""
    numbers = sequence(91)
    x = -6.0
    while x < 520:
        near = abs(x - 270) / 270
        height = 10 + 34 * near * (0.55 + 0.45 * next(numbers))
        for tier in range(3):
            top, spread = shore - height * (1 - tier * 0.26), height * (0.12 + 0.07 * tier)
            c.polygon(
                [(x, top), (x - spread, top + height * 0.46), (x + spread, top + height * 0.46)], (24, 30, 54)
            )
        x += 5 + 9 * next(numbers)


def mountain_lake():
    """A lake at dusk: soft gradients, layered ridges, their reflection."""
    shore = 318
    c = Canvas((0, 0, 0))
    c.gradient(
        0,
        shore,
        [
            (0, (38, 44, 96)),
            (0.4, (118, 84, 140)),
            (0.68, (232, 132, 120)),
            (0.88, (255, 190, 130)),
            (1, (255, 218, 166)),
        ],
    )
    numbers = sequence(7)
    for _ in range(46):  # first stars
        x, y = next(numbers) * SIZE, next(numbers) ** 2 * 150
        c.disc(x, y, 0.6 + next(numbers) * 0.7, (214, 208, 236))
    c.disc(300, 212, 27, (255, 238, 200))  # sun
    layers = (
        (
            11,
            262,
            92,
            [(30, 0.5), (110, 0.86), (190, 0.5), (300, 0.22), (420, 0.55), (500, 0.9)],
            (186, 128, 152),
        ),
        (
            23,
            318,
            188,
            [(60, 0.42), (176, 1.0), (236, 0.62), (300, 0.36), (440, 0.8), (520, 0.5)],
            (104, 84, 132),
        ),
        (
            37,
            318,
            84,
            [(20, 0.8), (96, 0.5), (210, 0.14), (330, 0.12), (430, 0.5), (500, 0.95)],
            (52, 52, 92),
        ),
    )
    for k, (seed, base, height, peaks, colour) in enumerate(layers):
        outline = ridge(seed, base, height, peaks)
        c.polygon([*outline, (560, shore), (-40, shore)], colour)
        if k == 1:  # snow on the two high peaks, lit from the right
            draw_snow(c, outline)
    draw_firs(c, shore)
    c.box(0, shore - 3, 512, shore + 1, (24, 30, 54))

    land = c.image.crop((0, 0, SIZE * SCALE, shore * SCALE))
    depth = (SIZE - shore) * SCALE
    mirrored = land.transpose(Image.Transpose.FLIP_TOP_BOTTOM).crop((0, 0, SIZE * SCALE, depth))
    water = Image.new("RGB", mirrored.size)
    for row in range(depth):  # each row sways, more so the nearer it is
        far = row / depth
        sway = round(SCALE * (0.6 + 5 * far) * math.sin(row / SCALE / (1.1 + 2.4 * far)))
        strip = mirrored.crop((0, row, SIZE * SCALE, row + 1))
        water.paste(strip, (sway, row))
        edge = strip.crop((0, 0, 1, 1)) if sway > 0 else strip.crop((SIZE * SCALE - 1, 0, SIZE * SCALE, 1))
        if sway:
            width = abs(sway)
            water.paste(edge.resize((width, 1)), (0 if sway > 0 else SIZE * SCALE - width, row))
    tint = Image.new("RGB", water.size, (40, 52, 104))
    c.image.paste(Image.blend(water, tint, 0.3), (0, shore * SCALE))
    c.draw = ImageDraw.Draw(c.image)
    numbers = sequence(5)
    for k in range(26):  # the sun's road on the water
        y = shore + 5 + k * 7.2
        half = (5 + 20 * next(numbers)) * (0.5 + k / 30)
        x = 300 + (next(numbers) - 0.5) * 20
        c.ellipse(
            x - half,
            y,
            x + half,
            y + 1.2 + k * 0.07,
            between([(0, (255, 222, 170)), (1, (206, 140, 150))], k / 26),
        )
    return c.finish()


PORTRAIT = {
    ".": (38, 70, 83),  # background
    ",": (42, 96, 104),
    "h": (58, 32, 24),  # hair
    "H": (92, 50, 32),
    "s": (233, 176, 134),  # skin
    "S": (206, 140, 102),
    "l": (247, 204, 166),
    "w": (250, 246, 238),  # eyes
    "e": (42, 157, 143),
    "k": (26, 20, 24),
    "m": (186, 66, 62),  # mouth
    "r": (231, 111, 81),  # jumper
    "R": (196, 78, 56),
    "y": (233, 196, 106),  # scarf
    "Y": (206, 160, 70),
}
# The left half of the face; the right half is its mirror image, with the light coming from the left.
FACE = """
................
...........,,,,,
.........,hhhhhh
.......,hhhHHHHh
......,hhHHHHhhh
.....,hhHHhhhhhh
.....,hHHhhhhhhh
....,hhHhhhsssss
....,hhhhsslllls
....,hhhsslllsss
....,hhhsssssssS
....,hhskkksssss
....,hhsssssssss
....,hhswwekssss
....,hhsswekSsss
....,hSssssssssl
....,hSSsssssssl
....,hhSsssssssS
.....,hSsssssssS
.....,hhSsssmmmm
.....,hhSssssmmm
......,hhSssssss
......,hhSSsssss
.......,hhSSSsss
......,,.yySSSSS
.....,,.yyyYYYYY
....,..rryyyyyyy
...,..rrrrYYyyyy
..,..rrrrrrrYYYY
.,..rrrrrRrrrrry
,..rrrrrRRrrrryy
..rrrrrrRRrrrrYY
"""


def portrait_mosaic():
    """Pixel art: a portrait of 32 by 32 tiles with narrow grout, few colours, hard edges."""
    tile = SIZE // 32
    c = Canvas((24, 34, 42))
    numbers = sequence(3)
    for y, half in enumerate(FACE.split()):
        row = half + half[::-1]
        for x, letter in enumerate(row):
            if x > 15:  # the side away from the light
                letter = {"l": "s", "r": "R", "y": "Y"}.get(letter, letter)
            tone = 0.93 + 0.14 * next(numbers)
            colour = tuple(min(255, round(value * tone)) for value in PORTRAIT[letter])
            c.box(x * tile + 1, y * tile + 1, (x + 1) * tile - 1, (y + 1) * tile - 1, colour)
            bright = tuple(min(255, value + 16) for value in colour)
            c.box(x * tile + 1, y * tile + 1, (x + 1) * tile - 1, y * tile + 3, bright)
    return c.finish()


IMAGES = (cartoon_house, purple_hexagon, mountain_lake, portrait_mosaic)


def main(arguments):
    differ = []
    for image in IMAGES:
        path, drawn = FOLDER / f"{image.__name__}.png", image()
        if "--check" in arguments:
            if not path.exists() or Image.open(path).convert("RGB").tobytes() != drawn.tobytes():
                differ.append(path.name)
        else:
            drawn.save(path, optimize=True)
            print(f"{path.name}: {path.stat().st_size / 1000:.0f} kB")
    if differ:
        sys.exit(f"not what draw.py draws: {', '.join(differ)}")


if __name__ == "__main__":
    main(sys.argv[1:])
