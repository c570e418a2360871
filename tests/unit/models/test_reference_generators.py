"""Generators that are shown references: images equal those of their pipelines called with the prompt and the images."""

import numpy as np
import pytest
from PIL import Image

from graftwork.models.families import generator_families, generator_family
from graftwork.models.generator import Batch
from graftwork.models.loading import load_reference_generator
from graftwork.models.reference_generator import with_references
from tests.small_generators import generator_entries
from tests.unit.models.conftest import PROMPT
from tests.unit.models.test_generator_families import ALLOWED, FACTOR, SAMPLING, SEED, distance, subject_of


def picture(seed: int, width: int = 96, height: int = 64) -> Image.Image:
    """Returns coloured blocks."""
    blocks = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    return Image.fromarray(blocks).resize((width, height), Image.Resampling.NEAREST)


@pytest.fixture(scope="module")
def klein(tmp_path_factory, entries, hardware, qwen3):
    folder = tmp_path_factory.mktemp("generators")
    subject = subject_of("flux2_klein", folder, entries, hardware, qwen3)
    subject.generator = load_reference_generator("klein", subject.entry, hardware)
    return subject


def made(subject, captions, pictures, seeds=None, **changes):
    batch = Batch(captions, seeds or [SEED] * len(captions), **{**SAMPLING, **changes})
    images, finite = subject.generator.generate(with_references(batch, pictures, None))
    assert finite.all()
    return images


def test_an_edited_image_is_that_of_the_pipeline(klein):
    one, other = picture(1), picture(2, 130, 70)
    for pictures in ([one], [other], [one, other]):
        own = made(klein, [klein.caption(PROMPT)], pictures)[0]
        assert distance(own, klein.expected(image=list(pictures))) < ALLOWED
    own = made(klein, [klein.caption(PROMPT)], [one])[0]
    for others in ([other], [one, other], [other, one], None):
        assert distance(own, klein.expected(image=others)) > FACTOR * ALLOWED, others
    assert distance(own, klein.expected("a house", image=[one])) > FACTOR * ALLOWED


def test_rows_with_references_do_not_depend_on_their_neighbours(klein):
    captions = [klein.caption(text) for text in (PROMPT, "a house", "a red bird in a tree")]
    together = made(klein, captions, [picture(1)], [1, 2, 3])
    for row, caption in enumerate(captions):
        rows = [klein.generator.padding_row(len(caption))] * 3
        rows[row] = caption
        alone = made(klein, rows, [picture(1)], [9 if place != row else row + 1 for place in range(3)])
        assert np.array_equal(alone[row], together[row])


def test_each_step_may_have_a_caption_of_its_own_beside_references(klein):
    one, other = klein.caption(PROMPT), klein.caption("a house")
    constant, changing = made(klein, [[one] * 4, [one, one, other, other]], [picture(1)])
    assert np.array_equal(constant, made(klein, [one, one], [picture(1)])[0])
    assert distance(constant, changing) > FACTOR * ALLOWED


def test_what_is_refused(klein, hardware, tmp_path):
    caption = klein.caption(PROMPT)
    plain = Batch([caption], [1], **SAMPLING)
    with pytest.raises(ValueError, match="without references"):
        klein.generator.generate(plain)
    with pytest.raises(ValueError, match=r"reference_scale 0\.5 was given"):
        klein.generator.generate(with_references(plain, [picture(1)], 0.5))
    entry = generator_entries(tmp_path)["krea2"]
    with pytest.raises(ValueError, match="of family krea2 takes no references"):
        load_reference_generator("krea2", entry, hardware)


@pytest.mark.parametrize(("width", "height"), [(64, 64), (63, 200), (64, 512), (64, 513), (700, 80)])
def test_sizes_are_refused_where_the_pipeline_refuses_them(klein, width, height):
    problem = generator_family("flux2_klein").references.image_problem(width, height)
    try:
        klein.pipeline.image_processor.check_image_input(picture(1, width, height))
    except ValueError:
        assert problem is not None
    else:
        assert problem is None


def test_controls_that_families_can_make_are_keys_of_experiments():
    from graftwork.design.schema import ControlName, Experiment

    made = {family.references.control for family in generator_families().values() if family.references}
    assert made <= set(ControlName.__args__)
    assert made <= set(Experiment.model_fields)
