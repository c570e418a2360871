"""A rotation with one scale."""

import numpy as np

from graftwork.maps.corpus import PairedCorpus
from graftwork.maps.linear import Coordinates
from graftwork.maps.registry import Fit, MethodParameters, register_method


@register_method(
    "procrustes",
    formula="y = s x R + b, R orthogonal: R = U V' of the SVD of X'Y, s = trace(S) / trace(X'X)",
    source="Schonemann (1966), A generalized solution of the orthogonal Procrustes problem",
)
def fit_procrustes(corpus: PairedCorpus, parameters: MethodParameters) -> Fit:
    """Fits a rotation, reflections included, with one scale and a shift."""
    import torch

    at = Coordinates.of(corpus.total, corpus.normalization, "identity")
    xx, xy = at.moments(corpus.total)
    left, singular, right = torch.linalg.svd(torch.from_numpy(xy))
    scale = float(singular.sum()) / float(np.trace(xx))
    weight = at.to_states(scale * (left @ right).numpy())
    return Fit({"weight": weight, "bias": at.bias(weight)}, {"scale": scale})
