"""What studies of several methods say: fidelity and likeness by strength, each as the difference to the text alone."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from graftwork.core.charts import Axis, Chart, Level, Panel, Series
from graftwork.core.tables import Row
from graftwork.scores.registry import Column, scores
from graftwork.studies.readings import Cells, PairedDifference, paired_difference
from graftwork.studies.report import Table
from graftwork.transforms.registry import transforms


@dataclass(frozen=True)
class Measures:
    """The two columns that methods are compared by.

    Attributes:
        fidelity: says how much an image has of its prompt; higher is more.
        likeness: says how much it has of its reference; higher is more.
    """

    fidelity: Column
    likeness: Column


@dataclass(frozen=True)
class Pair:
    """An image beside that of the text alone, of the same generator, prompt and seed.

    Attributes:
        prompt: text of the prompt.
        place: what pairs of several methods have in common: prompt, reference and seed.
        fidelity: difference in fidelity; None where one of the two was not measured.
        likeness: difference in likeness to the reference of the image, likewise.
    """

    prompt: str
    place: tuple[str, ...]
    fidelity: float | None
    likeness: float | None


@dataclass(frozen=True)
class Point:
    """A method at one strength.

    Attributes:
        method: what it is called.
        strength: alpha, or the scale of a reference; None for a method without one.
        pairs: its images, each beside the text alone.
        fidelity: mean difference; None where nothing was measured.
        likeness: likewise.
    """

    method: str
    strength: float | None
    pairs: tuple[Pair, ...]
    fidelity: PairedDifference | None
    likeness: PairedDifference | None

    @property
    def is_measured(self) -> bool:
        """Whether both differences are known."""
        return self.fidelity is not None and self.likeness is not None

    @property
    def name(self) -> str:
        """Method and strength in words."""
        return self.method if self.strength is None else f"{self.method} at {self.strength:g}"


def measures_of(cells: Cells) -> Measures | None:
    """Returns the measures that the images of an experiment have; None where one of the two is missing.

    They are the first columns of the registered scores that say so and have values.

    Args:
        cells: rows of cells_full.csv.
    """
    columns = [column for score in scores().values() for column in score.columns if column.is_number]
    rising = [column for column in columns if column.better == "higher" and not column.is_detail]
    known = [column for column in rising if any(row.get(column.name) for row in cells)]
    fidelity = next((column for column in known if column.against == "prompt"), None)
    likeness = next((column for column in known if column.against == "reference" and column.text_alone), None)
    return Measures(fidelity, likeness) if fidelity and likeness else None


def pair_of(row: Mapping[str, str], alone: Mapping[str, str], measures: Measures) -> Pair:
    """Returns an image beside the text alone.

    Args:
        row: row of the image in cells_full.csv.
        alone: row of its baseline.
        measures: what is compared.
    """
    fidelity, likeness = measures.fidelity.name, measures.likeness
    return Pair(
        row["prompt"],
        (row["prompt"], row["reference"], row["seed"]),
        _difference(row.get(fidelity), alone.get(fidelity)),
        _difference(row.get(likeness.name), row.get(likeness.text_alone)),
    )


def about(cells: Cells, measures: Measures) -> str:
    """Returns what was made and how it is measured, for somebody who knows nothing of it.

    Args:
        cells: rows of cells_full.csv.
        measures: what is compared.
    """
    shown = [row for row in cells if row["role"] == "cell"]
    prompts, references = (len({row.get(name) for row in shown}) for name in ("prompt", "reference"))
    modes = [mode for mode in dict.fromkeys(row.get("token_mode") for row in shown) if mode]
    known = transforms("token_mode")
    which = ", ".join(f"{mode} ({known[mode].formula})" for mode in modes if mode in known)
    return (
        f"{prompts} prompts, each beside {references} reference {'pictures' if references > 1 else 'picture'}. Alpha is the weight of the graft: "
        f"at 0 the generator gets its own text states, at 1 those of the other encoder alone"
        f"{f', of these tokens: {which}' if which else ''}. Fidelity: {measures.fidelity.label}. Likeness: {measures.likeness.label}. "
        "Numbers are differences to the image of the text alone, of the same generator, prompt and seed; in brackets the interval of "
        "95 %, by drawing prompts again, and how many such pairs there are."
    )


def _difference(value: str | None, other: str | None) -> float | None:
    return float(value) - float(other) if value and other else None


def unmeasured(experiment: str) -> str:
    """Returns what is said where no image of an experiment was measured for both."""
    return (
        "No image of this experiment has been measured for both the prompt and the reference, so that nothing can be said; the grids "
        f"are all there is to look at. Give config/experiments/{experiment}.yaml scores of both kinds, and run this again."
    )


def point_of(method: str, strength: float | None, pairs: Sequence[Pair]) -> Point:
    """Returns a method at one strength, with intervals by bootstrap over prompts."""
    return Point(
        method,
        strength,
        tuple(pairs),
        _mean((pair.fidelity, pair.prompt) for pair in pairs),
        _mean((pair.likeness, pair.prompt) for pair in pairs),
    )


def between(one: Point, other: Point, measure: str) -> PairedDifference | None:
    """Returns one point minus another, at the prompts, references and seeds that both have; None where there are none.

    Args:
        one: a point.
        other: another one.
        measure: `fidelity` or `likeness`.
    """
    theirs = {pair.place: getattr(pair, measure) for pair in other.pairs}
    known = [
        (getattr(pair, measure) - theirs[pair.place], pair.prompt)
        for pair in one.pairs
        if getattr(pair, measure) is not None and theirs.get(pair.place) is not None
    ]
    return paired_difference([value for value, _ in known], [unit for _, unit in known])


def _mean(values: Iterable[tuple[float | None, str]]) -> PairedDifference | None:
    known = [(value, unit) for value, unit in values if value is not None]
    return paired_difference([value for value, _ in known], [unit for _, unit in known])


def point_rows(points: Sequence[Point]) -> list[Row]:
    """Returns the table of points, with n and intervals, numbers rounded to four digits."""
    rows: list[Row] = []
    for point in points:
        row: Row = {"method": point.method, "strength": point.strength, "images": len(point.pairs)}
        for name in ("fidelity", "likeness"):
            found: PairedDifference | None = getattr(point, name)
            values = (found.mean, found.low, found.high) if found else (None, None, None)
            rounded = [None if value is None else round(value, 4) for value in values]
            row |= dict(zip((name, f"{name}_low", f"{name}_high"), rounded, strict=True))
        row["prompts"] = len({pair.prompt for pair in point.pairs})
        rows.append(row)
    return rows


def shown_points(heading: str, points: Mapping[str, Sequence[Point]]) -> Table | None:
    """Returns points as a page shows them, each number with its interval; None where there are none.

    Args:
        heading: what the groups are.
        points: group -> points.
    """
    rows = [
        [
            name,
            point.method,
            "" if point.strength is None else f"{point.strength:g}",
            *("" if found is None else found.text for found in (point.fidelity, point.likeness)),
        ]
        for name, own in points.items()
        for point in own
    ]
    return Table([heading, "method", "strength", "fidelity", "likeness"], rows) if rows else None


def trade_panel(points: Sequence[Point], title: str) -> Panel:
    """Returns a panel with likeness from left to right and fidelity upwards: one curve for each method."""
    series = []
    for method, own in by_method(points).items():
        known = [point for point in own if point.is_measured]
        labels = [f"{point.strength:g}" for point in known if point.strength is not None]
        series.append(
            Series(
                method,
                [(point.likeness.mean, point.fidelity.mean) for point in known],
                style="line" if len(known) > 1 else "points",
                labels=labels,
            )
        )
    reached = [point for one in series for point in one.points]
    return Panel(
        Axis("likeness (difference)", limits=_with_room([x for x, _ in reached])),
        Axis("fidelity (difference)", limits=_with_room([y for _, y in reached])),
        series,
        [Level("the text alone", [(0.0, 0.0)])],
        title=title,
        height=1.3,
    )


def _with_room(values: Sequence[float]) -> tuple[float, float]:
    """Returns limits beyond all values and 0, which is the text alone: points at an edge have labels too."""
    low, high = min([0.0, *values]), max([0.0, *values])
    room = 0.1 * (high - low) or 0.1
    return low - room, high + room


def strength_panel(points: Sequence[Point], name: str, title: str, label: str, at: str = "strength") -> Panel:
    """Returns a panel of one measure over the strength, with intervals; methods without a strength are levels.

    Args:
        points: what is shown.
        name: `fidelity` or `likeness`.
        title: heading.
        label: of the vertical axis.
        at: of the horizontal axis.
    """
    series, levels = [], [Level("the text alone", [(0.0, 0.0)])]
    for method, own in by_method(points).items():
        known = [(point.strength, getattr(point, name)) for point in own if getattr(point, name) is not None]
        if known and known[0][0] is None:
            levels.append(Level(method, [(0.0, known[0][1].mean)]))
        elif known:
            series.append(
                Series(
                    method,
                    [(strength, found.mean) for strength, found in known],
                    [(found.low, found.high) for _, found in known],
                )
            )
    return Panel(Axis(at, limits=(0.0, 1.0)), Axis(label), series, levels, title=title)


def by_method(points: Sequence[Point]) -> dict[str, list[Point]]:
    """Returns method -> its points by rising strength, in the order in which methods occur."""
    found: dict[str, list[Point]] = {}
    for point in points:
        found.setdefault(point.method, []).append(point)
    return {
        method: sorted(own, key=lambda point: -1.0 if point.strength is None else point.strength)
        for method, own in found.items()
    }


def chart(title: str, subtitle: Sequence[str], panels: Sequence[Panel], columns: int | None = None) -> Chart:
    """Returns a chart with what its points are, and its intervals where it has some."""
    has_intervals = any(series.intervals for panel in panels for series in panel.series)
    drawn = (
        " Intervals of 95 %, prompts resampled." if has_intervals else " Means; the tables have intervals."
    )
    return Chart(
        title=title,
        subtitle=subtitle,
        panels=panels,
        columns=columns,
        footer=[
            f"Differences to the image of the text alone, of the same generator, prompt and seed.{drawn}"
        ],
    )
