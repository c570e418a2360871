"""A full linear map, shrunk."""

from typing import Annotated

from pydantic import Field

from graftwork.maps.corpus import PairedCorpus
from graftwork.maps.linear import Coordinates, Towards, solve_ridge
from graftwork.maps.registry import Fit, MethodParameters, register_method

Ridges = Annotated[list[Annotated[float, Field(gt=0)]], Field(min_length=1)]
RIDGES = [1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0]


class RidgeParameters(MethodParameters):
    """Parameters of `fit_ridge`."""

    towards: Towards = Field(
        "identity",
        description="What the map is shrunk towards: `identity` for encoders that are related, `zero` for others.",
    )
    ridges: Ridges = Field(
        default_factory=lambda: list(RIDGES),
        description="Candidates for the weight of the penalty, with states standardized. Folds of prompts choose one.",
    )


@register_method(
    "ridge",
    formula="y = x W + b, W = W0 + (X'X + n ridge)^-1 (X'Y - X'X W0), W0 = 1 or 0",
    source="Hoerl and Kennard (1970), shrunk to W0; five folds of prompts choose the ridge",
    parameters=RidgeParameters,
)
def fit_ridge(corpus: PairedCorpus, parameters: RidgeParameters) -> Fit:
    """Fits a full linear map, shrunk towards the identity or towards zero."""
    towards = parameters.towards
    chosen = corpus.chosen_ridge(parameters.ridges, towards)
    at = Coordinates.of(corpus.total, corpus.normalization, towards)
    weight = at.to_states(solve_ridge(*at.moments(corpus.total), chosen.ridge, towards))
    losses = {f"{ridge:g}": loss for ridge, loss in chosen.losses.items()}
    return Fit({"weight": weight, "bias": at.bias(weight)}, {"ridge": chosen.ridge, "loss_of_ridge": losses})
