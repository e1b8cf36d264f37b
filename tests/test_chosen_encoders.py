"""The encoder that a user names by its weights: what it is, and how images are loaded and normalized for it."""

import io
from dataclasses import replace

import numpy as np
import pytest
import timm
import torch
from mmengine.config import Config
from PIL import Image
from safetensors.torch import save

from hub import put_into_cache
from mae_toolkit import load_encoder, pretrain
from mae_toolkit.apis import export_encoder, image_notes, load_config, pretraining
from mae_toolkit.apis.finetuning import finetune
from mae_toolkit.apis.finetuning_tasks import make_fit
from mae_toolkit.checkpoints import encoder as encoder_files
from mae_toolkit.errors import UserError
from mae_toolkit.export.description import find_origin
from mae_toolkit.export.known_encoder import KnownEncoder
from mae_toolkit.export.preparation import Preparation
from mae_toolkit.models.encoders import Encoder
from mae_toolkit.planning.encoders import EncoderChoice, choose_encoder
from mae_toolkit.planning.loaded_images import fit_to_images
from mae_toolkit.planning.templates import find_config
from mae_toolkit.registry import build
from test_export_folder import ENCODERS, MEAN, STD, config_of, text_of, write_checkpoint
from test_planning import FOUND, planned
from test_planning import look_up_encoder as look_up

ATTO = 'timm:convnextv2_atto.fcmae'


@pytest.fixture
def cached(tmp_path, monkeypatch):
    """Weights of timm in the cache of Hugging Face, and the current folder beside it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr('huggingface_hub.constants.HF_HUB_CACHE', str(tmp_path / 'cache'))
    torch.manual_seed(0)
    weights = save(timm.create_model('convnextv2_atto').state_dict())
    return put_into_cache(tmp_path / 'cache', 'timm/convnextv2_atto.fcmae', 'model.safetensors', weights)


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / 'photos'
    folder.mkdir()
    for seed in range(16):
        small = Image.fromarray(np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8))
        small.resize((96, 72), Image.Resampling.BICUBIC).save(folder / f'{seed:02}.jpg')
    return folder


@pytest.mark.slow
def test_weights_in_the_cache_are_found_from_any_folder(cached, tmp_path, monkeypatch):
    for given, said in ((ATTO, ATTO), (str(cached), str(cached))):
        choice = choose_encoder(None, given, '')
        assert (choice.arch, choice.weights) == ('convnextv2_atto', said)
        assert find_origin(make_fit(choice)(load_config(find_config('classification/custom_classifier.py')))) == ATTO
    monkeypatch.chdir('/')
    cfg = make_fit(choose_encoder(None, ATTO, ''))(load_config(find_config('classification/custom_classifier.py')))
    build(Encoder, cfg.model.encoder).init_weights()  # which opens the file


@pytest.mark.slow
def test_a_run_from_the_cache_goes_on_and_is_exported_with_origin_and_license(cached, photos, tmp_path):
    options = {'env_cfg.num_threads': 1, 'workers': 0}
    pretrain(photos, None, 'run', ATTO, epochs=2, size=64, cfg_options=options)
    assert load_config('run/config.py').weights == ATTO
    pretrain(photos, None, 'run', ATTO, resume=True)
    export_encoder('run', 'encoder')
    card = (tmp_path / 'encoder' / 'README.md').read_text()
    assert 'license: cc-by-nc-4.0' in card and f'| began with | `{ATTO}` |' in card


@pytest.mark.parametrize(
    ('weights', 'mean'),
    [
        ('timm:vit_base_patch16_224.mae', 123.675),
        ('/models/vit_base_patch16_224.mae.safetensors', 123.675),
        ('timm:/models/vit_base_patch16_224.mae.safetensors#model', 123.675),
        ('/models/vit_base_patch16_224.augreg2_in21k_ft_in1k.pth', 127.5),
        ('/models/vit_base_patch16_224.lost.pth', 127.5),  # that of timm's preferred training
        ('/models/mine.pth', 127.5),
    ],
)
def test_images_are_normalized_as_for_the_training_that_the_name_says(weights, mean):
    assert planned(look_up('vit_base_patch16_224'), weights=weights)['mean'][0] == mean


def test_images_are_normalized_by_units_of_their_own():
    """A run on 16 bits is continued on these by its mean and std, and on bytes by those of the bytes."""
    encoder = look_up('convnextv2_atto')
    deep = Preparation((30000.0,) * 3, (9000.0,) * 3, (64, 64), None)
    encoder = replace(encoder, known=KnownEncoder({}, deep))
    assert planned(encoder, weights='run')['mean'] == FOUND.mean
    assert planned(encoder, replace(FOUND, dtypes={'uint16': 9}), weights='run')['mean'] == [30000.0] * 3


@pytest.mark.slow
def test_a_finetuning_and_load_encoder_normalize_as_for_the_training_too(tmp_path):
    path = tmp_path / 'resnet18.tv_in1k.pth'
    torch.save(timm.create_model('resnet18').state_dict(), path)
    half = path.with_name('efficientnet_b0.ra4_e3600_r224_in1k.pth')
    torch.save(timm.create_model('efficientnet_b0').state_dict(), half)
    for file, mean in ((path, 123.675), (half, 127.5)):
        assert choose_encoder(None, str(file), '').normalization['mean'][0] == pytest.approx(mean)
        arch = file.name.partition('.')[0]
        for encoder in (None, arch):
            _, transform = load_encoder(file, encoder)
            assert transform.preparation.mean[0] == pytest.approx(mean)


def test_other_channels_go_by_the_rule_and_weights_are_read_once(photos, tmp_path, monkeypatch):
    weights = tmp_path / 'convnextv2_atto.gray.pth'
    torch.save(timm.create_model('convnextv2_atto', in_chans=5).state_dict(), weights)
    reads, read = [], encoder_files.read_weights
    monkeypatch.setattr(encoder_files, 'read_weights', lambda *args: reads.append(args) or read(*args))

    def stop(folder):
        raise RuntimeError('all checks of the weights have passed')

    monkeypatch.setattr(pretraining, '_look_at', stop)
    with pytest.raises(RuntimeError, match='have passed'):
        pretrain(photos, None, tmp_path / 'run', str(weights), channels_rule='sum')
    assert len(reads) == 1


@pytest.mark.slow
def test_the_backbone_of_another_library_is_none_of_ours(tmp_path):
    pytest.importorskip('mmdet', reason='MMDetection is not installed: pip install -e .[det]')
    cfg = load_config(find_config('detection/custom_faster-rcnn.py'))
    cfg.model.backbone = dict(type='ResNet', depth=18)
    (tmp_path / 'config.py').write_text(text_of(cfg))
    torch.save({'state_dict': {'backbone.conv1.weight': torch.ones(1)}}, tmp_path / 'best_coco.pth')
    for call in (
        lambda: choose_encoder(None, str(tmp_path), ''),
        lambda: pretrain(tmp_path / 'photos', None, tmp_path / 'out', str(tmp_path)),
    ):
        with pytest.raises(UserError, match=r'config.py has no encoder of this toolkit.*give the folder of a pretrain'):
            call()
    write_run(tmp_path / 'ours', ENCODERS['ViT'])
    with pytest.raises(UserError, match=r'--encoder resnet50 is not what .*ours trained \(ViT\)'):
        choose_encoder('resnet50', str(tmp_path / 'ours'), '')


def write_run(folder, encoder):
    folder.mkdir(exist_ok=True)
    write_checkpoint(folder / 'best_knn.pth', encoder)
    (folder / 'photos.py').write_text(text_of(config_of(encoder)))
    return str(folder)


@pytest.mark.parametrize('name', ['ViT', 'ConvNeXt V2', 'Swin', 'Hiera', 'ResNet'])
def test_features_of_gray_images_are_the_same_when_they_are_repeated(tmp_path, name):
    gray = choose_encoder(None, write_run(tmp_path / 'run', ENCODERS[name] | {'in_chans': 1}), '')
    assert gray.normalization == dict(mean=MEAN[:1], std=STD[:1])
    color = fit_to_images(gray, reads_bytes=False)
    assert color.normalization == dict(mean=MEAN[:1] * 3, std=STD[:1] * 3) and 'gray' in color.reason
    template = load_config(find_config('classification/custom_classifier.py'))
    encoders = [build(Encoder, make_fit(choice)(template).model.encoder) for choice in (gray, color)]
    assert [encoder.in_chans for encoder in encoders] == [1, 3]
    for encoder in encoders:
        encoder.init_weights()
    imgs = torch.rand(2, 1, 64, 64)
    with torch.inference_mode():
        one, three = (e.eval()(x)[-1] for e, x in zip(encoders, (imgs, imgs.repeat(1, 3, 1, 1)), strict=True))
    assert one.std() > 0.01 and torch.allclose(one, three, atol=1e-4)


def test_other_numbers_of_channels_are_refused_before_the_labels(tmp_path):
    run = write_run(tmp_path / 'run', ENCODERS['ViT'] | {'in_chans': 5})
    with pytest.raises(UserError, match='images of 5 channels, and fine-tuning loads 3, gray ones repeated: begin'):
        finetune('classify', tmp_path / 'no labels', tmp_path / 'out', weights=run)


def choice_of(dtype, mean, std):
    return EncoderChoice({'type': 'ViT'}, 'runs/deep', '', dict(mean=[mean] * 3, std=[std] * 3), dtype)


def test_16_bits_are_normalized_alike_where_their_upper_8_are_loaded():
    mmcv = pytest.importorskip('mmcv', reason='MMCV is not installed: pip install -e .[det]')
    deep = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    choice = choice_of('uint16', 30000.0, 9000.0)
    assert fit_to_images(choice, reads_bytes=False) is choice  # a classifier has the type of the files
    normal = fit_to_images(choice, reads_bytes=True).normalization
    file = io.BytesIO()
    Image.fromarray(deep).save(file, 'png')
    loaded = mmcv.imfrombytes(file.getvalue())[..., 0].astype(float)
    difference = (loaded - normal['mean'][0]) / normal['std'][0] - (deep - 30000.0) / 9000.0
    assert np.abs(difference).max() < 0.03


@pytest.mark.slow
def test_a_classifier_of_16_bits_is_trained_without_what_takes_bytes(tmp_path):
    for i in range(16):
        path = tmp_path / 'images' / 'ab'[i % 2] / f'{i}.png'
        path.parent.mkdir(parents=True, exist_ok=True)
        deep = np.random.default_rng(i).integers(15360, 46080, (64, 64), dtype=np.uint16)
        Image.fromarray(deep).save(path)
    run = write_run(tmp_path / 'run', ENCODERS['ConvNeXt V2'] | {'in_chans': 1})
    options = {'validations': 1, 'workers': 0, 'batch_size': 2, 'env_cfg.num_threads': 1}
    out = tmp_path / 'out'
    assert finetune('classify', tmp_path / 'images', out, weights=run, size=64, epochs=2, cfg_options=options)
    cfg = load_config(out / 'config.py')
    assert 'augmentation = None  # images are uint16' in (out / 'config.py').read_text()
    steps = [step.type for step in cfg.train_dataloader.dataset.pipeline]
    assert steps == ['RandomResizedCrop', 'RandomFlip'] and cfg.model.encoder.in_chans == 3


@pytest.mark.parametrize(
    ('dtype', 'mean', 'std', 'said'),
    [
        ('uint16', 800.0, 200.0, r'a deviation of 200, which is 0.78 in the upper 8 bits .*: stretch the images'),
        ('float32', 0.5, 0.2, r'pretrained on float32 images \(mean 0.5, 0.5, 0.5\), .* load 8 bits, from 0 to 255:'),
    ],
)
def test_what_is_lost_in_8_bits_is_refused(dtype, mean, std, said):
    with pytest.raises(UserError, match=said):
        fit_to_images(choice_of(dtype, mean, std), reads_bytes=True)
    fit_to_images(choice_of(dtype, mean, std), reads_bytes=False)


@pytest.mark.parametrize(('scope', 'mean'), [('mmdet', 120.0), ('mae_toolkit', 30720.0)])
def test_a_note_on_16_bits_is_in_the_units_in_which_they_are_loaded(tmp_path, monkeypatch, scope, mean):
    path, deep = tmp_path / 'a.png', np.random.default_rng(0).integers(15360, 46080, (64, 64), dtype=np.uint16)
    Image.fromarray(deep).save(path)
    monkeypatch.setattr(image_notes, 'build_dataset', lambda cfg, dataset: [0])
    monkeypatch.setattr(image_notes, 'find_image', lambda dataset, i: path)
    for shift in (0, 3):
        normal = dict(mean=[mean * (1 + shift)] * 3, std=[mean / 3.5] * 3)
        cfg = Config(dict(default_scope=scope, model=dict(data_preprocessor=normal), train_dataloader=dict(dataset=0)))
        note = image_notes.compare_with_weights(cfg)
        assert (note is None) == (shift == 0)
        assert shift == 0 or f'have a mean of {deep.mean() * mean / 30720:.4g}' in note
