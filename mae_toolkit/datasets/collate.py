"""Items to batches."""

import torch

from mae_toolkit.errors import UserError
from mae_toolkit.registry import FUNCTIONS

REMEDIES = {
    'shape': 'add a RandomResizedCrop, or Resize and CenterCrop',
    'dtype': 'keep files of different types in different datasets',
}


@FUNCTIONS.register_module()
def image_collate(items):
    """Batch of items of :class:`ImageDataset`.

    Returns:
        dict: ``imgs`` (B, C, H, W) of the items' type; ``names``; ``replaced``, for each whether it stands in for one
        that could not be read; ``broken``, all (name, reason) of the items; ``labels`` (B,) int64, if they have one.

    Raises:
        UserError: If two images differ in size or type.
    """
    first = items[0]
    for item in items:
        for what in ('shape', 'dtype'):
            ours, theirs = getattr(first['img'], what), getattr(item['img'], what)
            if ours != theirs:
                raise UserError(
                    f'{first["name"]} has the {what} {_text(ours)} and {item["name"]} {_text(theirs)}: a batch needs '
                    f'one {what}; {REMEDIES[what]}.'
                )
    labels = {'labels': torch.tensor([item['label'] for item in items])} if 'label' in first else {}
    return labels | {
        'imgs': torch.stack([item['img'] for item in items]),
        'names': [item['name'] for item in items],
        'replaced': [bool(item['broken']) for item in items],
        'broken': [entry for item in items for entry in item['broken']],
    }


def _text(value):
    return tuple(value) if isinstance(value, torch.Size) else str(value).removeprefix('torch.')
