"""Record losses and gradients of configs on a fixed batch, to see whether a refactoring changed any bit of them."""

import hashlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import torch
from mmengine.config import Config, ConfigDict
from torch import Tensor, nn

from mae_toolkit.apis import build_model

DEFAULT_SIZE = 224


@dataclass(frozen=True)
class Numbers:
    """Results of one training step of a config.

    Attributes:
        losses: Losses by name, in hexadecimal, so that no digit is lost.
        gradients: SHA-256 over the names and bytes of the gradients of all parameters, in the order of their names.
        norm: Norm of all gradients, in hexadecimal.
        parameters: How many parameters have a gradient.
    """

    losses: dict[str, str]
    gradients: str
    norm: str
    parameters: int

    def to_dict(self) -> dict:
        """Return the numbers as JSON can hold them."""
        return asdict(self)


def record_numbers(cfg: Config, batch: int = 2, seed: int = 0) -> Numbers:
    """Run one training step of a config's model, without its optimizer, on one thread.

    Networks that would be read from files (teachers, perceptual networks) keep their random weights.

    Args:
        cfg: A pretraining config.
        batch: Number of images; they are normal noise of the size to which the training crops.
        seed: Seed of the weights, the images and the masks.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        torch.manual_seed(seed)
        model: Any = build_model(_without_files(cfg)).train()
        size = find_crop(cfg)
        imgs = torch.randn(batch, model.encoder.in_chans, size, size, generator=torch.Generator().manual_seed(seed))
        torch.manual_seed(seed)
        losses = model(imgs, mode='loss')
        sum(value for name, value in losses.items() if name.startswith('loss')).backward()
        return _to_numbers(model, losses)
    finally:
        torch.set_num_threads(threads)


def compare_numbers(before: dict[str, dict], after: dict[str, dict]) -> list[str]:
    """Compare two records of several configs.

    Args:
        before: :meth:`Numbers.to_dict` by config.
        after: The same of another version of the code.

    Returns:
        A sentence per number that differs; none if the records agree bit for bit.
    """
    sentences = [f'{name}: only in one of the records.' for name in sorted(before.keys() ^ after.keys())]
    for name in sorted(before.keys() & after.keys()):
        for key in before[name]:
            one, other = before[name][key], after[name][key]
            if one != other:
                sentences.append(f'{name}: {key} {_readable(one)} before, {_readable(other)} after.')
    return sentences


def find_crop(cfg: Config) -> int:
    """Return the side of the squares to which the training of a config crops its images, 224 if it does not say."""
    pipeline = cfg.get('train_dataloader', {}).get('dataset', {}).get('pipeline', [])
    sizes = [step['size'] for step in pipeline if 'Crop' in step['type'] and isinstance(step.get('size'), int)]
    return sizes[-1] if sizes else DEFAULT_SIZE


def _to_numbers(model: nn.Module, losses: dict[str, Tensor]) -> Numbers:
    digest, squares, count = hashlib.sha256(), 0.0, 0
    for name, gradient in _gradients(model):
        digest.update(name.encode())
        digest.update(gradient.contiguous().numpy().tobytes())
        squares += gradient.double().square().sum().item()
        count += 1
    values = {name: float(value.item()).hex() for name, value in losses.items()}
    return Numbers(values, digest.hexdigest(), (squares**0.5).hex(), count)


def _gradients(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    for name, parameter in sorted(model.named_parameters()):
        if parameter.grad is not None:
            yield name, parameter.grad


def _without_files(cfg: Config) -> Config:
    copy = Config(cfg.to_dict())
    _forget_files(copy.model)
    return copy


def _forget_files(node: object) -> None:
    if isinstance(node, ConfigDict):
        for key in node.keys() & {'checkpoint', 'init_cfg'}:
            node[key] = None
    children = node.values() if isinstance(node, ConfigDict) else node if isinstance(node, list) else ()
    for child in children:
        _forget_files(child)


def _readable(value: object) -> object:
    if isinstance(value, dict):
        return {name: float.fromhex(number) for name, number in value.items()}
    return float.fromhex(value) if isinstance(value, str) and value.startswith(('0x', '-0x')) else value
