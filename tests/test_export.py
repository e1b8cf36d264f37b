"""Encoders under other people's names, and as graphs: the same numbers there."""

import ast
import importlib.util
import json
import re

import pytest
import timm
import torch
from mmengine.config import Config, ConfigDict
from safetensors import safe_open
from safetensors.torch import load_file
from torch import nn

from mae_toolkit.checkpoints.files import GRIDS
from mae_toolkit.errors import UserError
from mae_toolkit.export import backbone_config, to_openmmlab, to_timm
from mae_toolkit.export.backbones import build_backbone, load_strictly
from mae_toolkit.export.export import export
from mae_toolkit.export.graphs import Dense, _attention, _compare, write_graph
from mae_toolkit.models import Encoder
from mae_toolkit.registry import build
from parts import ENCODERS, HIERA, VIT, images, make_encoder, randomized

SWIN = {'depths': (2, 2, 1, 1), 'embed_dim': 12, 'num_heads': (1, 2, 2, 2), 'window_size': 2, 'img_size': (64, 96)}
SWIN = {'type': 'Swin', 'arch': 'swin_tiny_patch4_window7_224', **SWIN}
NETWORKS = {
    'resnet18': {'type': 'SparseCNN', 'arch': 'resnet18'},
    'resnet50, three stages': {'type': 'SparseCNN', 'arch': 'resnet50', 'out_indices': (3,)},
    'resnet50d': {'type': 'SparseCNN', 'arch': 'resnet50d'},
    'swin': SWIN,
}


def encoder_of(config):
    """A small encoder with weights that matter, whose variances are positive, in evaluation mode."""
    return randomized(build(Encoder, dict(config))).eval()


def make_shallow(name):
    """A small encoder with one block of each kind, as more of them only make its graph longer."""
    changes = {'ViT': {'depth': 1}, 'Eva': {'depth': 1}, 'ConvNeXt': {'depths': (1, 1, 1, 1)}}
    return make_encoder(name, **changes.get(ENCODERS[name]['type'], {}))


def timm_state(encoder):
    return to_timm({f'encoder.{name}': tensor for name, tensor in encoder.state_dict().items()})


@pytest.mark.parametrize('name', NETWORKS)
def test_the_networks_of_mmseg_take_the_weights_and_say_the_same(name):
    pytest.importorskip('mmseg', reason='MMSegmentation is not installed: pip install -e .[seg]')
    encoder = encoder_of(NETWORKS[name])
    state = to_openmmlab(timm_state(encoder), 'mmseg')
    network = build_backbone(backbone_config(state, 'mmseg'), 'mmseg')
    load_strictly(network, state)
    imgs = images(size=(64, 96))
    with torch.no_grad():
        expected = encoder(imgs)[-1]
        scale = expected.abs().max()
        torch.testing.assert_close(network(imgs)[-1] / scale, expected / scale, atol=1e-5, rtol=0)


def test_without_the_order_of_merging_the_numbers_differ():
    """That the test above sees it."""
    state = timm_state(encoder_of(SWIN))
    name = 'layers.1.downsample.reduction.weight'
    ours, moved = state[name], to_openmmlab(state, 'mmdet')['stages.0.downsample.reduction.weight']
    assert not torch.equal(ours, moved)
    c = ours.shape[1] // 4
    assert torch.equal(moved[:, 4 * 5 + 1], ours[:, 2 * c + 5])  # row 0, column 1 of channel 5 is the third group here


def listed(data, name):
    """Names and shapes of the backbone in a layout that is shipped."""
    entries = json.loads((data / 'layouts' / f'{name}.json').read_text())['entries']
    found = {key: tuple(shape) for key, _, shape in entries if key.startswith('backbone.')}
    return {key.removeprefix('backbone.'): shape for key, shape in found.items() if 'mask_token' not in key}


@pytest.mark.parametrize(
    ('config', 'name'),
    [
        ({'type': 'ViT'}, 'mmpretrain_mae_vit-base-p16'),
        (
            {'type': 'Swin', 'arch': 'swin_base_patch4_window7_224', 'img_size': 192, 'window_size': 6},
            'mmpretrain_simmim_swin-base-w6_192',
        ),
    ],
)
def test_names_and_shapes_are_those_of_mmpretrain(data, config, name):
    with torch.device('meta'):
        state = timm_state(build(Encoder, config))
    assert {key: tuple(tensor.shape) for key, tensor in to_openmmlab(state, 'mmpretrain').items()} == listed(data, name)


def convnext_names(depths, v2):
    """Names of MMPretrain's ConvNeXt, without the norms of its outputs, from its code."""
    names = {f'downsample_layers.{i}.{j}' for i in range(len(depths)) for j in range(2)}
    blocks = [f'stages.{i}.{j}' for i, depth in enumerate(depths) for j in range(depth)]
    parts = ('depthwise_conv', 'norm', 'pointwise_conv1', 'pointwise_conv2')
    names |= {f'{block}.{part}' for block in blocks for part in parts}
    names = {f'{name}.{part}' for name in names for part in ('weight', 'bias')}
    return names | {f'{block}.{part}' for block in blocks for part in (('grn.gamma', 'grn.beta') if v2 else ('gamma',))}


def convnext(state, x, depths):
    """MMPretrain's ConvNeXt on images, written down from its description by these names."""
    f = nn.functional

    def norm(x, name):
        x = f.layer_norm(x.permute(0, 2, 3, 1), x.shape[1:2], state[f'{name}.weight'], state[f'{name}.bias'], 1e-6)
        return x.permute(0, 3, 1, 2)

    for i, depth in enumerate(depths):
        order = (('0', 'conv'), ('1', 'norm')) if i == 0 else (('0', 'norm'), ('1', 'conv'))
        for part, kind in order:
            name = f'downsample_layers.{i}.{part}'
            stride = 4 if i == 0 else 2
            conv = kind == 'conv'
            x = f.conv2d(x, state[f'{name}.weight'], state[f'{name}.bias'], stride) if conv else norm(x, name)
        for j in range(depth):
            b = f'stages.{i}.{j}'
            weight, bias = state[f'{b}.depthwise_conv.weight'], state[f'{b}.depthwise_conv.bias']
            y = norm(f.conv2d(x, weight, bias, padding=3, groups=len(weight)), f'{b}.norm').permute(0, 2, 3, 1)
            y = f.gelu(f.linear(y, state[f'{b}.pointwise_conv1.weight'], state[f'{b}.pointwise_conv1.bias']))
            if f'{b}.grn.gamma' in state:
                g = y.norm(p=2, dim=(1, 2), keepdim=True)
                y = y + state[f'{b}.grn.gamma'] * (y * g / (g.mean(-1, keepdim=True) + 1e-6)) + state[f'{b}.grn.beta']
            y = f.linear(y, state[f'{b}.pointwise_conv2.weight'], state[f'{b}.pointwise_conv2.bias'])
            x = x + (y * state.get(f'{b}.gamma', torch.ones(()))).permute(0, 3, 1, 2)
    return x


@pytest.mark.parametrize(
    ('arch', 'v2'), [('convnext_tiny', False), ('convnextv2_tiny', True), ('convnextv2_atto', True)]
)
def test_convnext_of_mmpretrain(arch, v2):
    depths = (1, 2, 1, 1)
    config = {'type': 'ConvNeXt', 'arch': arch, 'depths': depths, 'dims': (6, 10, 12, 12)}
    encoder = encoder_of(config)
    state = to_openmmlab(timm_state(encoder), 'mmpretrain')
    assert set(state) == convnext_names(depths, v2)
    with torch.no_grad():
        expected = encoder(images(size=(64, 96)))[-1]
        torch.testing.assert_close(convnext(state, images(size=(64, 96)), depths), expected, atol=1e-4, rtol=1e-4)
    asked = backbone_config(state, 'mmpretrain')
    assert asked['arch'] == {'depths': [1, 2, 1, 1], 'channels': [6, 10, 12, 12]} and asked['use_grn'] == v2


@pytest.mark.parametrize(
    ('config', 'layout', 'sentence'),
    [
        ({'type': 'ConvNeXt', 'arch': 'convnextv2_atto'}, 'mmdet', "A ConvNeXt has no place in the layout 'mmdet'"),
        ({'type': 'Hiera', **HIERA}, 'mmpretrain', 'The VisionTransformer of .* has no place'),
        ({'type': 'SparseCNN', 'arch': 'mobilenetv3_small_050'}, 'mmseg', 'This network has no place'),
        (
            {'type': 'SparseCNN', 'arch': 'seresnet18'},
            'mmseg',
            r'has no place for 32 of the weights, such as layer1.0.se',
        ),
        ({**SWIN, 'arch': 'swinv2_tiny_window8_256'}, 'mmseg', 'This network has no place'),
    ],
)
def test_what_they_do_not_have_is_told(config, layout, sentence):
    with torch.device('meta'):
        state = timm_state(build(Encoder, config))
    with pytest.raises(UserError, match=sentence):
        to_openmmlab(state, layout)


@pytest.fixture
def checkpoint(tmp_path):
    """A training checkpoint of a small ViT, and its config."""
    config = {'type': 'ViT', **VIT}
    state = {f'encoder.{name}': tensor for name, tensor in encoder_of(config).state_dict().items()}
    grids = {'encoder.body.pos_embed': [4, 6]}
    state |= {'decoder.mask_token': torch.zeros(8)}
    torch.save({'state_dict': state, 'meta': {GRIDS: grids}}, tmp_path / 'epoch_1.pth')
    return tmp_path / 'epoch_1.pth', Config({'model': {'encoder': config}})


def told(lines):
    """The greatest difference that was printed."""
    line = r'The greatest difference to our encoder is ([\d.e+-]+), where values reach [\d.e+-]+\.$'
    (found,) = re.findall(line, '\n'.join(lines), re.M)
    return float(found)


def test_timm_and_our_own_names(checkpoint, tmp_path):
    path, cfg = checkpoint
    lines = list(export(path, tmp_path / 'timm.safetensors', 'timm', cfg))
    assert lines[0] == 'timm accepts the weights as vit_base_patch16_224.' and told(lines) < 1e-5
    list(export(path, tmp_path / 'own.safetensors', 'safetensors'))
    with safe_open(tmp_path / 'own.safetensors', 'pt') as file:
        assert json.loads(file.metadata()[GRIDS]) == {'encoder.body.pos_embed': [4, 6]}
    init = {'type': 'Pretrained', 'checkpoint': str(tmp_path / 'own.safetensors'), 'prefix': 'encoder'}
    other = build(Encoder, {'type': 'ViT', **VIT, 'img_size': (64, 48), 'init_cfg': init})
    other.init_weights()
    saved = torch.load(path)['state_dict']
    assert torch.equal(other.body.blocks[1].mlp.fc1.weight, saved['encoder.body.blocks.1.mlp.fc1.weight'])
    assert told(list(export(path, tmp_path / 'own.safetensors', 'safetensors', cfg))) == 0


def test_weights_of_half_the_size_are_rounded_by_a_thousandth_at_most(checkpoint, tmp_path):
    path, cfg = checkpoint
    for layout in ('timm', 'safetensors'):
        lines = list(export(path, tmp_path / f'{layout}.safetensors', layout, cfg, half=True))
        assert 0 < told(lines) < 1e-2
        with safe_open(tmp_path / f'{layout}.safetensors', 'pt') as file:
            assert {file.get_tensor(name).dtype for name in file.keys()} == {torch.float16}  # noqa: SIM118
    with pytest.raises(UserError, match='--half is for weights'):
        list(export(path, tmp_path / 'encoder.pt2', 'torch-export', cfg, half=True))
    state = {'encoder.body.pos_embed': torch.full((1, 24, 8), 1e5)}
    torch.save({'state_dict': state}, tmp_path / 'large.pth')
    with pytest.raises(UserError, match='1 weight cannot be held in float16, the first encoder.body.pos_embed'):
        list(export(tmp_path / 'large.pth', tmp_path / 'own.safetensors', 'safetensors', half=True))


@pytest.mark.parametrize('name', ['convnext_tiny', 'convnextv2_atto', 'hiera_tiny_224'])
def test_timm_takes_what_has_its_last_norm_behind_the_pooling(tmp_path, name):
    """By the line that the documents give, with a norm that changes nothing."""
    small = {'depths': (1, 2, 1, 1), 'dims': (6, 10, 12, 12)}
    config = (
        {'type': 'Hiera', 'arch': name, **HIERA} if 'hiera' in name else {'type': 'ConvNeXt', 'arch': name, **small}
    )
    state = {f'encoder.{key}': tensor for key, tensor in encoder_of(config).state_dict().items()}
    torch.save({'state_dict': state}, tmp_path / 'epoch_1.pth')
    cfg = Config({'model': {'encoder': config}})
    lines = list(export(tmp_path / 'epoch_1.pth', tmp_path / 'timm.safetensors', 'timm', cfg))
    assert f'timm accepts the weights as {name}.' == lines[0] and told(lines) < 1e-4


def test_a_file_for_timm_says_what_it_lacks(tmp_path):
    config = {'type': 'SparseCNN', 'arch': 'mobilenetv3_small_050'}
    state = {f'encoder.{key}': tensor for key, tensor in encoder_of(config).state_dict().items()}
    torch.save({'state_dict': state}, tmp_path / 'epoch_1.pth')
    cfg = Config({'model': {'encoder': config}})
    lines = list(export(tmp_path / 'epoch_1.pth', tmp_path / 'timm.safetensors', 'timm', cfg))
    assert 'strict=False): its 2 tensors behind the levels of the encoder, such as conv_head.weight' in lines[0]
    assert told(lines) < 1e-4
    network = timm.create_model(config['arch'], num_classes=0)
    found = network.load_state_dict(load_file(tmp_path / 'timm.safetensors'), strict=False)
    assert found.missing_keys == ['conv_head.weight', 'conv_head.bias'] and not found.unexpected_keys


@pytest.mark.parametrize('layout', ['mmdet', 'mmseg'])
@pytest.mark.parametrize('config', [SWIN, {'type': 'SparseCNN', 'arch': 'resnet18'}], ids=['Swin', 'ResNet'])
def test_their_backbones_read_the_file(tmp_path, layout, config):
    pytest.importorskip(layout, reason=f'{layout} is not installed')
    from mmengine.registry import MODELS, DefaultScope

    encoder = encoder_of(config)
    torch.save({f'encoder.{name}': tensor for name, tensor in encoder.state_dict().items()}, tmp_path / 'a.pth')
    said, *_ = export(tmp_path / 'a.pth', tmp_path / 'backbone_config.safetensors', layout)
    backbone = ast.literal_eval(said.partition('backbone=')[2])
    importlib.import_module(f'{layout}.models')
    file = tmp_path / 'backbone_config.pth'
    torch.save(load_file(tmp_path / 'backbone_config.safetensors'), file)
    with DefaultScope.overwrite_default_scope(layout):
        network = MODELS.build(ConfigDict(backbone, init_cfg={'type': 'Pretrained', 'checkpoint': str(file)}))
        network.init_weights()
    found = network.state_dict()
    named = {name: value for name, value in to_openmmlab(timm_state(encoder), layout).items() if name in found}
    assert len(named) > 20 and all(torch.equal(found[name], value) for name, value in named.items())


def test_mmseg_by_the_tool(tmp_path):
    pytest.importorskip('mmseg', reason='MMSegmentation is not installed: pip install -e .[seg]')
    state = {f'encoder.{name}': tensor for name, tensor in build(Encoder, dict(SWIN)).state_dict().items()}
    torch.save({'state_dict': state}, tmp_path / 'epoch_1.pth')
    cfg = Config({'model': {'encoder': SWIN}})
    lines = list(export(tmp_path / 'epoch_1.pth', tmp_path / 'swin.pth', 'mmseg', cfg))
    assert "backbone={'type': 'SwinTransformer', 'embed_dims': 12" in lines[0]
    assert lines[1] == 'mmseg accepts the weights, none missing and none too many.' and told(lines) < 1e-5
    assert "'out_indices': (0, 1, 2, 3)" in lines[0]
    if importlib.util.find_spec('mmdet') is None:
        lines = list(export(tmp_path / 'epoch_1.pth', tmp_path / 'swin.pth', 'mmdet', cfg))
        assert lines[1] == 'mmdet is not installed, so nothing was compared.'


# The tool refuses such a program, as it tries another size.
ONE_SIZE = pytest.mark.skipif(torch.__version__ < '2.7', reason='torch 2.6 traces a ViT for one size alone')


@pytest.mark.slow
@pytest.mark.process
@pytest.mark.parametrize(
    ('name', 'dynamic'),
    [
        pytest.param('ViT', 'size', marks=ONE_SIZE),
        ('ConvNeXt V2', 'size'),
        ('SparseCNN', 'size'),
        ('Swin', 'none'),
        ('Hiera', 'batch'),
    ],
)
def test_programs_of_torch_export(tmp_path, name, dynamic):
    encoder = make_shallow(name)
    assert write_graph(encoder, tmp_path / 'encoder.pt2', 'torch-export', (32, 48), dynamic).relative < 1e-5
    program = torch.export.load(tmp_path / 'encoder.pt2').module()
    with torch.no_grad():
        imgs = images(batch=2 if dynamic == 'none' else 4)
        torch.testing.assert_close(program(imgs), encoder(imgs), rtol=1e-5, atol=1e-5)


class Fixed(nn.Module):
    """An encoder that looks at the size of images."""

    in_chans, out_channels = 3, (3,)

    def forward(self, imgs):
        return (imgs if imgs.shape[2] == 32 else -imgs,)


def test_a_size_that_is_fixed_is_told(tmp_path):
    assert write_graph(Fixed(), tmp_path / 'fixed.pt2', 'torch-export', (32, 48), 'batch').greatest == 0
    with pytest.raises(UserError, match='Fixed cannot be traced so .*: try --dynamic none'):
        write_graph(Fixed(), tmp_path / 'fixed.pt2', 'torch-export', (32, 48), 'size')
    program = torch.export.load(tmp_path / 'fixed.pt2').module()
    with pytest.raises(UserError, match=r'The graph of Fixed does not run at \(2, 3, 64, 48\) .* use batch or none'):
        _compare(program, Dense(Fixed()), images(size=(64, 48)), 'size')


@pytest.mark.slow
@pytest.mark.parametrize(
    ('name', 'dynamic'),
    [
        ('ViT', 'size'),
        ('Eva, DINOv3', 'size'),
        ('ConvNeXt V2', 'size'),
        ('SparseCNN', 'size'),
        ('Swin V2', 'none'),
        ('Hiera', 'batch'),
    ],
)
def test_onnx(tmp_path, name, dynamic):
    lacking = [n for n in ('onnx', 'onnxscript', 'onnxruntime') if importlib.util.find_spec(n) is None]
    if lacking:
        pytest.skip(f'{", ".join(lacking)} not installed: pip install -e .[onnx]')
    assert write_graph(make_shallow(name), tmp_path / 'encoder.onnx', 'onnx', (32, 48), dynamic).relative < 1e-5


def test_attention_in_products_is_torchs():
    """Of boolean masks, of biases, of a scale of its own, and where images have several windows."""
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(2, 3, 4, 5, 6, generator=generator) for _ in range(3))
    seen = torch.rand(2, 1, 1, 5, 5, generator=generator) > 0.3
    seen |= torch.eye(5, dtype=torch.bool)
    bias = torch.randn(3, 1, 5, 5, generator=generator)
    for options in ({}, {'attn_mask': seen}, {'attn_mask': bias}, {'scale': 0.7}):
        expected = nn.functional.scaled_dot_product_attention(q, k, v, **options)
        torch.testing.assert_close(_attention(q, k, v, **options), expected)


@pytest.mark.parametrize(
    ('out', 'layout', 'sentence'),
    [
        ('encoder.onnx', 'timm', r'must end in .pth or .safetensors for --format timm'),
        ('encoder.pth', 'onnx', r'must end in .onnx for --format onnx'),
        ('encoder.pt2', 'torch-export', 'writes the network itself: give --config'),
    ],
)
def test_refusals(checkpoint, tmp_path, out, layout, sentence):
    with pytest.raises(UserError, match=sentence):
        list(export(checkpoint[0], tmp_path / out, layout))
    detector = Config({'model': {'type': 'RetinaNet'}})
    with pytest.raises(UserError, match='of a RetinaNet, has no model.encoder: give --config that of the pretraining'):
        list(export(checkpoint[0], tmp_path / 'encoder.pth', 'timm', detector))
    if importlib.util.find_spec('onnx') is None:
        with pytest.raises(UserError, match='ONNX needs onnx.*: pip install onnx'):
            list(export(*[checkpoint[0], tmp_path / 'encoder.onnx', 'onnx', checkpoint[1]]))
