"""A masked autoencoder with batch norms in its encoder, so small that whole runs take a second."""

import copy

from engine_toys import ToyImages, loader, make_runner
from mae_toolkit.models import MaskedAutoencoder

SHAPE = (3, 32, 32)


CONFIG = {
    'data_preprocessor': {'type': 'mae_toolkit.ImagePreprocessor', 'mean': [127.5] * 3, 'std': [73.9] * 3},
    'encoder': {'type': 'SparseCNN', 'arch': 'test_resnet', 'out_indices': (0, 1, 2)},
    'masking': {'type': 'RandomMasking', 'ratio': 0.5},
    'decoder': {'type': 'UNetDecoder', 'width': 16},
    'objectives': {'pixel': {'target': {'type': 'PixelTarget'}, 'losses': [{'type': 'MaskedL2Loss'}]}},
}


def make_model(**encoder):
    """SparK of timm's smallest ResNet, up to its second level."""
    config = copy.deepcopy(CONFIG)
    config['encoder'] |= encoder
    return MaskedAutoencoder(**config)


def cnn_runner(work_dir, hooks=(), images=12, encoder=None, **kwargs):
    """A runner of 6 iterations per epoch, without schedules."""
    given = dict(
        model=make_model(**encoder or {}),
        train_dataloader=loader(ToyImages(images, shape=SHAPE)),
        param_scheduler=None,
    )
    return make_runner(work_dir, hooks, **given | kwargs)
