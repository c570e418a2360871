"""No map at all: the control that every other one is compared with."""

import numpy as np

from graftwork.maps.corpus import PairedCorpus
from graftwork.maps.linear import Coordinates
from graftwork.maps.pairs import STANDARDIZE
from graftwork.maps.registry import Fit, MethodParameters, register_method


@register_method("identity", formula="y = x", source="control", is_control=True)
def fit_identity(corpus: PairedCorpus, parameters: MethodParameters) -> Fit:
    """Leaves the states as they are; with normalization `standardize`, gives them the target's mean and spread."""
    dim = len(corpus.total.x)
    if corpus.normalization != STANDARDIZE:
        return Fit({"scale": np.ones(dim), "bias": np.zeros(dim)})
    at = Coordinates.of(corpus.total, corpus.normalization, "identity")
    scale = at.y_scale / at.x_scale
    return Fit({"scale": scale, "bias": at.y_mean - at.x_mean * scale})
