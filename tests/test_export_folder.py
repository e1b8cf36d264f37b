"""Exported folders: timm builds the same network from them, and they say what they are."""

import copy
import json
from functools import cache

import pytest
import timm
import torch
from PIL import Image
from safetensors import safe_open
from torch import nn

from mae_toolkit.apis import export_encoder, load_config
from mae_toolkit.checkpoints.files import GRIDS
from mae_toolkit.commands import main
from mae_toolkit.downstream.encoder_transform import EncoderTransform
from mae_toolkit.errors import UserError
from mae_toolkit.export.description import FINGERPRINT, as_downstream, find_license
from mae_toolkit.export.preparation import Preparation, read_config, read_timm
from mae_toolkit.models import Encoder
from mae_toolkit.registry import build
from parts import DINOV3, EVA02, HIERA, ROPE_VIT, VIT, images, randomized
from tiny import QUICKSTART, ROOT

PHOTOS = ROOT / 'mae_toolkit' / 'data' / 'tiny' / 'bccd' / 'images'
STAGES = {'depths': (1, 2, 1, 1), 'dims': (6, 10, 12, 12)}
SWIN = {'depths': (2, 2, 1, 1), 'embed_dim': 12, 'num_heads': (1, 2, 2, 2), 'window_size': 2, 'img_size': (64, 96)}
ENCODERS = {
    'ViT': {'type': 'ViT', **VIT, 'mask_token': True},
    'ViT, five channels, registers, no last norm': {
        'type': 'ViT',
        **VIT,
        'in_chans': 5,
        'reg_tokens': 2,
        'final_norm': False,
    },
    'ViT, one block of two': {'type': 'ViT', **VIT, 'out_indices': (0,)},
    'BEiT': {'type': 'ViT', 'arch': 'beit_base_patch16_224', **VIT},
    'Eva, DINOv3': {'type': 'Eva', **DINOV3},
    'Eva, EVA-02, no last norm': {'type': 'Eva', **EVA02, 'final_norm': False},
    'Eva, RoPE-ViT': {'type': 'Eva', **ROPE_VIT},
    'ConvNeXt': {'type': 'ConvNeXt', 'arch': 'convnext_tiny', **STAGES},
    'ConvNeXt V2': {'type': 'ConvNeXt', 'arch': 'convnextv2_atto', **STAGES, 'grn_over_batch': True},
    'Swin': {'type': 'Swin', 'arch': 'swin_tiny_patch4_window7_224', **SWIN, 'out_indices': (0, 1, 2, 3)},
    'Hiera': {'type': 'Hiera', 'arch': 'hiera_tiny_224', **HIERA, 'out_norms': True},
    'ResNet': {'type': 'SparseCNN', 'arch': 'resnet18', 'out_indices': (1, 2, 3, 4)},
}
MEAN, STD = [110.0, 120.0, 130.0, 140.0, 150.0], [50.0, 51.0, 52.0, 53.0, 54.0]


@cache
def quickstart():
    return load_config(QUICKSTART)


def config_of(encoder):
    """The quickstart with another encoder and other sizes."""
    channels = encoder.get('in_chans', 3)
    cfg = copy.deepcopy(quickstart())
    cfg.model.encoder = encoder
    cfg.model.data_preprocessor |= {'mean': MEAN[:channels], 'std': STD[:channels]}
    cfg.val_dataloader.dataset.pipeline = [{'type': 'Resize', 'size': 80}, {'type': 'CenterCrop', 'size': [64, 48]}]
    return cfg


def text_of(cfg):
    """The text of a config, faster than by MMEngine."""
    return '\n'.join(f'{key} = {value!r}' for key, value in cfg.to_dict().items())


def write_checkpoint(path, encoder):
    """A training checkpoint of a small encoder with weights that matter; return it as it is used downstream."""
    built = randomized(build(Encoder, dict(encoder)))
    state = {f'encoder.{name}': tensor for name, tensor in built.state_dict().items()}
    meta = {'epoch': 3, 'iter': 30, 'cfg': text_of(config_of(encoder))}
    meta |= {GRIDS: {'encoder.body.pos_embed': list(built.position_grid)}} if built.position_grid else {}
    torch.save({'state_dict': state, 'meta': meta}, path)
    downstream = build(Encoder, as_downstream(encoder) | {'init_cfg': {'type': 'Pretrained', 'checkpoint': str(path)}})
    downstream.init_weights()
    return downstream.eval()


def last_map(network, imgs):
    """The last map (B, C, h, w) of timm's model, as its forward_features returns it."""
    x = network.forward_features(imgs)
    if x.dim() == 3:
        x = x[:, getattr(network, 'num_prefix_tokens', 0) :].mT
        rows = network.patch_embed.grid_size[0] if hasattr(network.patch_embed, 'grid_size') else 1
        return x.unflatten(2, (rows, -1))
    return x.permute(0, 3, 1, 2) if x.shape[-1] == network.num_features else x


@pytest.mark.parametrize('name', ENCODERS)
def test_timm_makes_the_same_features_of_the_folder(tmp_path, name):
    config = ENCODERS[name]
    encoder = write_checkpoint(tmp_path / 'epoch_3.pth', config)
    lines = export_encoder(tmp_path / 'epoch_3.pth', tmp_path / 'encoder')
    network = timm.create_model(f'local-dir:{tmp_path / "encoder"}', pretrained=True).eval()
    imgs = images(size=config.get('img_size', (64, 96)), channels=config.get('in_chans', 3))
    with torch.no_grad():
        encoder.out_norms = nn.ModuleList([nn.Identity()])  # which timm's network lacks
        expected = encoder(imgs)[-1]
        found = last_map(network, imgs)
        pooled = network(imgs)
    scale = expected.abs().max()
    torch.testing.assert_close(found.reshape(expected.shape) / scale, expected / scale, atol=1e-5, rtol=0)
    assert pooled.shape == (2, network.num_features)
    if config['type'] in ('ViT', 'Eva'):
        torch.testing.assert_close(pooled / scale, expected.mean((2, 3)) / scale, atol=1e-5, rtol=0)
    assert 'The greatest difference to our encoder is' in lines[1]


# CNNs that go on behind their last level: with a convolution and norm, whole blocks, or a norm. By hand also MobileNet
# V2, EfficientNet V2, FBNet V3, RepGhost, ResNet V2, DPN, ReXNet, FasterNet, FastViT, HGNet, LCNet V2, VGG.
QUICK, OTHERS = 'mobilenetv4_conv_small_035', ('tf_efficientnet_lite0', 'mobilenetv3_small_050', 'ghostnet_050')
OTHERS += ('starnet_s1',)


@pytest.mark.parametrize('arch', [QUICK, *(pytest.param(arch, marks=pytest.mark.slow) for arch in OTHERS)])
def test_what_stands_behind_the_last_level_is_left_out(tmp_path, arch):
    encoder = write_checkpoint(tmp_path / 'epoch_3.pth', {'type': 'SparseCNN', 'arch': arch})
    _, difference, reason, *_ = export_encoder(tmp_path / 'epoch_3.pth', tmp_path / 'encoder')
    assert 'The greatest difference to our encoder' in difference and 'returns the maps of the levels' in reason
    network = timm.create_model(f'local-dir:{tmp_path / "encoder"}', pretrained=True).eval()
    with torch.no_grad():
        maps, expected = network(images(size=(64, 64))), encoder(images(size=(64, 64)))[-1]
    assert len(maps) == encoder.num_levels
    scale = expected.abs().max()
    torch.testing.assert_close(maps[-1] / scale, expected / scale, atol=1e-4, rtol=0)
    config = json.loads((tmp_path / 'encoder' / 'config.json').read_text())
    assert config['num_features'] == encoder.out_channels[-1]
    assert 'maps[-1].mean((2, 3))' in (tmp_path / 'encoder' / 'README.md').read_text()
    assert timm.data.resolve_model_data_config(network)['input_size'] == (3, 64, 48)


def test_levels_that_were_not_built_are_left_out(tmp_path):
    encoder = write_checkpoint(tmp_path / 'epoch_3.pth', {'type': 'SparseCNN', 'arch': 'resnet18', 'out_indices': (2,)})
    export_encoder(tmp_path / 'epoch_3.pth', tmp_path / 'encoder')
    network = timm.create_model(f'local-dir:{tmp_path / "encoder"}', pretrained=True).eval()
    with torch.no_grad():
        maps, expected = network(images()), encoder(images())[-1]
    assert len(maps) == 3 and maps[-1].shape == expected.shape
    torch.testing.assert_close(maps[-1], expected, atol=1e-5 * expected.abs().max().item(), rtol=0)


@pytest.mark.slow
def test_what_timm_has_between_the_levels_is_refused(tmp_path):
    """The features of timm's HRNet pass convolutions of its head, which the levels of the encoder do not have."""
    write_checkpoint(tmp_path / 'epoch_3.pth', {'type': 'SparseCNN', 'arch': 'hrnet_w18_small'})
    sentence = r"timm's hrnet_w18_small cannot run without \d+ tensors that the encoder lacks.*load_encoder\(RUN\)"
    with pytest.raises(UserError, match=sentence):
        export_encoder(tmp_path / 'epoch_3.pth', tmp_path / 'encoder')
    assert not (tmp_path / 'encoder').exists()


def test_the_folder_says_what_it_is(tmp_path):
    run = tmp_path / 'run'
    run.mkdir()
    begin = str(tmp_path / 'convnextv2_atto.fcmae.safetensors')
    encoder = ENCODERS['ConvNeXt V2'] | {'init_cfg': {'type': 'Pretrained', 'checkpoint': f'timm:{begin}'}}
    write_checkpoint(run / 'best_knn.pth', ENCODERS['ConvNeXt V2'])
    (run / 'photos.py').write_text(text_of(config_of(encoder)))
    (run / FINGERPRINT).write_text(json.dumps({'images': 1234, 'hash': '0123456789abcdef'}))
    said, *_ = export_encoder(run, tmp_path / 'encoder')
    assert said.endswith('from best_knn.pth of step 30')
    config = json.loads((tmp_path / 'encoder' / 'config.json').read_text())
    assert config['architecture'] == 'convnextv2_atto' and config['num_features'] == 12
    about, given = config['mae_toolkit'], config['pretrained_cfg']
    assert given['input_size'] == [3, 64, 48] and given['crop_pct'] == 0.6
    assert given['mean'] == pytest.approx([value / 255 for value in MEAN[:3]], abs=1e-6)
    assert about['preparation']['mean'] == MEAN[:3] and about['training']['checkpoint'] == 'best_knn.pth'
    assert about['method']['masking'] == 'RandomMasking' and about['method']['ratio'] == 0.75
    assert about['data']['images'] == 1234 and about['data']['fingerprint'] == '0123456789abcdef'
    assert about['began_with'] == 'timm:convnextv2_atto.fcmae.safetensors'
    assert about['license'] == given['license'] == 'cc-by-nc-4.0'  # that of the weights it began with
    with safe_open(tmp_path / 'encoder' / 'model.safetensors', 'pt') as file:
        metadata = file.metadata()
    assert metadata['architecture'] == 'convnextv2_atto' and metadata['license'] == 'cc-by-nc-4.0'
    assert json.loads(metadata['versions'])['torch'] == torch.__version__
    card = (tmp_path / 'encoder' / 'README.md').read_text()
    for words in ('license: cc-by-nc-4.0', 'local-dir:encoder', '1,234 images', '75% hidden', 'PixelTarget'):
        assert words in card
    assert str(tmp_path) not in card + json.dumps(config) + json.dumps(metadata)


def test_transforms_of_timm_are_those_of_the_config(tmp_path):
    write_checkpoint(tmp_path / 'epoch_3.pth', ENCODERS['ConvNeXt'])
    export_encoder(tmp_path / 'epoch_3.pth', tmp_path / 'encoder')
    network = timm.create_model(f'local-dir:{tmp_path / "encoder"}', pretrained=True)
    data = timm.data.resolve_model_data_config(network)
    assert data['input_size'] == (3, 64, 48) and data['crop_pct'] == 0.6
    assert read_timm(data).short_side == 80


@pytest.mark.parametrize(
    ('size', 'short_side', 'side'),
    [((96, 96), 112, 300), ((96, 96), 110, 224), ((64, 64), 80, 672), ((160, 160), 160, 333), ((64, 48), None, 300)],
)
def test_the_two_transforms_of_a_photograph_are_the_same(tmp_path, size, short_side, side):
    """But for roundings in the middle of a resizing: two levels of 255 at most."""
    with Image.open(next(PHOTOS.glob('*.jpg'))) as photo:
        photo.resize((side, side * 3 // 4 + 1)).save(tmp_path / 'photo.jpg')  # odd numbers of pixels around the crop
    preparation = Preparation((0.0,) * 3, (255.0,) * 3, size, short_side)
    data = {key: tuple(value) if isinstance(value, list) else value for key, value in preparation.to_timm().items()}
    theirs = timm.data.create_transform(**data)(Image.open(tmp_path / 'photo.jpg'))
    ours = EncoderTransform(preparation)(tmp_path / 'photo.jpg')
    assert torch.equal(ours, EncoderTransform(preparation)(Image.open(tmp_path / 'photo.jpg')))
    difference = 255 * (ours - theirs).abs()
    assert difference.max() < 2.5 and difference.mean() < 0.05


@pytest.mark.parametrize(
    ('mean', 'std', 'largest'),
    [
        ((0.4, 0.5), (0.2, 0.2), 1),
        ((123.0, 5.0), (58.0, 3.0), 255),
        ((0.0,), (255.0,), 255),
        ((3000.0,), (900.0,), 65535),
    ],
)
def test_units_of_the_files(mean, std, largest):
    preparation = Preparation(mean, std, (32, 32), None)
    assert preparation.largest_value == largest
    assert preparation.to_timm()['mean'] == pytest.approx([value / largest for value in mean], abs=1e-6)
    assert preparation.to_timm()['crop_mode'] == 'squash' and read_timm(preparation.to_timm()).short_side is None


def test_preparation_without_validation():
    cfg = config_of(ENCODERS['ConvNeXt'])
    steps = [{'type': 'RandomResizedCrop', 'size': 56, 'interpolation': 'bilinear'}]
    cfg.val_dataloader, cfg.train_dataloader = None, {'dataset': {'type': 'R', 'dataset': {'pipeline': steps}}}
    found = read_config(cfg)
    assert (found.size, found.short_side, found.interpolation) == ((56, 56), 64, 'bilinear')
    del cfg.model['data_preprocessor']
    with pytest.raises(UserError, match='no model.data_preprocessor with mean and std'):
        read_config(cfg)


@pytest.mark.parametrize(
    ('origin', 'license'),
    [
        ('timm:convnextv2_tiny.fcmae.safetensors', 'cc-by-nc-4.0'),
        ('vit_base_patch16_224.mae#model', 'cc-by-nc-4.0'),
        ('timm:vit_base_patch16_224', 'apache-2.0'),  # that of timm's preferred training
        ('timm:vit_base_patch16_224.pth', None),
        ('vit_base_patch16_224.lost', None),
        ('mae_pretrain_vit_base.pth', None),
    ],
)
def test_licenses_of_weights_of_timm(origin, license):
    assert find_license(origin) == license


def test_what_timm_cannot_build_is_refused(tmp_path):
    write_checkpoint(tmp_path / 'epoch_3.pth', {'type': 'ViT', **VIT, 'window_size': 2})
    with pytest.raises(UserError, match="timm's vit_base_patch16_224 gives other features than the encoder.*windows"):
        export_encoder(tmp_path / 'epoch_3.pth', tmp_path / 'encoder')
    assert not (tmp_path / 'encoder').exists()
    torch.save(encoder_state(tmp_path / 'epoch_3.pth'), tmp_path / 'bare.pth')
    with pytest.raises(UserError, match='bare.pth does not hold the config of its training.*--config'):
        export_encoder(tmp_path / 'bare.pth', tmp_path / 'encoder')


def encoder_state(path):
    return torch.load(path)['state_dict']


def test_the_program_writes_over_its_own_folders_alone(tmp_path, capsys):
    write_checkpoint(tmp_path / 'epoch_3.pth', ENCODERS['ConvNeXt'])
    (tmp_path / 'other').mkdir()
    (tmp_path / 'other' / 'config.json').write_text('{}')
    with pytest.raises(SystemExit) as end:
        main(['export', str(tmp_path / 'epoch_3.pth'), '--out', str(tmp_path / 'other')])
    assert end.value.code == 2 and 'holds 1 file that this tool did not write' in capsys.readouterr().err
    for layout in ('timm', 'mmpretrain', 'timm'):
        main(['export', str(tmp_path / 'epoch_3.pth'), '--out', str(tmp_path / 'encoder'), '--format', layout])
    assert "backbone={'type': 'ConvNeXt'" in capsys.readouterr().out
    names = {path.name for path in (tmp_path / 'encoder').iterdir()}
    assert names == {'model.safetensors', 'config.json', 'README.md', 'encoder.pth'}
