"""Layer-wise decay: rates reckoned by hand, in classifiers and segmenters, with and without timm."""

import re
from itertools import cycle

import pytest
import timm
import torch
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DefaultScope
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from mae_toolkit.apis import fit_encoder
from mae_toolkit.engine.layer_decay import LayerDecayOptimWrapperConstructor
from mae_toolkit.errors import UserError
from mae_toolkit.models import Encoder
from mae_toolkit.registry import build
from parts import ENCODERS
from warm import run_python

pytestmark = pytest.mark.slow

LR, DECAY = 0.1, 0.05


class Net(nn.Module):
    """A model with a backbone, and a head behind it."""

    def __init__(self, backbone, name='encoder'):
        super().__init__()
        self.add_module(name, build(Encoder, backbone) if isinstance(backbone, dict) else backbone)
        self.head = nn.Linear(4, 2)


def options_of(model, paramwise_cfg, optimizer=None):
    """By name of the parameter: (learning rate over the full one, weight decay), and the groups."""
    cfg = {'type': 'OptimWrapper', 'optimizer': {'type': 'AdamW', 'lr': LR, 'weight_decay': DECAY} | (optimizer or {})}
    groups = LayerDecayOptimWrapperConstructor(cfg, paramwise_cfg)(model).optimizer.param_groups
    names = {id(parameter): name for name, parameter in getattr(model, 'module', model).named_parameters()}
    return {names[id(p)]: (g['lr'] / LR, g['weight_decay']) for g in groups for p in g['params']}, groups


def rates(backbone, rate, grouping='block'):
    options, _ = options_of(Net(backbone), {'decay_rate': rate, 'grouping': grouping})
    return {name.removeprefix('encoder.body.'): lr for name, (lr, _) in options.items()}


def test_an_optimizer_without_weight_decay():
    cfg = {'type': 'OptimWrapper', 'optimizer': {'type': 'Adam', 'lr': LR}}
    with torch.device('meta'):
        model = Net({'type': 'ViT', 'positions': 'learned', 'depth': 1})
    groups = LayerDecayOptimWrapperConstructor(cfg, {'decay_rate': 0.5})(model).optimizer.param_groups
    assert {group['weight_decay'] for group in groups} == {0.0}


def test_vit_b_by_the_rule_of_beit():
    with torch.device('meta'):
        found = rates({'type': 'ViT', 'positions': 'learned'}, 0.65)
    exponents = {'cls_token': 13, 'pos_embed': 13, 'patch_embed.proj.bias': 13, 'norm.weight': 0, 'head.weight': 0}
    exponents |= {f'blocks.{i}.attn.qkv.weight': 12 - i for i in range(12)}
    for name, exponent in exponents.items():
        assert found[name] == pytest.approx(0.65**exponent), name
    assert found['blocks.11.mlp.fc2.bias'] == pytest.approx(0.65)
    assert found['pos_embed'] == pytest.approx(0.0036972, rel=1e-4)  # 0.65 to the 13th


def test_convnext_b_by_twelve_groups_and_by_blocks():
    with torch.device('meta'):
        grouped = rates({'type': 'ConvNeXt', 'arch': 'convnextv2_base'}, 0.6, 'group')
        single = rates({'type': 'ConvNeXt', 'arch': 'convnextv2_base'}, 0.9)
    exponents = {
        'stem.0.weight': 13,
        'stages.0.blocks.2.conv_dw.weight': 12,
        'stages.1.downsample.1.weight': 11,
        'stages.1.blocks.0.mlp.grn.weight': 11,
        'stages.2.downsample.0.bias': 10,
        'stages.2.blocks.2.norm.weight': 10,
        'stages.2.blocks.3.norm.weight': 9,
        'stages.2.blocks.26.mlp.fc1.weight': 2,
        'stages.3.downsample.1.weight': 1,
        'stages.3.blocks.2.mlp.fc2.bias': 1,
        'head.bias': 0,
    }
    for name, exponent in exponents.items():
        assert grouped[name] == pytest.approx(0.6**exponent), name
    # 3 + 3 + 27 + 3 blocks, and the stem with the first of them, as in FCMAE's code
    assert single['stem.0.weight'] == single['stages.0.blocks.0.conv_dw.weight'] == pytest.approx(0.9**36)
    assert single['stages.1.downsample.1.weight'] == pytest.approx(0.9 ** (37 - 4))
    assert single['stages.2.blocks.4.norm.weight'] == pytest.approx(0.9 ** (37 - 11))


def test_swin_counts_blocks_over_all_stages():
    with torch.device('meta'):
        found = rates({'type': 'Swin', 'arch': 'swin_tiny_patch4_window7_224', 'mask_token': True}, 0.9)
    exponents = {'encoder.mask_token': 13, 'patch_embed.norm.weight': 13, 'norm.bias': 0, 'head.weight': 0}
    exponents |= {'layers.0.blocks.0.attn.relative_position_bias_table': 12, 'layers.1.downsample.reduction.weight': 11}
    exponents |= {'layers.1.blocks.0.norm1.weight': 10, 'layers.3.blocks.1.mlp.fc1.weight': 1}
    for name, exponent in exponents.items():
        assert found[name] == pytest.approx(0.9**exponent), name


def test_hiera_and_resnet():
    with torch.device('meta'):
        hiera = rates({'type': 'Hiera', 'arch': 'hiera_tiny_224'}, 0.65)
    assert hiera['pos_embed'] == hiera['patch_embed.proj.weight'] == pytest.approx(0.65**13)  # 1 + 2 + 7 + 2 blocks
    assert hiera['blocks.3.proj.weight'] == pytest.approx(0.65**9)
    assert hiera['head.weight'] == 1
    resnet = rates({'type': 'SparseCNN', 'arch': 'resnet18'}, 0.7)  # a stem and eight blocks, by timm's matcher
    assert resnet['conv1.weight'] == resnet['bn1.bias'] == pytest.approx(0.7**9)
    assert resnet['layer1.0.conv1.weight'] == pytest.approx(0.7**8)
    assert resnet['layer2.0.downsample.0.weight'] == pytest.approx(0.7**6)
    assert resnet['layer4.1.conv2.weight'] == pytest.approx(0.7)


@pytest.mark.parametrize(('arch', 'deepest'), [('resnet50', 7), ('resnet101', 13), ('resnet152', 14)])
def test_resnets_by_the_groups_of_spark(arch, deepest):
    with torch.device('meta'):
        found = rates({'type': 'SparseCNN', 'arch': arch}, 0.7, 'group')
    exponents = {'conv1.weight': deepest, 'bn1.bias': deepest, 'layer1.2.conv3.weight': deepest - 1}
    exponents |= {'layer2.1.conv1.weight': deepest - 2, 'layer4.0.downsample.1.weight': 1, 'head.weight': 0}
    if arch == 'resnet50':
        exponents |= {'layer2.2.bn1.weight': 4, 'layer3.2.conv1.weight': 3, 'layer3.3.conv1.weight': 2}
    for name, exponent in exponents.items():
        assert found[name] == pytest.approx(0.7**exponent), name


def test_a_model_of_timm_groups_its_own_layers():
    net = Net(timm.create_model('resnet18', num_classes=0), 'backbone')
    ours, _ = options_of(Net({'type': 'SparseCNN', 'arch': 'resnet18'}, 'backbone'), {'decay_rate': 0.7})
    theirs, _ = options_of(net, {'decay_rate': 0.7})
    assert {name.replace('.body.', '.'): value for name, value in ours.items()} == theirs


@pytest.mark.parametrize(
    ('arch', 'encoder'),
    [
        ('resnet18', {'type': 'SparseCNN'}),
        ('vit_tiny_patch16_224', {'type': 'ViT', 'positions': 'learned'}),
        ('convnextv2_atto', {'type': 'ConvNeXt'}),
        ('swin_tiny_patch4_window7_224', {'type': 'Swin'}),
        ('hiera_tiny_224', {'type': 'Hiera'}),
    ],
)
@pytest.mark.parametrize('num_classes', [0, 10])
def test_a_model_of_timm_in_a_wrapper_has_the_rates_of_our_encoder(arch, encoder, num_classes):
    """Whether it has its classifier or not; timm counts ConvNeXt's stem, downsampling and the last norm its own way."""
    with torch.device('meta'):
        ours = rates(encoder | {'arch': arch}, 0.7)
        wrapper = nn.Module()
        wrapper.timm_model = timm.create_model(arch, num_classes=num_classes)
        options, _ = options_of(Net(wrapper, 'backbone'), {'decay_rate': 0.7})
    theirs = {name.removeprefix('backbone.timm_model.'): lr for name, (lr, _) in options.items()}
    assert theirs['head.weight'] == theirs.get('fc.weight', 1) == theirs.get('head.fc.weight', 1) == 1
    own_way = re.compile(r'stem\.|norm\.|.*downsample')
    same = [name for name in ours.keys() & theirs.keys() if not own_way.match(name)]
    assert len(same) > 40 and all(ours[name] == theirs[name] for name in same)


def test_few_groups_that_compose_with_the_rules_of_weight_decay():
    vit = {'type': 'ViT', 'depth': 2, 'embed_dim': 12, 'num_heads': 2, 'img_size': 32, 'positions': 'learned'}
    options, groups = options_of(Net(vit), {'decay_rate': 0.5})
    assert options['encoder.body.cls_token'] == options['encoder.body.pos_embed'] == (0.125, 0)
    assert options['encoder.body.patch_embed.proj.weight'] == (0.125, DECAY)
    assert options['encoder.body.blocks.1.norm1.weight'] == options['encoder.body.blocks.1.attn.qkv.bias'] == (0.5, 0)
    assert options['head.weight'] == (1, DECAY) and options['head.bias'] == (1, 0)
    assert len(groups) == 8  # four depths, decayed or not
    options, _ = options_of(Net(vit), {'decay_rate': 0.5, 'no_weight_decay': False})
    assert options['encoder.body.cls_token'] == (0.125, DECAY)
    keys = {'encoder.body.blocks.1': {'lr_mult': 0.1}, 'head': {'lr_mult': 10.0, 'decay_mult': 0.0}}
    options, _ = options_of(Net(vit), {'decay_rate': 0.5, 'custom_keys': keys})
    assert options['encoder.body.blocks.1.mlp.fc1.weight'] == (pytest.approx(0.05), DECAY)
    assert options['head.weight'] == (pytest.approx(10), 0)


def test_without_decay_all_have_the_full_rate():
    options, groups = options_of(Net({'type': 'SparseCNN', 'arch': 'resnet18'}), {'decay_rate': 1.0})
    assert {lr for lr, _ in options.values()} == {1} and len(groups) == 2


def test_what_is_frozen_is_left_out_and_the_table_is_logged_once(monkeypatch):
    logged = []
    monkeypatch.setattr('mae_toolkit.engine.layer_decay.print_log', lambda text, logger: logged.append(text))
    net = Net({'type': 'SparseCNN', 'arch': 'resnet18', 'frozen_stages': 1})
    options, _ = options_of(net, {'decay_rate': 0.5})
    frozen = ('encoder.body.conv1.', 'encoder.body.bn1.', 'encoder.body.layer1.')
    assert set(options) == {name for name, _ in net.named_parameters() if not name.startswith(frozen)}
    (text,) = logged
    assert '| 6 | 0.00156 | 0.05 | 3 | 229376 | encoder.body.layer2.0.conv1.weight, encoder.body.layer2.0.c' in text
    assert text.splitlines()[-1] == '| 0 | 0.1 | 0.05 | 1 | 8 | head.weight |'


def test_another_place_and_the_precedence_of_the_backbone():
    """A DETR has a part called encoder that is no backbone."""
    net = Net({'type': 'SparseCNN', 'arch': 'resnet18'}, 'backbone')
    net.encoder = nn.Linear(2, 2)
    options, _ = options_of(net, {'decay_rate': 0.5})
    assert options['encoder.weight'][0] == 1 and options['backbone.body.conv1.weight'][0] == 0.5**9
    student = nn.Module()
    student.student = net
    options, _ = options_of(student, {'decay_rate': 0.5, 'backbone': 'student.backbone'})
    assert options['student.encoder.weight'][0] == 1 and options['student.backbone.body.conv1.weight'][0] == 0.5**9


def test_under_data_parallelism(tmp_path):
    torch.distributed.init_process_group('gloo', init_method=f'file://{tmp_path}/join', rank=0, world_size=1)
    try:
        net = Net({'type': 'SparseCNN', 'arch': 'resnet18'})
        wrapped, _ = options_of(DistributedDataParallel(net), {'decay_rate': 0.5})
        assert wrapped == options_of(net, {'decay_rate': 0.5})[0]
    finally:
        torch.distributed.destroy_process_group()


@pytest.mark.parametrize(
    ('paramwise_cfg', 'sentence'),
    [
        ({}, 'decay_rate=None must be above 0 and at most 1'),
        ({'decay_rate': 0}, 'decay_rate=0 must be above 0'),
        ({'decay_rate': 1.5}, 'decay_rate=1.5 must be above 0'),
        ({'decay_rate': 0.5, 'grouping': 'stage'}, "grouping='stage' must be one of block, group"),
        ({'decay_rat': 0.5}, "no 'decay_rat'; did you mean decay_rate"),
        ({'decay_rate': 0.5, 'num_layers': 12}, "no 'num_layers'"),
        ({'decay_rate': 0.5, 'backbone': 'net'}, "no part 'net', only encoder, head"),
        ({'decay_rate': 0.5, 'backbone': 'head'}, "'head' is a Linear, which has neither layer_depth"),
    ],
)
def test_refusals(paramwise_cfg, sentence):
    with torch.device('meta'):
        resnet, vgg = (Net({'type': 'SparseCNN', 'arch': arch}) for arch in ('resnet18', 'vgg11'))
    with pytest.raises(UserError, match=sentence):
        options_of(resnet, paramwise_cfg)
    with pytest.raises(UserError, match="grouping='group' is for ResNets"):
        options_of(vgg, {'decay_rate': 0.5, 'grouping': 'group'})
    with pytest.raises(UserError, match="Sequential has neither 'backbone' nor 'encoder', only 0"):
        options_of(nn.Sequential(nn.Linear(2, 2)), {'decay_rate': 0.5})


def test_a_segmenter_of_mmseg_names_it_with_its_scope():
    mmseg = pytest.importorskip('mmseg', reason='MMSegmentation is not installed: pip install -e .[seg]')
    assert mmseg
    from test_mmseg import segmenter

    model = segmenter('ConvNeXt')
    cfg = {'type': 'OptimWrapper', 'optimizer': {'type': 'AdamW', 'lr': LR, 'weight_decay': DECAY}}
    cfg |= {
        'constructor': 'mae_toolkit.LayerDecayOptimWrapperConstructor',
        'paramwise_cfg': {'decay_rate': 0.5, 'grouping': 'group'},
    }
    wrapper = build_optim_wrapper(model, cfg)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    found = {names[id(p)]: g['lr'] / LR for g in wrapper.optimizer.param_groups for p in g['params']}
    assert set(found) == {name for name, p in model.named_parameters() if p.requires_grad}
    assert found['backbone.body.stem.0.weight'] == 0.5**13
    assert found['backbone.body.stages.1.blocks.0.conv_dw.weight'] == 0.5**11
    assert {rate for name, rate in found.items() if name.startswith('decode_head')} == {1}


KINDS = ('FasterRCNN', 'FCN', 'UperNet')


@pytest.mark.parametrize(('name', 'kind'), zip(ENCODERS, cycle(KINDS)))
def test_every_encoder_in_detectors_and_segmenters(name, kind):
    """Each trainable parameter once; necks, heads and norms of the outputs at full rate; tables with their block."""
    package = 'mmdet' if kind == 'FasterRCNN' else 'mmseg'
    pytest.importorskip(package, reason=f'{package} is not installed: pip install -e .[det,seg]')
    from test_downstream import built, detection, segmentation

    make = detection if kind == 'FasterRCNN' else segmentation
    model = built(fit_encoder(make(kind), ENCODERS[name]))
    cfg = {'type': 'OptimWrapper', 'optimizer': {'type': 'AdamW', 'lr': LR, 'weight_decay': DECAY}}
    cfg |= {'constructor': 'mae_toolkit.LayerDecayOptimWrapperConstructor', 'paramwise_cfg': {'decay_rate': 0.5}}
    with DefaultScope.overwrite_default_scope(package):
        groups = build_optim_wrapper(model, cfg).optimizer.param_groups
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    found = [(names[id(p)], group['lr'] / LR) for group in groups for p in group['params']]
    rate = dict(found)
    assert len(rate) == len(found) and set(rate) == {n for n, p in model.named_parameters() if p.requires_grad}
    full = {n for n in rate if not n.startswith('backbone.') or n.startswith('backbone.out_norms.')}
    assert all(rate[n] == 1 for n in full) and all(rate[n] <= 0.5 for n in rate if n.startswith('backbone.body.blocks'))
    for n in rate:
        table = re.fullmatch(r'backbone\.rel_pos\.(\d+)\..*', n)
        if table:
            assert rate[n] == rate[f'backbone.body.blocks.{table[1]}.attn.qkv.weight']
    if 'neck' in dict(model.named_children()):
        assert any(n.startswith('neck.') for n in full)


@pytest.mark.process
def test_the_scope_leads_to_it_without_custom_imports():
    """In a process that has not imported the toolkit."""
    code = """
import sys
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS, init_default_scope
init_default_scope('mmengine')
assert 'mae_toolkit' not in sys.modules
cls = OPTIM_WRAPPER_CONSTRUCTORS.get('mae_toolkit.LayerDecayOptimWrapperConstructor')
assert cls is sys.modules['mae_toolkit'].engine.LayerDecayOptimWrapperConstructor
"""
    done = run_python('-c', code)
    assert done.returncode == 0, done.stderr
