"""Families register themselves: found by walking, complete, light to read, and named nowhere else."""

import re
import subprocess
import sys
from dataclasses import MISSING, fields, replace

import pytest
import torch
from diffusers import ZImageTransformer2DModel

from graftwork.core.code_digest import REPOSITORY, code_digest, used_code
from graftwork.models import families
from graftwork.models.acceleration import ATTENTION_BACKENDS, NEUTRAL
from graftwork.models.encoder import Encoder
from graftwork.models.families import (
    EncoderFamily,
    GeneratorFamily,
    encoder_families,
    encoder_family,
    families_with_images,
    family_of,
    first_step,
    generator_families,
    generator_family,
    load_class,
)
from graftwork.models.generator import Generator
from lab import real_shapes

ENCODERS, GENERATORS = encoder_families(), generator_families()


def test_modules_are_found_by_walking():
    assert list(ENCODERS) == ["clip_pair", "qwen3", "qwen3_vl", "safetensors"]
    assert list(GENERATORS) == ["flux2_klein", "krea2", "sdxl", "z_image"]
    for name in ENCODERS:
        assert encoder_family(name) is family_of("encoder", {"family": name}) is ENCODERS[name]
    assert generator_family("z_image") is family_of("generator", {"family": "z_image"})
    assert families_with_images() == "qwen3_vl or safetensors"


def test_a_family_that_does_not_exist_is_named_with_what_does():
    with pytest.raises(
        ValueError,
        match=r"family 't5' of encoder 'mine' is not one of clip_pair, qwen3, qwen3_vl, safetensors; set .*mine\.family",
    ):
        family_of("encoder", {"family": "t5"}, "mine")
    with pytest.raises(
        ValueError, match=r"'flux' of generator .* is not one of flux2_klein, krea2, sdxl, z_image"
    ):
        generator_family("flux")
    with pytest.raises(ValueError, match="kind 'vae' of a model is not one of encoder, generator"):
        family_of("vae", {"family": "flux"})


@pytest.mark.parametrize(
    "kind",
    [
        EncoderFamily,
        GeneratorFamily,
        families.CaptionFormat,
        families.SamplingOptions,
        families.GeneratorFacts,
    ],
)
def test_a_registration_says_everything(kind):
    """What is forgotten fails on import, with its name."""
    assert [field.name for field in fields(kind) if field.default is not MISSING] == []
    with pytest.raises(TypeError, match=fields(kind)[-1].name):
        kind()


@pytest.mark.parametrize("wrong", [{"layout": "side by side"}, {"padding": "none"}])
def test_a_layout_that_nothing_makes_fails_on_import(wrong):
    captions = next(iter(GENERATORS.values())).captions
    with pytest.raises(ValueError, match=f"{next(iter(wrong.values()))}.*allowed: "):
        replace(captions, **wrong)


@pytest.mark.parametrize("content", ["", "FAMILY = 1", "from graftwork.models.encoders.qwen3 import FAMILY"])
def test_a_module_that_registers_nothing_of_its_own_fails(tmp_path, monkeypatch, content):
    package = tmp_path / f"families_of_{abs(hash(content))}"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "mine.py").write_text(content)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(
        TypeError, match=rf"{package.name}\.mine must define FAMILY, a EncoderFamily with the name 'mine'"
    ):
        families._registered(package.name, EncoderFamily)


def test_a_family_is_one_module(tmp_path, monkeypatch):
    """A generator added as one module is found, described, and has its digest; nothing else is edited."""
    package = tmp_path / "generators_of_a_test"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "other.py").write_text(
        "from dataclasses import replace\n"
        "from graftwork.models.families import GENERATORS, generator_families\n"
        "from graftwork.models.generators.z_image import FAMILY as Z_IMAGE\n"
        "FAMILY = replace(Z_IMAGE, name='other', transformer_class='Other', generator='graftwork.models.hardware:parse_dtype')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    found = families._registered("generators_of_a_test", GeneratorFamily)
    assert list(found) == ["other"]
    monkeypatch.setattr(families, "generator_families", lambda: found)
    assert generator_family("other").transformer_class == "Other"
    other, known = (
        family.code(from_image=False) for family in (generator_family("other"), GENERATORS["z_image"])
    )
    assert code_digest(*other) != code_digest(*known)


def test_reading_registrations_imports_no_model_library():
    program = (
        "import sys; from graftwork.models.families import *; encoder_families(), generator_families();"
        "print(sorted({'torch', 'transformers', 'diffusers', 'huggingface_hub'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize("family", [*ENCODERS.values(), *GENERATORS.values()], ids=lambda family: family.name)
def test_the_class_of_a_family_is_what_runs_it_and_what_its_digest_covers(family):
    named = family.encoder if isinstance(family, EncoderFamily) else family.generator
    assert issubclass(load_class(named), Encoder if isinstance(family, EncoderFamily) else Generator)
    code = family.code if isinstance(family, EncoderFamily) else family.code(from_image=True)
    assert named in code
    for entry in code:
        parts = used_code(entry)
        assert not [part for part in parts if part.startswith("graftwork.models.families")]
        assert not [part for part in parts if not part.startswith(("graftwork.models", "graftwork.core"))]


@pytest.mark.parametrize("name", ENCODERS)
def test_a_family_encodes_prompts_in_batches_where_it_says_so(name):
    """Keys have the rows of a batch where the registration says that there are batches; the class must make them."""
    family = ENCODERS[name]
    encodes = load_class(family.encoder).encode_batches
    assert family.batches_prompts == (encodes is not Encoder.encode_batches)


def test_reading_an_image_counts_where_one_takes_part():
    reading = "graftwork.models.images:load_reference_image"

    def covers(code):
        return any(reading in used_code(entry) for entry in code)

    assert {name: covers(family.code) for name, family in ENCODERS.items()} == {
        "clip_pair": False,
        "qwen3": False,
        "qwen3_vl": True,
        "safetensors": True,
    }
    for family in GENERATORS.values():
        assert covers(family.code(from_image=True))
        assert not covers(family.code(from_image=False))


def test_settings_of_a_generator_are_known_ones():
    for family in GENERATORS.values():
        assert set(family.acceleration) <= set(NEUTRAL)
        assert set(family.attention_backends) <= set(ATTENTION_BACKENDS)


def test_z_image_is_what_its_transformer_does():
    """Padded length, visible padding, order and scale, of a small transformer with random weights."""
    shape = {
        "dim": 48,
        "n_heads": 2,
        "n_kv_heads": 2,
        "n_layers": 1,
        "n_refiner_layers": 1,
        "cap_feat_dim": 16,
    }
    shape |= {"axes_dims": [8, 8, 8], "axes_lens": [256, 64, 64]}
    torch.manual_seed(0)
    transformer = ZImageTransformer2DModel(**{**real_shapes.Z_IMAGE_TRANSFORMER, **shape}).eval()
    for parameter in transformer.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    caption, image = torch.randn(20, 16), torch.randn(16, 1, 8, 8)

    @torch.no_grad()
    def predicted(caption):
        return transformer([image], torch.tensor([0.5]), [caption], return_dict=False)[0][0]

    captions, reference = GENERATORS["z_image"].captions, predicted(caption)
    assert isinstance(captions.first_layer, families.CaptionNormWeight)
    assert (captions.layout, captions.padding) == ("single", "learned")
    assert captions.order_is_visible
    assert torch.allclose(predicted(7 * caption), reference, rtol=1e-3, atol=1e-4), "the scale is hidden"
    assert not torch.allclose(predicted(caption.flip(0)), reference, rtol=1e-3, atol=1e-3), "order is visible"
    lengths = []
    transformer.context_refiner[0].register_forward_pre_hook(
        lambda _, inputs: lengths.append(inputs[0].shape[1])
    )
    for tokens in (1, 32, 33):
        predicted(torch.randn(tokens, 16))
    assert lengths == [captions.padded_length(tokens) for tokens in (1, 32, 33)]
    with torch.no_grad():
        transformer.cap_pad_token.add_(1.0)
    assert not torch.allclose(predicted(caption), reference, rtol=1e-3, atol=1e-3), "padding takes part"


def test_strength_leads_to_the_same_step_in_every_family():
    assert [first_step(8, strength) for strength in (1.0, 0.5, 0.0)] == [0, 4, 8]


@pytest.mark.parametrize("family", [*ENCODERS, *GENERATORS])
def test_no_family_is_named_outside_its_own_module(family):
    quoted = re.compile(rf"[\"']{family}[\"']|generators\.{family}\b|encoders\.{family}\b")
    naming = [
        path.relative_to(REPOSITORY).as_posix()
        for path in sorted((REPOSITORY / "graftwork").rglob("*.py"))
        # `model_type` is transformers' name of a class, also of one that judges images.
        if quoted.search(re.sub(r"model_type=\S+", "", path.read_text(encoding="utf-8")))
    ]
    kind = "encoders" if family in ENCODERS else "generators"
    own = f"graftwork/models/{kind}/{family}"
    assert naming
    assert [path for path in naming if not path.startswith((f"{own}/", f"{own}.py"))] == []
