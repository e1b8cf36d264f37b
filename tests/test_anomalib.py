"""Encoders in anomalib. What needs anomalib itself is tested where it is installed, in an environment of its own."""

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.models.feature_extraction import create_feature_extractor

from anomaly_sets import make_image, make_things
from mae_toolkit.apis import load_encoder, load_for_anomalib
from mae_toolkit.apis.anomaly_branches import load_reader
from mae_toolkit.apis.embedding import resize_to
from mae_toolkit.errors import UserError
from mae_toolkit.evaluation.anomaly.methods.patchcore import PatchCore
from mae_toolkit.export.anomalib import AnomalibBackbone, make_anomalib_transform
from mae_toolkit.export.preparation import IMAGENET, Preparation
from parts import images
from test_export_folder import ENCODERS
from test_load_encoder import write_run

SEVERAL = ('ViT', 'ConvNeXt', 'Swin', 'Hiera', 'ResNet', 'Eva, DINOv3')


@pytest.fixture(scope='module')
def things(tmp_path_factory):
    """A category ``bottle`` and an encoder ``encoder``, of 64 x 48 pixels and with statistics of its own."""
    return make_things(tmp_path_factory.mktemp('things'))


def import_models():
    """The models of anomalib."""
    return pytest.importorskip('anomalib.models', reason='anomalib, which needs an environment of its own')


def load_whole(source):
    """An encoder, and its transform without a crop, as detectors of anomalies use it."""
    encoder, transform = load_encoder(source)
    return encoder, resize_to(transform, None, whole=True)


def raw(array):
    """An image as anomalib reads it: (1, 3, H, W), from 0 to 1."""
    return torch.from_numpy(array.transpose(2, 0, 1))[None] / 255


@pytest.mark.parametrize('name', SEVERAL)
def test_the_layers_are_the_levels_of_the_encoder(tmp_path, name):
    write_run(tmp_path / 'run', ENCODERS[name])
    encoder, transform = load_whole(tmp_path / 'run')
    assert transform.preparation.mean != IMAGENET.mean and transform.preparation.size == (64, 48)
    array = make_image(0)
    backbone = AnomalibBackbone(encoder, transform.preparation)
    # As anomalib's TimmFeatureExtractor does with a module.
    cut = create_feature_extractor(backbone, {layer: layer for layer in backbone.names}).train().eval()
    prepared = make_anomalib_transform((64, 48), transform.preparation.interpolation)(raw(array))
    found = cut(prepared)
    expected = encoder(transform(array)[None])
    assert list(found) == [f'level{number}' for number in range(1, len(expected) + 1)]
    for layer, one in zip(found.values(), expected, strict=True):
        torch.testing.assert_close(layer, one, rtol=1e-3, atol=1e-4)
    assert len(cut(images(size=(96, 64)))) == len(expected)  # of any size, as anomalib tries 256 x 256
    assert not any(weight.requires_grad for weight in backbone.parameters())


def test_images_are_resized_as_ours(things):
    _, transform = load_whole(things / 'encoder')
    whole = transform.preparation
    array = make_image(0, (150, 130))
    expected = transform(array)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (whole.mean, whole.std))
    prepared = make_anomalib_transform(whole.size, whole.interpolation)(raw(array))[0]
    ours = (
        prepared * torch.tensor(IMAGENET.std).view(3, 1, 1) + torch.tensor(IMAGENET.mean).view(3, 1, 1) - mean
    ) / std
    assert float((ours - expected).abs().max()) < 1.5 / min(whole.std)  # Pillow rounds to whole numbers twice
    other = make_anomalib_transform(whole.size, 'bilinear')(raw(array))[0]
    assert float((other - prepared).abs().max()) > 0.05


@pytest.mark.parametrize(
    ('channels', 'dtype', 'said'),
    [
        (5, 'uint8', 'trained on 5 of uint8'),
        (3, 'uint16', 'trained on 3 of uint16'),
        (3, None, 'trained on 3 of an unknown type'),
    ],
)
def test_what_anomalib_cannot_read_is_refused(things, channels, dtype, said):
    encoder, _ = load_encoder(things / 'encoder')
    numbers = (1.0,) * channels if dtype is None else (100.0,) * channels
    with pytest.raises(UserError, match=f'anomalib reads images of 3 channels of uint8, and the encoder was {said}'):
        AnomalibBackbone(encoder, Preparation(numbers, numbers, (64, 48), None, dtype=dtype))


def test_a_missing_anomalib_is_one_sentence(things, monkeypatch):
    monkeypatch.setattr('mae_toolkit.export.anomalib.find_spec', lambda name: None)
    with pytest.raises(UserError, match='anomalib is not installed: pip install anomalib'):
        load_for_anomalib(things / 'encoder')


def test_patchcore_of_anomalib_sees_our_features(things):
    models = import_models()
    arguments = load_for_anomalib(things / 'encoder')
    model = models.Patchcore(**arguments).model
    reader, transform = load_reader(things / 'encoder', local=3)
    transform = resize_to(transform, None, whole=True)
    assert arguments['layers'] == [f'level{number}' for number in reader.levels]
    array = make_image(0)
    found = model.train()(arguments['pre_processor'].transform(raw(array)))  # one row for each position
    expected = reader(transform(array)[None]).flatten(2)[0].T
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)
    assert models.Padim(**arguments, n_features=5).model.n_features_original == expected.shape[1]
    assert load_for_anomalib(things / 'encoder', levels=[4, 1], size=32)['layers'] == ['level1', 'level4']
    with pytest.raises(UserError, match='There is no level 9'):
        load_for_anomalib(things / 'encoder', levels=[9])


@pytest.mark.slow
def test_patchcore_of_anomalib_fits_predicts_and_is_kept(things, tmp_path):
    Patchcore = import_models().Patchcore
    from anomalib.data import Folder
    from anomalib.engine import Engine

    data = Folder(
        name='bottle',
        root=things / 'bottle',
        normal_dir='train/good',
        abnormal_dir='test/cut',
        normal_test_dir='test/good',
        mask_dir='ground_truth/cut',
        num_workers=0,
    )
    model = Patchcore(**load_for_anomalib(things / 'encoder'), coreset_sampling_ratio=0.5)
    engine = Engine(default_root_dir=tmp_path, accelerator='cpu', devices=1, logger=False)
    engine.fit(model, datamodule=data)
    assert engine.test(model, datamodule=data)[0]['image_AUROC'] == 1
    predicted = engine.predict(model, datamodule=data)
    assert [len(batch.pred_score) for batch in predicted] == [4]  # it validates on the other half

    # Its scores are ours of the same memory.
    reader, transform = load_reader(things / 'encoder', local=3)
    array = np.array(Image.open(things / 'bottle' / 'test' / 'cut' / '001.png'))
    theirs = model.eval().model(model.pre_processor.transform(raw(array))).pred_score
    ours = PatchCore(reweight=True)
    ours.restore({'bank': model.model.memory_bank})
    maps = reader(resize_to(transform, None, whole=True)(array)[None])
    scores = ours.score(maps)
    torch.testing.assert_close(scores.flatten(1).amax(1) * ours.weigh(maps, scores), theirs, rtol=1e-3, atol=1e-3)

    kept = next(tmp_path.rglob('*.ckpt'))
    loaded = Patchcore.load_from_checkpoint(kept, **load_for_anomalib(things / 'encoder'), weights_only=False)
    again = loaded.eval().model(loaded.pre_processor.transform(raw(array))).pred_score
    torch.testing.assert_close(again, theirs)
