"""Fit an encoder to the images that the templates of fine-tuning load, where those of its pretraining were others."""

from __future__ import annotations

from dataclasses import replace

from mae_toolkit.checkpoints.channels import adapt_statistics
from mae_toolkit.errors import UserError
from mae_toolkit.planning.encoders import EncoderChoice

CHANNELS = 3  # that the templates load; gray images are repeated
BYTE_PER_WORD = 1 / 256  # MMCV reads the upper 8 bits of 16
# Keeps the sum over the channels: what an encoder of gray images makes of a gray image that is repeated stays the same.
RULE = 'sum'
LEAST_SPREAD = 2  # steps of 8 bits in a standard deviation, of which images still show something


def fit_to_images(encoder: EncoderChoice, reads_bytes: bool) -> EncoderChoice:
    """Fit an encoder to images of three channels and, in detectors and segmenters, of 8 bits.

    An encoder of gray images takes a gray image, repeated, as it took the image itself. Mean and std of images of 16
    bits follow their upper 8 bits.

    Args:
        encoder: The encoder.
        reads_bytes: Whether images are loaded by MMCV, as 8 bits, and not in the type of the files.

    Raises:
        UserError: If it takes images of several channels other than three, or MMCV cannot load those of its
            pretraining: floating-point ones, or of 16 bits whose upper 8 are nearly the same everywhere.
    """
    channels = encoder.config.get('in_chans', CHANNELS)
    if channels not in (1, CHANNELS):
        raise UserError(
            f'The encoder of --from {encoder.weights} takes images of {channels} channels, and fine-tuning loads '
            f'{CHANNELS}, gray ones repeated: begin with one that was pretrained on images of {CHANNELS} or 1, or put '
            f'it by fit_encoder into a config of your own whose datasets load {channels}.'
        )
    if channels == 1:
        encoder = _repeat_gray(encoder)
    if reads_bytes and encoder.dtype == 'float32':
        mean = ', '.join(f'{value:.4g}' for value in encoder.normalization['mean'])
        raise UserError(
            f'The encoder of --from {encoder.weights} was pretrained on float32 images (mean {mean}), and detectors '
            'and segmenters load 8 bits, from 0 to 255: begin with one that was pretrained on images of 8 or 16 bits.'
        )
    if reads_bytes and encoder.dtype == 'uint16':
        return _keep_upper_bits(encoder)
    return encoder


def _repeat_gray(encoder: EncoderChoice) -> EncoderChoice:
    """Make an encoder of one channel one of three, whose features of repeated gray images are the same."""
    normal = encoder.normalization
    if normal:
        found = adapt_statistics(normal['mean'], normal['std'], CHANNELS, RULE)
        normal = dict(mean=list(found.mean), std=list(found.std))
    rule = RULE if encoder.weights is not None else None
    config = encoder.config | {'in_chans': CHANNELS}
    reason = f'{encoder.reason}; of gray images, which are repeated'
    return replace(encoder, config=config, normalization=normal, channels_rule=rule, reason=reason)


def _keep_upper_bits(encoder: EncoderChoice) -> EncoderChoice:
    """Normalize the upper 8 bits of images as the 16 bits were."""
    normal = encoder.normalization
    scaled = {key: [round(BYTE_PER_WORD * value, 4) for value in values] for key, values in normal.items()}
    spread = max(scaled['std'])
    if spread < LEAST_SPREAD:
        raise UserError(
            f'The encoder of --from {encoder.weights} was pretrained on 16-bit images with a deviation of '
            f'{max(normal["std"]):.4g}, which is {spread:.2g} in the upper 8 bits that detectors and segmenters load: '
            'stretch the images to the whole range, and pretrain on them.'
        )
    return replace(encoder, normalization=scaled, dtype='uint8')
