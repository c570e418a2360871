"""`models`: configurations of encoders and generators side by side, and what follows from them."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from graftwork.core.labels import format_value
from graftwork.core.tables import Row
from graftwork.models.description import encoder_folders
from graftwork.models.families import CaptionNormWeight, GeneratorFacts, encoder_family, generator_family
from graftwork.models.prompts import chat_renderer
from graftwork.studies.material import Material, ModelFiles
from graftwork.studies.registry import Study, register
from graftwork.studies.report import Part, StudyReport, Table

_PROMPT = "a red apple"
# Section of config.json -> parameters, in the words of the library.
_LANGUAGE = (
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "intermediate_size",
    "hidden_act",
    "vocab_size",
)
_ROPE = ("rope_theta", "mrope_section", "mrope_interleaved")
_VISION = (
    "depth",
    "hidden_size",
    "out_hidden_size",
    "patch_size",
    "spatial_merge_size",
    "deepstack_visual_indexes",
)
# Rows of the table of generators.
_SEEN = ("layers", "width of each", "scale of a token", "padding", "longest caption")
_SIDES = (64, 256, 512, 1024)


def compare_models(material: Material) -> StudyReport:
    """Returns the report on every model of config/models.yaml that is on this machine."""
    here = [model for model in material.models if model.folder is not None]
    encoders = [model for model in here if model.kind == "encoder"]
    generators = [model for model in here if model.kind == "generator"]
    configs = {model.name: _language_config(model) for model in encoders}
    facts = {model.name: _generator_facts(model) for model in generators}
    language = _side_by_side(configs, _LANGUAGE)
    rope = _side_by_side({name: _rope_config(config) for name, config in configs.items()}, _ROPE)
    towers = {
        model.name: tower for model in encoders if (tower := _encoder_config(model).get("vision_config"))
    }
    vision = _side_by_side(towers, _VISION)
    vocabularies = {model.name: _vocabulary(model) for model in encoders}
    rendered = {model.name: _rendered(model) for model in encoders}
    parts = [
        Part(
            "Generators",
            ["The hidden states that each takes from its own text encoder, which a blend changes."],
            _table(_side_by_side({name: _seen(one) for name, one in facts.items()}, _SEEN)),
        ),
        Part("Language models", ["One row for each parameter of config.json."], _table(language)),
        Part(
            "Rotary embedding",
            ["The base, and how M-RoPE shares out the dimensions among time, height and width."],
            _table(rope),
        ),
        Part(
            "Vision towers",
            [
                "An image token stands for spatial_merge_size x spatial_merge_size patches of patch_size pixels."
            ]
            if towers
            else ["No encoder here takes images."],
            _table(vision) if towers else None,
        ),
        *_token_arithmetic([model for model in encoders if model.name in towers]),
        Part(
            "What each encoder is shown",
            [f'The chat template around the prompt "{_PROMPT}"; every line break is shown.'],
            code=[f"{name}: {text}" for name, text in rendered.items()],
        ),
        Part(
            "Tokenizers",
            [
                "Equal vocabularies give equal texts equal token ids. Added at the end: what the tokenizer puts after a text without a template."
            ],
            Table(
                ["encoder", "vocabulary", "added at the end"],
                [
                    [name, _same_as(name, vocabularies), added or "nothing"]
                    for name, (_, added) in vocabularies.items()
                ],
            ),
        ),
    ]
    absent = [model for model in material.models if model.folder is None]
    return StudyReport(
        answers=_answers(configs, vocabularies, rendered, towers, facts),
        about=(
            f"Read from the files of {len(encoders)} encoders and {len(generators)} generators, without running one. An encoder makes one vector "
            "for each token of a text, or of a picture, after each of its layers: hidden states. A generator reads those of one layer, or of "
            "a few, from the encoder that it was trained with, its text encoder."
        ),
        caveats=[
            f"{len(absent)} models of config/models.yaml are not on this machine: "
            f"{', '.join(model.name for model in absent)}. Nothing is said of them; download them, and run this again."
        ]
        if absent
        else [],
        parts=parts,
        tables={"language_models": language, "rope": rope, "vision_towers": vision},
        data={"language_models": language, "rope": rope, "vision_towers": vision, "tokenizers": vocabularies},
    )


def _encoder_config(model: ModelFiles) -> dict[str, Any]:
    return model.config(*filter(None, [model.entry.get("subfolder")]), "config.json")


def _language_config(model: ModelFiles) -> dict[str, Any]:
    config = _encoder_config(model)
    return config.get("text_config", config)


def _rope_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the parameters of the rotary embedding, which older files keep elsewhere."""
    inside = config.get("rope_parameters") or config.get("rope_scaling") or {}
    return {name: inside.get(name, config.get(name)) for name in _ROPE}


def _side_by_side(configs: Mapping[str, Mapping[str, Any]], names: Sequence[str]) -> list[Row]:
    rows = []
    for name in names:
        values = {model: config.get(name) for model, config in configs.items()}
        texts = {model: "none" if value is None else format_value(value) for model, value in values.items()}
        rows.append(
            {"parameter": name, **texts, "same in all": "yes" if len(set(texts.values())) == 1 else "no"}
        )
    return rows


def _table(rows: Sequence[Row]) -> Table | None:
    return Table(list(rows[0]), [list(row.values()) for row in rows]) if rows else None


def _generator_facts(model: ModelFiles) -> GeneratorFacts:
    return generator_family(model.entry["family"]).read_facts(model.folder, model.entry)


def _seen(facts: GeneratorFacts) -> dict[str, Any]:
    captions = generator_family(facts.family).captions
    hidden = isinstance(captions.first_layer, CaptionNormWeight)
    return {
        "layers": list(facts.conditioning_layers),
        "width of each": facts.caption_channels,
        "scale of a token": "hidden by a norm" if hidden else "seen",
        "padding": captions.padding,
        "longest caption": facts.max_caption_tokens,
    }


def _vocabulary(model: ModelFiles) -> tuple[str, str]:
    """Returns the digest of what decides the token ids of a text, and the tokens that are added after it."""
    file = encoder_folders(model.entry, model.folder or Path())[1] / "tokenizer.json"
    if not file.is_file():
        return "", ""
    content = json.loads(file.read_text(encoding="utf-8"))
    decides = {key: content.get(key) for key in ("normalizer", "pre_tokenizer", "model", "added_tokens")}
    return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest(), ", ".join(
        _added(content)
    )


def _added(tokenizer: Mapping[str, Any]) -> list[str]:
    """Returns the special tokens after a single text."""
    processor = tokenizer.get("post_processor") or {}
    for one in processor.get("processors", [processor]):
        pieces = one.get("single", [])
        if isinstance(pieces, list) and {"Sequence": {"id": "A", "type_id": 0}} in pieces:
            after = pieces[pieces.index({"Sequence": {"id": "A", "type_id": 0}}) + 1 :]
            return [piece["SpecialToken"]["id"] for piece in after if "SpecialToken" in piece]
    return []


def _rendered(model: ModelFiles) -> str:
    try:
        text = chat_renderer(encoder_folders(model.entry, model.folder or Path())[1])(_PROMPT, None)
    except ValueError as error:
        return f"no chat template ({error})"
    return text.replace("\n", "\\n")


def _token_arithmetic(encoders: Sequence[ModelFiles]) -> list[Part]:
    if not encoders:
        return []
    rows = []
    for model in encoders:
        family = encoder_family(model.entry["family"])
        facts = family.read_facts(*encoder_folders(model.entry, model.folder or Path()))
        side = facts.patch_size * facts.spatial_merge_size
        rows += [
            [
                model.name,
                f"{pixels} x {pixels}",
                f"{side} pixels",
                (pixels // side) ** 2,
                family.image_tokens(facts, pixels, pixels),
            ]
            for pixels in _SIDES
        ]
    text = (
        "A square image of W pixels becomes (W // s) x (W // s) tokens, s the side of an image token, as long as the image "
        "processor does not shrink or enlarge it: the last column is what the processor makes of it."
    )
    return [
        Part(
            "Tokens of an image",
            [text],
            Table(["encoder", "image", "side of a token", "(W // s) x (H // s)", "tokens"], rows),
        )
    ]


def _answers(
    configs: Mapping[str, Mapping[str, Any]],
    vocabularies: Mapping[str, tuple[str, str]],
    rendered: Mapping[str, str],
    towers: Mapping[str, Any],
    facts: Mapping[str, GeneratorFacts],
) -> list[str]:
    shapes = _side_by_side(configs, _LANGUAGE)
    other = [str(row["parameter"]) for row in shapes if row["same in all"] == "no"]
    answers = _fitting(facts, configs)
    answers.append(
        f"Sizes that are the same in all {len(configs)} encoders: "
        + (", ".join(str(row["parameter"]) for row in shapes if row["same in all"] == "yes") or "nothing")
        + (
            f". Different: {', '.join(other)}."
            if other
            else ". So layer n of one can be compared with layer n of another, dimension by dimension."
        )
    )
    answers.append(_rope_answer(configs))
    answers.append(_token_answer(vocabularies))
    if len(set(rendered.values())) > 1:
        first = next(iter(rendered))
        odd = [name for name, text in rendered.items() if text != rendered[first]]
        answers.append(
            f"The chat template of {_listed(odd)} is not that of {first}, so that there are other tokens around the prompt, and "
            "another number of them. The parameter length_matching of an experiment says what happens to it."
        )
    if towers:
        answers.append(
            f"{_listed(towers)} take images: a vision tower makes tokens of the width of the language model, which stand among "
            "those of the text. The others take text alone."
        )
    return [answer for answer in answers if answer]


def _fitting(facts: Mapping[str, GeneratorFacts], configs: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Returns, for each width that generators take, which encoders have it."""
    by_width: dict[int, list[str]] = {}
    for name, one in facts.items():
        layers = list(one.conditioning_layers)
        taken = f"{'layer' if len(layers) == 1 else 'layers'} {', '.join(map(str, layers))}"
        by_width.setdefault(one.caption_channels, []).append(f"{name} ({taken} of its text encoder)")
    answers = []
    for width, takers in by_width.items():
        fitting = [encoder for encoder, config in configs.items() if config.get("hidden_size") == width]
        possible = f"Yes, with {_listed(fitting)}" if fitting else "No encoder here fits"
        answers.append(
            f"Can it be done? {possible}. {_listed(takers)} read{'s' if len(takers) == 1 else ''} hidden states of width {width}. An equal width makes "
            "it possible; whether the numbers mean the same is what the experiments ask."
        )
    return answers


def _same_as(name: str, vocabularies: Mapping[str, tuple[str, str]]) -> str:
    own = vocabularies[name][0]
    if not own:
        return "no tokenizer.json"
    first = next(other for other, (one, _) in vocabularies.items() if one == own)
    return "its own" if first == name else f"that of {first}"


def _rope_answer(configs: Mapping[str, Mapping[str, Any]]) -> str:
    bases: dict[str, list[str]] = {}
    for name, config in configs.items():
        bases.setdefault(format_value(_rope_config(config)["rope_theta"]), []).append(name)
    shown = "; ".join(f"{base} in {_listed(names)}" for base, names in bases.items())
    if len(bases) > 1:
        return (
            f"The base of the rotary position embedding (rope_theta) differs: {shown}. The same distance between two tokens turns "
            "queries and keys by other angles. Whether it matters can be tried: the parameter rope_theta of an experiment runs an "
            "encoder with another base."
        )
    return f"The base of the rotary position embedding (rope_theta) is the same: {shown}." if bases else ""


def _token_answer(vocabularies: Mapping[str, tuple[str, str]]) -> str:
    same: dict[str, list[str]] = {}
    for name, (one, _) in vocabularies.items():
        same.setdefault(one, []).append(name)
    if len(same) > 1:
        return (
            f"Equal texts need not be equal token ids: the vocabularies of {' | '.join(map(_listed, same.values()))} differ. Tokens of "
            "one have no partner in the other."
        )
    added = [f"{name} adds {tokens}" for name, (_, tokens) in vocabularies.items() if tokens]
    return "Equal texts are equal token ids in all of them" + (
        f"; after a text without a template, {_listed(added)}." if added else "."
    )


def _listed(names: Iterable[str]) -> str:
    *most, last = names
    return f"{', '.join(most)} and {last}" if most else last


register(
    Study(
        "models",
        "Which models there are, and what is the same in them",
        "A text-to-image generator reads the hidden states of its own text encoder. This project gives it those of other encoders. What do "
        "the models here have in common, so that this can be done at all, what differs, and what follows from it?",
        compare_models,
        models=True,
    )
)
