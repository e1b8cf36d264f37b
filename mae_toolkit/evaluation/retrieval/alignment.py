"""Whether two images show the same pixels: one lies in the other, however it was cropped, scaled and encoded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from mae_toolkit.datasets.any_image import check_finite
from mae_toolkit.datasets.image_io import decode_image, open_image
from mae_toolkit.datasets.image_limits import DEFAULT_LIMITS, ImageLimits
from mae_toolkit.datasets.image_measures import average_channels

SIDE = 256  # pixels of the longer side at which images are compared
MOST_POINTS = 300
CONTRAST = 0.01  # of a point; low, for images that are nearly empty
RATIO = 0.8  # of the distances to the best and the second best point (Lowe 2004, section 7.1)
LEAST_POINTS = 5  # that agree on one place; the pixels decide
MOST_SHIFT = 3.0  # pixels by which a point may miss it
MOST_SCALE = 8.0
LEAST_SHARE = 0.25  # of the smaller image that the other one must show
LEAST_CORRELATION = 0.9  # of the pixels that both show
LEAST_CONTRAST = 2.0  # standard deviation of these pixels, of 255
WHOLE = 0.04  # of a side, by which the corners of images that show the same may differ
BLUR = 1.5  # pixels; beyond it, compression and interpolation change nothing


@dataclass(frozen=True, eq=False)
class Look:
    """What is compared of an image.

    Attributes:
        gray: (H, W) uint8, with a longer side of 256 pixels.
        points: (K, 2) float32, x and y of points that are found again in a copy.
        descriptors: (K, 128) uint8, what each looks like (SIFT).
    """

    gray: np.ndarray
    points: np.ndarray
    descriptors: np.ndarray


@dataclass(frozen=True, eq=False)
class Alignment:
    """How an image lies in another one.

    Attributes:
        corners: (4, 2), x and y of the corners of the second image in the first, in parts of its width and height.
        correlation: Of the gray values that both show, from -1 to 1.
        share: Part of the smaller image that both show.
        points: Points that agree.
    """

    corners: np.ndarray
    correlation: float
    share: float
    points: int

    @property
    def is_whole(self) -> bool:
        """Return whether both images show the same as a whole, and not a part of each other."""
        unit = np.array([[0, 0], [1, 0], [1, 1], [0, 1]])
        return bool(np.abs(np.sort(self.corners, axis=0) - np.sort(unit, axis=0)).max() < WHOLE)

    def inverse(self) -> np.ndarray:
        """Return the corners (4, 2) of the first image in the second, in parts of its width and height."""
        unit = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], np.float32)
        matrix = cv2.getAffineTransform(self.corners[:3].astype(np.float32), unit[:3])
        return unit @ matrix[:, :2].T + matrix[:, 2]


def look_at(path: str | Path, limits: ImageLimits = DEFAULT_LIMITS) -> Look:
    """Read an image in gray, and find the points by which it is aligned.

    Raises:
        BrokenImageError: If it cannot be read.
    """
    image = decode_image(open_image(path, limits), (SIDE, SIDE))
    check_finite(image, path)
    return describe(average_channels(image, path))


def describe(gray: np.ndarray) -> Look:
    """Find the points of a gray image (H, W) of any range."""
    low, high = np.percentile(gray, (0.5, 99.5))
    stretched = ((gray - low) * (255 / max(high - low, 1e-12))).clip(0, 255).astype(np.uint8)
    scale = SIDE / max(gray.shape)
    width, height = (max(8, round(side * scale)) for side in gray.shape[::-1])
    small = cv2.resize(stretched, (width, height), interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    detector = cv2.SIFT_create(MOST_POINTS, contrastThreshold=CONTRAST)  # type: ignore[attr-defined]
    found, descriptors = detector.detectAndCompute(small, None)
    points = np.array([point.pt for point in found], np.float32).reshape(-1, 2)
    described = np.zeros((0, 128), np.uint8) if descriptors is None else descriptors.round().astype(np.uint8)
    return Look(small, points, described)


def align(first: Look, second: Look) -> Alignment | None:
    """Find where an image lies in another, turned, scaled and shifted, or which part of both is the same.

    Points that look the same agree on one place (SIFT and RANSAC); then the pixels there are compared.

    Args:
        first: An image.
        second: Another one.

    Returns:
        The place, or None if the images do not show the same.
    """
    found = _find_place(first, second)
    if found is None:
        return None
    matrix, points = found
    scale = float(np.sqrt(abs(np.linalg.det(matrix[:, :2]))))
    if not 1 / MOST_SCALE < scale < MOST_SCALE:
        return None
    height, width = first.gray.shape
    moved = cv2.warpAffine(second.gray, matrix, (width, height), flags=cv2.INTER_LINEAR)
    shared = cv2.warpAffine(np.ones(second.gray.shape, np.uint8), matrix, (width, height), flags=cv2.INTER_NEAREST) > 0
    share = float(shared.sum() / min(first.gray.size, second.gray.size * scale**2))
    correlation = _correlate(first.gray, moved, shared)
    if share < LEAST_SHARE or correlation < LEAST_CORRELATION:
        return None
    y, x = second.gray.shape
    corners = np.array([[0, 0, 1], [x, 0, 1], [x, y, 1], [0, y, 1]]) @ matrix.T / (width, height)
    return Alignment(corners, correlation, min(share, 1.0), points)


def _find_place(first: Look, second: Look) -> tuple[np.ndarray, int] | None:
    """Find the rotation, scale and shift (2, 3) from the second image to the first, and how many points agree on it."""
    if min(len(first.points), len(second.points)) < LEAST_POINTS:
        return None
    matcher = cv2.BFMatcher(cv2.NORM_L2)
    matches = matcher.knnMatch(second.descriptors.astype(np.float32), first.descriptors.astype(np.float32), k=2)
    good = [best for best, other in matches if best.distance < RATIO * other.distance]
    if len(good) < LEAST_POINTS:
        return None
    start = second.points[[match.queryIdx for match in good]]
    end = first.points[[match.trainIdx for match in good]]
    matrix, inliers = cv2.estimateAffinePartial2D(
        start, end, method=cv2.RANSAC, ransacReprojThreshold=MOST_SHIFT, maxIters=2000, confidence=0.999
    )
    if matrix is None:
        return None
    # Several points of one image may be drawn to one of the other: they are no evidence of their own.
    places = {tuple(place) for place in end[inliers.ravel() > 0].round().astype(int).tolist()}
    return (matrix, len(places)) if len(places) >= LEAST_POINTS else None


def _correlate(first: np.ndarray, second: np.ndarray, shared: np.ndarray) -> float:
    """Correlate the gray values where both images show something; 0 where there is nothing to see."""
    inner = cv2.erode(shared.astype(np.uint8), np.ones((3, 3), np.uint8), borderValue=0) > 0
    if inner.sum() < 64:
        return 0.0
    # The blur of what both show, as there is nothing beside it.
    weight = cv2.GaussianBlur(shared.astype(np.float32), (0, 0), BLUR).clip(1e-6)
    values = []
    for image in (first, second):
        blurred = cv2.GaussianBlur(np.where(shared, image, 0).astype(np.float32), (0, 0), BLUR) / weight
        values.append(blurred[inner])
    if min(part.std() for part in values) < LEAST_CONTRAST:
        return 0.0
    return float(np.corrcoef(*values)[0, 1])
