"""Batches of the items of :class:`ImageDataset`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from mae_toolkit.errors import UserError
from mae_toolkit.registry import FUNCTIONS

REMEDIES = {
    'shape': 'add a RandomResizedCrop, or Resize and CenterCrop',
    'dtype': 'keep files of different dtypes in different datasets',
}


@FUNCTIONS.register_module()
def image_collate(items: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Collate items of :class:`ImageDataset` to a batch.

    Returns:
        ``imgs`` (B, C, H, W) in the items' dtype; ``names``; ``replaced``, for each item whether it replaces one that
        could not be read; ``broken``, the (name, reason) of all images that could not be read; and ``labels`` (B,)
        int64, if the items have a label; and ``notes`` for the log, if the items have some.

    Raises:
        UserError: If two images differ in shape or dtype.
    """
    first = items[0]
    for item in items:
        for attribute in ('shape', 'dtype'):
            expected, found = getattr(first['img'], attribute), getattr(item['img'], attribute)
            if expected != found:
                raise UserError(
                    f'{first["name"]} has the {attribute} {_format(expected)} and {item["name"]} {_format(found)}: the '
                    f'images of a batch need the same {attribute}; {REMEDIES[attribute]}.'
                )
    labels = {'labels': torch.tensor([item['label'] for item in items])} if 'label' in first else {}
    notes = [note for item in items for note in item.get('notes', ())]
    return (
        labels
        | ({'notes': notes} if notes else {})
        | {
            'imgs': torch.stack([item['img'] for item in items]),
            'names': [item['name'] for item in items],
            'replaced': [bool(item['broken']) for item in items],
            'broken': [entry for item in items for entry in item['broken']],
        }
    )


def _format(value: torch.Size | torch.dtype) -> str:
    return str(tuple(value)) if isinstance(value, torch.Size) else str(value).removeprefix('torch.')
