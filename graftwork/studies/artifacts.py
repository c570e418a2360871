"""`artifacts`: how severe artifacts are by layer, tokens and normalization, against the baseline and a planted scale."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from graftwork.core.charts import Axis, Chart, Level, Panel, Series, dot_plot
from graftwork.core.tables import Row
from graftwork.scores.intervals import adjust_by_holm
from graftwork.scores.registry import ImageBeside, scores
from graftwork.studies.material import Material
from graftwork.studies.readings import Cells, PairedDifference, group, numbers, paired_difference
from graftwork.studies.registry import Study, register
from graftwork.studies.report import Part, StudyReport, Table

EXPERIMENT, SCORE = "artifact_severity", "artifacts"
# Images in the gallery of each measure.
_GALLERY = 3
# Pixels of a token, of the pattern that is planted, and of the border that gets noise.
_PERIOD = 16
_LEVEL = 0.05


def plant(pixels: np.ndarray, amplitude: float) -> np.ndarray:
    """Returns uint8 (height, width, 3) with a corner of every token, a quarter of its side, brighter by so many grey levels."""
    rows, columns = (np.arange(side) % _PERIOD < _PERIOD // 4 for side in pixels.shape[:2])
    grid = amplitude * np.outer(rows, columns)
    return _as_pixels(pixels + grid[:, :, None])


def roughen_border(pixels: np.ndarray, amplitude: float) -> np.ndarray:
    """Returns uint8 (height, width, 3) with uniform noise of at most so many grey levels in the outer pixels of a token."""
    noise = np.random.default_rng(0).uniform(-amplitude, amplitude, pixels.shape)
    noise[_PERIOD:-_PERIOD, _PERIOD:-_PERIOD] = 0
    return _as_pixels(pixels + noise)


def blur(pixels: np.ndarray, radius: float) -> np.ndarray:
    """Returns uint8 (height, width, 3) with a Gaussian blur of so many pixels."""
    from PIL import Image, ImageFilter

    return np.asarray(Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(radius)))


def _as_pixels(values: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


@dataclass(frozen=True)
class Severity:
    """A measure of an artifact, and a known artifact of its kind.

    Attributes:
        name: column of the score.
        artifact: what the documents call what it measures.
        worse: 1 where more of it is worse, -1 where less is.
        is_ratio: whether it is compared by its base-10 logarithm; the others are logarithms by themselves.
        planted: what is planted, with `{}` for its size.
        sizes: sizes that are planted, the first none.
        plant: (uint8 (height, width, 3), size) -> the same with the artifact.
    """

    name: str
    artifact: str
    worse: int
    is_ratio: bool
    planted: str
    sizes: tuple[float, ...]
    plant: Callable[[np.ndarray, float], np.ndarray]

    def of(self, value: float | None) -> float | None:
        """Returns a value in decades; None where it has none."""
        if value is None or not self.is_ratio:
            return value
        return math.log10(value) if value > 0 else None


MEASURES = (
    Severity(
        "comb", "grid patterns", 1, False, "a grid of {} grey levels", (0.0, 2.0, 4.0, 8.0, 16.0), plant
    ),
    Severity(
        "border_energy",
        "border noise",
        1,
        True,
        "border noise of {} grey levels",
        (0.0, 8.0, 16.0, 32.0, 64.0),
        roughen_border,
    ),
    Severity("sharpness", "loss of detail", -1, True, "a blur of {} pixels", (0.0, 0.5, 1.0, 1.5, 2.0), blur),
)


@dataclass(frozen=True)
class Findings:
    """What was measured of one kind of artifact.

    Attributes:
        measure: the measure.
        settings: setting -> difference to the text alone, in decades; above 0 is worse.
        p: setting -> p-value, adjusted for the number of settings; None where there is none.
        scale: (size, mean difference, images) of the planted artifact.
        worst: cells by difference, the worst first: (difference, row).
    """

    measure: Severity
    settings: Mapping[str, PairedDifference]
    p: Mapping[str, float | None]
    scale: Sequence[tuple[float, float, int]]
    worst: Sequence[tuple[float, Mapping[str, str]]]

    def as_planted(self, difference: float) -> str:
        """Returns the size of a planted artifact that gives a difference, in words."""
        known = [(found, size) for size, found, _ in self.scale]
        known = [pair for number, pair in enumerate(known) if all(pair[0] > one[0] for one in known[:number])]
        if len(known) < 2 or difference <= known[0][0]:
            return "none"
        if difference > known[-1][0]:
            return f"more than {self.measure.planted.format(format(known[-1][1], 'g'))}"
        size = float(np.interp(difference, *zip(*known, strict=True)))
        return self.measure.planted.format(f"{size:.1f}")


def write(material: Material) -> StudyReport:
    """Returns the report."""
    cells = [row for row in material.cells(EXPERIMENT) if row["status"] == "done"]
    graft = [row for row in cells if row["role"] == "cell"]
    found = [
        _find(measure, cells, material.designs[EXPERIMENT].baselines)
        for measure in MEASURES
        if numbers(graft, measure.name)
    ]
    rows = _rows(graft, found)
    parts = [
        Part(
            "By setting, against the text alone",
            [
                "Difference to the image of the text alone with the same prompt and seed, in decades: 0.3 is twice as much. Above 0 is "
                "worse. Intervals of 95 %, prompts resampled; a star: p below 0.05, adjusted by Holm for the number of settings.",
                "Grid patterns: power at multiples of the frequency of tokens over that beside them (comb). Border noise: gradients of the outer 16 "
                "pixels over those inside (border_energy). Loss of detail: variance of the Laplacian (sharpness), with its sign turned.",
            ],
            Table(list(rows[0]), [list(row.values()) for row in rows]) if rows else None,
            plots=[f"{one.measure.name}_by_setting" for one in found],
        ),
        *[_scale_part(one) for one in found],
        *[_gallery(one, material, cells) for one in found],
    ]
    return StudyReport(
        answers=[_answer(one) for one in found]
        or ["No image has been measured: the images or their scores are missing."],
        about=_about(graft),
        caveats=_caveats(material),
        parts=parts,
        tables={
            "settings": [row for one in found for row in _csv_rows(one)],
            "planted": [
                {"measure": one.measure.name, "size": size, "difference": value, "images": images}
                for one in found
                for size, value, images in one.scale
            ],
        },
        plots={f"{one.measure.name}_by_setting": _chart(one) for one in found},
        data={"settings": [row for one in found for row in _csv_rows(one)]},
    )


def _find(measure: Severity, cells: Cells, baselines: Mapping[str, str]) -> Findings:
    row_of = {row["cell"]: row for row in cells}
    graft = [row for row in cells if row["role"] == "cell"]
    settings, worst = {}, []
    for (setting,), own in group(graft, "setting").items():
        values, units = [], []
        for row in own:
            pair = [_value(measure, one) for one in (row, row_of.get(baselines.get(row["cell"], ""), {}))]
            if None not in pair:
                values.append(measure.worse * (pair[0] - pair[1]))
                units.append(row["prompt"])
                worst.append((values[-1], row))
        difference = paired_difference(values, units)
        if difference is not None:
            settings[setting] = difference
    adjusted = adjust_by_holm([one.p for one in settings.values()])
    return Findings(
        measure,
        settings,
        dict(zip(settings, adjusted, strict=True)),
        _planted_scale(measure, [row for row in cells if row["role"] == "baseline"]),
        sorted(worst, key=lambda pair: -pair[0]),
    )


def _value(measure: Severity, row: Mapping[str, str]) -> float | None:
    return measure.of(float(row[measure.name])) if row.get(measure.name) else None


def _planted_scale(measure: Severity, cells: Cells) -> list[tuple[float, float, int]]:
    """Returns the mean difference that a known artifact makes in the images of the text alone."""
    from graftwork.models.images import read_image

    score = scores()[SCORE].measure_beside
    if score is None:
        return []
    images = [np.asarray(read_image(Path(row["image"]))) for row in cells]
    values = np.array(
        [
            [
                measure.of(score(ImageBeside(measure.plant(pixels, size), (), None)).get(measure.name))
                for pixels in images
            ]
            for size in measure.sizes
        ],
        dtype=np.float64,
    )
    moved = measure.worse * (values - values[:1])
    known = np.isfinite(moved).all(axis=0)
    if not known.any():
        return []
    return [
        (size, float(row[known].mean()), int(known.sum()))
        for size, row in zip(measure.sizes, moved, strict=True)
    ]


def _about(graft: Cells) -> str:
    counted = {name: len({row.get(name) for row in graft}) for name in ("prompt", "setting")}
    return (
        f"{len(graft)} images of {counted['prompt']} prompts in {counted['setting']} settings at alpha 1, each compared with the image that the "
        "generator makes of its own text encoder's states, with the same prompt and noise. To know what a difference means, artifacts of "
        "known size are planted in the images of the text alone and measured in the same way. A decade is a factor of 10."
    )


def _rows(graft: Cells, found: Sequence[Findings]) -> list[Row]:
    rows: list[Row] = []
    for (setting,), own in group(graft, "setting").items():
        row: Row = {"setting": setting, "images": len(own)}
        for one in found:
            difference = one.settings.get(setting)
            star = "*" if difference is not None and _is_seen(one, setting) else ""
            row[one.measure.artifact] = None if difference is None else _interval(difference) + star
        rows.append(row)
    return rows


def _interval(one: PairedDifference) -> str:
    if math.isnan(one.low):
        return f"{one.mean:+.2f}"
    return f"{one.mean:+.2f} ({one.low:+.2f} to {one.high:+.2f})"


def _is_seen(found: Findings, setting: str) -> bool:
    p = found.p.get(setting)
    return p is not None and p < _LEVEL


def _csv_rows(found: Findings) -> list[Row]:
    return [
        {"measure": found.measure.name, "setting": setting, **vars(one), "p_adjusted": found.p[setting]}
        for setting, one in found.settings.items()
    ]


def _scale_part(found: Findings) -> Part:
    what = found.measure.planted.format("so many")
    return Part(
        f"Scale: {found.measure.artifact}",
        [f"What {what} would give, planted in the images of the text alone."],
        Table(
            ["planted", "difference in decades", "images"],
            [
                [found.measure.planted.format(f"{size:g}") if size else "nothing", f"{value:+.2f}", images]
                for size, value, images in found.scale
            ],
        ),
    )


def _gallery(found: Findings, material: Material, cells: Cells) -> Part:
    row_of = {row["cell"]: row for row in cells}
    baselines = material.designs[EXPERIMENT].baselines
    strip = []
    for difference, row in found.worst[:_GALLERY]:
        beside = row_of[baselines[row["cell"]]]
        strip += [
            ("text alone", f"../../../{beside['image']}"),
            (f"{row['setting']}: {difference:+.2f}", f"../../../{row['image']}"),
        ]
    return Part(
        f"Worst images: {found.measure.artifact}",
        [
            f"The {len(strip) // 2} images that are furthest from their text alone, each beside it. Look whether it is an artifact or another scene."
        ],
        strip=strip,
    )


def _chart(found: Findings) -> Chart:
    names = tuple(found.settings)
    points = [(float(place), one.mean) for place, one in enumerate(found.settings.values())]
    intervals = [
        (one.mean, one.mean) if math.isnan(one.low) else (one.low, one.high)
        for one in found.settings.values()
    ]
    levels = [Level("the text alone", [(0.0, 0.0)])]
    largest = max((abs(end) for pair in intervals for end in pair), default=0.0)
    levels += [
        Level(f"planted: {found.measure.planted.format(f'{size:g}')}", [(0.0, value)])
        for size, value, _ in found.scale[1:]
        if 0 < value <= largest
    ][-1:]
    panel = Panel(
        Axis("setting", "category", names=names or ("none",)),
        Axis(f"{found.measure.artifact}: decades above the text alone"),
        [Series("setting", points, intervals, style="points")],
        levels,
    )
    return Chart(
        f"{found.measure.artifact.capitalize()}: how far from the text alone?",
        [f"Measure {found.measure.name}; further right is worse"],
        [dot_plot(panel)],
        columns=1,
        footer=["Bars: 95 % intervals, prompts resampled."],
    )


def _answer(found: Findings) -> str:
    name, settings = found.measure.artifact.capitalize(), found.settings
    if not settings:
        return f"{name}: nothing could be compared."
    seen = [setting for setting, one in settings.items() if _is_seen(found, setting) and one.mean > 0]
    largest = max(settings, key=lambda setting: settings[setting].mean)
    size = found.as_planted(settings[largest].mean)
    most = (
        f"The most has {largest}, {10 ** settings[largest].mean:.1f} times as much as the text alone ({_interval(settings[largest])} decades); "
        f"planted, {size} would give as much."
        if size != "none"
        else "No setting has more than the text alone on average."
    )
    if seen:
        return f"{name}, more than with the text alone? Yes, in {len(seen)} of {len(settings)} settings ({', '.join(seen)}). {most}"
    return f"{name}, more than with the text alone? It is seen in none of {len(settings)} settings, p adjusted for looking at so many. {most}"


def _caveats(material: Material) -> list[str]:
    if material.family != "miniature":
        return []
    return [
        "Images of the miniature are 64 x 64 pixels, four tokens on a side, and the textures of its scenes repeat at the period of a token. "
        "An image of another scene has another comb, border and sharpness without any artifact: the differences here are those of "
        "scenes. What is reported of published models (a grid of tokens, noise at the border) cannot be shown here; that the measures "
        "find such things is shown by what was planted.",
    ]


register(
    Study(
        "artifacts",
        "How severe are artifacts?",
        "Images from hidden states that a generator was not trained with are said to have grid patterns, noisy borders and averaged content. "
        "How much of it is there, by layer, tokens and normalization, and how large would a known artifact be on the same scale?",
        write,
        experiments=(EXPERIMENT,),
    )
)
