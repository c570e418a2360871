"""`dimensions`: an embedding model's hidden states against the text encoder's, dimension by dimension, and four fixes.

Four phases, as in the analysis of llm-dit-experiments: statistics and classes; the two encoders compared; attention
sensitivity, a stand-in for the generator's attention, with sink tokens apart; and dimensions that are outliers for every
prompt or for one. Fixes are fitted on the first half of the corpus and judged on the other.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from graftwork.core.charts import Axis, Chart, Level, Panel, Series, dot_plot
from graftwork.core.tables import Row, format_number
from graftwork.models.tokens import ROLE_CODES
from graftwork.planning.analyses import AnalyzedEncoder
from graftwork.statistics.accumulator import measure_tokens, summarize
from graftwork.statistics.analysis import PairedTokens, ReadInput, pair_inputs
from graftwork.statistics.compare import cosine, pearson
from graftwork.statistics.dimensions import LABELS, DimensionComparison, compare_dimensions, worst_dimensions
from graftwork.statistics.reference import ReferenceStatistics
from graftwork.statistics.sink import find_sinks
from graftwork.studies.material import Material
from graftwork.studies.readings import (
    PairedDifference,
    Share,
    columns_of,
    group,
    paired_difference,
    share_of,
)
from graftwork.studies.registry import Study, register
from graftwork.studies.report import Part, StudyReport, Table
from graftwork.transforms.dimension_fixes import apply_dimension_fix, fit_dimension_fix
from graftwork.transforms.registry import transforms

EXPERIMENT, ANALYSIS, QUICK, LAYER = "embedding", "embedding_text", "embedding_quick", -2
# Settings of the experiment that the answers are about, and how those of a correction begin.
_PLAIN, _FIX, _ALONE = "layer_minus_2", "fix_", "the text encoder alone"
_FOLLOWS = "follows_prompt_"
_WORST = 15
_ATTENTION = "Where attention would look"
# Limits of the success criteria of the documents: what a fix has to reach on prompts that it was not fitted on.
_COSINE, _STD, _MEAN, _OUTLIERS = 0.95, 0.95, 0.9, 10


@dataclass(frozen=True)
class Sides:
    """Hidden states of the donor (the embedding model) and the host (the text encoder), input by input.

    Attributes:
        donor: inputs of the donor.
        host: the same inputs of the host.
    """

    donor: Sequence[ReadInput]
    host: Sequence[ReadInput]

    def half(self, second: bool) -> "Sides":
        """Returns the first or the second half of the inputs."""
        middle = (len(self.donor) + 1) // 2
        part = slice(middle, None) if second else slice(middle)
        return Sides(self.donor[part], self.host[part])

    def statistics(self, with_sinks: bool = True) -> tuple[ReferenceStatistics, ReferenceStatistics]:
        """Returns the statistics of both over all their tokens, or those that are no sinks."""
        return tuple(
            summarize(measure_tokens(np.concatenate([_kept(one, with_sinks) for one in side])))
            for side in (self.donor, self.host)
        )

    def paired(self) -> Iterator[PairedTokens]:
        """Yields the tokens of the prompt that both have, input by input."""
        for one in zip(self.donor, self.host, strict=True):
            found = pair_inputs([_aligned(*one)], ("prompt", "prompt"))
            if found is not None:
                yield found


def _kept(one: ReadInput, with_sinks: bool) -> np.ndarray:
    return one.states if with_sinks else one.states[~find_sinks(one.states, one.roles)]


def _aligned(one: ReadInput, other: ReadInput) -> tuple[ReadInput, ReadInput]:
    """Returns two inputs of which the one with more tokens of the prompt is left with the last ones.

    Without a chat template the first word of the prompt is the sink, and no token of the prompt.
    """
    prompt = [np.flatnonzero(side.roles == ROLE_CODES["prompt"]) for side in (one, other)]
    kept = min(map(len, prompt))
    shortened = []
    for side, rows in zip((one, other), prompt, strict=True):
        roles = side.roles.copy()
        roles[rows[: len(rows) - kept]] = ROLE_CODES["template"]
        shortened.append(replace(side, roles=roles))
    return shortened[0], shortened[1]


def write(material: Material) -> StudyReport:
    """Returns the report."""
    sides = Sides(*(list(material.states(entry, LAYER)) for entry in _entries(material)))
    donor, host = sides.statistics()
    compared = compare_dimensions(donor.std, host.std)
    rows = _dimension_rows(donor, host, compared)
    attention = _attention(sides)
    prompts = _by_prompt(sides)
    # One text cannot be both what a fix is fitted on and what it is judged on.
    fixes = _judge_fixes(sides.half(second=False), sides.half(second=True)) if len(sides.donor) > 1 else []
    images = _images(material)
    shares = [[name, share.text] for name, own in images.items() if (share := _follows(own))]
    counts = {name: int((compared.label_a == name).sum()) for name in LABELS}
    parts = [
        Part(
            "Classes of dimensions, and the two encoders compared",
            [
                f"All tokens of {_texts(sides)} at layer {LAYER}. Dead: a standard deviation below 0.01. Hyperactive: above 5 times "
                "the median. Outlier: a ratio above 3 or below 1/3."
            ],
            Table(
                ["class", "in the embedding model", "in the text encoder"],
                [[name, counts[name], int((compared.label_b == name).sum())] for name in LABELS],
            ),
            plots=["std_ratio_summary", "dimension_categories", "correlation_summary"],
        ),
        Part(
            "The dimensions that differ most",
            table=Table(
                ["dimension", "std, embedding model", "std, text encoder", "factor"],
                [
                    [one.dim, format_number(one.std_a), format_number(one.std_b), format_number(one.factor)]
                    for one in worst_dimensions(donor.std, host.std, _WORST)
                ],
            ),
            plots=["top_outliers"],
        ),
        *_attention_part(attention),
        Part(
            "Outliers of every text, or of some",
            [
                f"Consistent: an outlier in every one of {prompts['prompts']} texts: {prompts['consistent']} dimensions. Specific: in some "
                f"and not in all: {prompts['specific']}. In none: {prompts['none']}. One text has few tokens, so that its standard deviations "
                "are rough: that is why the second number is large."
            ],
        ),
        *_fixes_part(fixes),
        *_images_part(material, shares),
    ]
    return StudyReport(
        answers=_answers(compared, donor, host, counts, fixes, images),
        about=_about(sides, images),
        caveats=_caveats(material, len(sides.donor)),
        parts=parts,
        tables={"dimensions": rows, "fixes": fixes},
        plots=_plots(donor, host, compared),
        data={"classes": counts, "fixes": fixes, "attention": attention, "prompts": prompts},
    )


def _fixes_part(fixes: Sequence[Row]) -> list[Part]:
    if not fixes:
        return []
    text = (
        f"Criteria: cosine above {_COSINE}, correlation of the standard deviations above {_STD} and of the means above {_MEAN}, fewer than "
        f"{_OUTLIERS} outliers, as many dead and hyperactive dimensions as in the text encoder. Fitted on the first half of the corpus."
    )
    table = Table(list(fixes[0]), [list(row.values()) for row in fixes])
    return [Part("Four fixes, judged on texts that they were not fitted on", [text], table)]


def _images_part(material: Material, images: Sequence[Sequence[str]]) -> list[Part]:
    if not material.experiments:
        return []
    text = (
        "Readings that are what the prompt states; intervals of 95 %, prompts resampled."
        if images
        else "No image has been read: the grids are all there is to look at."
    )
    return [
        Part(
            "Images with and without them",
            [text],
            Table(["setting", "follow the prompt"], images) if images else None,
            pictures=[(path, "prompt by setting") for path in material.grid(EXPERIMENT)[:1]],
        )
    ]


def _entries(material: Material) -> list[AnalyzedEncoder]:
    """Returns donor and host."""
    (analysis,) = material.analyses
    entries = {entry.name: entry for entry in material.task(analysis).entries}
    comparison = material.task(analysis).comparisons[0]
    return [entries[comparison.a.entry], entries[comparison.b.entry]]


def _dimension_rows(
    donor: ReferenceStatistics, host: ReferenceStatistics, compared: DimensionComparison
) -> list[Row]:
    rows = []
    for dim in range(donor.channels):
        row: Row = {"dim": dim}
        for side, one, labels in (("donor", donor, compared.label_a), ("host", host, compared.label_b)):
            row |= {
                f"{name}_{side}": float(getattr(one, name)[dim])
                for name in ("mean", "std", "minimum", "maximum", "skewness", "kurtosis")
            }
            row[f"class_{side}"] = str(labels[dim])
        rows.append({**row, "std_ratio": float(compared.ratio[dim])})
    return rows


def _attention(sides: Sides) -> dict[str, Any]:
    """Returns which dimensions differ most where attention would look, over tokens of the prompt, sinks apart.

    A token is looked at as far as the others are alike to it: softmax over tokens of x x^T / sqrt(channels) in the host,
    averaged over the tokens that look. The difference of a dimension is |donor - host| weighted so.
    """
    weight_of_sinks = [
        float(_looked_at(one.states)[find_sinks(one.states, one.roles)].sum()) for one in sides.host
    ]
    total, inputs = None, 0
    for paired in sides.paired():
        looked_at = _looked_at(paired.b)
        rest = ~paired.sinks
        change = (looked_at[rest, None] * np.abs(paired.a[rest].astype(np.float64) - paired.b[rest])).sum(
            axis=0
        )
        total, inputs = change if total is None else total + change, inputs + 1
    if total is None:
        return {"inputs": 0}
    order = np.argsort(-total, kind="stable")[:_WORST]
    return {
        "inputs": inputs,
        "weight of sinks": float(np.mean(weight_of_sinks)),
        "dimensions": {int(dim): float(total[dim] / inputs) for dim in order},
        "share of the largest": float(total[order].sum() / total.sum()),
    }


def _looked_at(states: np.ndarray) -> np.ndarray:
    """Returns how far each token is looked at by the others, float64 (tokens,), 1 in all."""
    values = states.astype(np.float64)
    scores = values @ values.T / np.sqrt(values.shape[1])
    weights = np.exp(scores - scores.max(axis=1, keepdims=True))
    return (weights / weights.sum(axis=1, keepdims=True)).mean(axis=0)


def _attention_part(found: Mapping[str, Any]) -> list[Part]:
    if not found["inputs"]:
        return [Part(_ATTENTION, ["The two encoders have no tokens of the prompt in common."])]
    text = (
        f"A stand-in for the generator's attention, over the tokens of {found['inputs']} prompts that both have. The {len(found['dimensions'])} "
        f"dimensions below hold {100 * found['share of the largest']:.0f} % of the weighted difference. Sink tokens are no tokens of the prompt; "
        f"among all tokens of the text encoder they would have {100 * found['weight of sinks']:.0f} % of the weight."
    )
    rows = [[dim, format_number(value)] for dim, value in found["dimensions"].items()]
    return [Part(_ATTENTION, [text], Table(["dimension", "weighted difference"], rows))]


def _by_prompt(sides: Sides) -> dict[str, int]:
    outliers = []
    for one, other in zip(sides.donor, sides.host, strict=True):
        stds = [_kept(side, with_sinks=False).astype(np.float64).std(axis=0, ddof=1) for side in (one, other)]
        compared = compare_dimensions(*stds)
        ratio = compared.ratio
        outliers.append((ratio > 3) | (ratio < 1 / 3))
    times = np.sum(outliers, axis=0)
    return {
        "prompts": len(outliers),
        "consistent": int((times == len(outliers)).sum()),
        "specific": int(((times > 0) & (times < len(outliers))).sum()),
        "none": int((times == 0).sum()),
    }


def _judge_fixes(fitted: Sides, held_out: Sides) -> list[Row]:
    """Returns a row for each fix, and one without; every number is of the held-out half."""
    import torch

    donor, host = fitted.statistics()
    rows = []
    for entry in transforms("dimension_fix").values():
        states = [one.states for one in held_out.donor]
        if not entry.is_neutral:
            fix = fit_dimension_fix(entry.name, donor, host)
            states = [apply_dimension_fix(torch.from_numpy(one.copy()), fix).numpy() for one in states]
        fixed = Sides(
            [
                ReadInput(state, one.roles, one.token_ids)
                for state, one in zip(states, held_out.donor, strict=True)
            ],
            held_out.host,
        )
        rows.append({"fix": entry.name, **_judge(fixed)})
    return rows


def _judge(sides: Sides) -> Row:
    donor, host = sides.statistics()
    compared = compare_dimensions(donor.std, host.std)
    alike = [cosine(one.a.astype(np.float64), one.b.astype(np.float64)) for one in sides.paired()]
    ratio = compared.ratio
    found = {
        "cosine": float(np.mean(alike)) if alike else float("nan"),
        "std correlation": pearson(donor.std.astype(np.float64), host.std.astype(np.float64)),
        "mean correlation": pearson(donor.mean.astype(np.float64), host.mean.astype(np.float64)),
        "outliers": int(((ratio > 3) | (ratio < 1 / 3)).sum()),
    }
    counts = {
        name: tuple(int((labels == name).sum()) for labels in (compared.label_a, compared.label_b))
        for name in ("dead", "hyperactive")
    }
    met = [
        found["cosine"] > _COSINE,
        found["std correlation"] > _STD,
        found["mean correlation"] > _MEAN,
        found["outliers"] < _OUTLIERS,
        *(own == other for own, other in counts.values()),
    ]
    return {
        **{name: format_number(float(value)) for name, value in found.items()},
        **{name: f"{own}, text encoder {other}" for name, (own, other) in counts.items()},
        "criteria met": f"{sum(met)} of {len(met)}",
    }


def _images(material: Material) -> dict[str, list[Mapping[str, str]]]:
    """Returns setting -> cells that have an image."""
    cells = [row for name in material.experiments for row in material.cells(name) if row["status"] == "done"]
    return {
        _ALONE if role == "baseline" else setting: own
        for (role, setting), own in group(cells, "role", "setting").items()
    }


def _plots(
    donor: ReferenceStatistics, host: ReferenceStatistics, compared: DimensionComparison
) -> dict[str, Chart]:
    both = (donor.std > 0) & (host.std > 0)
    ratio = np.sort(compared.ratio[both])
    log_ratio = [(float(place), float(value)) for place, value in enumerate(ratio)]
    worst = worst_dimensions(donor.std, host.std, _WORST)
    who = ("embedding model", "text encoder")
    return {
        "std_ratio_summary": Chart(
            "How far apart are the standard deviations?",
            [
                f"std of the embedding model over that of the text encoder, {int(both.sum())} dimensions in order"
            ],
            [
                Panel(
                    Axis("dimensions, in order of their ratio"),
                    Axis("ratio", "log"),
                    [Series("ratio", log_ratio, style="points")],
                    [Level("3", [(0.0, 3.0)]), Level("1/3", [(0.0, 1 / 3)])],
                )
            ],
        ),
        "top_outliers": Chart(
            "Which dimensions differ most?",
            ["standard deviations of the dimensions with the largest factor"],
            [
                dot_plot(
                    Panel(
                        Axis("dimension", "category", names=tuple(str(one.dim) for one in worst)),
                        Axis("standard deviation", "log"),
                        [
                            Series(
                                name,
                                [
                                    (float(place), max(getattr(one, std), 1e-6))
                                    for place, one in enumerate(worst)
                                ],
                                style="points",
                            )
                            for name, std in zip(who, ("std_a", "std_b"), strict=True)
                        ],
                    )
                )
            ],
            columns=1,
        ),
        "dimension_categories": _categories(compared, donor.channels),
        "correlation_summary": Chart(
            "Do large dimensions of one stand for large ones of the other?",
            [
                f"Pearson correlation of the standard deviations {pearson(donor.std.astype(float), host.std.astype(float)):.4f}, of the means "
                f"{pearson(donor.mean.astype(float), host.mean.astype(float)):.4f}"
            ],
            [
                Panel(
                    Axis("std, text encoder", "log"),
                    Axis("std, embedding model", "log"),
                    [
                        Series(
                            "dimensions",
                            [
                                (float(b), float(a))
                                for a, b in zip(donor.std[both], host.std[both], strict=True)
                            ],
                            style="points",
                        )
                    ],
                )
            ],
        ),
    }


def _categories(compared: DimensionComparison, channels: int) -> Chart:
    """Returns how many dimensions are out of the ordinary, by kind and by where they are so."""
    kinds = {
        f"{what}, {where}": len(dims)
        for what, side in (("dead", compared.dead), ("hyperactive", compared.hyperactive))
        for where, dims in (
            ("in both", side.common),
            ("in the embedding model alone", side.only_a),
            ("in the text encoder alone", side.only_b),
        )
    } | {
        "outlier, larger in the embedding model": len(compared.outlier.only_a),
        "outlier, larger in the text encoder": len(compared.outlier.only_b),
    }
    most = max(4, *kinds.values())
    series = Series(
        "dimensions",
        [(float(place), float(count)) for place, count in enumerate(kinds.values())],
        style="points",
        labels=[str(count) for count in kinds.values()],
    )
    return Chart(
        "Which dimensions are out of the ordinary, and are they so in both?",
        [
            f"Of {channels}. Dead: a standard deviation below 0.01. Hyperactive: above 5 times the median of its encoder.",
            "Outlier: more than 3 times as large in one encoder as in the other. One dimension can be of several kinds.",
        ],
        [
            dot_plot(
                Panel(
                    Axis("kind", "category", names=tuple(kinds)),
                    Axis("dimensions", limits=(0.0, float(most)), ticks=tuple(map(float, range(most + 1)))),
                    [series],
                )
            )
        ],
        columns=1,
    )


def _answers(
    compared: DimensionComparison,
    donor: ReferenceStatistics,
    host: ReferenceStatistics,
    counts: Mapping[str, int],
    fixes: Sequence[Row],
    images: Mapping[str, list[Mapping[str, str]]],
) -> list[str]:
    alike = pearson(donor.std.astype(float), host.std.astype(float))
    # Not those that are labelled so: a hyperactive dimension is labelled hyperactive alone.
    unlike = len(compared.outlier.only_a) + len(compared.outlier.only_b)
    answers = [
        f"Which dimensions are unlike? {unlike} of {donor.channels} have a standard deviation more than 3 times that in the text encoder, "
        f"or less than a third; {counts['dead']} are dead (they hardly vary) and {counts['hyperactive']} hyperactive (they vary more than 5 times as much as the median). The standard deviations correlate at {alike:.4f}, "
        "which a few large dimensions decide.",
    ]
    if fixes:
        best = max(fixes, key=lambda row: (_met(row), row is fixes[0]))
        met, without, (_, _, every) = _met(best), _met(fixes[0]), best["criteria met"].split()
        verdict = "Yes" if met == int(every) else "In part" if met > without else "No"
        answers.append(
            f"Do the corrections bring them back? {verdict}: on texts that they were not fitted on, {best['criteria met']} criteria of likeness (see "
            f"below) are met with {_named(best)}, and {fixes[0]['criteria met']} without any."
        )
    return answers + _answers_of_images(images)


def _met(row: Row) -> int:
    return int(row["criteria met"].split()[0])


def _named(fix: Row) -> str:
    return "no correction" if fix["fix"] == "none" else f"correction {fix['fix']}"


def _answers_of_images(images: Mapping[str, list[Mapping[str, str]]]) -> list[str]:
    shares = {name: share for name, own in images.items() if (share := _follows(own))}
    plain = shares.get(_PLAIN)
    if plain is None:
        return []
    alone = shares.get(_ALONE)
    beside = f" The text encoder's own: {alone.text}." if alone else ""
    best = max((name for name in shares if name != _ALONE), key=lambda name: shares[name].value)
    answers = [
        f"Do images follow the prompt? As the embedding model was trained to be used ({_PLAIN}: text without a template) in {plain.text} readings. "
        f"The best setting, {best}, in {shares[best].text}.{beside}"
    ]
    fixed = [name for name in shares if name.startswith(_FIX)]
    if fixed:
        most = max(fixed, key=lambda name: shares[name].value)
        found = _gain(images[most], images[_PLAIN])
        seen = found is not None and found.p is not None and found.p < 0.05
        verdict = (
            "It cannot be told"
            if found is None
            else "No"
            if not seen
            else "Yes"
            if found.mean > 0
            else "They hurt"
        )
        gain = (
            f"; a gain of {100 * found.detectable:.0f} points would have been seen"
            if found is not None and found.detectable > 0 and not seen
            else ""
        )
        answers.append(
            f"Do the corrections help images? {verdict}: with the best of them, {most}, the prompt is followed in {shares[most].text} readings{gain}."
        )
    return answers


def _gain(own: Sequence[Mapping[str, str]], plain: Sequence[Mapping[str, str]]) -> PairedDifference | None:
    """Returns by how much more often the prompt is followed, image by image of the same prompt and seed."""
    columns = columns_of(own, _FOLLOWS)
    beside = {(row["prompt"], row["seed"]): row for row in plain}
    values, units = [], []
    for row in own:
        pair = [
            [float(one[column]) for column in columns if one.get(column)]
            for one in (row, beside.get((row["prompt"], row["seed"]), {}))
        ]
        if all(pair):
            values.append(float(np.mean(pair[0]) - np.mean(pair[1])))
            units.append(row["prompt"])
    return paired_difference(values, units)


def _follows(cells: Sequence[Mapping[str, str]]) -> Share | None:
    return share_of(cells, columns_of(cells, _FOLLOWS))


def _texts(sides: Sides) -> str:
    return "one text" if len(sides.donor) == 1 else f"{len(sides.donor)} texts"


def _about(sides: Sides, images: Mapping[str, list[Mapping[str, str]]]) -> str:
    made = sum(map(len, images.values()))
    text = f"Both models read {_texts(sides)}; hidden states at layer {LAYER} are compared dimension by dimension."
    if len(sides.donor) > 1:
        text += " A correction changes the mean or the spread of dimensions, so that they are those of the text encoder."
    return text + (
        f" {made} images were made of the embedding model's states at alpha 1 or 0.5." if made else ""
    )


def _caveats(material: Material, texts: int) -> list[str]:
    few = (
        [
            "One text was read: it shows how the analysis works. study_dimensions reads a corpus, judges corrections, and makes images."
        ]
        if texts < 2
        else []
    )
    if material.family != "miniature":
        return few
    return [
        "The miniature has 128 dimensions, and its embedding model was tuned from the same parent as its text encoder: numbers of "
        "outliers are not those of published models, which have 2560.",
        *few,
    ]


register(
    Study(
        "dimensions",
        "An embedding model in place of the text encoder",
        "An embedding model has the architecture of the generator's text encoder and other training. Which dimensions of its hidden states "
        "are unlike, do four corrections bring them back on texts that they have not seen, and do images follow the prompt then?",
        write,
        experiments=(EXPERIMENT,),
        analyses=(ANALYSIS,),
    )
)
register(
    Study(
        "dimensions_quick",
        "An embedding model in place of the text encoder, on one text",
        "A first look, on a single text and without images: which dimensions of an embedding model's hidden states are unlike those of "
        "the generator's own text encoder?",
        write,
        analyses=(QUICK,),
    )
)
