"""`baselines`: what a graft is worth beside words, and beside generators that were trained to be shown a reference."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from graftwork.core.cells import Cell
from graftwork.design.controls import WORDS, reference_scale_of
from graftwork.models.families import generator_families
from graftwork.studies.material import Material
from graftwork.studies.registry import Study, register
from graftwork.studies.report import Part, StudyReport
from graftwork.studies.strengths import (
    Measures,
    Pair,
    Point,
    about,
    between,
    chart,
    measures_of,
    pair_of,
    point_of,
    point_rows,
    shown_points,
    strength_panel,
    trade_panel,
    unmeasured,
)

EXPERIMENT = "baselines"
_MOST_GRIDS = 2
_GRAFT = "graft"


def write(material: Material) -> StudyReport:
    """Returns the report."""
    cells = [row for row in material.cells(EXPERIMENT) if row["status"] == "done"]
    measures = measures_of(cells)
    missing = _not_measured(material)
    grids = Part(
        "Images",
        pictures=[(path, "alpha by setting") for path in material.grid(EXPERIMENT)[:_MOST_GRIDS]],
    )
    if measures is None:
        return StudyReport([unmeasured(EXPERIMENT), *missing], parts=[grids])
    points = _points(material, cells, measures)
    rows = [{"generator": name, **row} for name, own in points.items() for row in point_rows(own)]
    return StudyReport(
        answers=[*_answers(points), *missing],
        caveats=_caveats(material),
        parts=[
            Part(
                "What it costs the prompt to get something of the reference",
                [
                    "In the first plot, a method further right at the same height brings more of the reference at the same cost."
                ],
                shown_points("generator", points),
                plots=["trade", "by_strength"],
            ),
            grids,
        ],
        tables={"points": rows},
        plots=_charts({name: _short(own) for name, own in points.items()}, measures),
        about=about(cells, measures),
        data={"points": rows},
    )


def _points(
    material: Material, cells: Sequence[Mapping[str, str]], measures: Measures
) -> dict[str, list[Point]]:
    """Returns generator -> the methods that use it, at each of their strengths."""
    design, row_of = material.designs[EXPERIMENT], {row["cell"]: row for row in cells}
    pairs: dict[tuple[str, str, float | None], list[Pair]] = {}
    for cell in design.cells:
        row, alone = row_of.get(cell.cell), row_of.get(design.baselines.get(cell.cell, ""))
        if cell.role != "baseline" and row is not None and alone is not None:
            at = (cell.shown["generator"], *_method(cell))
            pairs.setdefault(at, []).append(pair_of(row, alone, measures))
    found: dict[str, list[Point]] = {}
    for (generator, method, strength), own in pairs.items():
        found.setdefault(generator, []).append(point_of(method, strength, own))
    return found


def _method(cell: Cell) -> tuple[str, float | None]:
    """Returns what made the image of a cell, and at which strength."""
    if cell.role == "cell":
        return f"{_GRAFT} {cell.shown.get('setting', '')}".strip(), cell.parameters["alpha"]
    kind = next(iter(cell.parameters["control"]))
    return kind, reference_scale_of(cell.parameters)


def _short(points: Sequence[Point]) -> list[Point]:
    """Returns the points of one generator without what all its grafts begin with: panels name the generator.

    So grafts of the same kind have one name and one look on all panels.
    """
    words = {
        point.method: point.method.removeprefix(f"{_GRAFT} ").split("_")
        for point in points
        if point.method.startswith(f"{_GRAFT} ")
    }
    shared = 0
    while len(words) > 1 and len({tuple(own[: shared + 1]) for own in words.values()}) == 1:
        shared += 1
    names = {method: f"{_GRAFT} {'_'.join(own[shared:]) or '_'.join(own)}" for method, own in words.items()}
    return [replace(point, method=names.get(point.method, point.method)) for point in points]


def _charts(points: Mapping[str, Sequence[Point]], measures: Measures) -> dict:
    return {
        "trade": chart(
            "What does it cost the prompt to get something of the reference?",
            [
                "Numbers: strength of a method, alpha or scale. Up and right is better.",
                f"Fidelity: {measures.fidelity.label}.",
                f"Likeness: {measures.likeness.label}.",
            ],
            [trade_panel(own, generator) for generator, own in points.items()],
        ),
        "by_strength": chart(
            "Fidelity and likeness by strength",
            [f"Fidelity: {measures.fidelity.label}.", f"Likeness: {measures.likeness.label}."],
            [
                strength_panel(own, name, f"{name}, {generator}", f"{name} (difference)")
                for generator, own in points.items()
                for name in ("fidelity", "likeness")
            ],
            columns=2,
        ),
    }


def _answers(points: Mapping[str, Sequence[Point]]) -> list[str]:
    lines = []
    everywhere = [point for own in points.values() for point in own if point.is_measured]
    all_grafts = [point for point in everywhere if point.method.startswith(_GRAFT)]
    for generator, own in points.items():
        grafts = [point for point in own if point in all_grafts]
        others = [point for point in own if point.is_measured and point not in all_grafts]
        # A generator that is no host of a graft is held against those that are, each beside its own text alone.
        of = generator if grafts else "any generator"
        lines += [_against(of, grafts or all_grafts, other) for other in others if all_grafts]
    if everywhere:
        best = max(everywhere, key=lambda point: point.likeness.mean)
        lines.append(
            f"Most of the reference: {best.name}, likeness {best.likeness.text}, for fidelity {best.fidelity.text}."
        )
    return lines


def _against(generator: str, grafts: Sequence[Point], other: Point) -> str:
    """Returns whether a graft brings more of the reference than another method, at no higher cost to the prompt."""
    beside = f"{other.name} brings {other.likeness.text} of likeness for {other.fidelity.text} of fidelity"
    as_cheap = [point for point in grafts if point.fidelity.mean >= other.fidelity.mean]
    if not as_cheap:
        return f"Is a graft of {generator} worth more than {other.name}? No: {beside}, and every graft costs more of the prompt."
    best = max(as_cheap, key=lambda point: point.likeness.mean)
    # Image by image: two intervals that meet say little of a difference between the same prompts.
    found = between(best, other, "likeness")
    verdict = "It cannot be told"
    if found is not None and not found.low <= 0.0 <= found.high:
        verdict = "Yes" if found.mean > 0 else "No"
    apart = f", {found.text} beside {other.name} at the same prompts" if found is not None else ""
    return (
        f"Is a graft of {generator} worth more than {other.name}? {verdict}: {beside}; the best graft that costs no more of the prompt, "
        f"{best.name}, brings {best.likeness.text} for {best.fidelity.text}{apart}."
    )


def _not_measured(material: Material) -> list[str]:
    """Returns a line for each method that is registered and was not run."""
    kinds = {
        next(iter(cell.parameters["control"]))
        for cell in material.designs[EXPERIMENT].cells
        if cell.role == "control"
    }
    known = {family.references.control for family in generator_families().values() if family.references}
    absent = sorted((known | {WORDS}) - kinds)
    why = (
        "no generator of the miniature was trained to be shown an image"
        if material.family == "miniature"
        else "it is not among the controls of config/experiments/baselines.yaml"
    )
    return [f"{name}: not measured; {why}." for name in absent]


def _caveats(material: Material) -> list[str]:
    if material.family != "miniature":
        return []
    return [
        "The miniature's vision-language model was trained to name the pattern and the colour of a background, and its captions have "
        "no other words: words are a strong baseline there. What it shows is how the measures work."
    ]


register(
    Study(
        "baselines",
        "What is a graft worth beside methods that were made for it?",
        "Hidden states of a vision-language model can bring something of a reference picture into an image, at some cost to the prompt. "
        "Would a description of the picture in words, or a generator that was trained to be shown one, have brought more at less cost?",
        write,
        experiments=(EXPERIMENT,),
    )
)
