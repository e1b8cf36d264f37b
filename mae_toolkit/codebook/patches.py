"""The codebook of a config: centers of the patches of its training images."""

import sys

import torch
from mmengine.registry import init_default_scope
from tqdm import tqdm

from mae_toolkit.errors import wrap_build_error
from mae_toolkit.models import Encoder, Target
from mae_toolkit.models.mask_ops import to_tokens
from mae_toolkit.models.wiring import Wiring
from mae_toolkit.printing import printable
from mae_toolkit.registry import DATASETS, MODELS, SCOPE, build

OURS = ('CodebookTarget', f'{SCOPE}.CodebookTarget')


def codebook_target(cfg):
    """The :class:`CodebookTarget` of a config with random centers, as its file of centers is still to be made.

    It is that of the first objective that has one, else one with the defaults for the config's encoder.
    """
    init_default_scope(SCOPE)
    objectives = cfg.model.get('objectives') or {}
    targets = [dict(objective['target']) for objective in objectives.values() if 'target' in objective]
    config = next((target for target in targets if target.get('type') in OURS), {'type': OURS[0]})
    encoder = build(Encoder, cfg.model.encoder)
    wiring = Wiring(in_chans=encoder.in_chans, strides=encoder.out_strides)
    return build(Target, {k: v for k, v in config.items() if k != 'centers'}, wiring)


def training_patches(cfg, target, images, patches, seed=0):
    """Patches of the training images of a config, as augmented for training, as a target compares them.

    Args:
        cfg (Config): With ``train_dataloader`` and ``model``.
        target (CodebookTarget): Normalizes the patches.
        images (int): So many at most, spread evenly over the training set.
        patches (int): So many in all at most, the same number of every image, at random places.
        seed (int): Of the places.

    Returns:
        Tensor: (N, C*t*t) float32.
    """
    with wrap_build_error('The dataset'):
        dataset = DATASETS.build(cfg.train_dataloader.dataset)
    normalize = cfg.model.get('data_preprocessor')
    normalize = (lambda data: data) if normalize is None else MODELS.build(normalize)
    count = min(images, len(dataset))
    generator = torch.Generator().manual_seed(seed)
    found, broken = [], {}
    for i in tqdm(range(count), desc='patches', unit='image'):
        item = dataset[0, i * len(dataset) // count]
        broken |= dict(item['broken'])
        imgs = normalize({'imgs': item['img'].unsqueeze(0)})['imgs']
        tokens = to_tokens(target.patches(imgs))[0]  # (L, C*t*t)
        found.append(tokens[torch.randperm(len(tokens), generator=generator)[: -(-patches // count)]])
    for name, reason in broken.items():
        print(f'broken, another image stands in for it: {printable(name)}: {printable(reason)}', file=sys.stderr)
    return torch.cat(found)[:patches]
