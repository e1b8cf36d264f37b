"""Every format of checkpoints, read in both directions: names and values come back as they were, bit for bit.

A format is added to SAMPLES with a tiny checkpoint of it, by its names.
"""

import json
import re
from pathlib import Path

import pytest
import torch

import test_parity_conv
import test_parity_crossmae
import test_parity_greenmim
import test_parity_hiera
import test_parity_mae
from mae_toolkit.checkpoints import names
from mae_toolkit.checkpoints.load import load_any
from mae_toolkit.checkpoints.names import BODY, FORMATS, Format, find_format, same, under
from mae_toolkit.checkpoints.names.dinov2 import DINOV2
from mae_toolkit.checkpoints.names.efficientnet import DEPTHS
from mae_toolkit.checkpoints.names.fcmae import DENSE_FCMAE, FCMAE
from mae_toolkit.checkpoints.names.hiera import HIERA_ABSWIN
from mae_toolkit.checkpoints.names.huggingface_hiera import DEPTHS as HIERA_DEPTHS
from mae_toolkit.checkpoints.names.openmmlab import (
    MMPRETRAIN_MAE,
    MMPRETRAIN_SIMMIM,
    OPENMMLAB_CONVNEXT,
    OPENMMLAB_SWIN,
    OPENMMLAB_VIT,
)
from mae_toolkit.checkpoints.names.swin import SWIN as SWIN_FORMAT
from mae_toolkit.checkpoints.names.table import to_theirs
from mae_toolkit.checkpoints.names.values import (
    DEPTHWISE_KERNEL,
    KERNEL,
    LINEAR_PREDICTION,
    PATCH_MERGING,
    PREDICTION,
    TOKEN,
    unit_dims,
)
from mae_toolkit.errors import UserError
from mae_toolkit.export.openmmlab import FAMILIES, find_family, to_openmmlab
from mae_toolkit.export.timm import to_timm
from mae_toolkit.models import Encoder, MaskedAutoencoder
from mae_toolkit.registry import build
from parity import Fixture
from parts import randomized
from projects.mixmim.names import MIXMIM, MMPRETRAIN_MIXMIM
from projects.ummae.names import ummae_format

LAYOUTS = Path(__file__).parent / 'data' / 'layouts'
SWIN = {'type': 'Swin', 'img_size': 32, 'depths': (2, 1), 'embed_dim': 8, 'num_heads': (1, 2), 'window_size': 4}
HIERA = {'type': 'Hiera', 'arch': 'hiera_tiny_224', 'img_size': 64, 'embed_dim': 8, 'num_heads': 1, 'q_pool': 2}
HIERA |= {'stages': (1, 1, 2, 1), 'out_indices': (0, 1, 3), 'abs_win_pos_embed': True, 'global_pos_size': (4, 4)}
DECODER = {'type': 'TransformerDecoder', 'embed_dim': 8, 'depth': 1, 'num_heads': 2}
CONVNEXT = {'type': 'ConvNeXt', 'arch': 'convnextv2_atto', 'depths': (1, 2, 1, 1), 'dims': (8, 8, 8, 8)}
VIT = {'type': 'ViT', 'img_size': 32, 'patch_size': 8, 'embed_dim': 8, 'depth': 2, 'num_heads': 2}
DINO = VIT | {'arch': 'vit_base_patch14_reg4_dinov2', 'mask_token': True}
CLIP = VIT | {'arch': 'vit_base_patch16_clip_224'}
LINEAR = {'type': 'LinearDecoder'}
DINOV3 = {'type': 'Eva', 'arch': 'vit_small_patch16_dinov3_qkvb', 'img_size': 32, 'embed_dim': 8, 'depth': 2}
DINOV3 |= {'num_heads': 2, 'mask_token': True}
PLAIN_HIERA = {'type': 'Hiera', 'arch': 'hiera_tiny_224', 'img_size': 64, 'embed_dim': 8, 'num_heads': 1, 'q_pool': 2}
PLAIN_HIERA |= {'out_indices': (0, 1, 3)}
FUSION = DECODER | {'fusion': True, 'positions': 'learned'}
TINY = {
    'ViT': (VIT, DECODER),
    'ResNet-D': (
        {'type': 'SparseCNN', 'arch': 'resnet26d', 'layers': (1, 1, 1, 1), 'channels': (8, 8, 8, 8)},
        {'type': 'UNetDecoder', 'width': 32},
    ),
    'ViT with a mask token': (VIT | {'mask_token': True}, LINEAR),
    'ViT with registers and SwiGLU': (DINO | {'arch': 'vit_giant_patch14_reg4_dinov2'}, LINEAR),
    'ViT with registers': (DINO, LINEAR),
    'ViT of CLIP': (CLIP, DECODER),
    'Swin with a mask token': (SWIN | {'mask_token': True}, LINEAR),
    'Swin V2 with a mask token': (SWIN | {'arch': 'swinv2_tiny_window8_256', 'mask_token': True}, LINEAR),
    'CrossMAE': (
        VIT | {'out_indices': (-1, 0, 1), 'final_norm': False},
        {'type': 'CrossAttentionDecoder', 'embed_dim': 8, 'depth': 2, 'num_heads': 2, 'self_attn': True},
    ),
    'Swin with absolute positions': (SWIN | {'ape': True, 'patch_norm': False}, DECODER),
    'Swin of SimMIM with absolute positions': (
        SWIN | {'ape': True, 'patch_norm': False, 'mask_token': True},
        LINEAR,
    ),
    'BEiT': (VIT | {'arch': 'beit_base_patch16_224', 'use_abs_pos_emb': True, 'mask_token': True}, LINEAR),
    'Swin': (SWIN, DECODER),
    'Swin V2': (SWIN | {'arch': 'swinv2_tiny_window8_256'}, DECODER),
    'Hiera': (HIERA, DECODER | {'fusion': True, 'positions': 'learned'}),
    'DINOv3': (DINOV3, DECODER),
    **{f'Hiera of {sum(depths)} blocks': (PLAIN_HIERA | {'stages': depths}, FUSION) for depths in HIERA_DEPTHS},
    'DINOv3, SwiGLU': (DINOV3 | {'arch': 'vit_small_plus_patch16_dinov3_qkvb'}, DECODER),
    'EVA-02': (DINOV3 | {'arch': 'eva02_base_patch16_clip_224'}, DECODER),
    'EVA-02, fused': (DINOV3 | {'arch': 'eva02_tiny_patch14_224', 'patch_size': 16}, DECODER),
    'ConvNeXt V2': (CONVNEXT, {'type': 'ConvNeXtDecoder', 'embed_dim': 8}),
}
OBJECTIVES = {'pixel': {'target': {'type': 'PixelTarget'}, 'losses': [{'type': 'MaskedL2Loss'}]}}


def fixture(name):
    """The official weights of a fixture."""
    return lambda data, form: Fixture(data, name).state_dict


def tiny(name):
    """A tiny model of ours."""
    encoder, decoder = TINY[name]
    return randomized(MaskedAutoencoder(encoder, {'type': 'RandomMasking'}, decoder, OBJECTIVES))


def read_part(form, model):
    """The part of a model's state dict that a format reads."""
    return {k: v for k, v in model.state_dict().items() if form.whole or k.startswith('encoder.')}


def reversed_from(name):
    """What a format makes of a tiny model of ours."""
    return lambda data, form: form.to_theirs(read_part(form, tiny(name)))


def with_token(name, token):
    """What a format makes of a tiny model and a mask token beside it."""
    return lambda data, form: form.to_theirs(tiny(name).state_dict() | {token: torch.randn(8)})


def with_others(name, others):
    """The same, and tensors that are not read."""
    return lambda data, form: reversed_from(name)(data, form) | {name: torch.ones(1) for name in others}


def converted(method, name):
    """Official weights under mmpretrain's names, by the correspondence that is shipped, with values at random."""

    def make(data, form):
        rules = json.loads((data / 'layouts' / 'mmpretrain_correspondence.json').read_text())[method]['rules']
        state = {}
        for theirs, tensor in Fixture(data, name).state_dict.items():
            found = [re.sub(pattern, new, theirs) for pattern, new in rules if re.match(pattern, theirs)]
            state |= {found[0]: tensor} if found and not theirs.endswith('attn_mask') else {}
        return state

    return make


def efficientnet(depths):
    """A checkpoint of EfficientNet-PyTorch, with one number per tensor."""
    tensors = {'conv': ('weight',), 'bn': ('weight', 'bias', 'running_mean', 'running_var', 'num_batches_tracked')}
    layers = {'_conv_stem': 'conv', '_bn0': 'bn'}
    for i in range(sum(depths)):
        layers |= {} if i < depths[0] else {f'_blocks.{i}._expand_conv': 'conv', f'_blocks.{i}._bn0': 'bn'}
        layers |= {f'_blocks.{i}._depthwise_conv': 'conv', f'_blocks.{i}._bn1': 'bn'}
        layers |= {f'_blocks.{i}._project_conv': 'conv', f'_blocks.{i}._bn2': 'bn'}
    layers |= {'_conv_head': 'conv', '_bn1': 'bn'}
    names = [f'{layer}.{param}' for layer, kind in layers.items() for param in tensors[kind]]
    last = f'_blocks.{sum(depths) - 1}.'
    names += [f'{last}_se_{layer}.{param}' for layer in ('reduce', 'expand') for param in ('weight', 'bias')]
    names += ['_fc.weight', '_fc.bias']
    return lambda data, form: {name: torch.tensor([float(i)]) for i, name in enumerate(names)}


# Name of a format: ways to make tiny checkpoints of it.
SAMPLES = {
    'SparK': [fixture('spark_convnext'), fixture('spark_resnet')],
    'FCMAE of ConvNeXt V2': [fixture('convnextv2_fcmae')],
    'FCMAE of ConvNeXt V2 with dense layers': [reversed_from('ConvNeXt V2')],
    'the official ConvNeXt': [fixture('convnextv2_dense')],
    'GreenMIM': [fixture('greenmim_swin'), reversed_from('Swin with absolute positions')],
    'SimMIM of a Swin': [fixture('simmim_swin'), reversed_from('Swin of SimMIM with absolute positions')],
    'SimMIM of a ViT': [fixture('simmim_vit'), reversed_from('BEiT')],
    'the official Swin': [
        reversed_from('Swin'),
        reversed_from('Swin V2'),
        reversed_from('Swin with absolute positions'),
    ],
    'Hiera MAE with window positions': [reversed_from('Hiera')],
    'Hiera MAE': [fixture('hiera_mae')],
    'CrossMAE': [fixture('crossmae_vit'), reversed_from('CrossMAE')],
    'DINOv3': [with_others('DINOv3', ['rope_embed.periods', 'local_cls_norm.bias', 'blocks.0.attn.qkv.bias_mask'])],
    'DINOv3 with SwiGLU': [with_others('DINOv3, SwiGLU', ['projectors.0.weight'])],
    'EVA-02': [with_others('EVA-02', ['rope.freqs_cos', 'blocks.1.attn.rope.freqs_sin', 'lm_head.bias'])],
    'EVA-02 with fused layers': [reversed_from('EVA-02, fused')],
    "Hugging Face's DINOv3": [reversed_from('DINOv3')],
    "Hugging Face's DINOv3 with SwiGLU": [reversed_from('DINOv3, SwiGLU')],
    'MAE': [fixture('mae_vit_norm_pix')],
    "mmpretrain's MAE": [converted('mae_vit', 'mae_vit_norm_pix')],
    "mmpretrain's SimMIM of a Swin": [converted('simmim_swin', 'simmim_swin')],
    "mmpretrain's MaskFeat": [fixture('maskfeat_vit')],
    **{f'EfficientNet {name}': [efficientnet(depths)] for name, depths in DEPTHS.items()},
    'DINOv2': [reversed_from('ViT with registers')],
    'DINOv2 with SwiGLU': [reversed_from('ViT with registers and SwiGLU')],
    "Hugging Face's DINOv2 with SwiGLU": [reversed_from('ViT with registers and SwiGLU')],
    'OpenCLIP': [reversed_from('ViT of CLIP')],
    'OpenCLIP with the tower alone': [reversed_from('ViT of CLIP')],
    "Hugging Face's ViTMAE": [reversed_from('ViT')],
    "Hugging Face's ViT": [reversed_from('ViT with a mask token')],
    "Hugging Face's DINOv2": [reversed_from('ViT with registers')],
    "Hugging Face's Swin": [reversed_from('Swin with a mask token')],
    "Hugging Face's Swin V2": [reversed_from('Swin V2 with a mask token')],
    "Hugging Face's ConvNeXt": [reversed_from('ConvNeXt V2')],
    "OpenMMLab's Swin": [reversed_from('Swin')],
    "OpenMMLab's ViT": [reversed_from('ViT')],
    "OpenMMLab's ConvNeXt": [reversed_from('ConvNeXt V2')],
    "OpenMMLab's ResNet with a deep stem": [reversed_from('ResNet-D')],
    **{
        f"Hugging Face's Hiera of {sum(depths)} blocks": [reversed_from(f'Hiera of {sum(depths)} blocks')]
        for depths in HIERA_DEPTHS
    },
    'UM-MAE of a ViT': [with_token('ViT', 'encoder.mask_token')],
    'MixMIM': [fixture('mixmim')],
    "mmpretrain's MixMIM": [lambda data, form: form.to_theirs(MIXMIM.to_ours(fixture('mixmim')(data, form)).weights)],
    'UM-MAE of a Swin': [fixture('ummae_swin')],
}
PROJECTS = (MIXMIM, MMPRETRAIN_MIXMIM, ummae_format((2, 2, 1, 1)))
CASES = [(form, make) for form in (*FORMATS, *PROJECTS) for make in SAMPLES.get(form.name, ())]


def assert_equal(found, expected):
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert found[name].dtype == tensor.dtype and torch.equal(found[name], tensor), name  # torch.equal: shapes, too


def test_every_format_has_a_sample():
    known = [form.name for form in (*FORMATS, *PROJECTS)]
    assert len(set(known)) == len(known) and set(known) == set(SAMPLES)


@pytest.mark.parametrize(('form', 'make'), CASES, ids=[form.name for form, _ in CASES])
def test_names_and_values_come_back_as_they_were(data, form, make):
    state = make(data, form)
    found = find_format(state, (*PROJECTS, *FORMATS))
    assert found is form
    ours = form.to_ours(state)
    theirs = form.to_theirs(ours.weights)
    assert theirs.keys() | set(ours.left) == state.keys() and not theirs.keys() & set(ours.left)
    assert_equal(theirs, {name: state[name] for name in theirs})
    assert_equal(form.to_ours(theirs).weights, ours.weights)
    assert any(name.startswith(BODY) for name in ours.weights)


@pytest.mark.parametrize(('form', 'make'), CASES, ids=[form.name for form, _ in CASES])
def test_the_names_that_are_known_are_those_that_are_translated(data, form, make):
    """By which a file is recognized, and by which a refusal names the nearest format."""
    state = make(data, form)
    ours = form.to_ours(state)
    expected = {theirs: name for name, names in ours.origin.items() for theirs in names}
    assert form.match([*state, 'of.no.format', f'{next(iter(state))}x']) == expected | dict.fromkeys(ours.left)


@pytest.mark.parametrize(
    ('form', 'name'),
    [(DENSE_FCMAE, 'ConvNeXt V2'), (FCMAE, 'ConvNeXt V2'), (SWIN_FORMAT, 'Swin'), (HIERA_ABSWIN, 'Hiera')],
    ids=lambda value: getattr(value, 'name', value),
)
def test_a_model_of_ours_comes_back_through_a_format(form, name):
    """Written in the format and loaded into another model: shapes, too, are those of the layers."""
    model, other = tiny(name), tiny(name)
    for parameter in other.parameters():
        parameter.data.zero_()
    wanted = read_part(form, model)
    report = load_any(other, form.to_theirs(wanted))
    assert set(report.loaded) == set(wanted) and not report.dropped and not report.resized
    assert_equal(read_part(form, other), wanted)


MODELS = {
    'convnextv2_fcmae': test_parity_conv.model_of,
    'crossmae_vit': lambda fixture, _: test_parity_crossmae.model_of(fixture),
    'greenmim_swin': lambda fixture, _: test_parity_greenmim.model_of(fixture),
    'hiera_mae': lambda fixture, _: test_parity_hiera.model_of(fixture),
    'mae_vit_norm_pix': lambda fixture, _: test_parity_mae.model_of(fixture),
    'simmim_swin': test_parity_conv.model_of,
    'simmim_vit': test_parity_conv.model_of,
    'spark_convnext': test_parity_conv.model_of,
    'spark_resnet': test_parity_conv.model_of,
}


@pytest.mark.parametrize('name', MODELS)
def test_a_model_with_official_weights_is_written_as_it_was_read(data, name):
    """The whole model: nothing of it is lost, and shapes are the official ones."""
    official = Fixture(data, name)
    model, state = MODELS[name](official, name), official.state_dict
    form = find_format(state)
    written = form.to_theirs(model.state_dict())
    assert_equal(written, {key: state[key] for key in written})
    assert state.keys() - written.keys() == set(form.to_ours(state).left)


@pytest.mark.parametrize('path', sorted(LAYOUTS.glob('*_*.json')), ids=lambda path: path.stem)
def test_names_and_shapes_of_full_size_checkpoints_come_back(path):
    content = json.loads(path.read_text())
    if 'entries' not in content:
        pytest.skip('this file maps names to names and holds no shapes')
    types = {'float32': torch.float32, 'int64': torch.int64}
    state = {k: torch.empty(shape, dtype=types[kind], device='meta') for k, kind, shape in content['entries']}
    form = find_format(state)
    ours = form.to_ours(state)
    theirs = form.to_theirs(ours.weights)
    assert theirs.keys() | set(ours.left) == state.keys()
    assert {k: v.shape for k, v in theirs.items()} == {k: state[k].shape for k in theirs}


@pytest.mark.parametrize(
    ('name', 'form', 'behind'),
    [
        ('Swin', OPENMMLAB_SWIN, ['neck.convs.0.weight', 'bbox_head.cls.weight', 'backbone.norm1.weight']),
        ('ViT', OPENMMLAB_VIT, ['head.layers.head.weight', 'data_preprocessor.mean']),
        ('ConvNeXt V2', OPENMMLAB_CONVNEXT, ['decode_head.conv_seg.bias', 'auxiliary_head.convs.0.bn.weight']),
    ],
)
def test_a_detector_or_classifier_of_openmmlab_gives_its_backbone(name, form, behind):
    encoder, other = (randomized(build(Encoder, TINY[name][0])) for _ in range(2))
    state = form.to_theirs({f'encoder.{key}': value for key, value in encoder.state_dict().items()})
    wanted = {f'encoder.{key}': value for key, value in encoder.state_dict().items()}
    report = load_any(torch.nn.ModuleDict({'encoder': other}), state | dict.fromkeys(behind, torch.ones(1)))
    assert_equal({f'encoder.{key}': value for key, value in other.state_dict().items()}, wanted)
    assert report.dropped == sorted(behind) and not report.new


def test_blocks_in_chunks_of_fsdp_are_those_of_dinov2():
    state = SAMPLES['DINOv2'][0](None, DINOV2)
    chunked = {re.sub(r'^blocks\.(\d)\.', r'blocks.\1.\1.', name): tensor for name, tensor in state.items()}
    assert find_format(chunked) is DINOV2 and 'blocks.1.1.ls1.gamma' in chunked
    assert_equal(DINOV2.to_ours(chunked).weights, DINOV2.to_ours(state).weights)


BACKBONES = {
    'ResNet': {'type': 'SparseCNN', 'arch': 'resnet18'},
    'ResNet-D': {'type': 'SparseCNN', 'arch': 'resnet50d', 'layers': (1, 1, 1, 1), 'channels': (8, 8, 8, 8)},
    'SwinTransformer': SWIN,
    'ConvNeXt': CONVNEXT,
    'VisionTransformer': {'type': 'ViT', 'img_size': 32, 'embed_dim': 8, 'depth': 2, 'num_heads': 2},
}


@pytest.mark.parametrize('name', BACKBONES)
def test_backbones_of_openmmlab_come_back(name):
    """By the table of which mmpretrain's pretraining is read, too: there is but one."""
    encoder = randomized(build(Encoder, dict(BACKBONES[name])))
    state = to_timm({f'encoder.{key}': value for key, value in encoder.state_dict().items()})
    state = {key: value for key, value in state.items() if not key.startswith('head.')}
    theirs = to_openmmlab(state, 'mmpretrain')
    reader = Format('exported', (), find_family(state).table)
    found = reader.to_ours(theirs)
    assert all(key.endswith('relative_position_index') for key in found.left)
    assert found.weights.keys() == state.keys()
    for key, value in state.items():  # a 1x1 convolution of timm's small ConvNeXts is a linear layer there
        assert torch.equal(found.weights[key].reshape(value.shape), value), key


def test_exporting_and_importing_use_one_table():
    tables = [family.table for family in FAMILIES]
    for form, prefix in ((MMPRETRAIN_MAE, 'backbone.'), (MMPRETRAIN_SIMMIM, 'backbone.')):
        assert any(set(under(prefix, table, BODY)) <= set(form.table) for table in tables)


@pytest.mark.parametrize(
    ('values', 'shape'),
    [
        (TOKEN, (1, 1, 5)),
        (unit_dims('1 C 1 1', 'C 1 1'), (1, 5, 1, 1)),
        (PREDICTION, (12, 4)),
        (PREDICTION, (12,)),
        (LINEAR_PREDICTION, (12, 4)),
        (KERNEL, (9, 4, 5)),
        (DEPTHWISE_KERNEL, (9, 4)),
        (PATCH_MERGING, (7, 20)),
        (PATCH_MERGING, (20,)),
    ],
)
def test_changes_of_values_are_inverted(values, shape):
    tensor = torch.arange(float(torch.Size(shape).numel())).view(shape)
    ours = values.to_ours(tensor, 3)
    assert torch.equal(values.to_theirs(ours, 3), tensor)
    assert not torch.equal(ours.flatten(), tensor.flatten()) or 1 in shape


def test_changes_of_values_in_numbers():
    rows = torch.arange(12)  # 2 x 2 pixels of 3 channels, by row, column, channel
    assert PREDICTION.to_ours(rows, 3).tolist() == [0, 3, 6, 9, 1, 4, 7, 10, 2, 5, 8, 11]
    kernel = torch.arange(4).view(4, 1, 1)  # a position is column * 2 + row
    assert KERNEL.to_ours(kernel, 3).flatten().tolist() == [0, 2, 1, 3]
    merging = torch.arange(8)  # 2 channels of 2 x 2 neighbors by rows; ours: neighbors by columns, 2 channels each
    assert PATCH_MERGING.to_ours(merging, 3).tolist() == [0, 4, 2, 6, 1, 5, 3, 7]


def test_a_shape_that_a_change_is_not_made_for_is_left_for_the_refusal():
    for values, shape in ((TOKEN, (2, 1, 5)), (TOKEN, (5,)), (KERNEL, (8, 4, 5)), (PATCH_MERGING, (5, 6))):
        assert values.to_ours(torch.zeros(shape), 3).shape == shape


def make(*table):
    return Format('Toy', ('a.',), table)


def test_what_a_table_has_no_place_for_is_named_in_both_directions():
    form = make(('a.{block}.{param}', 'b.{block+1}.{param}'), ('a.fixed', None))
    state = {'a.0.weight': torch.ones(1), 'a.10.bias': torch.ones(1), 'a.fixed': torch.ones(1)}
    ours = form.to_ours(state)
    assert list(ours.weights) == ['b.1.weight', 'b.11.bias'] and ours.left == ['a.fixed']
    with pytest.raises(UserError, match=r'look like Toy, which has no a\.x\.weight \(1 such keys\)'):
        form.to_ours(state | {'a.x.weight': torch.ones(1)})
    for name in ('b.0.weight', 'b.1.gamma', 'a.0.weight'):  # the block before the first one, no parameter, no name
        with pytest.raises(UserError, match=f'Toy has no place for 1 of the 1 tensors, such as {name}'):
            form.to_theirs({name: torch.ones(1)})


def test_two_names_of_one_tensor_are_refused():
    form = make(('a.{name:x|y}', 'b.{name}'), ('a.z', 'b.x'))
    with pytest.raises(UserError, match=r'has no a\.z'):
        form.to_ours({'a.x': torch.ones(1), 'a.z': torch.ones(1)})


def test_a_pair_that_cannot_be_read_backward_is_a_mistake_of_its_author():
    with pytest.raises(ValueError, match="'a.{i}' and 'b.{j}' have different fields"):
        make(('a.{i}', 'b.{j}')).to_ours({})


def test_a_table_with_one_line_lost_is_noticed():
    """That the tests above see it."""
    form = Format('Toy', (), same('x', 'y'))
    assert to_theirs(same('x'), form.to_ours({'x': torch.ones(1), 'y': torch.ones(1)}).weights)[1] == ['y']


def test_the_example_of_the_documentation_is_a_format():
    """What the docstring says how to add: its code runs, and what it makes reads such a checkpoint."""
    lines = names.__doc__.splitlines()
    first = next(i for i, line in enumerate(lines) if line.startswith('    from'))
    last = next(i for i, line in enumerate(lines) if line == '    )')
    scope = {}
    exec('\n'.join(line[4:] for line in lines[first : last + 1]), scope)
    form = scope['DINO']
    vit = build(Encoder, BACKBONES['VisionTransformer'] | {'mask_token': True, 'positions': 'learned'})
    weights = {f'encoder.{name}': tensor for name, tensor in randomized(vit).state_dict().items()}
    state = form.to_theirs(weights) | {'teacher.x': torch.ones(1), 'student.head.weight': torch.ones(1)}
    assert find_format(state, (form, *FORMATS)) is form and state['student.backbone.mask_token'].shape == (1, 1, 8)
    assert_equal(form.to_ours(state).weights, weights)
