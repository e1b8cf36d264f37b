"""The formats of others' checkpoints, one file for each: their names, ours, and how the numbers are laid out.

A format is a table of pairs ``(theirs, ours)``. The same table is read from left to right to load a checkpoint, and
from right to left to write one. This is how a format is added:

1. Write a file beside this one, say ``dino.py``. Its table names every tensor of such a checkpoint; None stands for
   what is not read, as it is computed or belongs to a part that we do not have. Names are templates, see
   :mod:`mae_toolkit.checkpoints.names.table`. Tables of parts that others have, too, are imported from
   ``transformer.py`` (blocks, MAE's decoder) and from the files of the architectures (``mae.py``, ``swin.py``,
   ``convnext.py``)::

    from mae_toolkit.checkpoints.names.mae import VIT
    from mae_toolkit.checkpoints.names.table import BODY, Format, under
    from mae_toolkit.checkpoints.names.values import TOKEN

    DINO = Format(
        'DINO',
        ('student.backbone.', 'teacher.'),
        (
            *under('student.backbone.', VIT, BODY),
            ('student.backbone.mask_token', 'encoder.mask_token', TOKEN),
            ('student.head.{rest:.+}', None),
            ('teacher.{rest:.+}', None),
        ),
    )

   Our names are those of a model's state dict, ``model.state_dict().keys()``: ``encoder.body.`` and timm's names,
   ``encoder.mask_token``, ``decoder.`` and the parts of the decoder, ``objectives.{objective}.head.proj.`` of the
   prediction head. ``whole=True`` of a format says that decoder and head are read, too.

2. Where the numbers are laid out differently, a pair has a third item with a change and its inverse, see
   :mod:`mae_toolkit.checkpoints.names.values`: ``TOKEN`` above makes (C,) of (1, 1, C), and (1, 1, C) of (C,).
   A change of your own is two functions of a tensor and the channels of the images, such as a transposition:
   ``Values(lambda tensor, in_chans: tensor.mT, lambda tensor, in_chans: tensor.mT)``; ``chain`` makes one of two.

   Where a tensor is one there and several here, or the other way round, as queries, keys and values are, a
   :class:`~mae_toolkit.checkpoints.names.regroup.Regroup` of the format joins or cuts it before the table is read.

3. Add the format to ``FORMATS`` below. The first whose signs, beginnings of names, are all found in a checkpoint is
   taken: it stands before those whose signs its checkpoints bear, too.

4. Add a tiny checkpoint to ``SAMPLES`` in ``tests/test_checkpoint_formats.py``: a dict of tensors by their names and in
   their shapes, or what the format makes of a tiny model of ours (``reversed_from``). The test translates it into our
   names and back and compares every number; a format without a sample fails there. A wrong layout comes back
   unchanged, too: where a pair has a third item, compare one tensor with numbers that you write by hand.

A format of one model alone, of a project or of your own, needs no place here. The model's class names it, as
``checkpoint_formats = (DINO,)``, and it is tried before those below.
"""

from collections.abc import Iterable

from mae_toolkit.checkpoints.names.convnext import CONVNEXT
from mae_toolkit.checkpoints.names.crossmae import CROSSMAE
from mae_toolkit.checkpoints.names.dinov2 import DINOV2, DINOV2_SWIGLU
from mae_toolkit.checkpoints.names.dinov3 import DINOV3S
from mae_toolkit.checkpoints.names.efficientnet import EFFICIENTNETS
from mae_toolkit.checkpoints.names.eva02 import EVA02S
from mae_toolkit.checkpoints.names.fcmae import DENSE_FCMAE, FCMAE
from mae_toolkit.checkpoints.names.greenmim import GREENMIM
from mae_toolkit.checkpoints.names.hiera import HIERA, HIERA_ABSWIN
from mae_toolkit.checkpoints.names.huggingface import HUGGINGFACE
from mae_toolkit.checkpoints.names.huggingface_hiera import HUGGINGFACE_HIERAS
from mae_toolkit.checkpoints.names.mae import MAE, UMMAE_VIT
from mae_toolkit.checkpoints.names.openclip import OPENCLIP, OPENCLIP_TOWER
from mae_toolkit.checkpoints.names.openmmlab import (
    MMPRETRAIN_MAE,
    MMPRETRAIN_MASKFEAT,
    MMPRETRAIN_SIMMIM,
    OPENMMLAB,
)
from mae_toolkit.checkpoints.names.simmim import SIMMIM_SWIN, SIMMIM_VIT
from mae_toolkit.checkpoints.names.spark import SPARK
from mae_toolkit.checkpoints.names.swin import SWIN
from mae_toolkit.checkpoints.names.table import (
    BODY,
    ENCODER,
    HEAD,
    MASK_TOKEN,
    OURS,
    TIMM,
    Format,
    Translation,
    same,
    under,
)
from mae_toolkit.checkpoints.names.values import Values

__all__ = [
    'BODY',
    'ENCODER',
    'FORMATS',
    'HEAD',
    'MASK_TOKEN',
    'OURS',
    'TIMM',
    'Format',
    'Translation',
    'Values',
    'find_format',
    'same',
    'under',
]

FORMATS = (
    *HUGGINGFACE,
    *HUGGINGFACE_HIERAS,
    SPARK,
    FCMAE,
    DENSE_FCMAE,
    CONVNEXT,
    GREENMIM,
    SIMMIM_SWIN,
    SIMMIM_VIT,
    SWIN,
    HIERA_ABSWIN,
    HIERA,
    *DINOV3S,
    *EVA02S,
    CROSSMAE,
    UMMAE_VIT,
    MAE,
    DINOV2_SWIGLU,
    DINOV2,
    OPENCLIP,
    OPENCLIP_TOWER,
    MMPRETRAIN_MAE,
    MMPRETRAIN_SIMMIM,
    MMPRETRAIN_MASKFEAT,
    *OPENMMLAB,
    *EFFICIENTNETS,
)


def find_format(names: Iterable[str], formats: Iterable[Format] = FORMATS) -> Format | None:
    """Find the first format that recognizes a checkpoint by its names; None if none does."""
    names = list(names)
    return next((found for found in formats if found.recognizes(names)), None)
