"""Settings that do nothing, found in designs of which it is said what each cell looks like."""

import zlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from graftwork.conditioning.sketches import NUMBERS, encode_sketch
from graftwork.design.cells import Design
from graftwork.planning.no_ops import (
    NoOp,
    NoOps,
    find_no_ops,
    first_alike,
    groups,
    headline,
    one_line,
    setting_text,
)
from graftwork.planning.plan import PlanEntry
from graftwork.store.records import ConditioningReport, ImageParts
from tests.unit.design.designs import expand, experiment

SOME_PARTS = ImageParts(
    dtype="float32",
    device="cpu",
    cpu_threads=2,
    conditioning="",
    generator="content:images",
    seed=0,
    height=64,
    width=64,
    num_inference_steps=8,
    guidance_scale=0.0,
    batch_shape=4,
    attention_backend="native",
    compile=False,
    code="",
)
STDS = {"normalization": "global", "alpha": 1.0}


def some_sketch(name: str) -> dict[str, Any]:
    """A sketch that is another one for each name."""
    values = np.random.default_rng(zlib.crc32(name.encode())).normal(size=NUMBERS)
    return encode_sketch({"prompt_embeds": 9}, values)


def resolve(design: Design, look: Callable[[dict[str, Any]], tuple[str, str] | None]) -> dict[str, PlanEntry]:
    """Returns what the store calls each cell, from a function of its parameters to (bytes, what is seen of them)."""
    resolved = {}
    for cell in design.cells:
        p = cell.parameters
        text = f"text of {p['prompt']}"
        found = (text, text) if p["alpha"] == 0.0 else look(p)
        resolved[cell.cell] = PlanEntry("recipe")
        if found is not None:
            conditioning, seen = found
            varying = {"seed": p["seed"], "num_inference_steps": p["num_inference_steps"]}
            report = ConditioningReport(
                conditioning, tokens=9, source_tokens=0, sketch=some_sketch(seen) if seen else None
            )
            image = f"image of {conditioning} {sorted(varying.items())}"
            parts = replace(SOME_PARTS, conditioning=conditioning, **varying)
            resolved[cell.cell] = PlanEntry("recipe", image, parts, report)
    return resolved


def own(p: dict[str, Any]) -> str:
    """What is the same for no two prompts, references, layers and alphas."""
    return f"{p['prompt']} {p['reference']} {p['hidden_layer']} {p['alpha']}"


@pytest.fixture
def find(tmp_path):
    def found(axes, look, base=None, read_pixels=lambda image: None, **more) -> NoOps:
        design = expand(tmp_path, experiment(axes, base, **more))
        return find_no_ops(design, resolve(design, look), read_pixels)

    return found


def as_text(found: NoOps) -> list[tuple[str, str, str]]:
    return [(setting_text(item.values), setting_text(item.equals), item.kind) for item in found.found]


def test_settings_of_equal_bytes(find):
    found = find(
        {"alpha": [0.5, 1.0], "target_std": [50.0, 70.0]},
        lambda p: (own(p) if p["alpha"] == 0.5 else f"{own(p)} {p['target_std']}",) * 2,
        {"normalization": "global"},
    )
    assert as_text(found) == [("alpha 0.5, target_std 70", "alpha 0.5, target_std 50", "bytes")]
    assert (found.settings, found.at_zero, found.unknown) == (4, 0, 0)
    (item,) = found.found
    assert len(item.pairs) == 2, "one for each prompt"
    assert one_line(found, "demo") == (
        "demo: 1 of 4 settings with alpha above 0 is a no-op: target_std 70 = target_std 50, at alpha 0.5"
    )


def test_settings_that_differ_by_a_scale(find):
    found = find({"target_std": [50.0, 61.0, 70.0]}, lambda p: (f"{own(p)} {p['target_std']}", own(p)), STDS)
    assert as_text(found) == [
        ("target_std 61", "target_std 50", "scale"),
        ("target_std 70", "target_std 50", "scale"),
    ]
    assert one_line(found, "demo") == (
        "demo: 2 of 3 settings with alpha above 0 are no-ops: target_std 61 or 70 = target_std 50 (the same but for a "
        "scale that the generator cannot see)"
    )


def test_one_prompt_that_coincides_is_no_no_op(find):
    def look(p):
        same = p["prompt"] == "a red apple"
        return (own(p) if same else f"{own(p)} {p['target_std']}",) * 2

    found = find({"target_std": [50.0, 70.0]}, look, STDS)
    assert found.found == []
    assert one_line(found, "demo") == "demo: 0 of 2 settings with alpha above 0 are no-ops"


def test_each_prompt_like_another_setting_is_no_no_op(find):
    """It has to be one setting for all of them: 70 is like 50 for one prompt and like 61 for the other."""

    def look(p):
        twin = 50.0 if p["prompt"] == "a red apple" else 61.0
        return (f"{own(p)} {twin if p['target_std'] == 70.0 else p['target_std']}",) * 2

    assert find({"target_std": [50.0, 61.0, 70.0]}, look, STDS).found == []


def test_what_equals_the_text_alone(find):
    found = find(
        {"token_mode": ["full", "prompt_only"], "alpha": [0.0, 0.5, 1.0]},
        lambda p: (f"text of {p['prompt']}" if p["token_mode"] == "prompt_only" else own(p),) * 2,
    )
    assert as_text(found) == [
        ("token_mode prompt_only, alpha 0.5", "the text alone", "bytes"),
        ("token_mode prompt_only, alpha 1", "the text alone", "bytes"),
    ]
    assert headline(found, "demo") == (
        "demo: 2 of 4 settings with alpha above 0 are no-ops (2 settings at alpha 0 are the text alone by definition and "
        "not counted)"
    )
    assert groups(found) == [("bytes", "token_mode prompt_only, alpha 0.5 or 1 = the text alone")]


def test_alpha_zero_is_never_counted(find):
    found = find({"hidden_layer": [-2, -4], "alpha": [0.0]}, lambda p: None)
    assert (found.found, found.settings, found.at_zero, found.unknown) == ([], 0, 2, 0)


def test_without_baselines_alpha_zero_stands_for_the_text(find):
    found = find(
        {"hidden_layer": [-2, -4], "alpha": [0.0, 0.5]},
        lambda p: (f"text of {p['prompt']}" if p["hidden_layer"] == -4 else own(p),) * 2,
        baseline=False,
    )
    assert as_text(found) == [("hidden_layer -4, alpha 0.5", "hidden_layer -2, alpha 0", "bytes")]


def test_the_weakest_kind_over_prompts_counts(find):
    def look(p):
        exact = p["prompt"] == "a red apple"
        return (own(p) if exact else f"{own(p)} {p['target_std']}"), own(p)

    assert [item.kind for item in find({"target_std": [50.0, 70.0]}, look, STDS).found] == ["scale"]


def test_equal_bytes_are_preferred_to_an_earlier_setting_of_equal_look(find):
    def look(p):
        byte = {50.0: "a", 61.0: "b", 70.0: "b"}[p["target_std"]]
        seen = None if p["target_std"] == 61.0 else own(p)
        return f"{own(p)} {byte}", seen

    assert as_text(find({"target_std": [50.0, 61.0, 70.0]}, look, STDS)) == [
        ("target_std 70", "target_std 61", "bytes")
    ]


def test_images_are_compared_where_they_are_given(find):
    axes, look = {"target_std": [50.0, 70.0]}, lambda p: (f"{own(p)} {p['target_std']}",) * 2
    assert find(axes, look, STDS).found == []
    pixels = {"a red apple": "one", "a blue boat": "other"}

    def read_pixels(image):
        found = [value for prompt, value in pixels.items() if prompt in image and "text of" not in image]
        return found[0] if found else None

    found = find(axes, look, STDS, read_pixels)
    assert as_text(found)[-1] == ("target_std 70", "target_std 50", "images")
    pixels.pop("a red apple")
    assert find(axes, look, STDS, read_pixels).found == [], "an image that is missing equals none"


def test_settings_of_other_sampling_are_apart(find):
    found = find({"num_inference_steps": [4, 8]}, lambda p: (own(p),) * 2, {"alpha": 0.5})
    assert found.found == []


def test_rows_without_a_sketch_are_compared_by_their_bytes_alone(find):
    found = find(
        {"target_std": [50.0, 61.0, 70.0]},
        lambda p: (own(p) if p["target_std"] > 60 else f"{own(p)} 50", None),
        STDS,
    )
    assert as_text(found) == [("target_std 70", "target_std 61", "bytes")]


def test_what_is_not_known_is_counted(find):
    found = find(
        {"target_std": [50.0, 61.0, 70.0]},
        lambda p: None if (p["target_std"], p["prompt"]) == (61.0, "a blue boat") else (own(p),) * 2,
        STDS,
    )
    assert as_text(found) == [("target_std 70", "target_std 50", "bytes")]
    assert (found.settings, found.unknown) == (3, 1)
    assert headline(found, "demo") == (
        "demo: 1 of 3 settings with alpha above 0 is a no-op (1 not compared, since the conditioning of a cell is not known)"
    )


def test_seeds_and_references_are_no_settings(find):
    found = find(
        {"hidden_layer": [-2, -4], "seed": [1, 2], "reference": ["house", "tree"]},
        lambda p: (f"{p['prompt']} {p['reference']}",) * 2,
        {"alpha": 0.5},
    )
    assert (found.settings, len(found.found)) == (2, 1)
    assert len(found.found[0].pairs) == 2 * 2 * 2


def test_a_single_setting(find):
    found = find({}, lambda p: (f"text of {p['prompt']}",) * 2, {"alpha": 0.5})
    assert one_line(found, "demo") == (
        "demo: 1 of 1 setting with alpha above 0 is a no-op: every setting = the text alone"
    )


def test_forty_no_ops_of_one_pattern_are_one_group(find):
    """Scales at alpha 1, for every layer and two of three token modes: the words do not grow with the number."""
    modes = ["full", "text_only", "image_only"]

    def look(p):
        hidden = p["alpha"] == 1.0 and p["token_mode"] != "image_only"
        seen = f"{own(p)} {p['token_mode']}"
        return f"{seen} {p['target_std']}", seen if hidden else f"{seen} {p['target_std']}"

    found = find(
        {
            "hidden_layer": [-2, -3, -4, -5, -6],
            "token_mode": modes,
            "alpha": [0.5, 1.0],
            "target_std": [50.0, 55.0, 61.0, 65.0, 70.0],
        },
        look,
        {"normalization": "global"},
    )
    assert len(found.found) == 5 * 2 * 4
    assert groups(found) == [
        ("scale", "target_std 55 or 61 or 65 or 70 = target_std 50, at token_mode full or text_only, alpha 1")
    ]


def test_a_pattern_that_is_no_product_names_the_first_places(find):
    hidden = [(-2, 0.25), (-4, 0.5), (-6, 0.75), (-6, 1.0)]

    def look(p):
        bare = (p["hidden_layer"], p["alpha"]) in hidden
        return (own(p) if bare else f"{own(p)} {p['target_std']}",) * 2

    found = find(
        {"hidden_layer": [-2, -4, -6], "alpha": [0.25, 0.5, 0.75, 1.0], "target_std": [50.0, 70.0]},
        look,
        {"normalization": "global"},
    )
    assert groups(found) == [
        (
            "bytes",
            "target_std 70 = target_std 50, at hidden_layer -2, alpha 0.25 / hidden_layer -4, alpha 0.5 / hidden_layer "
            "-6, alpha 0.75 / 1 more",
        )
    ]


def test_many_values_are_named_by_their_ends_or_number():
    labels = [str(number) for number in range(12)]

    def text(chosen):
        items = [NoOp({"n": labels[at]}, None, "bytes", []) for at in chosen]
        return groups(NoOps(items, 12, 0, 0, {"n": labels}))[0][1]

    assert text(range(2, 8)) == "n 2 or 3 or 4 or 5 or 6 or 7 = the text alone"
    assert text(range(2, 9)) == "n 2 to 8 (7 values) = the text alone"
    assert text([0, 1, 2, 3, 5, 7, 9, 11]) == "n 0 or 1 or 2 or 3 or 5 or 3 others = the text alone"


def test_a_line_names_the_first_groups():
    labels = [str(number) for number in range(20)]
    items = [NoOp({"seven": str(n)}, {"seven": str(n + 1)}, "bytes", []) for n in range(0, 20, 2)]
    assert one_line(NoOps(items, 20, 0, 0, {"seven": labels}), "e", most=2).endswith(
        ": seven 0 = seven 1; seven 2 = seven 3; and 8 groups more"
    )


def test_the_first_cell_that_is_alike(tmp_path):
    design = expand(tmp_path, experiment({"target_std": [50.0, 70.0], "seed": [1, 2]}, STDS))
    resolved = resolve(design, lambda p: (f"{own(p)} {p['target_std']}", own(p)))
    first = first_alike([cell.cell for cell in design.cells], resolved)
    parameters = {cell.cell: cell.parameters for cell in design.cells}
    for cell, other in first.items():
        mine, its = parameters[cell], parameters[other]
        assert (mine["prompt"], mine["seed"]) == (its["prompt"], its["seed"])
        assert its.get("target_std") == (50.0 if mine["alpha"] else None)
    assert len(set(first.values())) == 2 * 2 * 2
