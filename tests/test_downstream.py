"""Any encoder in any downstream config: the heads see the maps that they had, and one step trains all of it."""

from copy import deepcopy
from itertools import cycle

import pytest
import timm
import torch
from mmengine.config import Config, ConfigDict
from mmengine.registry import DefaultScope

from mae_toolkit.apis import build_model, fit_encoder, known_encoders, load_config, set_label_fraction
from mae_toolkit.downstream.necks import spread_levels
from mae_toolkit.errors import UserError
from mae_toolkit.export import export
from mae_toolkit.models import Classifier, Encoder
from mae_toolkit.models.necks import SimplePyramid
from mae_toolkit.registry import build, list_names
from parts import ENCODERS, images, make_encoder, make_model

pytestmark = pytest.mark.slow

SMALL = {'type': 'mae_toolkit.ConvNeXt', 'arch': 'convnextv2_tiny', 'depths': (1, 1, 1, 1), 'dims': (6, 10, 12, 14)}
VIT = {'type': 'mae_toolkit.ViT', **{k: v for k, v in ENCODERS['ViT'].items() if k != 'type'}, 'depth': 4}
HIERARCHY = {'type': 'ConvNeXt', 'arch': 'convnext_tiny', 'depths': (1, 1, 1, 1), 'dims': (6, 10, 12, 16)}
PLAIN = {key: value for key, value in VIT.items() if key != 'type'} | {'type': 'ViT', 'embed_dim': 48}
PYRAMID = {'type': 'mae_toolkit.SimplePyramid', 'in_channels': 24, 'out_channels': 8, 'scales': (2, 1, 0.5)}


def detection(kind='RetinaNet', backbone=None, neck=None):
    """A detector's config, of strides 4 to 64 or 8 to 128."""
    mmdet = pytest.importorskip('test_mmdet', reason='MMDetection is not installed: pip install -e .[det]')
    faster = kind == 'FasterRCNN'
    indices = (0, 1, 2, 3) if faster else (1, 2, 3)
    backbone = backbone or SMALL | {'out_indices': indices, 'out_norms': True, 'drop_path_rate': 0.1}
    neck = neck or {
        'type': 'FPN',
        'in_channels': [SMALL['dims'][i] for i in indices],
        'out_channels': 8,
        'num_outs': len(indices) + 1,
    }
    first = 4 if faster else 8
    strides = [first * 2**i for i in range(neck['num_outs'])]
    model = mmdet.rcnn(strides, False) if faster else mmdet.retina(strides)
    normal = {'type': 'DetDataPreprocessor', 'mean': [127.0] * 3, 'std': [50.0] * 3, 'pad_size_divisor': 16}
    model |= {'type': kind, 'data_preprocessor': normal, 'backbone': backbone, 'neck': neck}
    return Config({'default_scope': 'mmdet', 'model': model})


def head(kind, channels, index, **more):
    config = {'type': kind, 'in_channels': channels, 'in_index': index, 'channels': 8, 'num_classes': 3, **more}
    return config | {'norm_cfg': {'type': 'BN'}}


def segmentation(kind='UperNet', backbone=None, neck=None, channels=SMALL['dims']):
    """A segmenter's config: UperNet with an FCN beside it, or an FCN on the map of stride 8."""
    pytest.importorskip('mmseg', reason='MMSegmentation is not installed: pip install -e .[seg]')
    fcn = {'num_convs': 1, 'concat_input': False}
    decode = head('UPerHead', list(channels), [0, 1, 2, 3], pool_scales=(1, 2))
    model = {
        'type': 'EncoderDecoder',
        'data_preprocessor': {'type': 'SegDataPreProcessor', 'mean': [127.0] * 3, 'std': [50.0] * 3, 'size': (32, 48)},
        'backbone': backbone or SMALL | {'out_indices': (0, 1, 2, 3), 'out_norms': True},
        'decode_head': decode if kind == 'UperNet' else head('FCNHead', channels[1], 1, **fcn),
        'train_cfg': {},
        'test_cfg': {'mode': 'whole'},
    }
    model |= {'auxiliary_head': head('FCNHead', channels[2], 2, **fcn)} if kind == 'UperNet' else {}
    return Config({'default_scope': 'mmseg', 'model': model | ({'neck': neck} if neck else {})})


def classification(**changes):
    """A classifier's config."""
    model = {'type': 'Classifier', 'encoder': dict(SMALL, type='ConvNeXt', drop_path_rate=0.1), 'num_classes': 3}
    return Config({'model': model | {'head_norm': True} | changes})


CONFIGS = {'detection': detection, 'segmentation': segmentation, 'classification': classification}
# Every encoder in a config of each task; the two of a task take turns.
KINDS = [
    *zip(cycle(['FasterRCNN', 'RetinaNet', 'RetinaNet', 'FasterRCNN']), ENCODERS),
    *zip(cycle(['UperNet', 'FCN', 'FCN', 'UperNet']), ENCODERS),
]


def built(cfg):
    """The model of a config, its weights loaded."""
    if 'default_scope' not in cfg:
        model = build_model(cfg)
    else:
        registry = __import__(f'{cfg.default_scope}.registry', fromlist=['MODELS']).MODELS
        with DefaultScope.overwrite_default_scope(cfg.default_scope):
            model = registry.build(ConfigDict(deepcopy(cfg.model)))
    model.init_weights()
    return model


def trains(model):
    """One step; every parameter of the encoder and of what follows it takes part."""
    model.train()
    scope = type(model).__module__.split('.')[0]
    if scope == 'mae_toolkit':
        losses = model(images(), torch.tensor([0, 2]), mode='loss')
    else:
        source = __import__('test_mmdet' if scope == 'mmdet' else 'test_mmseg')
        batch = source.batch((64, 96) if scope == 'mmdet' else (32, 48))
        losses = model(**model.data_preprocessor(batch, training=True), mode='loss')
    total = sum(sum(x) if isinstance(x, list) else x for name, x in losses.items() if 'loss' in name)
    total.backward()
    parts = [part for part in (getattr(model, 'backbone', None) or model.encoder, getattr(model, 'neck', None)) if part]
    assert not [n for part in parts for n, p in part.named_parameters() if p.requires_grad and p.grad is None]


@pytest.mark.filterwarnings('ignore:Default ``avg_non_ignore`` is False')
@pytest.mark.parametrize(('kind', 'name'), KINDS)
def test_every_encoder_is_a_backbone_of_detectors_and_segmenters(kind, name):
    make = segmentation if kind in ('UperNet', 'FCN') else detection
    trains(built(fit_encoder(make(kind), ENCODERS[name])))


PATCH_14 = {
    'ViT': {'type': 'ViT', 'arch': 'vit_small_patch14_dinov2', 'img_size': 56},
    'Eva': {'type': 'Eva', 'arch': 'eva02_tiny_patch14_224', 'img_size': 56},
}


@pytest.mark.filterwarnings('ignore:Default ``avg_non_ignore`` is False')
@pytest.mark.parametrize('size', [(64, 96), (50, 77)])
@pytest.mark.parametrize('name', PATCH_14)
@pytest.mark.parametrize('kind', ['RetinaNet', 'FasterRCNN', 'UperNet', 'FCN'])
def test_patches_of_14_pixels_give_the_strides_of_the_heads(kind, name, size):
    """Of images whose sides are no multiple of 14: DINOv2 and EVA-02."""
    make = segmentation if kind in ('UperNet', 'FCN') else detection
    before = make(kind)
    cfg = fit_encoder(before, PATCH_14[name] | {'embed_dim': 24, 'depth': 2, 'num_heads': 3})
    assert cfg.model.neck.type == 'mae_toolkit.SimplePyramid' and cfg.model.neck.scale_factor == 14 / 16
    model = built(cfg).eval()
    source = __import__('test_mmseg' if make is segmentation else 'test_mmdet')
    if make is segmentation:
        cfg.model.data_preprocessor.size = size
    trains(model)
    model.eval()
    strides = {'FCN': (8,), 'RetinaNet': (8, 16, 32)}.get(kind, (4, 8, 16, 32))
    with torch.no_grad():
        maps = model.extract_feat(images(size=size))
        shapes = [tuple(x.shape[-2:]) for x in maps[: len(strides)]]
        rows, columns = (-(-side // 14) * 14 // 16 for side in size)  # of stride 16, rounded down
        assert shapes == [(rows * 16 // s, columns * 16 // s) for s in strides]
        data = model.data_preprocessor(source.batch(size), training=False)
        found = model(**data, mode='predict')
    if make is segmentation:
        assert all(one.pred_sem_seg.data.shape[-2:] == size for one in found)
    else:
        assert all(one.pred_instances.bboxes.shape[1] == 4 for one in found)


def test_a_resized_map_is_not_shifted():
    """A ramp over the image stays the same ramp: each cell of stride 16 has the value of its center."""
    pyramid = SimplePyramid(24, 8, scale_factor=14 / 16, scales=(1,))
    pyramid.levels = torch.nn.ModuleList([torch.nn.Identity()])
    centers = 14 * torch.arange(8.0) + 7  # pixels
    (found,) = pyramid([centers.expand(1, 24, 8, 8)])
    assert found.shape[-2:] == (7, 7)
    torch.testing.assert_close(found[0, 0, 0], 16 * torch.arange(7.0) + 8)
    with pytest.raises(UserError, match='scale_factor=0 must be above 0'):
        SimplePyramid(24, 8, scale_factor=0)


@pytest.mark.parametrize('name', ENCODERS)
def test_every_encoder_is_that_of_a_classifier(name):
    trains(built(fit_encoder(classification(), ENCODERS[name])))


class OwnClassifier(Classifier):
    """A user's subclass."""


@pytest.mark.parametrize('kind', ['mae_toolkit.Classifier', Classifier, OwnClassifier])
def test_an_encoder_is_that_of_every_kind_of_classifier(kind):
    cfg = fit_encoder(classification(type=kind), PLAIN)
    assert cfg.model.type == kind and cfg.model.encoder.type == PLAIN['type']


def test_the_heads_of_a_detector_see_the_strides_that_they_had():
    cfg = detection('FasterRCNN')
    before = deepcopy(cfg.to_dict())
    model = fit_encoder(cfg, HIERARCHY).model
    assert cfg.to_dict() == before
    assert model.backbone.type == 'mae_toolkit.ConvNeXt' and model.backbone.out_indices == (0, 1, 2, 3)
    assert model.neck == cfg.model.neck | {'in_channels': [6, 10, 12, 16]}
    assert model.backbone.out_norms and model.backbone.drop_path_rate == 0.1  # as the own backbone had them
    model = fit_encoder(cfg, HIERARCHY | {'out_norms': False, 'drop_path_rate': 0.2}).model
    assert not model.backbone.out_norms and model.backbone.drop_path_rate == 0.2
    assert fit_encoder(cfg, ENCODERS['Swin']).model.backbone.final_norm is False  # or there were two norms
    model = fit_encoder(cfg, PLAIN).model
    sizes = {'in_channels': 48, 'out_channels': 8, 'scales': (2.0, 1.0, 0.5, 0.25), 'num_outs': 5}
    assert model.neck == {'type': 'mae_toolkit.SimplePyramid'} | sizes
    assert model.backbone.out_indices == (3,) and 'out_norms' not in model.backbone
    model = fit_encoder(detection('RetinaNet'), PLAIN | {'patch_size': 16}).model
    assert model.neck.scales == (2.0, 1.0, 0.5) and model.neck.num_outs == 4


def test_levels_that_were_not_pretrained_are_not_built_and_coarser_maps_are_made_by_the_pyramid():
    model = fit_encoder(detection('FasterRCNN'), HIERARCHY | {'out_indices': (2,)}).model
    assert model.backbone.out_indices == (0, 1, 2) and model.neck.in_channels == [6, 10, 12]
    assert model.neck.num_outs == 5


def test_a_plain_transformers_config_takes_others():
    cfg = detection('RetinaNet', VIT | {'patch_size': 16}, PYRAMID | {'num_outs': 4})
    own = fit_encoder(cfg, PLAIN | {'patch_size': 16}).model
    assert own.neck == cfg.model.neck | {'in_channels': 48}
    assert fit_encoder(cfg, PLAIN).model.neck.scales == (1.0, 0.5, 0.25)  # of strides 8, 16 and 32; 64 by pooling
    model = fit_encoder(cfg, HIERARCHY).model
    assert model.neck == {'type': 'FPN', 'in_channels': [10, 12, 16], 'out_channels': 8, 'num_outs': 4}
    assert model.backbone.out_norms
    trains(built(fit_encoder(cfg, HIERARCHY)))


def test_the_heads_of_a_segmenter_read_maps_of_the_strides_that_they_read():
    cfg = segmentation('UperNet')
    model = fit_encoder(cfg, HIERARCHY).model
    assert model.decode_head.in_channels == [6, 10, 12, 16] and model.auxiliary_head.in_channels == 12
    assert 'neck' not in model
    model = fit_encoder(cfg, PLAIN).model
    assert model.neck.scales == (2.0, 1.0, 0.5, 0.25) and model.neck.out_channels == 48
    assert model.decode_head.in_channels == [48] * 4 and model.auxiliary_head.in_index == 2
    model = fit_encoder(segmentation('FCN'), HIERARCHY).model
    assert (model.backbone.out_indices, model.decode_head.in_index, model.decode_head.in_channels) == ((1,), 0, 10)
    model = fit_encoder(segmentation('FCN'), PLAIN).model  # of stride 8 itself
    assert (model.backbone.out_indices, model.get('neck'), model.decode_head.in_channels) == ((3,), None, 48)
    model = fit_encoder(segmentation('FCN'), PLAIN | {'patch_size': 16}).model
    assert model.neck.scales == (2.0,) and model.decode_head.in_channels == 48


def test_a_segmenter_over_several_maps_of_one_stride_keeps_their_number():
    four = VIT | {'patch_size': 16, 'out_indices': (0, 1, 2, 3)}
    neck = {'type': 'Feature2Pyramid', 'embed_dim': 24, 'rescales': [4, 2, 1, 0.5], 'norm_cfg': {'type': 'BN'}}
    cfg = segmentation('UperNet', four, neck, [24] * 4)
    model = fit_encoder(cfg, PLAIN | {'patch_size': 16, 'depth': 8}).model
    assert model.backbone.out_indices == (1, 3, 5, 7) and model.neck == neck | {'embed_dim': 48}
    assert model.decode_head.in_channels == [48] * 4
    model = fit_encoder(cfg, HIERARCHY).model
    assert model.neck.type == 'FPN' and model.neck.num_outs == 4 and model.decode_head.in_channels == [16] * 4
    assert spread_levels(4, 12) == (2, 5, 8, 11) and spread_levels(1, 12) == (11,)


def test_a_backbone_of_theirs_is_measured():
    theirs = {'type': 'ResNet', 'depth': 18, 'in_channels': 3, 'init_cfg': {'type': 'Pretrained', 'checkpoint': 'none'}}
    neck = {'type': 'FPN', 'in_channels': [64, 128, 256, 512], 'out_channels': 8, 'num_outs': 5}
    model = fit_encoder(detection('FasterRCNN', theirs, neck), HIERARCHY).model
    assert model.neck.in_channels == [6, 10, 12, 16] and model.backbone.init_cfg is None


def test_what_is_for_hidden_cells_is_left_out():
    hiera = dict(ENCODERS['Hiera'], stages=(1, 1, 1), mask_unit_size=(4, 4), mask_unit_attn=(True, True, False))
    hiera |= {'q_pool': 1, 'out_indices': None, 'img_size': (32, 64)}
    encoder = fit_encoder(classification(), hiera).model.encoder
    assert encoder.q_pool == 2 and encoder.out_indices == (2,)
    for name, key in (('Swin', 'mask_token'), ('ConvNeXt V2', 'grn_over_batch')):
        assert key not in fit_encoder(classification(), ENCODERS[name] | {key: True}).model.encoder


def norms_before_the_linear_layer(cfg, encoder):
    """How many layer norms lie after the last block."""
    model = build_model(fit_encoder(cfg, encoder))
    norm = getattr(model.encoder.body, 'norm', torch.nn.Identity())
    ends = int(type(norm) is not torch.nn.Identity)
    ends += sum(type(norm) is not torch.nn.Identity for norm in getattr(model.encoder, 'out_norms', ()))
    return ends, int(hasattr(model.head, 'norm'))


NORMS = {'ViT': (1, 0), 'Eva, DINOv3': (1, 0), 'Swin': (1, 0), 'SparseCNN': (0, 0)}


@pytest.mark.parametrize('name', [*NORMS, 'Swin V2', 'ConvNeXt', 'ConvNeXt V2', 'Hiera'])
def test_a_classifier_has_one_norm_before_its_linear_layer(name):
    assert norms_before_the_linear_layer(classification(), ENCODERS[name]) == (0, 1)  # alike in all
    own = norms_before_the_linear_layer(classification(head_norm=False), ENCODERS[name])
    assert own == NORMS.get(name, (0, 1))
    probe = norms_before_the_linear_layer(classification(head_norm=False, batch_norm=True), ENCODERS[name])
    assert probe == (own[0], 0)


def test_a_classifier_pools_what_there_is():
    cfg = classification(encoder=dict(VIT, type='ViT'), pooling='class')
    assert fit_encoder(cfg, ENCODERS['ViT']).model.pooling == 'class'
    assert fit_encoder(cfg, HIERARCHY).model.pooling == 'mean'
    assert fit_encoder(classification(), HIERARCHY).model.encoder.drop_path_rate == 0.1


# Of a size of their own, on images of another: positions and windows are those of pretraining.
SIZED = {
    'ViT': {'type': 'ViT', 'patch_size': 16, 'embed_dim': 24, 'depth': 2, 'num_heads': 3, 'img_size': 96},
    'ViT, learned': {'type': 'ViT', **VIT, 'img_size': 96, 'positions': 'learned'} | {'type': 'ViT'},
    'Eva': ENCODERS['Eva, DINOv3'] | {'patch_size': 16},
    'Hiera': ENCODERS['Hiera'] | {'img_size': 96},
    'Swin': ENCODERS['Swin'] | {'img_size': 96, 'window_size': 7, 'mask_token': True},
}


@pytest.mark.parametrize('name', SIZED)
@pytest.mark.parametrize('task', ['detection', 'classification'])
def test_a_training_checkpoint_of_small_images_becomes_the_encoder(name, task, tmp_path):
    decoder = 'LinearDecoder' if 'mask_token' in SIZED[name] else 'TransformerDecoder'
    pretrained = make_model(SIZED[name], decoder=decoder)
    torch.save({'meta': {}, 'state_dict': pretrained.state_dict()}, tmp_path / 'iter_1.pth')
    model = built(fit_encoder(CONFIGS[task](), SIZED[name], tmp_path / 'iter_1.pth'))
    encoder = model.backbone if task == 'detection' else model.encoder
    state = pretrained.encoder.state_dict()
    same = [key for key, value in encoder.state_dict().items() if key in state and torch.equal(value, state[key])]
    assert {key for key in encoder.state_dict() if not key.startswith('out_norms')} == set(same)
    whole = pretrained.encoder.eval()(images(size=(96, 128)))[-1]
    assert torch.isfinite(whole).all()
    if task == 'detection' and ('ViT' in name or name == 'Eva'):  # whose last map is what pretraining gave
        torch.testing.assert_close(encoder.eval()(images(size=(96, 128)))[-1], whole)


def test_an_exported_encoder_loads(tmp_path):
    pretrained = make_model('ConvNeXt V2')
    torch.save({'meta': {}, 'state_dict': pretrained.state_dict()}, tmp_path / 'iter_1.pth')
    list(export(tmp_path / 'iter_1.pth', tmp_path / 'encoder.safetensors', 'safetensors'))
    model = built(fit_encoder(classification(), ENCODERS['ConvNeXt V2'], tmp_path / 'encoder.safetensors'))
    state = pretrained.encoder.state_dict()
    own = {key: value for key, value in model.encoder.state_dict().items() if 'out_norms' not in key}
    assert own and all(torch.equal(value, state[key]) for key, value in own.items())


TIMM = {
    'ViT': ('vit_tiny_patch16_224', {'img_size': 32}, {'img_size': 32, 'positions': 'learned'}),
    'Eva': ('vit_tiny_patch16_dinov3_qkvb', {'depth': 2}, {}),
    'ConvNeXt': ('convnextv2_atto', {}, {}),
    'Swin': ('swin_tiny_patch4_window7_224', {'depths': (1, 1, 1, 1), 'embed_dim': 24}, {}),
    'Hiera': ('hiera_tiny_224', {'img_size': (64, 64)}, {'img_size': 64}),
    'SparseCNN': ('resnet18', {}, {}),
}


@pytest.mark.parametrize('kind', TIMM)
def test_timms_weights_load_by_their_path(kind, tmp_path):
    arch, given, ours = TIMM[kind]
    network = timm.create_model(arch, num_classes=7, **given)
    torch.save(network.state_dict(), tmp_path / 'timm.pth')
    encoder = {'type': kind, 'arch': arch, **(ours or given)}
    model = built(fit_encoder(detection('FasterRCNN'), encoder, tmp_path / 'timm.pth'))
    state = network.state_dict()
    for name, value in model.backbone.body.state_dict().items():
        assert torch.equal(value, state[name]), name
    with pytest.raises(UserError):
        built(fit_encoder(detection('FasterRCNN'), HIERARCHY, tmp_path / 'timm.pth'))


@pytest.mark.parametrize(
    ('encoder', 'sentence'),
    [
        ({'type': 'ConvNext'}, "no encoder named 'ConvNext'; did you mean ConvNeXt"),
        (
            {'type': 'ConvNeXt', 'arch': 'convnextv2_atta'},
            "'convnextv2_atta'; did you mean convnextv2_",
        ),
        ({'arch': 'convnextv2_atto'}, 'configured by a dict with a "type"'),
        (ENCODERS['Swin'] | {'patch_size': 8}, 'of strides 4, 8, 16, 32, 64, and the Swin gives strides 8, 16: choose'),
    ],
)
def test_an_encoder_that_cannot_be_is_refused(encoder, sentence):
    with pytest.raises(UserError, match=sentence):
        fit_encoder(detection('FasterRCNN'), encoder)


def test_configs_that_cannot_take_an_encoder_are_refused():
    cfg = detection('RetinaNet')
    del cfg.model['neck']
    with pytest.raises(UserError, match='The RetinaNet has no neck'):
        fit_encoder(cfg, HIERARCHY)
    with pytest.raises(UserError, match='trains a MaskedAutoencoder, and is not a downstream config'):
        fit_encoder(Config({'model': {'type': 'MaskedAutoencoder', 'encoder': HIERARCHY}}), HIERARCHY)
    assert known_encoders() == list_names(Encoder) and 'Hiera' in known_encoders()


@pytest.mark.parametrize('name', ENCODERS)
def test_an_encoder_says_how_many_levels_it_has_and_whether_a_norm_ends_it(name):
    encoder = make_encoder(name, out_indices=None)
    assert encoder.out_indices == (encoder.num_levels - 1,)
    with pytest.raises(UserError, match='reach beyond'):
        build(Encoder, ENCODERS[name] | {'out_indices': (encoder.num_levels,)})
    norm = getattr(encoder.body, 'norm', None)
    ends = ENCODERS[name]['type'] == 'SparseCNN' or (norm is not None and type(norm) is not torch.nn.Identity)
    assert encoder.ends_with_norm == ends


def test_the_configs_of_this_repository_take_any_encoder(root):
    """One of each kind of architecture, in the small configs."""
    for name in ('faster-rcnn_convnextv2-a_500s_bccd', 'mask-rcnn_vit-t_500s_dsb2018'):
        cfg = load_config(root / 'configs' / 'detection' / f'{name}.py')
        for encoder in (HIERARCHY, PLAIN):
            fitted = set_label_fraction(fit_encoder(cfg, encoder), 0.1)
            assert fitted.model.backbone.type.endswith(encoder['type'])
            assert fitted.train_dataloader.dataset.fraction == 0.1
