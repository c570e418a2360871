"""A control: a rotation drawn at random."""

from typing import Annotated

from pydantic import Field

from graftwork.maps.corpus import PairedCorpus
from graftwork.maps.linear import Coordinates
from graftwork.maps.registry import Fit, MethodParameters, register_method


class RotationParameters(MethodParameters):
    """Parameters of `draw_rotation`."""

    seed: Annotated[int, Field(ge=0)] = Field(0, description="Decides the rotation.")


@register_method(
    "random_rotation",
    formula="y = x Q + b, Q orthogonal, drawn uniformly",
    source="control; QR of a Gaussian matrix, Mezzadri (2007)",
    parameters=RotationParameters,
    is_control=True,
)
def draw_rotation(corpus: PairedCorpus, parameters: RotationParameters) -> Fit:
    """Rotates at random, with the target's mean and scales: keeps all distances between tokens, and no direction."""
    import torch

    dim = len(corpus.total.x)
    random = torch.Generator().manual_seed(parameters.seed)
    q, r = torch.linalg.qr(torch.randn(dim, dim, generator=random, dtype=torch.float64))
    at = Coordinates.of(corpus.total, corpus.normalization, "identity")
    weight = at.to_states((q * torch.sign(torch.diagonal(r))).numpy())
    return Fit({"weight": weight, "bias": at.bias(weight)})
