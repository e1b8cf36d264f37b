"""Weights of images with other channels: the first convolution by a rule, and the statistics that go with it.

A rule is named where weights are named: ``init_cfg=dict(type='Pretrained', checkpoint=..., channels='sum')``, and
``channels_rule = 'sum'`` in a config with ``load_from``.

- ``'sum'`` repeats the file's C channels in their order (R G B R G ...) or cuts them off, and scales them by C/N for N
  channels, so that the sum over the channels is kept; one channel gets the sum itself. This is timm's rule
  (``adapt_input_conv``).
- ``'mean'`` gives every channel the mean of the file's.
- ``'first'`` keeps the first channels as they are, and those behind them begin with zero: the features do not change
  until these are trained. It suits RGB with more channels behind it.
"""

from collections.abc import Mapping, Sequence
from logging import WARNING
from typing import NamedTuple

from mmengine.logging import print_log
from timm.models import adapt_input_conv
from torch import Tensor

from mae_toolkit.checkpoints.protocols import Loadable
from mae_toolkit.errors import UserError

RULES = ('sum', 'mean', 'first')
HEADS = 'objectives.'  # prediction heads and targets, whose sizes follow from the channels


class Adapted(NamedTuple):
    """Weights for other channels.

    Attributes:
        weights: The tensors by name, without those that are dropped.
        adapted: First convolutions that were adapted, and how, as ``'3 to 5 channels by sum'``.
        dropped: What predicts or compares the file's channels, and begins fresh in the model.
    """

    weights: dict[str, Tensor]
    adapted: dict[str, str]
    dropped: list[str]


class Statistics(NamedTuple):
    """Mean and standard deviation of each channel.

    Attributes:
        mean: Means, in the units of the files.
        std: Standard deviations.
        reason: Where they come from, for the log.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    reason: str


def check_rule(rule: str | None, what: str = 'channels') -> None:
    """Refuse a rule that there is not; None is allowed.

    Args:
        rule: The rule.
        what: How the user calls it.

    Raises:
        UserError: With the rules that there are.
    """
    if rule is not None and rule not in RULES:
        raise UserError(f'{what}={rule!r} must be one of {", ".join(RULES)}, or None to refuse weights of others.')


def adapt_convolution(weight: Tensor, channels: int, rule: str) -> Tensor:
    """Make the weight (O, C, k, k) of a convolution over C channels one over N, (O, N, k, k).

    Args:
        weight: The weight.
        channels: The channels N.
        rule: ``'sum'``, ``'mean'`` or ``'first'``.
    """
    count = weight.shape[1]
    if rule == 'sum':
        return adapt_input_conv(channels, weight, base_chans=count).contiguous()
    if rule == 'mean':
        return weight.float().mean(1, keepdim=True).repeat(1, channels, 1, 1).to(weight.dtype)
    adapted = weight.new_zeros(len(weight), channels, *weight.shape[2:])
    adapted[:, :count] = weight[:, :channels]
    return adapted


def adapt_channels(
    weights: Mapping[str, Tensor], own: Mapping[str, Tensor], channels: int, rule: str | None
) -> Adapted:
    """Adapt the first convolutions in weights to the channels of a model.

    Args:
        weights: The tensors by the names of the model.
        own: The state dict of the model.
        channels: Channels of the images that the model takes.
        rule: ``'sum'``, ``'mean'`` or ``'first'``; None if the user has named none.

    Returns:
        The weights, unchanged if they take as many channels.

    Raises:
        UserError: If they take others and there is no rule, with both numbers and the rules.
    """
    firsts = [name for name, tensor in weights.items() if takes_other_channels(tensor, own.get(name), channels)]
    check_rule(rule, 'channels_rule')
    if not firsts:
        return Adapted(dict(weights), {}, [])
    count = weights[firsts[0]].shape[1]
    if rule is None:
        raise UserError(
            f'The weights take images of {count} channels, and the model in_chans={channels} ({firsts[0]} has the '
            f'shape {tuple(weights[firsts[0]].shape)} there and {tuple(own[firsts[0]].shape)} here): say by which rule '
            "they are adapted, channels='sum', 'mean' or 'first' in init_cfg (channels_rule beside load_from), or "
            f'build the model with in_chans={count}.'
        )
    heads = [n for n, t in weights.items() if n.startswith(HEADS) and n in own and t.shape != own[n].shape]
    dropped = [name for name in heads if name not in firsts]
    adapted = {name: adapt_convolution(weights[name], channels, rule) for name in firsts}
    kept = {name: tensor for name, tensor in weights.items() if name not in dropped}
    return Adapted(kept | adapted, dict.fromkeys(firsts, f'{count} to {channels} channels by {rule}'), dropped)


def takes_other_channels(weight: Tensor, own: Tensor | None, channels: int) -> bool:
    """Tell whether a weight is that of a model's first convolution but for the channels of the images.

    Args:
        weight: The weight.
        own: The model's weight of this name.
        channels: Channels of the images that the model takes.
    """
    if own is None or own.dim() != 4 or weight.dim() != 4 or own.shape[1] != channels:
        return False
    shape, wanted = weight.shape, own.shape
    return shape[1] != channels and (shape[0], *shape[2:]) == (wanted[0], *wanted[2:])


def warn_if_frozen(model: Loadable, adapted: Mapping[str, str], what: str) -> None:
    """Warn that an adapted convolution cannot learn what its channels mean, if it is frozen.

    Args:
        model: The model, in which it is.
        adapted: How convolutions were adapted, by name.
        what: What was loaded, for the log.
    """
    parameters = {name: p for path, m in model.named_modules() for name, p in m.named_parameters(path, recurse=False)}
    frozen = [name for name in adapted if name in parameters and not parameters[name].requires_grad]
    if frozen:
        print_log(
            f'The {what} is frozen, and {frozen[0]} was adapted from {adapted[frozen[0]]}: it cannot learn what the '
            'new channels show; train the embedding, or give images with the channels of the weights.',
            'current',
            WARNING,
        )


def adapt_statistics(
    mean: Sequence[float],
    std: Sequence[float],
    channels: int,
    rule: str | None,
    own: tuple[Sequence[float], Sequence[float]] | None = None,
) -> Statistics:
    """Find mean and std of the images that a network of adapted weights takes.

    Those of the weights hold where these take as many channels, as the network was trained with them. Else those of
    the own images are best, where they are known. Else those of the weights follow the channels: repeated in their
    order for ``'sum'``, their mean for ``'mean'`` and for the channels that begin with zero by ``'first'``.

    Args:
        mean: Means by which the images were normalized for the weights.
        std: Standard deviations of those images.
        channels: Channels of the own images.
        rule: The rule by which the weights are adapted; None if the weights take as many channels.
        own: Mean and std of the own images, if they are known; they are used where the numbers of channels differ.

    Raises:
        UserError: If there are not as many means as deviations, own ones are of another number of channels, or the
            numbers differ and there is no rule.
    """
    check_rule(rule)
    if len(mean) != len(std) or not mean:
        raise UserError(f'{len(mean)} means and {len(std)} deviations: give one of each per channel.')
    if own is not None and (len(own[0]), len(own[1])) != (channels, channels):
        raise UserError(
            f'The images have {channels} channels, and their mean and std {len(own[0])} and {len(own[1])} values: give '
            'one of each per channel.'
        )
    if len(mean) == channels:
        return Statistics(tuple(mean), tuple(std), f'mean and std are those of the weights, of {channels} channels')
    if rule is None:
        raise UserError(
            f'The images have {channels} channels, and the mean and std of the weights {len(mean)} values: say by '
            f'which rule they follow, {", ".join(RULES)}.'
        )
    if own is not None:
        return Statistics(tuple(own[0]), tuple(own[1]), f"mean and std of the {channels} channels are the own images'")
    new_mean, new_std = (tuple(_adapt_values(values, channels, rule)) for values in (mean, std))
    return Statistics(new_mean, new_std, f'mean and std follow from {len(mean)} to {channels} channels by {rule}')


def _adapt_values(values: Sequence[float], channels: int, rule: str) -> list[float]:
    average = sum(values) / len(values)
    if rule == 'mean' or (rule == 'sum' and channels == 1):
        return [average] * channels
    if rule == 'first':
        return [*values, *[average] * channels][:channels]
    return [values[i % len(values)] for i in range(channels)]
