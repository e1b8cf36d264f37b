"""Collect the patches of the training images of a config, of which a codebook is made."""

import sys

import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from torch import Tensor
from tqdm import tqdm

from mae_toolkit.errors import wrap_build_error
from mae_toolkit.models import CodebookTarget, Encoder, Target
from mae_toolkit.models.mask_ops import to_tokens
from mae_toolkit.models.wiring import Wiring
from mae_toolkit.printing import printable
from mae_toolkit.registry import DATASETS, MODELS, SCOPE, build
from mae_toolkit.spread import spread_indices

TARGETS = ('CodebookTarget', f'{SCOPE}.CodebookTarget')  # its names in configs


def build_codebook_target(cfg: Config) -> CodebookTarget:
    """Build the :class:`CodebookTarget` of a config with random centers, as its file of centers is still to be made.

    It is that of the first objective that has one, or else one with the defaults for the config's encoder.

    Args:
        cfg: A config of pretraining.
    """
    init_default_scope(SCOPE)
    objectives = cfg.model.get('objectives') or {}
    targets = [dict(objective['target']) for objective in objectives.values() if 'target' in objective]
    config = next((target for target in targets if target.get('type') in TARGETS), {'type': TARGETS[0]})
    encoder = build(Encoder, cfg.model.encoder)
    wiring = Wiring(in_chans=encoder.in_chans, strides=encoder.out_strides)
    target = build(Target, {k: v for k, v in config.items() if k != 'centers'}, wiring)
    assert isinstance(target, CodebookTarget)
    return target


def collect_training_patches(cfg: Config, target: CodebookTarget, images: int, patches: int, seed: int = 0) -> Tensor:
    """Collect patches of the training images of a config, augmented as for training and normalized by its target.

    Args:
        cfg: A config of pretraining.
        target: Normalizes the patches.
        images: Number of images at most; they are spread evenly over the training set.
        patches: Number of patches in all at most; every image gives the same number, at random places.
        seed: Seed of the places.

    Returns:
        (N, C*t*t) float32.
    """
    with wrap_build_error('The dataset'):
        dataset = DATASETS.build(cfg.train_dataloader.dataset)
    normalize = cfg.model.get('data_preprocessor')
    normalize = (lambda data: data) if normalize is None else MODELS.build(normalize)
    count = min(images, len(dataset))
    generator = torch.Generator().manual_seed(seed)
    found: list[Tensor] = []
    broken: dict[str, str] = {}
    for place in tqdm(spread_indices(len(dataset), count), desc='patches', unit='image'):
        item = dataset[0, place]
        broken |= dict(item['broken'])
        imgs = normalize({'imgs': item['img'].unsqueeze(0)})['imgs']
        tokens = to_tokens(target.patches(imgs))[0]  # (L, C*t*t)
        found.append(tokens[torch.randperm(len(tokens), generator=generator)[: -(-patches // count)]])
    for name, reason in broken.items():
        print(f'broken, another image stands in for it: {printable(name)}: {printable(reason)}', file=sys.stderr)
    return torch.cat(found)[:patches]
