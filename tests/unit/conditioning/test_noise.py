"""Noise as a control: each token moves as far as in the blend, in a direction that only the seed decides."""

import pytest
import torch

from graftwork.conditioning.build import equal_norm_noise

TEXT = torch.randn(6, 32, generator=torch.Generator().manual_seed(1))


def blend(tokens: int) -> torch.Tensor:
    return torch.randn(tokens, 32, generator=torch.Generator().manual_seed(2)) * 3


def distances(one: torch.Tensor, two: torch.Tensor) -> torch.Tensor:
    return torch.linalg.vector_norm(one - two, dim=1)


def test_every_token_moves_as_far_as_in_the_blend():
    mixed = 0.7 * blend(6) + 0.3 * TEXT
    mixed[2] = TEXT[2]
    noisy = equal_norm_noise(TEXT, mixed, 0)
    torch.testing.assert_close(distances(noisy, TEXT), distances(mixed, TEXT))
    assert torch.equal(noisy[2], TEXT[2])
    cosine = torch.nn.functional.cosine_similarity(noisy - TEXT, mixed - TEXT)
    assert cosine[[0, 1, 3, 4, 5]].abs().max() < 0.6


def test_the_direction_is_that_of_the_seed_at_every_size():
    one, two = (equal_norm_noise(TEXT, TEXT + alpha * (blend(6) - TEXT), 5) - TEXT for alpha in (0.5, 1.0))
    torch.testing.assert_close(2 * one, two)
    other = equal_norm_noise(TEXT, blend(6), 6) - TEXT
    assert torch.nn.functional.cosine_similarity(other, two).abs().max() < 0.6


@pytest.mark.parametrize("tokens", [4, 9])
def test_tokens_beyond_the_text_have_the_norm_of_the_blends_own(tokens):
    mixed = blend(tokens)
    noisy = equal_norm_noise(TEXT, mixed, 0)
    assert noisy.shape == mixed.shape
    shared = min(6, tokens)
    torch.testing.assert_close(
        distances(noisy[:shared], TEXT[:shared]), distances(mixed[:shared], TEXT[:shared])
    )
    torch.testing.assert_close(
        torch.linalg.vector_norm(noisy[shared:], dim=1), torch.linalg.vector_norm(mixed[shared:], dim=1)
    )
