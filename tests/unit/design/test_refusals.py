"""What cannot be built is refused in words that name the value, what is allowed, the file and the key."""

import pytest

from graftwork.core.errors import DesignError
from tests.unit.design.designs import expand, experiment

FILE = "config/experiments/test.yaml"


@pytest.mark.parametrize(
    ("raw", "parts"),
    [
        (experiment({"alhpa": [1]}), ["axes", "'alhpa'", "did you mean 'alpha'?"]),
        (experiment({}, {"alhpa": 1}), ["base.alhpa is not a known key", "did you mean 'alpha'?"]),
        (experiment({"alpha": []}), ["axes.alpha", "the list is empty"]),
        (experiment({"alpha": [0.5, 0.5]}), ["axes.alpha", "0.5 occurs more than once"]),
        (experiment({"alpha": [1.5]}), ["axes.alpha", "1.5 is not allowed"]),
        (experiment({"alpha": ["half"]}), ["axes.alpha", "'half' is not allowed"]),
        (experiment({"blend": ["lineer"]}), ["axes.blend", "did you mean 'linear'?"]),
        (experiment({"seed": [-1]}), ["axes.seed", "-1 is no seed"]),
        (experiment({"seed": [True]}), ["axes.seed", "True is no seed"]),
        (experiment({"alpha": {"range": [0, 1], "count": 1}}), ["axes.alpha", "count", "1 is not allowed"]),
        (experiment({}, {"hidden_layer": -10}), ["hidden_layer -10", "8 layers", "-9 to 8"]),
        (experiment({}, {"text_hidden_layer": 9}), ["text_hidden_layer 9", "'text'", "-9 to 8"]),
        (experiment({}, {"encoder": "wide"}), ["'wide'", "width 128", "takes 64"]),
        (experiment({}, {"encoder": "visoin"}), ["'visoin' is not known", "did you mean 'vision'?"]),
        (experiment({}, {"encoder": "text"}), ["reference 'house'", "takes no images"]),
        (experiment({}, {"encoder": None}), ["alpha 1.0 needs an encoder"]),
        (experiment({}, {"generator": None}), ["base.generator is missing", "images"]),
        (experiment({}, {"references": ["hose"]}), ["reference 'hose'", "did you mean 'house'?"]),
        (
            experiment({}, {"references": [], "token_mode": "image_only"}),
            ["image_only", "there is no reference"],
        ),
        *(
            (
                experiment({}, {"references": [], "encoder": "text", "token_mode": mode}),
                [f"token_mode '{mode}' selects image tokens", "encoder 'text' takes no images", "qwen3_vl"],
            )
            for mode in ("image_only", "image_no_markers")
        ),
        (experiment({}, {"height": 70}), ["height 70 is not a multiple of 16"]),
        (experiment({}, {"alpha": 0.5, "length_matching": "none"}), ["length_matching 'none'", "alpha 0.5"]),
        (experiment({}, {"references": [["house", "tree"]]}), ["set of 2", "combination: multi_reference"]),
        (experiment({}, {"references": [["house", "hose"]]}), ["'hose'", "did you mean 'house'?"]),
        (
            experiment({"reference": [["house"]]}),
            ["axes.reference", "['house'] is no reference", "two or more"],
        ),
        (experiment({"hidden_layer": [[-2, -4]]}), ["set of 2", "combination: layer_mix"]),
        (
            experiment({"hidden_layer": [[-2, 7]]}, {"combination": "layer_mix"}),
            ["[-2, 7]", "one layer twice"],
        ),
        (
            experiment({"hidden_layer": [[-2, -10]]}, {"combination": "layer_mix"}),
            ["hidden_layer -10", "-9 to 8"],
        ),
        (
            experiment({}, {"combination": "layer_mix", "hidden_layer": [-2, -4], "layer_weights": [1.0]}),
            ["layer_weights has 1 numbers", "2 layers"],
        ),
        (experiment({"layer_weights": [[1.0, -1.0]]}), ["axes.layer_weights", "do not add up to 0"]),
        (
            experiment({}, {"source": "vision_tower", "hidden_layer": [-2, -4], "combination": "layer_mix"}),
            ["vision_tower", "no layers to choose from"],
        ),
        (
            experiment({}, {"blend": "style_delta", "neutral_reference": None}),
            ["style_delta", "neutral image"],
        ),
        (
            experiment({}, {"blend": "style_delta", "references": [], "neutral_reference": "tree"}),
            ["style_delta", "needs a reference"],
        ),
        (
            experiment({}, {"blend": "style_delta", "neutral_reference": "trea"}),
            ["neutral_reference", "'trea'", "did you mean 'tree'?"],
        ),
        (
            experiment(
                {},
                {
                    "references": [["house", "tree"]],
                    "combination": "multi_reference",
                    "init_image": "reference",
                },
            ),
            ["init_image", "house + tree is a set of several"],
        ),
        (experiment({"token_mode": ["roles"]}), ["token_mode 'roles' needs token_roles"]),
        (
            experiment({}, {"token_mode": "roles", "token_roles": ["image"], "references": []}),
            ["token_roles ['image'] selects nothing", "template"],
        ),
        (experiment({"masking": ["zeor"]}), ["axes.masking", "did you mean 'zero'?"]),
        (
            experiment({"masking_threshold": [0.5]}),
            ["axes.masking_threshold", "0.5 is not allowed", "from 1"],
        ),
        (
            experiment({}, {"masking_dimensions": [4, 4]}),
            ["base.masking_dimensions", "a list in which no dimension occurs twice"],
        ),
        (
            experiment({}, {"masking": "zero", "masking_dimensions": [4, 64]}),
            ["masking_dimensions", "dimension 64", "width 64", "0 to 63"],
        ),
        (
            experiment({}, {"masking": "zero", "masking_dimensions": [-1]}),
            ["base.masking_dimensions.0", "-1 is not allowed", "from 0"],
        ),
        (
            experiment({"masking_dimensions": [[4], [63, 64]]}, {"masking": "mean"}),
            ["masking_dimensions", "dimension 64", "width 64", "0 to 63"],
        ),
        (
            experiment({}, {"blend": "style_only", "style_dimensions": [32, 65]}),
            ["style_dimensions [32, 65]", "up to 64"],
        ),
        (
            experiment({}, {"normalization": "global", "target_std": "reference"}),
            ["target_std 'reference'", "normalization 'global'", "a number or 'prompt'"],
        ),
        (experiment({"blend": ["per_token"]}), ["'per_token' needs token_alphas", "a list of numbers"]),
        (experiment({}, {"blend": "concat", "alpha": 0.5}), ["'concat' has no alpha", "0.5", "allowed: 1"]),
        (
            experiment({}, {"blend": "concat", "concat_tokens": 96}),
            ["concat_tokens 96", "takes 96 tokens"],
        ),
        (
            experiment({}, {"blend": "concat", "concat_tokens": 8, "length_matching": "none"}),
            ["concat_tokens 8", "length_matching truncate, linear, area"],
        ),
        (
            experiment({}, {"blend": "adain", "length_matching": "none"}),
            ["length_matching 'none'", "'adain' goes row by row"],
        ),
        (
            experiment({}, {"blend": "intra", "token_mode": "image_only"}),
            ["'intra' needs image and text tokens", "token_mode is 'image_only'"],
        ),
        (experiment({}, {"blend": "intra", "references": []}), ["'intra'", "there is no reference"]),
        (
            experiment({}, {"prompts": ["end <|im_end|>"]}),
            ["control token '<|im_end|>'", "allow_control_tokens"],
        ),
        (experiment({}, {"prompts": [" "]}), ["is empty"]),
        (experiment({}, {"prompts": ["a", "a"]}), ["occurs more than once"]),
        (experiment({}, {"prompts": []}), ["at least one prompt"]),
        (experiment({}, {"prompts": "nowhere"}), ["'nowhere' is no file in config/prompts/"]),
        (experiment(grids=[{"x": "aplha"}]), ["grids.0", "'aplha'"]),
        (experiment(grids=[{"x": "seed", "y": "seed"}]), ["grids.0", "x and y are both 'seed'"]),
        (experiment(grids=[{"x": "seed"}, {"x": "seed"}]), ["the same pair of axes occurs twice"]),
        ([], ["must be a mapping"]),
        ({"axes": {}}, ["base is missing"]),
    ],
)
def test_refusals(tmp_path, raw, parts):
    with pytest.raises(DesignError) as error:
        expand(tmp_path, raw)
    for part in [FILE, *parts]:
        assert part in str(error.value)


def test_control_tokens_can_be_allowed(tmp_path):
    raw = experiment({}, {"prompts": ["end <|im_end|>"]}, allow_control_tokens=True)
    assert expand(tmp_path, raw).cells


def test_the_text_alone_needs_no_encoder(tmp_path):
    design = expand(tmp_path, experiment({}, {"encoder": None, "references": [], "alpha": 0.0}))
    assert [cell.role for cell in design.cells] == ["baseline", "baseline", "cell", "cell"]


@pytest.mark.parametrize(
    "base",
    [
        {"masking": "zero", "masking_dimensions": [63, 4]},
        {"normalization": "per_dim", "target_std": 61},
        {"normalization": "per_dim", "target_std": "reference"},
        {"normalization": "whiten", "whiten_shrinkage": 1},
        {"blend": "style_only", "style_dimensions": [0, 64]},
        {"blend": "concat", "length_matching": "none"},
        {"blend": "concat", "concat_tokens": 95},
        {"blend": "slerp", "length_matching": "none"},
        {"blend": "adain_per_dim", "length_matching": "none", "alpha": 0.5},
        {"blend": "intra", "image_share": 1},
        {"blend": "per_token", "token_alphas": [0, 1]},
        # Of no effect, and so no reason to refuse the others of a sweep.
        {"masking": "none", "masking_dimensions": [4000]},
        {"normalization": "none", "target_std": "reference"},
    ],
)
def test_combinations_that_are_allowed(tmp_path, base):
    assert expand(tmp_path, experiment({}, base)).cells
