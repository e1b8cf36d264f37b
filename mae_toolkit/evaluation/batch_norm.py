"""Running statistics of batch norms for whole images."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import batch_norm
from torch.nn.modules.batchnorm import _BatchNorm

from mae_toolkit.errors import UserError
from mae_toolkit.evaluation.modes import evaluating

# name of a norm to its mean and variance, each (C,)
Statistics = dict[str, tuple[Tensor, Tensor]]


def find_batch_norms(module: nn.Module) -> dict[str, _BatchNorm]:
    """Find the batch norms within a module that keep running statistics, by their names.

    Args:
        module: Any module.
    """
    norms = ((name, norm) for name, norm in module.named_modules() if isinstance(norm, _BatchNorm))
    return {name: norm for name, norm in norms if norm.running_mean is not None and norm.running_var is not None}


def has_statistics(norm: _BatchNorm) -> bool:
    """Return whether a batch norm has followed anything: its running statistics are no longer 0 and 1."""
    assert norm.running_mean is not None and norm.running_var is not None
    return bool(norm.running_mean.any() or (norm.running_var != 1).any())


def recalibrate_batch_norm(
    model: Any,
    loader: Iterable[Mapping[str, Any]],
    images: int = 512,
    norms: Mapping[str, _BatchNorm] | None = None,
) -> int:
    """Set the running statistics of an encoder's batch norms to those of whole images, in place.

    In pretraining, running statistics follow masked images, and nothing uses them; but an encoder that is judged or
    used on whole images needs those of whole images. Example, for weights of a training without
    :class:`~mae_toolkit.engine.hooks.BatchNormStatisticsHook`::

        recalibrate_batch_norm(model, DataLoader(dataset, 32, collate_fn=image_collate), images=512)

    Means and variances of batches are averaged over all images, rather than followed with a momentum (PreciseBN: Wu and
    Johnson, arXiv:2105.07576, section 3). Each norm normalizes by the statistics of its batch meanwhile; all else, such
    as drop path, is in evaluation mode.

    Args:
        model: A :class:`MaskedAutoencoder`, whose ``data_preprocessor`` and ``encoder`` are used; it keeps its mode.
        loader: Batches as :func:`image_collate` makes them.
        images: How many images of the loader are used; batches stay whole.
        norms: Batch norms by their names within the encoder; all of them if None.

    Returns:
        The number of norms.

    Raises:
        UserError: If the loader gives no image.
    """
    norms = find_batch_norms(model.encoder) if norms is None else norms
    for name, (mean, variance) in measure_batch_norm(model, loader, images, norms).items():
        _set(norms[name], mean, variance)
    return len(norms)


def measure_batch_norm(
    model: Any, loader: Iterable[Mapping[str, Any]], images: int, norms: Mapping[str, _BatchNorm]
) -> Statistics:
    """Measure the statistics that :func:`recalibrate_batch_norm` sets, and leave the model as it is.

    Args:
        model: See :func:`recalibrate_batch_norm`.
        loader: See :func:`recalibrate_batch_norm`.
        images: See :func:`recalibrate_batch_norm`.
        norms: Batch norms by their names within the encoder.

    Returns:
        Mean and variance by the name of the norm; only of those that run on whole images.
    """
    if not norms:
        return {}
    sums: dict[str, _Sums] = {name: _Sums() for name in norms}
    with evaluating(model), keep_statistics(norms.values()):
        handles = [norm.register_forward_pre_hook(partial(_use_batch, sums[name])) for name, norm in norms.items()]
        try:
            count = _run(model, loader, images)
        finally:
            for handle in handles:
                handle.remove()
    if not count:
        raise UserError('The statistics of batch norms need images, and the loader gives none.')
    return {name: total.result() for name, total in sums.items() if total.count}


@contextmanager
def keep_statistics(norms: Iterable[_BatchNorm]) -> Iterator[None]:
    """Restore the running statistics of batch norms after a ``with`` block.

    Args:
        norms: The norms.
    """
    buffers = [buffer for norm in norms for buffer in norm.buffers(recurse=False)]
    before = [buffer.clone() for buffer in buffers]
    try:
        yield
    finally:
        for buffer, value in zip(buffers, before, strict=True):
            buffer.copy_(value)


def _run(model: Any, loader: Iterable[Mapping[str, Any]], images: int) -> int:
    """Encode at least so many images, or all there are, and return their number."""
    count = 0
    for batch in loader:
        imgs = model.data_preprocessor(batch, False)['imgs']  # (B, C, H, W)
        model.encoder(imgs)
        count += len(imgs)
        if count >= images:
            break
    return count


class _Sums:
    """Sums over all positions that a norm has seen: exact, as variances add up around the common mean."""

    def __init__(self) -> None:
        self.count = 0
        self.mean: Tensor = torch.zeros((), dtype=torch.float64)
        self.square: Tensor = torch.zeros((), dtype=torch.float64)

    def add(self, mean: Tensor, variance: Tensor, count: int) -> None:
        mean, variance = mean.cpu().double(), variance.cpu().double()
        self.count += count
        self.mean = self.mean + count * mean
        self.square = self.square + count * (variance + mean**2)

    def result(self) -> tuple[Tensor, Tensor]:
        """Return mean and unbiased variance, which is what torch keeps."""
        mean = self.mean / self.count
        return mean, (self.square / self.count - mean**2) * self.count / max(self.count - 1, 1)


def _use_batch(sums: _Sums, norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    """Note the statistics of a batch (B, C, ...), and let the norm, in evaluation mode, normalize by them."""
    x = inputs[0]
    count = x.numel() // x.shape[1]
    mean, variance = x.new_zeros(x.shape[1], dtype=torch.float32), x.new_zeros(x.shape[1], dtype=torch.float32)
    if count > 1:  # torch's batch norm for its statistics alone, as it is several times faster than var_mean
        batch_norm(x, mean, variance, training=True, momentum=1.0)
        variance *= (count - 1) / count
    else:
        mean.copy_(x.flatten())
    sums.add(mean, variance, count)
    _set(norm, mean, variance)


def _set(norm: Any, mean: Tensor, variance: Tensor) -> None:
    norm.running_mean.copy_(mean)
    norm.running_var.copy_(variance)
