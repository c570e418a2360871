"""At one batch shape a row does not depend on its neighbours, bit for bit, and nothing depends on when it is made."""

import numpy as np
import pytest
import torch

from graftwork.models.generator import Batch
from tests.gpu.conftest import FAST, SAMPLING


@pytest.mark.parametrize("settings", [{}, {"fuse_blocks": True}, {"vae_slicing": True}, FAST], ids=str)
@pytest.mark.parametrize("size", [512, 1024])
def test_a_row_is_bit_equal_whatever_its_neighbours(build, captions, settings, size):
    generator = build(**settings)
    sampling = {**SAMPLING, "height": size, "width": size}
    filler = generator.padding_row(128)
    reference = generator.generate(Batch(captions, [1, 2, 3, 4], **sampling))[0]
    for row, (given, seeds) in enumerate(
        [
            ([captions[0], captions[3], captions[2], captions[1]], [1, 9, 9, 9]),
            ([filler, captions[1], filler, filler], [0, 2, 0, 0]),
            ([captions[1], captions[1], captions[2], filler], [5, 6, 3, 0]),
            ([filler, filler, filler, captions[3]], [0, 0, 0, 4]),
        ]
    ):
        images = generator.generate(Batch(given, seeds, **sampling))[0]
        assert np.array_equal(images[row], reference[row]), row
        other = (row + 1) % 4
        assert not np.array_equal(images[other], reference[other]), "control: another row is another image"
    assert np.array_equal(generator.generate(Batch(captions, [1, 2, 3, 4], **sampling))[0], reference)


def test_another_generator_gives_equal_bytes(build, captions):
    """Choices of kernels must not depend on what ran before; with FAST that includes the compiler's."""
    images = [build(**FAST).generate(Batch(captions, [1, 2, 3, 4], **SAMPLING))[0] for _ in range(2)]
    assert np.array_equal(*images)


def test_launching_does_not_wait_for_the_device(build, captions):
    """After the first batch, which copies tables and the schedule to the device."""
    generator = build()
    generator.generate(Batch(captions, [1, 2, 3, 4], **SAMPLING))
    torch.cuda.set_sync_debug_mode("error")
    try:
        launched = generator.launch(Batch(captions, [5, 6, 7, 8], **SAMPLING))
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert launched.result()[1].all()
