"""Poolings, which turn the output of an encoder into one vector."""

from torch import Tensor

from mae_toolkit.errors import UserError
from mae_toolkit.models.encoders import Encoder
from mae_toolkit.models.features import Features


def average(features: Features) -> Tensor:
    """Average the last map (B, C, h, w) over its positions: (B, C)."""
    return features.maps[-1].mean((2, 3))


def maximize(features: Features) -> Tensor:
    """Take the greatest value of each channel of the last map (B, C, h, w): (B, C)."""
    return features.maps[-1].amax((2, 3))


def take_class_token(features: Features) -> Tensor:
    """Take the first prefix token of the last level (B, P, C): (B, C)."""
    prefix = features.prefixes[-1]
    assert prefix is not None  # see check_pooling
    return prefix[:, 0]


POOLINGS = {'mean': average, 'max': maximize, 'class': take_class_token}


def check_pooling(pooling: str, encoder: Encoder) -> None:
    """Refuse a pooling that does not exist, or for which the encoder has no class token.

    Args:
        pooling: A key of ``POOLINGS``.
        encoder: The encoder whose features are pooled.

    Raises:
        UserError: If it is unknown, or there is no class token.
    """
    if pooling not in POOLINGS:
        raise UserError(f'pooling={pooling!r} must be one of {", ".join(POOLINGS)}.')
    if pooling == 'class' and not encoder.has_class_token:
        raise UserError(f"pooling='class' needs a class token, which this {type(encoder).__name__} lacks: use 'mean'.")
