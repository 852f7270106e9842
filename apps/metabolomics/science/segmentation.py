"""Parts of a sample whose pixels hold the same ions."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from apps.metabolomics.science.images import ImageSet

HOTSPOT = 0.99
"""Quantile of an image's pixels above which all count alike."""
COMPONENTS = 20
STARTS = 5
ROUNDS = 100

FloatArray = NDArray[np.float64]


def segment(images: ImageSet, segments: int, seed: int = 0) -> NDArray[np.int32]:
    """Group pixels by k-means of their ions.

    Each image is scaled to its 99th percentile, its square root taken, which evens out the noise of counts, and the set
    reduced to its first twenty principal components. Of five starts (k-means++) the tightest result is taken.

    Parameters
    ----------
    images : ImageSet
        n images.
    segments : int
        How many groups; fewer come back where pixels do not differ so much.
    seed : int
        Of the starts: the same seed gives the same segments.

    Returns
    -------
    ndarray of int32, shape (p,)
        The segment of each pixel that has a spectrum, from 1; the largest is 1.

    Raises
    ------
    ValueError
        There are fewer pixels than segments, or no images.
    """
    if not 1 <= segments <= images.sampled.size or not len(images):
        raise ValueError(
            f"{segments} segments cannot be made of {images.sampled.size} pixels and {len(images)} ion images"
        )
    features = principal_components(scaled(images))
    random = np.random.default_rng(seed)
    tried = (_lloyd(features, _starts(features, segments, random)) for _ in range(STARTS))
    labels, _ = min(tried, key=lambda found: found[1])
    sizes = np.bincount(labels)
    rank = np.empty(sizes.size, dtype=np.int32)
    rank[np.argsort(-sizes, kind="stable")] = np.arange(1, sizes.size + 1)
    return np.asarray(rank[labels], dtype=np.int32)


def scaled(images: ImageSet) -> ImageSet:
    """Scale each image to its 99th percentile, cut what is above, and take square roots."""
    values = images.values.copy()
    for i in range(len(images)):
        held = images.image(i)
        if held.size:
            top = np.quantile(held, HOTSPOT)
            values[images.offsets[i] : images.offsets[i + 1]] = np.sqrt(np.minimum(held / top, 1.0))
    return images.with_values(values)


def principal_components(images: ImageSet, most: int = COMPONENTS) -> FloatArray:
    """Project pixels on the directions in which images differ most, shape (p, at most `most`)."""
    pixels = images.sampled.size
    mean = np.zeros(len(images))
    for _, block in images.blocks():
        mean += block.sum(axis=1)
    mean /= pixels
    _, vectors = np.linalg.eigh(images.products() - pixels * np.outer(mean, mean))
    directions = vectors[:, ::-1][:, :most]
    projected = np.empty((pixels, directions.shape[1]))
    for part, block in images.blocks():
        projected[part] = (block - mean[:, None]).T @ directions
    return projected


def _starts(features: FloatArray, segments: int, random: np.random.Generator) -> FloatArray:
    """Draw centres far from one another: D. Arthur and S. Vassilvitskii, SODA 2007."""
    centres = [features[random.integers(len(features))]]
    nearest = _squared(features, centres[0])
    while len(centres) < segments and nearest.sum() > 0.0:
        centres.append(features[random.choice(len(features), p=nearest / nearest.sum())])
        nearest = np.minimum(nearest, _squared(features, centres[-1]))
    return np.array(centres)


def _lloyd(features: FloatArray, centres: FloatArray) -> tuple[NDArray[np.int64], float]:
    """Move centres to the means of what is nearest to them until nothing changes; returns labels and tightness."""
    labels = np.full(len(features), -1)
    for _ in range(ROUNDS):
        distances = np.stack([_squared(features, centre) for centre in centres], axis=1)
        nearest = distances.argmin(axis=1)
        if (nearest == labels).all():
            break
        labels = nearest
        # A centre that has lost all its pixels goes.
        _, labels = np.unique(labels, return_inverse=True)
        sizes = np.bincount(labels)
        sums = np.stack([np.bincount(labels, weights=column) for column in features.T], axis=1)
        centres = sums / sizes[:, None]
    tightness = sum(_squared(features[labels == k], centre).sum() for k, centre in enumerate(centres))
    return labels, float(tightness)


def _squared(features: FloatArray, centre: FloatArray) -> FloatArray:
    return np.asarray(((features - centre) ** 2).sum(axis=1), dtype=np.float64)
