"""`variants`: two checkpoints of one architecture, compared in hidden states and in images, with the power of the comparison."""

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from graftwork.core.charts import Axis, Chart, Panel, Series
from graftwork.core.tables import Row
from graftwork.studies.material import Material
from graftwork.studies.readings import PairedDifference, columns_of, group, paired_difference
from graftwork.studies.registry import Study, register
from graftwork.studies.report import Part, StudyReport, Table

EXPERIMENT, ANALYSIS = "variants", "instruct_thinking"
# Measures of a comparison that are shown.
_SHOWN = ("linear_cka", "flattened_cosine", "pearson_std", "spearman_std", "median_log_ratio")


# Shares of an image's attributes that are compared, and the columns that they are made of.
_SHARES = {
    "share that follows the prompt": "follows_prompt_",
    "share that follows the reference": "follows_reference_",
}


def write(material: Material) -> StudyReport:
    """Returns the report."""
    proof = _proof(material)
    layers, chart = _layers(material)
    cells = [row for row in material.cells(EXPERIMENT) if row["role"] == "cell" and row["status"] == "done"]
    names = list(dict.fromkeys(row["encoder"] for row in cells))
    found = _differences(cells, names)
    pixels = _pixel_differences(cells, names)
    columns = ["measure", "difference", "detectable", "units", "p"]
    shown = [
        [what, one.text, _detectable(one), one.units, "" if one.p is None else f"{one.p:.3g}"]
        for what, one in found.items()
    ]
    parts = [
        Part("Two different checkpoints were loaded", proof.text, proof.table),
        Part(
            "Images",
            [
                f"Pairs of images that differ in the encoder alone ({' minus '.join(reversed(names))}). Intervals of 95 % and p-values "
                "resample settings of one prompt together. Detectable: a difference that would have been seen in 4 of 5 such "
                "experiments.",
                *pixels,
            ],
            Table(columns, shown) if shown else None,
            strip=_strip(cells, names),
            pictures=[(path, "alpha by setting") for path in material.grid(EXPERIMENT)[:4]],
        ),
        Part(
            "Hidden states, layer by layer",
            [
                "The same texts and pictures read by both. linear_cka and flattened_cosine compare the same tokens one by one, which image "
                "tokens are not paired for; pearson_std and spearman_std correlate the standard deviations of the dimensions, and "
                "median_log_ratio is the middle of |log(std of one / std of the other)|. 1 is equal; for median_log_ratio 0 is."
            ],
            Table(list(layers[0]), [list(row.values()) for row in layers]) if layers else None,
            plots=["layers"] if layers else [],
        ),
    ]
    numbers = [{"measure": what, **vars(one)} for what, one in found.items()]
    return StudyReport(
        answers=[
            answer
            for answer in (_verdict(names, found), *pixels, _states_answer(layers), *proof.text[:1])
            if answer
        ],
        about=_about(cells),
        caveats=_caveats(material, cells),
        parts=parts,
        tables={"layers": layers, "differences": numbers},
        plots={"layers": chart} if layers else {},
        data={"layers": layers, "differences": numbers},
    )


def _about(cells: Sequence[Mapping[str, str]]) -> str:
    counted = {name: len({row.get(name) for row in cells}) for name in ("prompt", "setting", "alpha")}
    return (
        f"{len(cells)} images: {counted['prompt']} prompts, {counted['setting']} settings (layer and tokens) and {counted['alpha']} values of alpha, "
        "each with the hidden states of the one checkpoint and of the other, everything else equal."
    )


def _strip(cells: Sequence[Mapping[str, str]], names: Sequence[str]) -> list[tuple[str, str]]:
    """Returns the images of the pair whose pixels differ most."""
    pairs = _pairs(cells, names)
    if not pairs:
        return []
    furthest = max(pairs, key=lambda pair: _pixel_distance(*pair))
    where = f"{furthest[0]['setting']}, alpha {furthest[0]['alpha']}"
    return [
        (f"{row['encoder']}: the pair that differs most ({where})", f"../../../{row['image']}")
        for row in furthest
    ]


def _detectable(one: PairedDifference) -> str:
    """Returns the difference that would have been seen; pairs that are all equal say nothing of it."""
    return f"{one.detectable:.3f}" if one.detectable > 0 else "not known"


def _proof(material: Material) -> Part:
    wanted = [material.roles.get(role) for role in ("vl", "vl-thinking")]
    models = [model for model in material.models if model.kind == "encoder" and model.name in wanted]
    differ = len({model.identity for model in models}) == len(models) > 1
    text = [
        f"{' and '.join(model.name for model in models)} are {'two different checkpoints' if differ else 'THE SAME CHECKPOINT'}: their "
        f"identities, which cover weights, configuration and tokenizer, {'differ' if differ else 'are equal'}."
    ]
    return Part("", text, Table(["encoder", "identity"], [[model.name, model.identity] for model in models]))


def _layers(material: Material) -> tuple[list[Row], Chart]:
    rows: list[Row] = []
    for comparison in material.task(ANALYSIS).comparisons:
        values = material.comparison(ANALYSIS, comparison.name)
        names = [name for name in _SHOWN if name in values]
        rows.append(
            {
                "layer": comparison.a.hidden_layer,
                "tokens": comparison.a.tokens,
                **{name: f"{values[name]:.4f}" for name in names},
            }
        )
    columns = list(dict.fromkeys(name for row in rows for name in row))
    rows = [{name: row.get(name) for name in columns} for row in rows]
    panels = []
    for name in columns[2:]:
        series = [
            Series(
                tokens,
                sorted(
                    (float(row["layer"]), float(row[name]))
                    for row in rows
                    if row["tokens"] == tokens and row[name]
                ),
            )
            for tokens in dict.fromkeys(row["tokens"] for row in rows)
            if any(row["tokens"] == tokens and row[name] for row in rows)
        ]
        panels.append(Panel(Axis("layer"), Axis(name.replace("_", " ")), series))
    chart = Chart(
        "How alike are the hidden states of the two?",
        ["By layer, and by token class"],
        panels[:6] or [Panel(Axis("layer"), Axis(""))],
    )
    return rows, chart


def _pairs(
    cells: Sequence[Mapping[str, str]], names: Sequence[str]
) -> list[tuple[Mapping[str, str], Mapping[str, str]]]:
    """Returns the cells of the first encoder beside those of the second that have everything else in common."""
    place = ("prompt", "reference", "seed", "alpha", "setting")
    found = group(cells, *place)
    pairs = []
    for rows in found.values():
        by_encoder = {row["encoder"]: row for row in rows}
        if len(by_encoder) == len(names) == 2:
            pairs.append((by_encoder[names[0]], by_encoder[names[1]]))
    return pairs


def _differences(cells: Sequence[Mapping[str, str]], names: Sequence[str]) -> dict[str, PairedDifference]:
    found = {}
    for what, prefix in _SHARES.items():
        columns = columns_of(cells, prefix)
        differences, units = [], []
        for one, two in _pairs(cells, names):
            shares = [[float(row[column]) for column in columns if row[column]] for row in (one, two)]
            if all(shares):
                differences.append(float(np.mean(shares[1]) - np.mean(shares[0])))
                units.append((one["prompt"], one["setting"]))
        paired = paired_difference(differences, units)
        if paired is not None:
            found[what] = paired
    return found


def _pixel_distance(one: Mapping[str, str], two: Mapping[str, str]) -> float:
    """Returns the mean absolute difference of two images, as a share of the range of values."""
    from graftwork.models.images import read_image

    first, second = (np.asarray(read_image(Path(row["image"])), dtype=np.float64) for row in (one, two))
    return float(np.abs(first - second).mean()) / 255


def _pixel_differences(cells: Sequence[Mapping[str, str]], names: Sequence[str]) -> list[str]:
    """Returns how far apart the images of a pair are, beside those of one encoder at neighbouring values of alpha."""
    pairs = _pairs(cells, names)
    if not pairs:
        return []
    values = [_pixel_distance(one, two) for one, two in pairs]
    moved = sum(one["image"] != two["image"] for one, two in pairs)
    beside = [_pixel_distance(one, two) for one, two in _neighbours(cells)]
    scale = (
        f", images of one checkpoint at neighbouring values of alpha by {np.mean(beside):.3f}"
        if beside
        else ""
    )
    return [
        f"Do the pixels differ? In {moved} of {len(pairs)} pairs, by {np.mean(values):.3f} of the range of values on average (from {min(values):.3f} to "
        f"{max(values):.3f}){scale}."
    ]


def _neighbours(
    cells: Sequence[Mapping[str, str]],
) -> list[tuple[Mapping[str, str], Mapping[str, str]]]:
    """Returns pairs of cells of one encoder whose alpha is a value and the next one."""
    pairs = []
    for rows in group(cells, "encoder", "prompt", "reference", "seed", "setting").values():
        ordered = sorted(rows, key=lambda row: float(row["alpha"]))
        pairs += list(itertools.pairwise(ordered))
    return pairs


def _verdict(names: Sequence[str], found: Mapping[str, PairedDifference]) -> str:
    if not found:
        return "Does it matter for the images? No score is there to compare them by."
    seen = [what for what, one in found.items() if one.p is not None and one.p < 0.05]
    said = "; ".join(f"the {what} differs by {_in_words(one)}" for what, one in found.items())
    if seen:
        return f"Does it matter for the images? Yes, {' and '.join(names)} condition the generator differently: {said}."
    return f"Does it matter for the images? No difference is seen in what they follow: {said}."


def _in_words(one: PairedDifference) -> str:
    if one.detectable > 0:
        return f"{one.text}, and {one.detectable:.2f} would have been seen in 4 of 5 such experiments"
    if one.detectable == 0 and one.mean == 0:
        return f"nothing in any of {one.n} pairs, so that it is not known what would have been seen"
    return one.text


def _states_answer(layers: Sequence[Row]) -> str:
    """Returns what is said of hidden states at the layer that is used most, -2, or the first one."""
    if not layers:
        return ""
    layer = next((row["layer"] for row in layers if row["layer"] == -2), layers[0]["layer"])
    said = []
    for row in layers:
        if row["layer"] == layer:
            shown = ", ".join(
                f"{word} {row[name]}"
                for name, word in (
                    ("linear_cka", "CKA"),
                    ("pearson_std", "correlation of standard deviations"),
                )
                if row.get(name)
            )
            said.append(f"{row['tokens']} tokens {shown}")
    return f"Are the hidden states alike? At layer {layer}, where 1 is equal: {'; '.join(said)}."


def _caveats(material: Material, cells: Sequence[Mapping[str, str]]) -> list[str]:
    prompts = len({row["prompt"] for row in cells})
    few = f"There are {prompts} prompts. Intervals are over settings of these, and say nothing of other prompts."
    if material.family != "miniature":
        return [few]
    return [
        "The two miniature checkpoints were trained on the same tasks from the same parent, and differ in a thought before the answer. "
        "That they are alike or not says nothing of the published ones.",
        few,
    ]


register(
    Study(
        "variants",
        "Instruct against Thinking",
        "Two checkpoints of one vision-language model, one tuned to answer (Instruct) and one to think first (Thinking), read a prompt "
        "beside a picture, and an image is generated from their hidden states. Does it matter which of the two it is, and how "
        "small a difference would have been seen?",
        write,
        experiments=(EXPERIMENT,),
        analyses=(ANALYSIS,),
    )
)
