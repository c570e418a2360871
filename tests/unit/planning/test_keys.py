"""The gate of the keys: every ingredient is taken away in turn, and the check of that ingredient must notice.

An ingredient is a leaf of what `Keys` returns (`normalization.parameters.target_std`). Each has a change here that
alters that leaf and no other. A leaf without a change, and a change without a leaf, fail the gate.
"""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from pydantic import Field, create_model

from graftwork.core.code_digest import entry_name
from graftwork.core.identity import digest
from graftwork.core.records import record_digest, to_json
from graftwork.design.cells import CorpusRecord, ModelRecord
from graftwork.design.parameters import NEUTRAL as SAMPLING_NEUTRAL
from graftwork.design.schema import CellParameters
from graftwork.design.settings import Hardware
from graftwork.models.acceleration import NEUTRAL
from graftwork.models.families import EncoderFacts, GeneratorFacts, encoder_family, generator_family
from graftwork.planning import code as code_module
from graftwork.planning.code import sampling_code
from graftwork.planning.keys import Keys
from graftwork.planning.shards import ImageItem
from graftwork.store.records import EncoderInput, ImageParts, Recipe
from graftwork.transforms import registry
from graftwork.transforms.registry import STAGES, Transform, TransformParameters, parameter_fields, transforms
from graftwork.transforms.schedules import AlphaSchedule

TEXT, TEXT_B, SOURCE, SOURCE_B, IMAGE, IMAGE_B = (
    f"content:{letter * 32}" for letter in ("a", "b", "c", "d", "e", "f")
)

ENCODER_CODE = encoder_family("qwen3_vl").code
SAMPLING_CODE = generator_family("z_image").code(from_image=False)
SAMPLING_CODE_FROM_IMAGES = generator_family("z_image").code(from_image=True)


ENCODER_FACTS = EncoderFacts(
    family="qwen3",
    num_hidden_layers=8,
    hidden_size=64,
    accepts_images=False,
    rope_theta=1.0,
    special_tokens=[],
    has_chat_template=True,
)
GENERATOR_FACTS = GeneratorFacts(
    family="z_image",
    conditioning_layers=(-2,),
    caption_channels=64,
    caption_padding=0,
    max_caption_tokens=224,
    size_multiple=16,
    latent_channels=16,
    scheduler_config={},
    max_height=None,
    max_width=None,
    max_steps=None,
    is_distilled=None,
)


def model(kind: str, family: str, **facts: Any) -> ModelRecord:
    plain = ENCODER_FACTS if kind == "encoder" else GENERATOR_FACTS
    return ModelRecord(kind, "some name", {"path": "somewhere"}, replace(plain, family=family, **facts))


SCHEDULER = {"shift": 3.0, "use_dynamic_shifting": True}
SCHEDULE = {
    "kind": "points",
    "over": "sigma",
    "maximum": 0.9,
    "minimum": 0.1,
    "break_at": 0.4,
    "points": [[0.0, 1.0]],
}
MODELS = {
    TEXT: model("encoder", "qwen3", num_hidden_layers=8),
    TEXT_B: model("encoder", "qwen3", num_hidden_layers=8),
    SOURCE: model("encoder", "qwen3_vl", num_hidden_layers=8),
    SOURCE_B: model("encoder", "qwen3_vl", num_hidden_layers=8),
    IMAGE: model("generator", "z_image", size_multiple=16, scheduler_config=SCHEDULER),
    IMAGE_B: model("generator", "z_image", size_multiple=16, scheduler_config=SCHEDULER),
}
CELL = {
    "prompt": "a red apple",
    "reference": "9" * 64,
    "text_encoder": TEXT,
    "text_hidden_layer": -2,
    "encoder": SOURCE,
    "hidden_layer": -2,
    "alpha": 0.5,
    "generator": IMAGE,
    "seed": 42,
    "height": 64,
    "width": 64,
    "num_inference_steps": 8,
    "guidance_scale": 2.0,
    # Nothing at its neutral value, where it would not be among the ingredients.
    "source": "hidden_states",
    "source_text": {"text": "an old house"},
    "prompt_format": "raw",
    "system_prompt": "Be kind.",
    "think_block": "empty",
    "rope_theta": 1e6,
    "positions": "sequential",
    "text_prompt_format": "chat",
    "text_system_prompt": None,
    "text_think_block": "template",
    "alpha_schedule": SCHEDULE,
    "negative_prompt": "blurry",
    "cfg_normalization": 1.5,
    "cfg_truncation": 0.5,
    "init_image": "7" * 64,
    "strength": 0.5,
    **{stage: "one" for stage in STAGES},
    **{f"{stage}_amount": 1 for stage in STAGES},
}


# The same without what was added to sampling later.
PLAIN = {**CELL, "guidance_scale": 0.0} | {
    name: SAMPLING_NEUTRAL[name]
    for name in (
        "alpha_schedule",
        "negative_prompt",
        "cfg_normalization",
        "cfg_truncation",
        "init_image",
        "strength",
    )
}
CORPUS, CORPUS_B = "corpus", "another corpus"
CORPORA = {
    CORPUS: CorpusRecord("some name", ("a hat", "a boat"), ("1" * 64, "2" * 64)),
    CORPUS_B: CorpusRecord("some name", ("a boat", "a hat"), ("1" * 64, "2" * 64)),
}


# Here too nothing is at its neutral value.
ACCELERATION = {"compile_vae": True, "fuse_blocks": True, "vae_channels_last": True, "vae_slicing": True}


def hardware_with(**generation: Any) -> Hardware:
    hardware = Hardware()
    for name, value in generation.items():
        setattr(hardware.generation, name, value)
    return hardware


def accelerated_hardware() -> Hardware:
    return hardware_with(**ACCELERATION)


@dataclass
class Situation:
    """All that keys are computed from."""

    cell: dict[str, Any] = field(default_factory=lambda: dict(CELL))
    hardware: Hardware = field(default_factory=accelerated_hardware)
    models: dict[str, Any] = field(default_factory=lambda: deepcopy(MODELS))
    conditioning: str = "0" * 32
    edited_code: set[str] = field(default_factory=set)


Change = Callable[[Situation], None]


def cell(**values: Any) -> Change:
    return lambda situation: situation.cell.update(values)


def extraction(**values: Any) -> Change:
    return lambda situation: [
        setattr(situation.hardware.extraction, name, value) for name, value in values.items()
    ]


def generation(**values: Any) -> Change:
    return lambda situation: [
        setattr(situation.hardware.generation, name, value) for name, value in values.items()
    ]


def code(part: str) -> Change:
    return lambda situation: situation.edited_code.add(part)


def schedule(**values: Any) -> Change:
    return cell(alpha_schedule={**SCHEDULE, **values})


def scheduler(**values: Any) -> Change:
    return lambda situation: situation.models[IMAGE].facts.scheduler_config.update(values)


def change_models(situation: Situation, **values: Any) -> None:
    for identity, record in situation.models.items():
        situation.models[identity] = replace(record, **values)


def nothing(situation: Situation) -> None:
    pass


def conditioning(hash_: str) -> Change:
    return lambda situation: setattr(situation, "conditioning", hash_)


# Kind of key -> ingredient -> change, or (preparation, change). The number of CPU threads goes with the device.
CHANGES: dict[str, dict[str, Change | tuple[Change, Change]]] = {
    "hidden states": {
        "encoder": cell(encoder=SOURCE_B),
        "prompt": cell(source_text={"text": "an old  house"}),
        "reference": cell(reference="8" * 64),
        "prompt_format": cell(prompt_format="another"),
        "system_prompt": cell(system_prompt="Be kind!"),
        "think_block": cell(think_block="another"),
        "rope_theta": cell(rope_theta=2e6),
        "positions": cell(positions="another"),
        "dtype": extraction(dtype="bfloat16"),
        "device": (extraction(device="cuda"), extraction(device="another")),
        "cpu_threads": extraction(cpu_threads=3),
        "code": code(ENCODER_CODE[0]),
    },
    "recipe": {
        "text.key": cell(prompt="a green apple"),
        "text.layer": cell(text_hidden_layer=-3),
        "sources.0.key": cell(reference=None),
        "sources.0.layer": cell(hidden_layer=-3),
        "negative": cell(negative_prompt="blurred"),
        "alphas.0": cell(alpha=0.25),
        "alpha_over_sigma.schedule.kind": schedule(kind="another"),
        **{
            f"alpha_over_sigma.schedule.{name}": schedule(**{name: 0.2})
            for name in ("maximum", "minimum", "break_at")
        },
        "alpha_over_sigma.schedule.points.0.0": schedule(points=[[0.5, 1.0]]),
        "alpha_over_sigma.schedule.points.0.1": schedule(points=[[0.0, 0.5]]),
        "alpha_over_sigma.num_inference_steps": cell(num_inference_steps=9),
        "alpha_over_sigma.first_step": cell(strength=0.75),
        "alpha_over_sigma.scheduler.shift": scheduler(shift=2.0),
        "alpha_over_sigma.scheduler.use_dynamic_shifting": scheduler(use_dynamic_shifting="another"),
        "alpha_over_sigma.image_tokens": cell(height=80),
        "alpha_over_sigma.code": code(entry_name(generator_family("z_image").scheduler_sigmas)),
        "dtype": generation(dtype="bfloat16"),
        "caption_norm": cell(generator=IMAGE_B),
        "code": code("graftwork.conditioning.build:build_conditioning"),
        **{f"stages.{stage}.name": cell(**{stage: "two"}) for stage in STAGES},
        **{f"stages.{stage}.parameters.{stage}_amount": cell(**{f"{stage}_amount": 2}) for stage in STAGES},
        **{f"stages.{stage}.code": code(f"somewhere:{stage}") for stage in STAGES},
    },
    "image": {
        "conditioning": conditioning("1" * 32),
        "generator": cell(generator=IMAGE_B),
        "seed": cell(seed=43),
        "height": cell(height=80),
        "width": cell(width=80),
        "num_inference_steps": cell(num_inference_steps=9),
        "guidance_scale": cell(guidance_scale=1.0),
        "cfg_normalization": cell(cfg_normalization=1.0),
        "cfg_truncation": cell(cfg_truncation=0.75),
        "init_image": cell(init_image="6" * 64),
        "first_step": cell(strength=0.75),
        "dtype": generation(dtype="bfloat16"),
        "device": (generation(device="cuda"), generation(device="another")),
        "cpu_threads": generation(cpu_threads=3),
        "batch_shape": generation(batch_shape=8),
        "attention_backend": generation(attention_backend="flash"),
        "compile": generation(compile="default"),
        **{f"acceleration.{name}": generation(**{name: False}) for name in ACCELERATION},
        "code": code(SAMPLING_CODE[0]),
    },
}
EVERY = [(kind, ingredient) for kind, changes in CHANGES.items() for ingredient in changes]


@pytest.fixture(autouse=True)
def transforms_with_parameters(monkeypatch):
    """Two transforms per stage, of one function and with a parameter each, so that every stage has all ingredients."""
    for stage in STAGES:
        parameters = create_model(
            "Parameters", __base__=TransformParameters, **{f"{stage}_amount": (int, Field(1))}
        )

        def function(*_: Any) -> None: ...

        function.__module__, function.__name__, function.__qualname__ = "somewhere", stage, stage
        for name in ("one", "two"):
            entry = Transform(stage, name, function, "", "", parameters)
            monkeypatch.setitem(registry._TRANSFORMS[stage], name, entry)


@pytest.fixture
def parts_of(monkeypatch):
    """Returns the record that a key of some kind is the digest of."""
    edited: set[str] = set()

    def code_digest(*entries: Any) -> str:
        names = map(entry_name, entries)
        return digest(sorted(f"{name}{' edited' if name in edited else ''}" for name in names))

    monkeypatch.setattr(code_module, "code_digest", code_digest)
    monkeypatch.setattr(registry, "code_digest", code_digest)

    def parts(kind: str, situation: Situation) -> EncoderInput | Recipe | ImageParts:
        edited.clear()
        edited.update(situation.edited_code)
        keys = Keys(situation.models, situation.hardware, CORPORA)
        if kind == "hidden states":
            return keys.source_states(situation.cell)[0].input
        if kind == "recipe":
            return keys.recipe(situation.cell)
        return keys.image(situation.cell, situation.conditioning)

    return parts


def leaves(value: Any, path: str = "") -> dict[str, Any]:
    """Returns path -> value of everything that is no container; an empty container is a leaf."""
    value = to_json(value)
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    found = {}
    for name, item in items:
        found |= leaves(item, f"{path}.{name}" if path else str(name))
    return found or {path: value}


def before_and_after(kind: str, ingredient: str) -> tuple[Situation, Situation]:
    change = CHANGES[kind][ingredient]
    prepare, change = change if isinstance(change, tuple) else (nothing, change)
    before, after = Situation(), Situation()
    prepare(before)
    prepare(after)
    change(after)
    return before, after


def check(parts_of, kind: str, ingredient: str) -> None:
    """The check of one ingredient: changing it gives another key."""
    before, after = before_and_after(kind, ingredient)
    assert record_digest(parts_of(kind, before)) != record_digest(parts_of(kind, after)), (
        f"{kind} do not depend on {ingredient}"
    )


@pytest.mark.parametrize("kind", CHANGES)
def test_the_ingredients_are_those_with_a_check(parts_of, kind):
    # There is one family of generators, so there is no other one to change to.
    families = {"alpha_over_sigma.family"} if kind == "recipe" else set()
    assert set(leaves(parts_of(kind, Situation()))) == set(CHANGES[kind]) | families


@pytest.mark.parametrize(("kind", "ingredient"), EVERY)
def test_every_ingredient_counts(parts_of, kind, ingredient):
    check(parts_of, kind, ingredient)


@pytest.mark.parametrize(("kind", "ingredient"), EVERY)
def test_a_change_alters_its_ingredient_and_no_other(parts_of, kind, ingredient):
    """So that one ingredient's check cannot pass thanks to another ingredient."""
    before, after = (leaves(parts_of(kind, situation)) for situation in before_and_after(kind, ingredient))
    assert {name for name in before | after if before.get(name) != after.get(name)} == {ingredient}


@pytest.mark.parametrize(("kind", "ingredient"), EVERY)
def test_an_ingredient_left_out_is_noticed(parts_of, kind, ingredient):
    """The checks themselves: with an ingredient taken out of what the key is the digest of, its check fails."""

    def without(kind: str, situation: Situation) -> Any:
        whole = to_json(parts_of(kind, situation))
        *path, last = ingredient.split(".")
        part = whole
        for name in path:
            part = part[int(name) if isinstance(part, list) else name]
        if isinstance(part, list):
            part[int(last)] = None
        else:
            part.pop(last, None)  # A changed setting at its neutral value is not there anyway.
        return whole

    with pytest.raises(AssertionError, match="do not depend on"):
        check(without, kind, ingredient)


def test_keys_are_digests_of_what_the_gate_changes(parts_of):
    """Nothing but the record, all of which is in its JSON."""
    keys = Keys(MODELS, Hardware())
    for needed in (keys.text_states(CELL), *keys.source_states(CELL)):
        assert needed.key == record_digest(needed.input) == digest(to_json(needed.input))
    for kind in ("recipe", "image"):
        parts = parts_of(kind, Situation())
        assert parts.key == record_digest(parts) == digest(to_json(parts))
    options = {"prompt_format", "system_prompt", "think_block", "rope_theta", "positions"}
    text = to_json(keys.text_states(CELL).input)
    assert set(text) == set(CHANGES["hidden states"]) - options
    assert text["reference"] is None


def test_every_entry_point_counts(parts_of):
    """Not only the one that the gate edits."""
    setting_up = "graftwork.models.hardware:configure_torch"
    plain_hardware = Hardware()
    for kind, hardware, entries in (
        ("hidden states", plain_hardware, [*ENCODER_CODE, setting_up]),
        (
            "recipe",
            plain_hardware,
            [
                "graftwork.conditioning.build:build_conditioning",
                "graftwork.conditioning.build:HARDWARE",
                setting_up,
            ],
        ),
        ("image", plain_hardware, [*SAMPLING_CODE_FROM_IMAGES, setting_up]),
        ("image", accelerated_hardware(), [*SAMPLING_CODE_FROM_IMAGES, setting_up]),
    ):
        plain = record_digest(parts_of(kind, Situation(hardware=hardware)))
        for entry in entries:
            edited = Situation(hardware=hardware, edited_code={entry})
            assert record_digest(parts_of(kind, edited)) != plain, (kind, entry)


def test_code_of_other_families_and_transforms_does_not_count(parts_of):
    edited = {*encoder_family("qwen3").code, "somewhere:else"}
    assert parts_of("hidden states", Situation()) == parts_of("hidden states", Situation(edited_code=edited))
    assert parts_of("image", Situation()) == parts_of("image", Situation(edited_code=edited))


@pytest.mark.parametrize(
    "change",
    [
        generation(offload="model"),
        generation(stall_limit=60.0),
        extraction(stall_limit=60.0),
        lambda situation: setattr(situation.hardware, "gpus", 8),
        lambda situation: change_models(situation, name="another name"),
        lambda situation: change_models(situation, entry={"path": "/elsewhere"}),
    ],
    ids=[
        "offload of the generator",
        "stall_limit",
        "stall_limit of encoders",
        "gpus",
        "names of models",
        "paths of models",
    ],
)
@pytest.mark.parametrize("kind", CHANGES)
def test_what_must_not_count(parts_of, kind, change):
    changed = Situation()
    change(changed)
    assert parts_of(kind, changed) == parts_of(kind, Situation())


def test_threads_of_the_cpu_do_not_count_on_a_gpu(parts_of):
    for kind, section in (("hidden states", extraction), ("image", generation)):
        one, other = Situation(), Situation()
        section(device="cuda")(one)
        section(device="cuda", cpu_threads=7)(other)
        assert parts_of(kind, one) == parts_of(kind, other)


def test_hardware_of_the_other_step_does_not_count(parts_of):
    other = Situation()
    generation(device="cuda", batch_shape=9)(other)
    assert parts_of("hidden states", other) == parts_of("hidden states", Situation())
    other = Situation()
    extraction(device="cuda", dtype="bfloat16")(other)
    assert parts_of("image", other) == parts_of("image", Situation())


def test_every_hardware_setting_is_an_ingredient_or_known_not_to_be():
    """A setting added later has to be put on one side or the other."""
    not_counting = {"offload", "stall_limit"}
    sections = Hardware().model_dump()
    assert set(sections) == {"extraction", "generation", "scoring", "gpus"}
    assert set(sections["extraction"]) - not_counting == {"device", "dtype", "cpu_threads", "batch_shape"}
    counting = {name.removeprefix("acceleration.") for name in CHANGES["image"]}
    assert set(sections["generation"]) - not_counting <= counting


def test_settings_added_later_rename_no_image_made_without_them():
    """The ingredients of an image on the CPU, and the code, are those from before there were any of them."""
    assert set(ACCELERATION) | {"attention_backend", "compile"} == set(NEUTRAL)
    generation = Hardware().generation.model_dump()
    assert {name: generation[name] for name in NEUTRAL} == NEUTRAL
    image = Keys(MODELS, Hardware()).image(PLAIN, "0" * 32)
    of_sampling = {"cfg_normalization", "cfg_truncation", "init_image", "first_step"}
    accelerated = {f"acceleration.{name}" for name in ACCELERATION}
    assert set(to_json(image)) == set(CHANGES["image"]) - accelerated - of_sampling
    assert image.code == sampling_code("z_image", from_image=False)


def test_the_code_of_images_on_the_cpu_is_what_it_was():
    """Where this fails, every image made on the CPU gets another name: change the line only if that is meant."""
    assert sampling_code("z_image", from_image=False) == "b870628cd47423c33be59aca540ca370"


@pytest.mark.parametrize("change", [{"device": "cuda"}, {"compile": "default"}, {"vae_slicing": True}])
def test_settings_that_accelerate_are_in_the_key(change):
    """One class serves every device and setting, so its code is the same for all."""
    image = Keys(MODELS, hardware_with(**change)).image(PLAIN, "0" * 32)
    assert image.code == Keys(MODELS, Hardware()).image(PLAIN, "0" * 32).code
    plain = to_json(image)
    assert {name: {**plain, **image.acceleration}[name] for name in change} == change


def test_the_reader_of_images_counts_where_an_image_is_started_from():
    assert set(SAMPLING_CODE) < set(SAMPLING_CODE_FROM_IMAGES)
    keys = Keys(MODELS, Hardware())
    assert keys.image(CELL, "0" * 32).code == sampling_code("z_image", from_image=True)
    assert keys.image(PLAIN, "0" * 32).code == sampling_code("z_image", from_image=False)
    assert sampling_code("z_image", from_image=True) != sampling_code("z_image", from_image=False)


def test_every_parameter_of_a_cell_counts_somewhere(parts_of):
    """Over all keys together, and with every transform chosen that has parameters."""
    from tests.unit.transforms.samples import DEFAULT_TRANSFORMS

    vectors = [{"file": digit * 64, "tensor": "up"} for digit in "56"]
    real = {**CellParameters().model_dump(), **CELL, **DEFAULT_TRANSFORMS, "fix_corpus": CORPUS}
    real["vector"] = vectors[0]
    others = {
        "generator": IMAGE_B,
        "encoder": SOURCE_B,
        "hidden_layer": -4,
        "text_hidden_layer": -4,
        "alpha": 0.125,
        "token_mode": "text_only",
        "masking": "zero",
        "dimension_fix": "full",
        "normalization": "global",
        "length_matching": "linear",
        "blend": "slerp",
        "height": 96,
        "width": 96,
        "num_inference_steps": 3,
        "guidance_scale": 1.0,
        "source": "vision_tower",
        "source_text": "none",
        "prompt_format": "chat",
        "system_prompt": None,
        "think_block": "template",
        "rope_theta": None,
        "positions": "checkpoint",
        "text_prompt_format": "raw",
        "text_system_prompt": "Be kind.",
        "text_think_block": "empty",
        "alpha_schedule": None,
        "negative_prompt": "",
        "cfg_normalization": 0.0,
        "cfg_truncation": 1.0,
        "init_image": None,
        "strength": 0.25,
    }
    # Keys check no value: any other one will do.
    of_transforms = {name: "another" for name in parameter_fields() if name in CellParameters.model_fields}
    of_transforms |= {"fix_corpus": CORPUS_B, "vector": vectors[1]}
    # With the transforms that they belong to.
    of_combinations = [
        ({"combination": "layer_mix"}, {}),
        ({"blend": "style_delta", "neutral_reference": "grey:8x8"}, {"neutral_reference": "8" * 64}),
    ]
    for made, change in of_combinations:
        one, other = (Situation(cell=cell) for cell in ({**real, **made}, {**real, **made, **change}))
        assert parts_of("recipe", one) != parts_of("recipe", other if change else Situation(cell=real)), made
    elsewhere = {"combination", "neutral_reference", "mapping"}
    assert set(others) | set(of_transforms) | elsewhere == set(CellParameters.model_fields)
    base = Situation(cell=real)
    for name, value in others.items():
        changed = Situation(cell={**real, name: value})
        differing = [kind for kind in CHANGES if parts_of(kind, changed) != parts_of(kind, base)]
        assert differing, name
    owners = [
        (name, entry)
        for stage in STAGES
        for entry in transforms(stage).values()
        for name in entry.parameters.model_fields
        if name in CellParameters.model_fields
    ]
    assert {name for name, _ in owners} == set(of_transforms)
    for name, entry in owners:
        plain = {**real, entry.stage: entry.name}
        one, other = (Situation(cell=cell) for cell in (plain, {**plain, name: of_transforms[name]}))
        assert parts_of("recipe", one) != parts_of("recipe", other), (name, entry.label)


@pytest.mark.parametrize(
    "values",
    [
        {"encoder": SOURCE_B},
        {"encoder": None},
        {"reference": None},
        {"hidden_layer": -5},
        *({stage: "two"} for stage in STAGES),
        *({f"{stage}_amount": 2} for stage in STAGES),
    ],
)
def test_at_alpha_zero_only_the_text_counts(parts_of, values):
    plain = parts_of("recipe", Situation(cell={**CELL, "alpha": 0.0}))
    assert set(to_json(plain)) == {"text", "negative", "dtype", "caption_norm", "code"}
    assert parts_of("recipe", Situation(cell={**CELL, "alpha": 0.0, **values})) == plain
    assert Keys(MODELS, Hardware()).source_states({**CELL, "alpha": -0.0}) == ()


def test_parameters_of_transforms_that_are_not_chosen_do_not_count(parts_of):
    one, other = ({**CELL, "normalization": "none", "target_std": std} for std in (1.0, 2.0))
    assert parts_of("recipe", Situation(cell=one)) == parts_of("recipe", Situation(cell=other))


def test_layers_are_resolved(parts_of):
    """Layer -2 of 8 is layer 7: one dataset, one recipe."""
    one, other = (Situation(cell={**CELL, "hidden_layer": layer}) for layer in (-2, 7))
    assert parts_of("recipe", one) == parts_of("recipe", other)
    assert parts_of("recipe", one).sources[0].layer == 7


def test_one_input_is_one_file_whatever_the_layer():
    keys = Keys(MODELS, Hardware())
    needs = [keys.source_states({**CELL, "hidden_layer": layer})[0] for layer in (-2, -4)]
    assert needs[0].key == needs[1].key
    assert [need.layer for need in needs] == [7, 5]


def test_rows_of_a_batch_count_for_prompts_with_and_without_an_image():
    hardware = Hardware()
    hardware.extraction.batch_shape = 16
    one, sixteen = Keys(MODELS, Hardware()), Keys(MODELS, hardware)
    alone, tower = {**CELL, "reference": None}, {**CELL, "source": "vision_tower"}
    # Where a generator sees the states of pads, and where no prompt takes part, an input is encoded alone.
    padded = {**MODELS, IMAGE: model("generator", "z_image", caption_padding=512, scheduler_config=SCHEDULER)}
    assert sixteen.source_states(tower) == one.source_states(tower)
    assert Keys(padded, hardware).text_states(CELL) == Keys(padded, Hardware()).text_states(CELL)
    for asked in (
        lambda keys: keys.text_states(CELL),
        lambda keys: keys.source_states(CELL)[0],
        lambda keys: keys.source_states(alone)[0],
    ):
        plain, made = asked(one).input, asked(sixteen).input
        assert made == replace(plain, batch_shape=16)
        # Where there is no batch, nothing is said of it: keys are those from before there were any.
        assert "batch_shape" not in to_json(plain)
        assert asked(sixteen).key != asked(one).key


def test_what_shares_a_batch(parts_of):
    """Everything but seed, conditioning and the image to start from, and the padded lengths of both captions."""

    def group(parts: ImageParts, tokens: int = 20, negative_tokens: int | None = None) -> Any:
        return ImageItem("key", parts, tokens, negative_tokens).batch_group(
            generator_family("z_image").captions.padded_length
        )

    base = parts_of("image", Situation())
    for ingredient in CHANGES["image"]:
        before, after = (parts_of("image", s) for s in before_and_after("image", ingredient))
        shared = group(before) == group(after)
        assert shared == (ingredient in ("seed", "conditioning", "init_image")), ingredient
    assert group(base, 1) == group(base, 32) != group(base, 33) == group(base, 64)
    assert group(base, 20, 5) == group(base, 20, 32) != group(base, 20, 33)
    assert group(base) != group(base, 20, 5)


def keys_of(**values: Any) -> tuple[Recipe, ImageParts]:
    """Returns recipe and image parts of the plain cell with some values."""
    keys, cell = Keys(MODELS, Hardware()), {**PLAIN, **values}
    return keys.recipe(cell), keys.image(cell, "0" * 32)


def follow(kind: str, **values: Any) -> dict[str, Any]:
    return AlphaSchedule(kind=kind, **values).model_dump()


@pytest.mark.usefixtures("parts_of")
def test_a_schedule_gives_an_alpha_to_each_step():
    recipe, image = keys_of(alpha=0.5, alpha_schedule=follow("linear"), num_inference_steps=5)
    assert recipe.alphas == (0.5, 0.375, 0.25, 0.125, 0.0)
    assert image == keys_of(num_inference_steps=5)[1], "the image follows it through its conditioning"
    reverse = follow("linear", maximum=0.0, minimum=1.0)
    reversed_, _ = keys_of(alpha=0.5, alpha_schedule=reverse, num_inference_steps=5)
    assert reversed_.alphas == recipe.alphas[::-1]
    assert recipe.key != reversed_.key


@pytest.mark.usefixtures("parts_of")
def test_a_schedule_follows_the_steps_that_are_run():
    values = {"alpha": 1.0, "init_image": "7" * 64, "strength": 0.5, "num_inference_steps": 10}
    recipe, _ = keys_of(**values, alpha_schedule=follow("linear"))
    assert recipe.alphas == (1.0, 0.75, 0.5, 0.25, 0.0)


@pytest.mark.usefixtures("parts_of")
@pytest.mark.parametrize("alpha", [1.0, 0.123456789012345])
@pytest.mark.parametrize("over", ["step", "sigma"])
def test_a_schedule_of_one_alpha_is_that_alpha(alpha, over):
    assert keys_of(alpha=alpha, alpha_schedule=follow("constant", over=over)) == keys_of(alpha=alpha)
    half = follow("constant", over=over, maximum=0.5)
    assert keys_of(alpha=alpha, alpha_schedule=half) == keys_of(alpha=round(alpha / 2, 12))
    level = follow("linear", maximum=0.5, minimum=0.5)
    assert keys_of(alpha=alpha, alpha_schedule=level) == keys_of(alpha=round(alpha / 2, 12))


@pytest.mark.usefixtures("parts_of")
def test_a_schedule_that_is_always_zero_is_the_text_alone():
    never = follow("step", break_at=0.0)
    assert keys_of(alpha_schedule=never) == keys_of(alpha=0.0)
    assert keys_of(alpha_schedule=never)[0].sources == ()


@pytest.mark.usefixtures("parts_of")
def test_strengths_that_run_the_same_steps_share_an_image():
    started = {"init_image": "7" * 64}
    assert keys_of(**started, strength=0.6)[1] == keys_of(**started, strength=0.625)[1]
    assert keys_of(**started, strength=0.6)[1] != keys_of(**started, strength=0.5)[1]
    assert keys_of(**started, strength=0.6)[1].first_step == 3


@pytest.mark.usefixtures("parts_of")
def test_an_image_that_takes_no_part_is_not_in_the_key():
    assert keys_of(init_image="7" * 64, strength=0.9) == keys_of()


@pytest.mark.usefixtures("parts_of")
def test_the_negative_prompt_is_shown_as_the_prompt_is():
    keys = Keys(MODELS, Hardware())
    guided = {**PLAIN, "guidance_scale": 2.0, "negative_prompt": "blurry", "text_system_prompt": "Be kind."}
    assert keys.negative_states(guided) == keys.text_states({**guided, "prompt": "blurry"})
    assert keys.negative_states({**guided, "guidance_scale": 0.0}) is None


@pytest.mark.usefixtures("parts_of")
def test_the_work_of_an_image():
    assert keys_of()[1].work == 64 * 64 * 8
    assert keys_of(guidance_scale=1.0, negative_prompt="")[1].work == 64 * 64 * 16
    assert keys_of(init_image="7" * 64, strength=0.5)[1].work == 64 * 64 * 4
