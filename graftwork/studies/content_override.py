"""`content_override`: what of an image follows the prompt, the reference, or neither, against noise and words."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from graftwork.core.cells import CONTROL
from graftwork.core.charts import Axis, Chart, Panel, Series, dot_plot
from graftwork.core.tables import Row
from graftwork.design.cells import Design
from graftwork.studies.material import Material
from graftwork.studies.readings import (
    Cells,
    PairedDifference,
    Share,
    columns_of,
    paired_difference,
    share_of,
)
from graftwork.studies.registry import Study, register
from graftwork.studies.report import Part, StudyReport, Table

EXPERIMENT = "content_override"
# Settings of the experiment that the questions at the top are about.
_TEXT, _ALL, _MASKED = "text_tokens", "all_tokens", "all_tokens_masked"
_LAYERS = "text_tokens_layer_"
_SELF, _WORDS, _NOISE = "none", "words", "noise"
_PROMPT, _REFERENCE = "follows_prompt_", "follows_reference_"
# What a prompt of the experiment may leave to the reference.
_BACKGROUND = ("background", "texture")
_LEVEL = 0.05


@dataclass(frozen=True)
class Measure:
    """A share of readings.

    Attributes:
        name: key in tables and name of its plot.
        heading: what it is, for people.
        asks: title of its plot.
        columns: names of columns of the cells -> those that are counted.
        counts: (row, column) -> whether a reading counts.
    """

    name: str
    heading: str
    asks: str
    columns: Callable[[Cells], list[str]]
    counts: Callable[[Mapping[str, str], str], bool] = lambda row, column: True

    def of(self, cells: Cells) -> Share | None:
        """Returns the share over cells; None where nothing was read."""
        columns = self.columns(cells)
        return share_of([{**row, **self._left_out(row, columns)} for row in cells], columns)

    def mean(self, row: Mapping[str, str]) -> float | None:
        """Returns the share of one cell; None where nothing of it counts."""
        found = [
            float(row[column]) for column in self.columns([row]) if row[column] and self.counts(row, column)
        ]
        return float(np.mean(found)) if found else None

    def _left_out(self, row: Mapping[str, str], columns: Sequence[str]) -> dict[str, str]:
        return {column: "" for column in columns if not self.counts(row, column)}


def _states(row: Mapping[str, str], column: str) -> bool:
    """Whether the prompt says something of the attribute of a column."""
    return bool(row.get(_PROMPT + column.removeprefix(_REFERENCE)))


def _backgrounds(cells: Cells) -> list[str]:
    return columns_of(cells, _REFERENCE, _BACKGROUND)


MEASURES = (
    Measure(
        "prompt",
        "follows the prompt",
        "How often does the image follow the prompt?",
        lambda cells: columns_of(cells, _PROMPT),
    ),
    Measure(
        "open",
        "background of the picture, where the prompt names none",
        "How often does the picture fill what the prompt leaves open?",
        _backgrounds,
        lambda row, column: not _states(row, column),
    ),
    Measure(
        "override",
        "background of the picture, where the prompt names another",
        "How often does the picture override the prompt?",
        _backgrounds,
        _states,
    ),
)
_KEPT, _OPEN, _OVERRIDE = MEASURES


@dataclass(frozen=True)
class Places:
    """The cells of the experiment by where they are.

    Attributes:
        cells: (setting, control) -> place among prompts, references and seeds -> row. A control that settings share is there
            once for each.
        text_alone: rows of baselines.
    """

    cells: Mapping[tuple[str, str], Mapping[Hashable, Mapping[str, str]]]
    text_alone: Sequence[Mapping[str, str]] = field(default=())

    @property
    def settings(self) -> list[str]:
        """Settings in their order."""
        return list(dict.fromkeys(setting for setting, _ in self.cells))

    def rows(self, setting: str, control: str = _SELF) -> list[Mapping[str, str]]:
        """Returns the cells of a setting, or of its control."""
        return list(self.cells.get((setting, control), {}).values())

    def share(self, measure: Measure, setting: str, control: str = _SELF) -> Share | None:
        """Returns a share over the cells of a setting, or of its control."""
        return measure.of(self.rows(setting, control))

    def difference(
        self, measure: Measure, one: tuple[str, str], other: tuple[str, str]
    ) -> PairedDifference | None:
        """Returns by how much a share is larger in one (setting, control) than in another, pair by pair."""
        beside = self.cells.get(other, {})
        values, units = [], []
        for place, row in self.cells.get(one, {}).items():
            pair = [measure.mean(row), measure.mean(beside[place])] if place in beside else [None]
            if None not in pair:
                values.append(pair[0] - pair[1])
                units.append(row["prompt"])
        return paired_difference(values, units)


def write(material: Material) -> StudyReport:
    """Returns the report."""
    places = _places(material.designs[EXPERIMENT], {row["cell"]: row for row in material.cells(EXPERIMENT)})
    rows = _rows(places)
    is_read = any(places.share(measure, setting) for measure in MEASURES for setting in places.settings)
    parts = [
        *_example(material, places),
        Part(
            "Every setting",
            [
                "Shares of readings, with 95 % intervals that resample prompts. In brackets what noise does that changes each token as "
                "far as the setting, in a random direction. words: the generator is shown the prompt with the picture put into "
                "words, and no hidden states of another encoder."
            ],
            Table(list(rows[0]), [list(row.values()) for row in rows]) if is_read else None,
            plots=[measure.name for measure in MEASURES] if is_read else [],
        ),
        *_attribute_part(places),
        Part(
            "Grid of one prompt",
            pictures=[(path, "control by setting") for path in material.grid(EXPERIMENT)[:1]],
        ),
    ]
    return StudyReport(
        answers=_answers(places) if is_read else [_UNSCORED],
        about=_about(places),
        caveats=_caveats(material, places),
        parts=parts,
        tables={"settings": _csv_rows(places)},
        plots={measure.name: _chart(measure, places) for measure in MEASURES} if is_read else {},
        data={"settings": _csv_rows(places)},
    )


_UNSCORED = (
    "No image of this experiment has been read: its scores are those of the miniature world, or its images are missing. The grids "
    "below are all there is to look at; add scores to config/experiments/content_override.yaml and run this again."
)


def _places(design: Design, row_of: Mapping[str, Mapping[str, str]]) -> Places:
    axes = {axis.name: (place, axis) for place, axis in enumerate(design.axes)}
    varied = [axes[name][0] for name in ("setting", CONTROL) if name in axes]
    found: dict[tuple[str, str], dict[Hashable, Mapping[str, str]]] = {}
    for indices, cell in design.positions:
        setting, control = (axes[name][1].labels[indices[axes[name][0]]] for name in ("setting", CONTROL))
        place = tuple(index for number, index in enumerate(indices) if number not in varied)
        found.setdefault((setting, control), {})[place] = row_of[cell]
    return Places(found, [row for row in row_of.values() if row["role"] == "baseline"])


def _about(places: Places) -> str:
    rows = places.rows(_TEXT) or next(iter(map(places.rows, places.settings)), [])
    prompts = dict.fromkeys(row["prompt"] for row in rows)
    open_ones = {row["prompt"] for row in rows if _OPEN.mean(row) is not None}
    references = {row.get("reference", "") for row in rows}
    return (
        f"{len(prompts)} prompts, {len(open_ones)} of which name no background, each beside {len(references)} pictures, in {len(places.settings)} "
        "settings. A setting says which hidden states of the vision-language model take the place of the text encoder's: those of "
        "the text tokens alone, which stand behind the picture and may have read it, or those of image tokens too. A reading is "
        "one attribute of one image, such as the colour of the background."
    )


def _example(material: Material, places: Places) -> list[Part]:
    """Returns a strip of images of the first prompt that names no background, or of the first one."""
    own = places.cells.get((_TEXT, _SELF), {})
    order = sorted(own, key=lambda place: _OPEN.mean(own[place]) is None)
    if not order:
        return []
    row = own[order[0]]
    alone = next((one for one in places.text_alone if one["prompt"] == row["prompt"]), None)
    shown = [
        ("text alone", alone),
        ("text tokens", row),
        ("all tokens", places.cells.get((_ALL, _SELF), {}).get(order[0])),
        ("noise as large as text tokens", places.cells.get((_TEXT, _NOISE), {}).get(order[0])),
        ("words", places.cells.get((_TEXT, _WORDS), {}).get(order[0])),
    ]
    strip = [
        (heading, f"../../../{one['image']}")
        for heading, one in shown
        if one is not None and one.get("image")
    ]
    picture = material.designs[EXPERIMENT].references.get(row.get("reference_sha256", ""))
    if picture:
        strip.insert(1, ("the picture", f"../../../{picture}"))
    return [Part("One prompt", [f"{row['prompt']}"], strip=strip)] if strip else []


def _rows(places: Places) -> list[Row]:
    rows: list[Row] = [
        {
            "setting": setting,
            **{
                measure.heading: _beside(
                    places.share(measure, setting), places.share(measure, setting, _NOISE)
                )
                for measure in MEASURES
            },
        }
        for setting in places.settings
    ]
    if words := places.rows(_TEXT, _WORDS):
        rows.append({"setting": "words", **{one.heading: _beside(one.of(words), None) for one in MEASURES}})
    if kept := _KEPT.of(places.text_alone):
        rows.append(
            {"setting": "the text alone", **{one.heading: None for one in MEASURES}, _KEPT.heading: kept.text}
        )
    return rows


def _beside(share: Share | None, noise: Share | None) -> str | None:
    if share is None:
        return None
    return share.text + (f" [{noise.follows} of {noise.n}]" if noise else "")


def _csv_rows(places: Places) -> list[Row]:
    return [
        {"setting": setting, "control": control, **_counted(places, setting, control)}
        for setting, control in places.cells
    ]


def _counted(places: Places, setting: str, control: str) -> Row:
    row: Row = {}
    for measure in MEASURES:
        share = places.share(measure, setting, control)
        for name in ("follows", "n", "low", "high"):
            row[f"{measure.name}_{name}"] = None if share is None else getattr(share, name)
    return row


def _chart(measure: Measure, places: Places) -> Chart:
    settings = places.settings
    series = []
    for control, label in ((_SELF, "the setting"), (_NOISE, "noise of the same size"), (_WORDS, "words")):
        shares = [(place, places.share(measure, setting, control)) for place, setting in enumerate(settings)]
        own = [(place, share) for place, share in shares if share]
        if own:
            points = [(float(place), share.value) for place, share in own]
            series.append(
                Series(label, points, [(share.low, share.high) for _, share in own], style="points")
            )
    panel = Panel(
        Axis("setting", "category", names=tuple(settings)),
        Axis(f"readings: {measure.heading}", "percent", (0.0, 1.0)),
        series,
    )
    return Chart(
        title=measure.asks,
        subtitle=["A setting that is where its noise is does no more than any disturbance would."],
        panels=[dot_plot(panel)],
        columns=1,
        footer=["Bars: 95 % intervals, prompts resampled."],
    )


def _attribute_part(places: Places) -> list[Part]:
    cells = places.rows(_TEXT)
    rows = []
    for attribute in (name.removeprefix(_REFERENCE) for name in columns_of(cells, _REFERENCE)):
        row: list[object] = [attribute]
        for setting, control in ((_TEXT, _SELF), (_ALL, _SELF), (_TEXT, _WORDS)):
            row += [
                _of_attribute(measure, attribute, places.rows(setting, control))
                for measure in _of_every_attribute()
            ]
        rows.append(row)
    if not rows:
        return []
    columns = ["attribute"]
    for name in ("text tokens", "all tokens", "words"):
        columns += [f"{name}: prompt kept", f"{name}: picture where open", f"{name}: picture over prompt"]
    text = (
        "At alpha 1 and layer -2. Prompt kept: what the prompt states is there. Picture where open: the prompt says nothing, and "
        "the picture's value is there. Picture over prompt: the prompt states another value."
    )
    return [Part("Attribute by attribute", [text], Table(columns, rows))]


def _of_every_attribute() -> tuple[Measure, ...]:
    def of_reference(cells: Cells) -> list[str]:
        return columns_of(cells, _REFERENCE)

    return (
        _KEPT,
        Measure("open", "", "", of_reference, _OPEN.counts),
        Measure("override", "", "", of_reference, _OVERRIDE.counts),
    )


def _of_attribute(measure: Measure, attribute: str, cells: Cells) -> str | None:
    columns = [
        name for name in measure.columns(cells) if name in (_PROMPT + attribute, _REFERENCE + attribute)
    ]
    share = Measure("", "", "", lambda _: columns, measure.counts).of(cells)
    return f"{share.follows} of {share.n}" if share else None


def _answers(places: Places) -> list[str]:
    answers = (
        _do_text_tokens_carry(places),
        _does_it_override(places),
        _which_layer(places),
        _does_masking_help(places),
        _more_than_words(places),
    )
    return [line for line in answers if line]


def _verdict(found: PairedDifference | None, yes: str = "Yes", no: str = "No") -> str:
    """Returns an answer from a paired difference."""
    if found is None or found.p is None:
        return "It cannot be told"
    if found.p < _LEVEL:
        return yes if found.mean > 0 else no
    # No difference is an answer only where one that matters would have been seen.
    return no if found.mean <= 0 or found.detectable < 0.2 else "It cannot be told"


def _do_text_tokens_carry(places: Places) -> str:
    own, noise = places.share(_OPEN, _TEXT), places.share(_OPEN, _TEXT, _NOISE)
    if own is None or noise is None:
        return ""
    verdict = _verdict(places.difference(_OPEN, (_TEXT, _SELF), (_TEXT, _NOISE)))
    return (
        f"Do text tokens that stand behind a picture carry it? {verdict}. Where the prompt names no background, the picture's is in the "
        f"image in {own.text} readings with the text tokens alone (alpha 1, layer -2), and in {noise.text} under noise of the same size."
    )


def _does_it_override(places: Places) -> str:
    own, noise = places.share(_OVERRIDE, _TEXT), places.share(_OVERRIDE, _TEXT, _NOISE)
    kept, everything = places.share(_KEPT, _TEXT), places.share(_KEPT, _ALL)
    if own is None or noise is None or kept is None:
        return ""
    verdict = _verdict(places.difference(_OVERRIDE, (_TEXT, _SELF), (_TEXT, _NOISE)))
    beside = f" With image tokens too it is followed in {everything.text}." if everything else ""
    return (
        f"Does the picture override the prompt? {verdict}. Where the prompt names another background, the picture's is there in {own.text} "
        f"readings with the text tokens alone, and in {noise.text} under noise. The prompt is followed in {kept.text}.{beside}"
    )


def _which_layer(places: Places) -> str:
    layers = {"-2": _TEXT} | {
        setting.removeprefix(_LAYERS): setting for setting in places.settings if setting.startswith(_LAYERS)
    }
    shares = {layer: places.share(_OPEN, setting) for layer, setting in layers.items()}
    shares = {layer: share for layer, share in shares.items() if share}
    if not shares:
        return ""
    best = max(shares, key=lambda layer: shares[layer].value)
    others = ", ".join(
        f"layer {layer} {share.follows} of {share.n}" for layer, share in shares.items() if layer != best
    )
    return f"At which layer? Most from layer {best}, {shares[best].text} of the open backgrounds; {others}."


def _does_masking_help(places: Places) -> str:
    plain, masked = places.share(_KEPT, _ALL), places.share(_KEPT, _MASKED)
    if plain is None or masked is None:
        return ""
    found = places.difference(_KEPT, (_MASKED, _SELF), (_ALL, _SELF))
    verdict = _verdict(found)
    return (
        f"Does masking outlier dimensions help, where image tokens are blended in too? {verdict}: the prompt is followed in {masked.text} "
        f"readings with masking, and in {plain.text} without"
        + (f"; a gain of {100 * found.detectable:.0f} points would have been seen." if found else ".")
    )


def _more_than_words(places: Places) -> str:
    shares = {setting: places.share(_OPEN, setting) for setting in places.settings}
    shares = {setting: share for setting, share in shares.items() if share}
    said, kept = places.share(_OPEN, _TEXT, _WORDS), places.share(_KEPT, _TEXT, _WORDS)
    if not shares or said is None or kept is None:
        return ""
    best = max(shares, key=lambda setting: shares[setting].value)
    verdict = _verdict(places.difference(_OPEN, (best, _SELF), (best, _WORDS)))
    return (
        f"Is a graft worth more than words? {verdict}, where the background is open: the best setting, {best}, shows the picture's in "
        f"{shares[best].text} readings and keeps the prompt in {places.share(_KEPT, best).text}. The prompt with the picture in words shows it in "
        f"{said.text} and keeps the prompt in {kept.text}."
    )


def _caveats(material: Material, places: Places) -> list[str]:
    prompts = {row["prompt"] for row in places.rows(_TEXT)}
    few = f"There are {len(prompts)} prompts, and intervals over so few are rough."
    if material.family != "miniature":
        return [few]
    return [
        "The miniature was trained so that a prompt that leaves the background open takes it from the picture. So that it does says "
        "that the measures work; whether published models do is seen with family: published in config/config.yaml.",
        "It was not trained on image tokens in place of text, and has no outliers of the published size: what image tokens and "
        "masking do here is no forecast.",
        few,
    ]


register(
    Study(
        "content_override",
        "Does the picture override the prompt?",
        "A vision-language model reads a prompt beside a picture, and an image is generated from its hidden states in place of those of "
        "the generator's own text encoder, which has seen the prompt alone. What of the image follows the prompt, what the "
        "picture, and would noise of the same size, or the picture put into words, have done the same?",
        write,
        experiments=(EXPERIMENT,),
    )
)
