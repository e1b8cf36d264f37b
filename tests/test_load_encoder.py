"""An encoder and its transform, from a run, an exported folder, a checkpoint or weights of others."""

import json

import numpy as np
import pytest
import timm
import torch
from mmengine.config import Config
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from mae_toolkit import load_encoder
from mae_toolkit.apis import export_encoder, fit_encoder, load_config
from mae_toolkit.apis.encoders import load_encoder_up_to
from mae_toolkit.datasets import ImageDataset, read_image
from mae_toolkit.errors import UserError
from mae_toolkit.export.description import FINGERPRINT
from mae_toolkit.models import Encoder
from mae_toolkit.planning.encoders import choose_encoder
from mae_toolkit.planning.templates import find_config
from mae_toolkit.registry import build
from parts import images, randomized
from test_export_folder import ENCODERS, MEAN, STD, config_of, text_of, write_checkpoint
from tiny import ROOT

PHOTO = next((ROOT / 'mae_toolkit' / 'data' / 'tiny' / 'bccd' / 'images').glob('*.jpg'))


def write_run(folder, encoder, dtype='uint8'):
    folder.mkdir()
    built = write_checkpoint(folder / 'best_knn.pth', encoder)
    (folder / 'photos.py').write_text(text_of(config_of(encoder)))
    (folder / FINGERPRINT).write_text(json.dumps({'images': 5, 'hash': '0123456789abcdef', 'dtypes': {dtype: 5}}))
    return built


@pytest.mark.slow
@pytest.mark.parametrize('name', [name for name in ENCODERS if 'one block' not in name])
def test_run_checkpoint_and_folder_give_the_same_encoder(tmp_path, name):
    config = ENCODERS[name]
    built = write_run(tmp_path / 'run', config)
    built.out_norms = nn.ModuleList([nn.Identity()])
    export_encoder(tmp_path / 'run', tmp_path / 'encoder')
    imgs = images(size=config.get('img_size', (64, 96)), channels=config.get('in_chans', 3))
    with torch.no_grad():
        expected = built(imgs)[-1]
        for source in (tmp_path / 'run', tmp_path / 'run' / 'best_knn.pth', tmp_path / 'encoder'):
            encoder, transform = load_encoder(source)
            assert not encoder.training and len(set(encoder.out_strides)) == len(encoder.out_strides)
            torch.testing.assert_close(encoder(imgs)[-1], expected, rtol=1e-5, atol=1e-5)
            assert transform.preparation.mean == tuple(MEAN[: encoder.in_chans])
            assert transform.preparation.size == (64, 48)


@pytest.mark.slow
@pytest.mark.parametrize('name', ['ViT', 'Eva, DINOv3', 'ConvNeXt', 'Swin', 'Hiera', 'ResNet'])
def test_what_lies_behind_the_deepest_level_that_is_read_is_not_built(tmp_path, name):
    config = ENCODERS[name]
    write_run(tmp_path / 'run', config)
    imgs, chosen = images(size=config.get('img_size', (64, 96))), (0, 1) if name in ('ViT', 'Eva, DINOv3') else None
    whole, _ = load_encoder(tmp_path / 'run', out_indices=chosen)
    with torch.no_grad():
        expected = whole(imgs)
    asked = []
    for deepest in range(1, len(expected)):
        up_to = lambda strides, deepest=deepest: asked.append(strides) or deepest  # noqa: E731
        encoder, _ = load_encoder_up_to(tmp_path / 'run', out_indices=chosen, find_deepest=up_to)
        with torch.no_grad():
            torch.testing.assert_close(encoder(imgs), expected[:deepest])
        assert sum(w.numel() for w in encoder.parameters()) < sum(w.numel() for w in whole.parameters())
    assert asked == [whole.out_strides] * (len(expected) - 1) and asked


def test_finetuning_begins_with_a_folder_or_a_checkpoint(tmp_path):
    """Each says what its encoder is, and by which numbers images are normalized."""
    config = ENCODERS['Eva, EVA-02, no last norm']
    write_run(tmp_path / 'run', config)
    export_encoder(tmp_path / 'run', tmp_path / 'encoder')
    for source in (tmp_path / 'encoder', tmp_path / 'run' / 'best_knn.pth', tmp_path / 'run'):
        choice = choose_encoder(None, str(source), 'resnet18')
        assert choice.config['depth'] == 2 and tuple(choice.config['img_size']) == (32, 48) and choice.type == 'Eva'
        assert tuple(choice.normalization['mean']) == tuple(MEAN[:3])
        assert choose_encoder(config['arch'], str(source), 'resnet18') == choice
        cfg = fit_encoder(classification(), choice.config, choice.weights)
        encoder = build(Encoder, dict(cfg.model.encoder))
        encoder.init_weights()
        assert torch.equal(encoder.body.blocks[1].mlp.fc2.weight, load_encoder(source)[0].body.blocks[1].mlp.fc2.weight)


def classification():
    return Config({'model': {'type': 'Classifier', 'encoder': {'type': 'ViT'}, 'num_classes': 3}})


@pytest.mark.slow
def test_levels_and_blocks(tmp_path):
    write_run(tmp_path / 'run', ENCODERS['ResNet'])
    assert load_encoder(tmp_path / 'run')[0].out_strides == (2, 4, 8, 16, 32)
    assert load_encoder(tmp_path / 'run', out_indices=(3,))[0].out_strides == (16,)
    write_run(tmp_path / 'vit', ENCODERS['ViT, one block of two'])
    encoder, _ = load_encoder(tmp_path / 'vit')
    assert encoder.out_indices == (0,) and len(encoder.body.blocks) == 1


def test_the_encoder_of_a_detector_gives_the_maps_of_its_heads(tmp_path):
    config = ENCODERS['ConvNeXt'] | {'out_indices': (0, 1, 2, 3), 'out_norms': True}
    built = randomized(build(Encoder, dict(config))).eval()
    run = tmp_path / 'detector'
    run.mkdir()

    def write_detector(backbone):
        (run / 'config.py').write_text(
            f"_base_ = '{find_config('detection/custom_faster-rcnn.py')}'\n"
            f'model = dict(backbone=dict(_delete_=True, **{backbone!r}), neck=dict(in_channels=[6, 10, 12, 12]),\n'
            f'    data_preprocessor=dict(mean={MEAN[:3]}, std={STD[:3]}))\n'
        )
        return text_of(load_config(run / 'config.py'))

    text = write_detector(config | {'type': 'mae_toolkit.ConvNeXt'})
    state = {f'backbone.{name}': tensor for name, tensor in built.state_dict().items()}
    torch.save({'state_dict': state | {'rpn_head.weight': torch.ones(1)}, 'meta': {'cfg': text}}, run / 'best_coco.pth')
    imgs = images(size=(64, 96))
    for source in (run, run / 'best_coco.pth', f'{run / "best_coco.pth"}#backbone'):
        encoder, transform = load_encoder(source)
        with torch.no_grad():
            torch.testing.assert_close(encoder(imgs), built(imgs))
        assert transform.preparation.mean == tuple(MEAN[:3])
    assert load_encoder(run, out_indices=(2,))[0].out_strides == (16,)
    write_detector({'type': 'ResNet', 'depth': 18})  # of MMDetection
    with pytest.raises(UserError, match='does not say what its encoder is'):
        load_encoder(run)


def test_the_transform_is_that_of_the_validation(tmp_path):
    write_run(tmp_path / 'run', ENCODERS['ConvNeXt'])
    _, transform = load_encoder(tmp_path / 'run')
    pipeline = config_of(ENCODERS['ConvNeXt']).val_dataloader.dataset.pipeline
    img = ImageDataset(PHOTO.parent, pipeline, ann_file=None)[0]['img'].float()
    first = sorted(path.name for path in PHOTO.parent.glob('*.jpg'))[0]
    mean, std = (torch.tensor(values[:3]).view(-1, 1, 1) for values in (MEAN, STD))
    expected = (img - mean) / std
    found = transform(PHOTO.parent / first)
    # One pixel at the border of the crop, and a resolution of JPEGs that is enough: only near what training sees.
    assert found.shape == expected.shape and (found - expected).abs().mean() < 0.1
    array = read_image(PHOTO.parent / first)
    torch.testing.assert_close(transform(array, resize=False).shape, torch.Size((3, *array.shape[:2])))
    for other in (array, Image.open(PHOTO.parent / first)):  # a JPEG of Pillow is decoded as ours
        assert torch.equal(transform(other), found)


@pytest.mark.parametrize('mode', ['L', 'P', 'RGBA', 'CMYK', '1'])
def test_pictures_of_any_mode_become_colors(tmp_path, mode):
    write_run(tmp_path / 'run', ENCODERS['ConvNeXt'])
    _, transform = load_encoder(tmp_path / 'run')
    picture = Image.open(PHOTO).convert(mode)
    expected = np.asarray(picture.convert('RGB'))
    torch.testing.assert_close(transform(picture, resize=False), transform(expected, resize=False))


def test_numbers_of_another_type_are_refused(tmp_path):
    write_run(tmp_path / 'run', ENCODERS['ConvNeXt'], 'uint16')
    _, transform = load_encoder(tmp_path / 'run')
    with pytest.raises(UserError, match='holds numbers of uint8, and the encoder was trained on uint16'):
        transform(np.zeros((64, 64, 3), np.uint8))
    assert transform(np.full((64, 64), 110, np.uint16)).shape == (3, 64, 48)
    with pytest.raises(UserError, match='5 channels'):
        transform(np.zeros((64, 64, 5), np.uint16))
    with pytest.raises(UserError, match='divide both by 255'):
        transform(np.random.default_rng(0).random((64, 64, 3), np.float32))


def test_weights_of_timm(tmp_path):
    small = {'depths': (1, 1, 1, 1), 'dims': (6, 10, 12, 12)}
    network = timm.create_model('convnextv2_atto', num_classes=0, **small).eval()
    folder = tmp_path / 'theirs'
    folder.mkdir()
    save_file(network.state_dict(), folder / 'model.safetensors')
    about = network.pretrained_cfg | {'mean': (0.5, 0.5, 0.5), 'crop_pct': 1.0}
    config = {'architecture': 'convnextv2_atto', 'model_args': small, 'pretrained_cfg': about}
    (folder / 'config.json').write_text(json.dumps(config))
    encoder, transform = load_encoder(folder)
    imgs = images(size=(64, 96))
    with torch.no_grad():
        torch.testing.assert_close(encoder(imgs)[-1], network.forward_features(imgs), rtol=1e-4, atol=1e-5)
    assert transform.preparation.mean == (127.5,) * 3 and transform.preparation.short_side == 224
    bare = tmp_path / 'convnextv2_atto.fcmae.safetensors'
    save_file(timm.create_model('convnextv2_atto', num_classes=0).state_dict(), bare)
    named = load_encoder(bare), load_encoder(f'timm:{bare}'), load_encoder(bare, encoder='convnextv2_atto')
    for encoder, transform in named:
        assert encoder.out_channels == (40, 80, 160, 320) and transform.preparation.size == (224, 224)
    bare.rename(tmp_path / 'lost.safetensors')
    with pytest.raises(UserError, match='does not say what its encoder is: .*encoder='):
        load_encoder(tmp_path / 'lost.safetensors')


def test_a_file_that_lacks_weights_is_refused(tmp_path):
    write_run(tmp_path / 'run', ENCODERS['ConvNeXt'])
    path = tmp_path / 'run' / 'best_knn.pth'
    saved = torch.load(path)
    del saved['state_dict']['encoder.body.stages.0.blocks.0.mlp.fc1.weight']
    torch.save(saved, path)
    with pytest.raises(UserError, match='lack 1 key'):
        load_encoder(tmp_path / 'run')
