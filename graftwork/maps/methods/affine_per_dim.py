"""A factor and a shift for every dimension by itself."""

import numpy as np

from graftwork.maps.corpus import PairedCorpus
from graftwork.maps.registry import Fit, MethodParameters, register_method


@register_method(
    "affine_per_dim", formula="y_d = a_d x_d + b_d, least squares", source="simple linear regression"
)
def fit_affine_per_dim(corpus: PairedCorpus, parameters: MethodParameters) -> Fit:
    """Fits a factor and a shift to every dimension by least squares."""
    total = corpus.total
    x_mean, y_mean = total.x / total.n, total.y / total.n
    variance = np.diag(total.xx) / total.n - np.square(x_mean)
    covariance = np.diag(total.xy) / total.n - x_mean * y_mean
    varies = variance > 1e-12 * np.median(variance)
    scale = np.divide(covariance, variance, out=np.zeros_like(variance), where=varies)
    return Fit({"scale": scale, "bias": y_mean - x_mean * scale})
