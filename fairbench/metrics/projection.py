"""Projection of image features onto two dimensions."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fairbench.core.errors import DataError


@dataclass(frozen=True)
class Projection:
    """Features in their first two principal components: of clean images first, then of the same under attack.

    point (N, 2); label (N,) the true class; prediction (N,); adversarial (N,) bool; image (N,) its position
    in the test set. `explained`: the share of the variance along each of the two axes.
    """

    point: NDArray[np.float64]
    label: NDArray[np.int64]
    prediction: NDArray[np.int64]
    adversarial: NDArray[np.bool_]
    image: NDArray[np.int64]
    explained: tuple[float, float]


def plane(feature: NDArray[np.float64]) -> tuple[NDArray[np.float64], tuple[float, float]]:
    """Features (N, D) in their first two principal components, (N, 2), and the shares of the variance.

    The sign of a component is arbitrary, so its largest loading is made positive. Raises DataError for fewer
    than three points or fewer than two features.
    """
    from sklearn.decomposition import PCA  # type: ignore[import-untyped]

    if min(feature.shape) < 2 or len(feature) < 3:
        raise DataError(f"features of shape {feature.shape} cannot be projected onto two dimensions.")
    fitted = PCA(n_components=2, svd_solver="full").fit(feature)
    largest = np.abs(fitted.components_).argmax(1)
    sign = np.sign(fitted.components_[np.arange(2), largest])
    first, second = (float(share) for share in np.nan_to_num(fitted.explained_variance_ratio_))
    return fitted.transform(feature) * sign, (first, second)
