"""Items to batches."""

import torch

from mae_toolkit.errors import UserError
from mae_toolkit.registry import FUNCTIONS


@FUNCTIONS.register_module()
def image_collate(items):
    """Batch of items of :class:`ImageDataset`.

    Returns:
        dict: ``imgs`` (B, C, H, W) of the items' type; ``names``; ``broken``, all (name, reason) of the items.

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
                    f'one {what}; {"add a RandomResizedCrop or a Resize with CenterCrop" if what == "shape" else _SPLIT}.'
                )
    imgs = torch.stack([item['img'].permute(1, 2, 0) for item in items]).permute(0, 3, 1, 2)  # channels last, no copy
    return {
        'imgs': imgs,
        'names': [item['name'] for item in items],
        'broken': [entry for item in items for entry in item['broken']],
    }


_SPLIT = 'keep files of different types in different datasets'


def _text(value):
    return tuple(value) if isinstance(value, torch.Size) else str(value).removeprefix('torch.')
