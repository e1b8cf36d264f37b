"""Every encoder is a backbone of MMSegmentation: one training step, and a prediction at an odd size."""

import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.registry import DefaultScope
from mmengine.structures import PixelData

from parts import ENCODERS, make_encoder
from warm import run_python

pytest.importorskip('mmseg', reason='MMSegmentation is not installed: pip install -e .[seg]')

from mmseg.registry import MODELS
from mmseg.structures import SegDataSample

CLASSES, SIZE, ODD = 3, (32, 48), (45, 70)


def segmenter(name, **backbone):
    """UperNet on two levels of the encoder."""
    channels = list(make_encoder(name, out_indices=(0, 1)).out_channels)
    head = {'type': 'UPerHead', 'in_channels': channels, 'in_index': [0, 1], 'pool_scales': (1, 2), 'channels': 8}
    config = {
        'type': 'EncoderDecoder',
        'data_preprocessor': {'type': 'SegDataPreProcessor', 'mean': [127.0] * 3, 'std': [50.0] * 3, 'size': SIZE},
        'backbone': ENCODERS[name] | {'type': f'mae_toolkit.{ENCODERS[name]["type"]}', 'out_indices': (0, 1)},
        'decode_head': head | {'num_classes': CLASSES, 'norm_cfg': {'type': 'BN'}},
        'train_cfg': {},
        'test_cfg': {'mode': 'whole'},
    }
    config['backbone'] |= ({'mask_token': False} if 'mask_token' in ENCODERS[name] else {}) | backbone
    with DefaultScope.overwrite_default_scope('mmseg'):
        return MODELS.build(ConfigDict(config))


def batch(size):
    generator = torch.Generator().manual_seed(0)
    samples = []
    for _ in range(2):
        labels = PixelData(data=torch.randint(CLASSES, (1, *size), generator=generator))
        samples.append(SegDataSample(gt_sem_seg=labels, metainfo={'img_shape': size, 'ori_shape': size}))
    imgs = [torch.randint(256, (3, *size), generator=generator, dtype=torch.uint8) for _ in range(2)]
    return {'inputs': imgs, 'data_samples': samples}


@pytest.mark.filterwarnings('ignore:Default ``avg_non_ignore`` is False')
@pytest.mark.parametrize('name', ENCODERS)
def test_an_encoder_trains_as_a_backbone_and_predicts(name):
    model = segmenter(name).train()
    losses = model(**model.data_preprocessor(batch(SIZE), training=True), mode='loss')
    losses['decode.loss_ce'].backward()
    without = [n for n, p in model.backbone.named_parameters() if p.requires_grad and p.grad is None]
    assert not without
    with torch.no_grad():
        found = model.eval()(**model.data_preprocessor(batch(ODD)), mode='predict')
    assert [tuple(one.pred_sem_seg.data.shape) for one in found] == [(1, *ODD)] * 2


def test_a_segmenter_loads_a_training_checkpoint(tmp_path):
    encoder = make_encoder('ConvNeXt', out_indices=(1,))
    state = {f'encoder.{name}': value for name, value in encoder.state_dict().items()}
    torch.save({'state_dict': state | {'decoder.mask_token': torch.zeros(8)}}, tmp_path / 'iter_1.pth')
    pretrained = {'type': 'Pretrained', 'checkpoint': str(tmp_path / 'iter_1.pth'), 'prefix': 'encoder'}
    model = segmenter('ConvNeXt', out_norms=True, init_cfg=pretrained)
    model.init_weights()
    loaded = model.backbone.state_dict()
    assert all(torch.equal(value, loaded[name]) for name, value in encoder.state_dict().items())


@pytest.mark.process
def test_the_scope_leads_to_the_encoders_without_custom_imports():
    """In a process that has not imported the toolkit."""
    code = """
import sys
from mmseg.registry import MODELS
assert 'mae_toolkit' not in sys.modules
backbone = MODELS.build({'type': 'mae_toolkit.SparseCNN', 'arch': 'resnet18', 'out_indices': (1,)})
assert type(backbone) is sys.modules['mae_toolkit'].models.SparseCNN
"""
    done = run_python('-c', code)
    assert done.returncode == 0, done.stderr
