"""`generalize`: whether what a graft does to one generator, it does to another, by alpha and by tokens."""

import math
from collections.abc import Mapping, Sequence

from graftwork.core.tables import Row
from graftwork.studies.material import Material
from graftwork.studies.registry import Study, register
from graftwork.studies.report import Part, StudyReport, Table
from graftwork.studies.strengths import (
    Measures,
    Point,
    about,
    between,
    by_method,
    chart,
    measures_of,
    pair_of,
    point_of,
    point_rows,
    shown_points,
    strength_panel,
    unmeasured,
)

EXPERIMENT = "generalize"
_MOST_GRIDS = 2


def write(material: Material) -> StudyReport:
    """Returns the report."""
    cells = [row for row in material.cells(EXPERIMENT) if row["status"] == "done"]
    measures = measures_of(cells)
    grids = Part(
        "Images",
        [
            "Rows are generators, columns rise with alpha; the text alone of each generator stands beside them."
        ],
        pictures=[(path, "alpha by generator") for path in material.grid(EXPERIMENT)[:_MOST_GRIDS]],
    )
    if measures is None:
        return StudyReport([unmeasured(EXPERIMENT)], parts=[grids])
    points = _points(material, cells, measures)
    apart = _apart(points)
    rows = [
        row for mode, own in points.items() for row in ({"tokens": mode, **one} for one in point_rows(own))
    ]
    return StudyReport(
        answers=_answers(points, apart),
        caveats=_caveats(material),
        parts=[
            Part(
                "By alpha, both generators side by side",
                table=shown_points("tokens", points),
                plots=["by_alpha"],
            ),
            Part(
                "One generator against the other",
                [
                    "The first minus the second, each as the difference to its own text alone, at the same prompt, reference and seed. "
                    "Intervals are not corrected for their number."
                ],
                Table(list(apart[0]), [list(row.values()) for row in apart]) if apart else None,
            ),
            grids,
        ],
        tables={"points": rows, "apart": apart},
        plots={"by_alpha": _chart(points, measures)},
        about=about(cells, measures),
        data={"points": rows, "apart": apart},
    )


def _points(
    material: Material, cells: Sequence[Mapping[str, str]], measures: Measures
) -> dict[str, list[Point]]:
    """Returns tokens -> points, whose methods are generators."""
    row_of = {row["cell"]: row for row in cells}
    baselines = material.designs[EXPERIMENT].baselines
    pairs: dict[tuple[str, str, float], list] = {}
    for row in cells:
        alone = row_of.get(baselines.get(row["cell"], ""))
        if row["role"] == "cell" and alone is not None:
            at = (row["token_mode"], row["setting"], float(row["alpha"]))
            pairs.setdefault(at, []).append(pair_of(row, alone, measures))
    found: dict[str, list[Point]] = {}
    for (mode, setting, alpha), own in pairs.items():
        found.setdefault(mode, []).append(point_of(setting, alpha, own))
    return found


def _chart(points: Mapping[str, Sequence[Point]], measures: Measures):
    panels = [
        strength_panel(own, name, f"{name}, tokens {mode}", f"{name} (difference)", "alpha")
        for mode, own in points.items()
        for name in ("fidelity", "likeness")
    ]
    return chart(
        "Does a graft do to one generator what it does to the other?",
        [f"Fidelity: {measures.fidelity.label}.", f"Likeness: {measures.likeness.label}."],
        panels,
        columns=2,
    )


def _apart(points: Mapping[str, Sequence[Point]]) -> list[Row]:
    """Returns how far the first generator is from each other one, where both have the same prompts and references."""
    rows: list[Row] = []
    for mode, own in points.items():
        first, *others = by_method(own).items()
        for name, other in others:
            for one, two in zip(first[1], other, strict=False):
                for measure in ("fidelity", "likeness"):
                    found = between(one, two, measure)
                    if found is not None and one.strength == two.strength:
                        rows.append(
                            {
                                "tokens": mode,
                                "alpha": one.strength,
                                "measure": measure,
                                "generators": f"{first[0]} - {name}",
                                "difference": round(found.mean, 4),
                                "low": round(found.low, 4),
                                "high": round(found.high, 4),
                                "pairs": found.n,
                                "prompts": found.units,
                            }
                        )
    return rows


def _answers(points: Mapping[str, Sequence[Point]], apart: Sequence[Row]) -> list[str]:
    lines, alike = [], []
    for mode, own in points.items():
        generators = by_method(own)
        for measure, sign, question in _QUESTIONS:
            where = {name: _alphas(line, measure, sign) for name, line in generators.items()}
            alike.append(len({bool(alphas) for alphas in where.values()}) == 1)
            lines.append(
                f"With tokens {mode}, {question} {_both(generators)}? {_verdict(where)}: "
                f"{_in_words(generators, where, measure)}."
            )
    if not lines:
        return [unmeasured(EXPERIMENT)]
    first = "Yes" if all(alike) else "In part" if any(alike) else "No"
    lines.insert(
        0,
        f"Does what a graft does to the first generator hold for the other? {first}: {sum(alike)} of the {len(alike)} questions below "
        "have the same answer, yes or no, in every generator.",
    )
    return [*lines, *_shape(apart)]


_QUESTIONS = (
    ("fidelity", -1, "is the prompt lost"),
    ("likeness", 1, "does something of the reference arrive"),
)


def _shape(apart: Sequence[Row]) -> list[str]:
    """Returns whether the curves differ, and where most."""
    if not apart:
        return []
    clear = [row for row in apart if not row["low"] <= 0.0 <= row["high"]]
    widest = max(clear or apart, key=lambda row: abs(row["difference"]))
    return [
        f"Do the curves have one shape? {'Not everywhere' if clear else 'No difference is seen'}: {len(clear)} of {len(apart)} "
        f"comparisons at one alpha differ by more than their interval; the widest is {widest['difference']:+.2f} "
        f"({widest['low']:+.2f} to {widest['high']:+.2f}, {widest['pairs']} pairs of {widest['prompts']} prompts) in "
        f"{widest['measure']}, {widest['generators']}, with tokens {widest['tokens']} at alpha {widest['alpha']:g}."
    ]


def _both(generators: Mapping[str, object]) -> str:
    return "in both generators" if len(generators) == 2 else f"in all {len(generators)} generators"


def _alphas(line: Sequence[Point], measure: str, sign: int) -> tuple[float, ...]:
    """Returns the alphas at which the difference has this sign, its whole interval included."""
    clear = []
    for point in line:
        found = getattr(point, measure)
        if found is not None and not math.isnan(found.low) and min(sign * found.low, sign * found.high) > 0:
            clear.append(point.strength)
    return tuple(clear)


def _verdict(where: Mapping[str, Sequence[float]]) -> str:
    """Returns yes or no for all generators, or names those where it is so."""
    there = [name for name, alphas in where.items() if alphas]
    if len(there) == len(where):
        return "Yes" if len(set(where.values())) == 1 else "Yes, though not at the same values of alpha"
    return f"Only in {' and '.join(there)}" if there else "No, in none of them"


def _in_words(
    generators: Mapping[str, Sequence[Point]], where: Mapping[str, Sequence[float]], measure: str
) -> str:
    """Returns for each generator at which alphas, with the largest difference."""
    parts = []
    for name, line in generators.items():
        known = [point for point in line if getattr(point, measure) is not None]
        if not known:
            parts.append(f"{name} was not measured")
            continue
        alphas = where[name]
        largest = max(known, key=lambda point: abs(getattr(point, measure).mean))
        at = [f"{alpha:g}" for alpha in alphas]
        if not alphas:
            said = "at no alpha"
        elif len(alphas) > 1 and alphas == tuple(point.strength for point in known[-len(alphas) :]):
            said = f"from alpha {at[0]} on"
        else:
            said = f"at alpha {' and '.join(at)}"
        parts.append(f"{name} {said} (most {getattr(largest, measure).text} at alpha {largest.strength:g})")
    return "; ".join(parts)


def _caveats(material: Material) -> list[str]:
    if material.family != "miniature":
        return []
    return [
        "Both generators of the miniature were trained by this project, on the same scenes and captions: that they agree says that "
        "the workflow treats both alike, and nothing about published generators. The family published of config/config.yaml asks those."
    ]


register(
    Study(
        "generalize",
        "Does it hold for another generator?",
        "A graft puts the hidden states of a vision-language model in the place of a generator's own text states. Does it cost the "
        "prompt and bring the reference in a second generator as it does in the first, although the two are built differently?",
        write,
        experiments=(EXPERIMENT,),
    )
)
