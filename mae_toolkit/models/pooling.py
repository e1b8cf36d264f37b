"""One vector of what an encoder returns."""

from mae_toolkit.errors import UserError


def mean(features):
    """The last map (B, C, h, w), averaged over its positions: (B, C)."""
    return features.maps[-1].mean((2, 3))


def maximum(features):
    """The greatest values of the last map (B, C, h, w): (B, C)."""
    return features.maps[-1].amax((2, 3))


def class_token(features):
    """The first prefix token of the last level (B, P, C): (B, C)."""
    return features.prefixes[-1][:, 0]


POOLINGS = {'mean': mean, 'max': maximum, 'class': class_token}


def check_pooling(pooling, encoder):
    """Refuse a pooling that there is not, or that the encoder has no token for.

    Raises:
        UserError: If it is unknown, or there is no class token.
    """
    if pooling not in POOLINGS:
        raise UserError(f'pooling={pooling!r} is none of {", ".join(POOLINGS)}.')
    if pooling == 'class' and not encoder.has_class_token:
        raise UserError(f"pooling='class' needs a class token, which this {type(encoder).__name__} lacks: use 'mean'.")
