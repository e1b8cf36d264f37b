"""``init_cfg`` of encoders: a training checkpoint becomes a backbone, and every key is accounted for."""

import logging

import pytest
import torch
from mmengine.logging import MMLogger
from mmengine.model import BaseModule
from mmengine.registry import MODELS as ROOT
from mmengine.registry import Registry

from mae_toolkit.checkpoints.report import Report, log_report
from mae_toolkit.errors import UserError
from mae_toolkit.models import Encoder
from mae_toolkit.registry import MODELS, build
from parts import ENCODERS, images, make_encoder, make_model

DETECTORS = Registry('model', parent=ROOT, scope='detector')


class Detector(BaseModule):
    """A model of MMEngine that holds an encoder, as detectors and segmenters do."""

    def __init__(self, backbone):
        super().__init__()
        self.backbone = backbone


@pytest.fixture
def told(caplog):
    """What is logged."""
    logger = MMLogger.get_current_instance()  # that of the last run, if one was made before
    logger.addHandler(caplog.handler)
    caplog.set_level(logging.INFO)
    yield caplog
    logger.removeHandler(caplog.handler)


def save(folder, name, **changes):
    """A raw training checkpoint of a model with this encoder, and the encoder."""
    model = make_model(ENCODERS[name] | changes)
    torch.save({'meta': {'epoch': 1}, 'state_dict': model.state_dict(), 'optimizer': {}}, folder / 'epoch_1.pth')
    torch.save(sorted(k for k in model.state_dict() if not k.startswith('encoder.')), folder / 'beside')
    return dict(type='Pretrained', checkpoint=str(folder / 'epoch_1.pth'), prefix='encoder'), model.encoder


def downstream(config, init_cfg):
    detector = Detector(build(Encoder, config | {'init_cfg': init_cfg}))
    detector.init_weights()
    return detector.backbone


@pytest.mark.parametrize('name', ENCODERS)
def test_a_training_checkpoint_is_loaded_with_every_key_told(name, tmp_path, told):
    init_cfg, encoder = save(tmp_path, name)
    config = ENCODERS[name]
    backbone = downstream(config, init_cfg)
    for a, b in zip(encoder.eval()(images()), backbone.eval()(images()), strict=True):
        assert torch.equal(a, b)
    assert f'loaded: {len(encoder.state_dict()):4}' in told.text
    assert all(f'{kind}:    0' in told.text for kind in ('resized', 'new'))
    beside = torch.load(tmp_path / 'beside')
    assert f'dropped: {len(beside):4}  {beside[0]}' in told.text


def test_what_a_backbone_adds_is_new_and_what_it_does_not_build_is_dropped(tmp_path, told):
    init_cfg, encoder = save(tmp_path, 'Swin', mask_token=True, out_indices=None)
    backbone = downstream(ENCODERS['Swin'] | {'out_indices': (-1, 0), 'out_norms': True}, init_cfg)
    state = backbone.state_dict()
    assert all(torch.equal(v, state[k]) for k, v in encoder.state_dict().items() if k in state)
    left = sorted(f'encoder.{name}' for name in encoder.state_dict().keys() - state.keys())
    left = sorted([*left, *torch.load(tmp_path / 'beside')])
    assert {'encoder.mask_token', 'encoder.body.norm.weight', 'encoder.body.layers.1.blocks.0.norm1.bias'} <= set(left)
    assert 'new:    4  encoder.out_norms.0.bias' in told.text and f'dropped: {len(left):4}  {left[0]}' in told.text


def test_norms_of_other_outputs_are_not_taken(tmp_path, told):
    init_cfg, _ = save(tmp_path, 'Hiera, resolution kept', out_indices=(1,))
    backbone = downstream(ENCODERS['Hiera, resolution kept'] | {'out_indices': (0, 1)}, init_cfg)
    assert all((norm.weight == 1).all() for norm in backbone.out_norms)
    init_cfg, encoder = save(tmp_path, 'Hiera, resolution kept', out_indices=(0, 1))
    backbone = downstream(ENCODERS['Hiera, resolution kept'] | {'out_indices': (0, 1)}, init_cfg)
    assert all(torch.equal(a.weight, b.weight) for a, b in zip(backbone.out_norms, encoder.out_norms, strict=True))


@pytest.mark.parametrize(
    ('name', 'pretrained', 'config', 'words'),
    [
        ('ConvNeXt', {'depths': (1, 3, 1, 1)}, {}, 'does not build, .*stages.1.blocks.2'),
        ('ConvNeXt', {}, {'depths': (1, 3, 1, 1)}, 'lack .*stages.1.blocks.2'),
        ('ViT', {}, {'embed_dim': 48}, 'shape'),
        ('ViT', {'depth': 3}, {}, 'does not build, .*blocks.2'),
        ('SparseCNN', {'arch': 'resnet34'}, {}, 'does not build, .*layer1.2'),
        ('SparseCNN', {'out_indices': (1,)}, {}, 'lack .*layer2'),
    ],
)
def test_another_architecture_is_refused(name, pretrained, config, words, tmp_path):
    init_cfg, _ = save(tmp_path, name, **pretrained)
    with pytest.raises(UserError, match=words):
        downstream(ENCODERS[name] | config, init_cfg)


@pytest.mark.parametrize('stray', ['encoder.body.patch_embed.proj.weight_old', 'encoder.mask_token_old'])
def test_a_key_that_begins_as_one_that_may_be_dropped_is_refused(tmp_path, stray):
    init_cfg, _ = save(tmp_path, 'ViT')
    content = torch.load(init_cfg['checkpoint'])
    content['state_dict'][stray] = torch.ones(1)
    torch.save(content, init_cfg['checkpoint'])
    with pytest.raises(UserError, match=f'hold, and the model does not build, 1 keys: {stray};'):
        downstream(ENCODERS['ViT'], init_cfg)


def test_a_prefix_under_which_there_is_nothing_is_refused(tmp_path):
    init_cfg, _ = save(tmp_path, 'ViT')
    with pytest.raises(UserError, match="nothing under prefix='backbone', only under decoder, encoder, objectives"):
        downstream(ENCODERS['ViT'], init_cfg | {'prefix': 'backbone'})


OTHER_WAY, OTHER_TYPE = "init_cfg of an encoder is dict.type='Pretrained'", 'a dict or None is needed'


@pytest.mark.parametrize(
    ('init_cfg', 'words'),
    [
        (dict(type='Kaiming', layer='Conv2d'), OTHER_WAY),
        (dict(type='Pretrained'), OTHER_WAY),
        ([dict(type='Xavier')], OTHER_WAY),
        ('weights.pth', OTHER_TYPE),
    ],
)
def test_other_ways_to_initialize_are_refused(init_cfg, words):
    with pytest.raises(UserError, match=words):
        make_encoder('SparseCNN', init_cfg=init_cfg)


@pytest.mark.parametrize('name', ENCODERS)
def test_every_encoder_is_built_for_a_detector(name):
    """As MMDetection builds it: by its own registry, from a config with a scope."""
    backbone = DETECTORS.build(ENCODERS[name] | {'type': f'mae_toolkit.{ENCODERS[name]["type"]}', 'init_cfg': None})
    assert isinstance(backbone, MODELS.get(ENCODERS[name]['type']))
    maps = backbone(images())
    assert isinstance(maps, tuple) and [x.shape[1] for x in maps] == list(backbone.out_channels)


def test_the_log_file_has_all_keys_and_the_log_the_first(tmp_path, monkeypatch):
    logger = MMLogger('keys', log_file=str(tmp_path / 'run.log'))
    monkeypatch.setattr(MMLogger, 'get_current_instance', lambda: logger)
    shown = []
    logger.addHandler(handler := logging.Handler())
    handler.emit = lambda record: shown.append(record.getMessage())
    names = [f'decoder.{number}.weight' for number in range(9)]
    log_report(Report(['encoder.a'], [], names, []), 'the model', 'w.pth')
    written = (tmp_path / 'run.log').read_text()
    assert not any(names[8] in text for text in shown) and '… (3 more)' in shown[0]
    assert names[8] in written and 'loaded: encoder.a\n' not in written.partition('shortened')[2]
