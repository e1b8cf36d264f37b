"""Means and deviations of pixels, and whether they are in the units of the images."""

from collections.abc import Sequence

IMAGENET = 'mean=[123.675, 116.28, 103.53] and std=[58.395, 57.12, 57.375]'
IMAGENET_SHARES = 'mean=[0.485, 0.456, 0.406] and std=[0.229, 0.224, 0.225]'


def find_wrong_units(mean: Sequence[float], std: Sequence[float], least: float, most: float) -> str | None:
    """Compare mean and standard deviation with the values that images have.

    A mean of 0 is no statistic but a choice, as is a deviation of 1, so neither is compared.

    Args:
        mean: Per channel.
        std: Per channel.
        least: Least value of images, or 0.
        most: Greatest value of images, such as 255.

    Returns:
        A sentence about what does not fit, or None.
    """
    stated = f'mean={_rounded(mean)} and std={_rounded(std)}'
    mean_is_share, std_is_share = any(mean) and max(mean) <= 1, max(std) < 1
    if most > 2 and (mean_is_share or not any(mean)) and max(std) <= 1 and (mean_is_share or std_is_share):
        factor = 255 if most <= 255 else 65535
        return (
            f'{stated} are of images from 0 to 1, and pictures have values up to {most:g}: multiply both by {factor}; '
            f'those of ImageNet in bytes are {IMAGENET}.'
        )
    if most > 2 and ((mean_is_share and min(std) > 10) or (min(mean) > 2 and std_is_share)):
        return (
            f'{stated} are in two units, one of images from 0 to 1 and one of images up to {most:g}: give both in the '
            f'units of the pictures; those of ImageNet in bytes are {IMAGENET}.'
        )
    if -1 <= least < most <= 1 and min(mean) > 2:
        return (
            f'{stated} are of images from 0 to 255, and pictures have values from {least:.3g} to {most:.3g}: divide '
            f'both by 255; those of ImageNet are then {IMAGENET_SHARES}.'
        )
    return None


def _rounded(values):
    return [float(f'{value:.6g}') for value in values]
