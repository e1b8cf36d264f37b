"""Settings that follow from the images: channels, normalization, size of the crops, images held out."""

from __future__ import annotations

from math import ceil
from pathlib import Path

from mae_toolkit.checkpoints.hub_cache import parse_timm_name
from mae_toolkit.config.knobs import Knob
from mae_toolkit.datasets.fingerprint import QUANTILES, Fingerprint
from mae_toolkit.errors import UserError
from mae_toolkit.export.preparation import Preparation, find_default_preparation
from mae_toolkit.planning.architectures import EncoderFacts
from mae_toolkit.planning.device import Device
from mae_toolkit.printing import format_count, some
from mae_toolkit.timm_models import is_architecture

LEAST_IMAGES = 8
MOST_BROKEN = 0.5  # share of the images
LEAST_CELLS = 4  # of the mask per side of a crop
LEAST_SIZE = 96  # pixels, unless images would be enlarged by more than MOST_ENLARGED
MOST_ENLARGED = 2  # factor
MOST_SIZE = 4096  # pixels that a user may ask for: a typing error must not fill the memory
SIZES = {'cuda': 224, 'cpu': 128}  # pixels of a crop, unless the images or the mask say otherwise
HELD_OUT = 500  # images: more would tell no more
MEDIAN = QUANTILES.index(0.5)


def check_images(fingerprint: Fingerprint, folder: Path) -> None:
    """Refuse a folder on which nothing can be trained.

    Raises:
        UserError: If there are too few images, most are broken or constant, or their types or channels do not go
            together.
    """
    found = fingerprint
    if not found.readable or found.broken > MOST_BROKEN * found.opened:
        name, reason = next(iter(found.broken_reasons.items()))
        raise UserError(
            f'{found.broken:,} of {format_count(found.opened, "image")} in {folder} cannot be read, such as {name} '
            f'({reason}): is it the right folder?'
        )
    if found.readable < LEAST_IMAGES:
        raise UserError(
            f'{folder} has {format_count(found.readable, "image")}, which are too few to learn from: pretraining needs '
            f'at least {LEAST_IMAGES}, and is worth it from some hundreds on.'
        )
    if len(found.dtypes) > 1:
        kinds = ', '.join(f'{count:,} of {dtype}' for dtype, count in found.dtypes.items())
        raise UserError(f'{folder} mixes types of numbers ({kinds}): keep images of one type in a folder.')
    if not set(found.channels) <= {1, 3} and len(found.channels) > 1:
        kinds = ', '.join(f'{count:,} with {channels}' for channels, count in found.channels.items())
        raise UserError(f'{folder} mixes numbers of channels ({kinds}): keep images of one kind in a folder.')
    if found.constant > MOST_BROKEN * found.readable:
        raise UserError(
            f'{found.constant:,} of {format_count(found.readable, "image")} in {folder} show next to nothing, such as '
            f'{some(found.constant_names, 2)}: there is nothing to learn from them.'
        )


def check_size(encoder: EncoderFacts, size: int | tuple[int, int] | None) -> None:
    """Refuse a size of the crops that does not fit the cells of the mask.

    Args:
        encoder: The architecture.
        size: What the user wants, in pixels; None to choose.

    Raises:
        UserError: If a side is no multiple of the cells, or far too long to be trained on.
    """
    if size is None:
        return
    unit, sides = encoder.unit, (size, size) if isinstance(size, int) else size
    if max(sides) > MOST_SIZE:
        raise UserError(f'--size {size}: a crop has at most {MOST_SIZE:,} pixels a side, and 128 to 512 are usual.')
    if any(side % unit or side < unit for side in sides):
        low = max(unit, min(sides) // unit * unit)
        raise UserError(
            f'--size {size}: {encoder.arch} hides cells of {unit} pixels, so the size has to be a multiple of '
            f'{unit}, such as {low} or {low + unit}.'
        )


def plan_images(
    fingerprint: Fingerprint,
    encoder: EncoderFacts,
    device: Device,
    size: int | tuple[int, int] | None,
    weights: str | None,
    channels_rule: str | None,
) -> dict[str, Knob]:
    """Choose channels, mean and std, size and scale of the crops, and how many images are held out.

    Args:
        fingerprint: What is in the folder.
        encoder: The architecture.
        device: What trains.
        size: Size of the crops that the user wants, in pixels.
        weights: What the encoder begins with.
        channels_rule: Rule for weights of other channels that the user wants.
    """
    knobs = {'channels': _choose_channels(fingerprint, encoder, weights, channels_rule)}
    knobs |= _choose_normalization(fingerprint, encoder, knobs['channels'].value, weights)
    knobs['size'] = _choose_size(fingerprint, encoder, device, size)
    knobs['least_area'] = _choose_least_area(fingerprint, knobs['size'].value)
    step = max(20, -(-fingerprint.images // HELD_OUT))
    knobs['hold_out'] = Knob(step, f'{format_count(-(-fingerprint.images // step), "image")} for validation')
    broken = fingerprint.broken / fingerprint.opened
    if broken > 0.02:
        knobs['most_broken'] = Knob(round(broken + 0.05, 2), f'{broken:.0%} are broken now')
    return knobs


def _choose_channels(fingerprint: Fingerprint, encoder: EncoderFacts, weights: str | None, rule: str | None) -> Knob:
    found = fingerprint.channels
    if len(found) > 1:
        return Knob(3, f'{found[3]:,} images have color, and {found[1]:,} are gray, which is repeated')
    (channels,) = found
    if channels == 1 and encoder.known is not None and encoder.known.config.get('in_chans') == 1:
        return Knob(1, 'of all images, and of the weights')
    if channels == 1 and weights is not None and rule is None:
        return Knob(3, 'the images are gray, which is repeated, as weights of color images are best used so')
    return Knob(channels, 'of all images' + (', opacity dropped' if fingerprint.with_alpha else ''))


def _choose_normalization(
    fingerprint: Fingerprint, encoder: EncoderFacts, channels: int, weights: str | None
) -> dict[str, Knob]:
    """Choose mean and std: those with which the weights were trained, or else those of the images."""
    (dtype,) = fingerprint.dtypes
    if weights is not None:
        known = _find_preparation(weights, encoder)
        if known.channels == channels and known.dtype in (dtype, None):
            mean, std = ([float(f'{value:.6g}') for value in values] for values in (known.mean, known.std))
            return {'mean': Knob(mean, 'of the weights'), 'std': Knob(std, 'of the weights')}
    mean, std = list(fingerprint.mean), [max(value, 1e-6) for value in fingerprint.std]
    if len(mean) == 1:
        mean, std = mean * channels, std * channels
    return {'mean': Knob(mean, 'of the images'), 'std': Knob(std, 'of the images')}


def _find_preparation(weights: str, encoder: EncoderFacts) -> Preparation:
    """Find how images were prepared for weights: as they say themselves, or as timm has them by their name."""
    if encoder.known is not None:
        return encoder.known.preparation
    arch, tag = parse_timm_name(weights)
    return find_default_preparation(arch, tag) if is_architecture(arch) else find_default_preparation(encoder.arch)


def _choose_size(
    fingerprint: Fingerprint, encoder: EncoderFacts, device: Device, size: int | tuple[int, int] | None
) -> Knob:
    unit = encoder.unit
    if size is not None:
        check_size(encoder, size)
        return Knob(size, '--size')
    median = fingerprint.short_sides[MEDIAN]
    least = ceil(max(min(LEAST_SIZE, MOST_ENLARGED * median), LEAST_CELLS * unit) / unit) * unit
    most = max(least, SIZES[device.type] // unit * unit)
    cells = f'cells of {unit} pixels'
    if median >= most:
        return Knob(most, f'{cells}; the usual size on {device.name}, and the images have {median:.0f} pixels')
    chosen = max(least, int(median // unit) * unit)
    if chosen > median:
        times = f'the images have {median:.0f} pixels, and are enlarged {chosen / median:.3g} times'
        return Knob(chosen, f'at least {LEAST_CELLS} cells of {unit} pixels; {times}')
    return Knob(chosen, f'{cells}; half of the images are smaller than {median + 1:.0f} pixels')


def describe_enlargement(fingerprint: Fingerprint, encoder: EncoderFacts, size: int | tuple[int, int]) -> str | None:
    """Say in one sentence that images are much smaller than the crops of the training, and what to do; None if not.

    Args:
        fingerprint: What is in the folder.
        encoder: The architecture.
        size: Pixels of the crops.
    """
    median, side = fingerprint.short_sides[MEDIAN], size if isinstance(size, int) else min(size)
    if side <= MOST_ENLARGED * median:
        return None
    least = LEAST_CELLS * encoder.unit
    smaller = f'a smaller --size, {least} or more, or ' if side > least else ''
    small_cells = 'an encoder with smaller cells, such as vit_tiny_patch16_224'
    other = small_cells if encoder.unit > 16 else 'larger images, if you have any'
    return (
        f'Half of the images have {median:.0f} pixels or less on their shorter side, and are enlarged '
        f'{side / median:.3g} times to {side} pixels, which adds no detail and takes longer: use '
        f'{smaller}{other}.'
    )


def _choose_least_area(fingerprint: Fingerprint, size: int | tuple[int, int]) -> Knob:
    """Choose the least share of an image that a crop shows: in large images, down to twice the size of the crop."""
    side = size if isinstance(size, int) else max(size)
    area = fingerprint.heights[MEDIAN] * fingerprint.widths[MEDIAN]
    share = min(0.2, max(0.02, round(4 * side**2 / area, 2)))
    if share < 0.2:
        return Knob(share, 'the images are large: a crop may show a part that is reduced to half')
    return Knob(0.2, 'as in the published recipes')
