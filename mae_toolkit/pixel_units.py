"""Means and standard deviations of pixels, and whether they are in the units of the images."""

from collections.abc import Sequence

IMAGENET = 'mean=[123.675, 116.28, 103.53] and std=[58.395, 57.12, 57.375]'
IMAGENET_FROM_0_TO_1 = 'mean=[0.485, 0.456, 0.406] and std=[0.229, 0.224, 0.225]'


def find_wrong_units(mean: Sequence[float], std: Sequence[float], low: float, high: float) -> str | None:
    """Compare mean and standard deviation with the range of pixel values, and describe what does not fit.

    A typical mistake is ``mean=[0.485, 0.456, 0.406]`` for images with values from 0 to 255. A mean of 0 and a standard
    deviation of 1 are no statistics but a choice, so they are not compared.

    Args:
        mean: Mean per channel.
        std: Standard deviation per channel.
        low: Smallest value of the images, or 0.
        high: Largest value of the images, such as 255.

    Returns:
        A sentence with the remedy; None if the units fit.
    """
    stated = f'mean={_round(mean)} and std={_round(std)}'
    mean_is_small, std_is_small = any(mean) and max(mean) <= 1, max(std) < 1
    if high > 2 and (mean_is_small or not any(mean)) and max(std) <= 1 and (mean_is_small or std_is_small):
        factor = 255 if high <= 255 else 65535
        return (
            f'{stated} are of images from 0 to 1, and pictures have values up to {high:g}: multiply both by {factor}; '
            f'those of ImageNet in bytes are {IMAGENET}.'
        )
    if high > 2 and ((mean_is_small and min(std) > 10) or (min(mean) > 2 and std_is_small)):
        return (
            f'{stated} are in two units, one of images from 0 to 1 and one of images up to {high:g}: give both in the '
            f'units of the pictures; those of ImageNet in bytes are {IMAGENET}.'
        )
    if -1 <= low < high <= 1 and min(mean) > 2:
        return (
            f'{stated} are of images from 0 to 255, and pictures have values from {low:.3g} to {high:.3g}: divide '
            f'both by 255; those of ImageNet are then {IMAGENET_FROM_0_TO_1}.'
        )
    return None


def _round(values: Sequence[float]) -> list[float]:
    return [float(f'{value:.6g}') for value in values]
