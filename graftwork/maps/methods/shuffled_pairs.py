"""A control: a map fitted on pairs that do not belong together."""

from typing import Annotated

import numpy as np
from pydantic import Field

from graftwork.maps.corpus import FOLDS, PairedCorpus
from graftwork.maps.linear import Coordinates, choose_ridge, solve_ridge
from graftwork.maps.methods.ridge import RIDGES, Ridges
from graftwork.maps.registry import Fit, MethodParameters, register_method
from graftwork.maps.sums import sum_folds, total_of


class ShuffleParameters(MethodParameters):
    """Parameters of `fit_shuffled_pairs`."""

    seed: Annotated[int, Field(ge=0)] = Field(0, description="Decides the order.")
    ridges: Ridges = Field(default_factory=lambda: list(RIDGES), description="As in `ridge`.")


@register_method(
    "shuffled_pairs",
    formula="ridge towards 0 on pairs (x_i, y_p(i)), p a permutation drawn at random",
    source="control",
    parameters=ShuffleParameters,
    is_control=True,
)
def fit_shuffled_pairs(corpus: PairedCorpus, parameters: ShuffleParameters) -> Fit:
    """Fits a ridge on shuffled pairs: all that it can learn is the mean of the target."""
    pairs = corpus.everything
    order = np.random.Generator(np.random.PCG64(parameters.seed)).permutation(len(pairs.target))
    target = pairs.target[order]
    parts = (
        (fold, pairs.source[0][pairs.folds == fold], target[pairs.folds == fold]) for fold in range(FOLDS)
    )
    folds = sum_folds(parts, FOLDS, target.shape[1])
    chosen = choose_ridge(folds, parameters.ridges, corpus.normalization, "zero")
    total = total_of(folds)
    at = Coordinates.of(total, corpus.normalization, "zero")
    weight = at.to_states(solve_ridge(*at.moments(total), chosen.ridge, "zero"))
    return Fit({"weight": weight, "bias": at.bias(weight)}, {"ridge": chosen.ridge})
