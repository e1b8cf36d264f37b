"""Reconstructor, FeatureExtractor and AnomalyDetector: images of any kind in; arrays, pictures and files out."""

import json
import re
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from anomaly_sets import write_autoencoder, write_normal
from mae_toolkit.apis import (
    FeatureExtractor,
    Reconstructor,
    fit_anomaly_detector,
    load_config,
    load_encoder,
    load_feature_extractor,
    load_reconstructor,
    model_from_checkpoint,
)
from mae_toolkit.apis.feature_pictures import color_components
from mae_toolkit.datasets import read_image
from mae_toolkit.errors import UserError
from mae_toolkit.evaluation.embeddings import read_embeddings
from mae_toolkit.models import RandomMasking
from mae_toolkit.visualization import make_picture_grid, reconstruct
from mae_toolkit.visualization.reconstruction import draw_reconstruction
from test_docs_commands import blocks_of
from tiny import ROOT

PAGE = ROOT / 'docs' / 'notebook.md'
BCCD = sorted((ROOT / 'mae_toolkit' / 'data' / 'tiny' / 'bccd' / 'images').glob('*.jpg'))


@pytest.fixture(scope='module')
def run(tmp_path_factory):
    """The run of a small masked autoencoder, which predicts patches normalized by their own statistics."""
    return write_autoencoder(tmp_path_factory.mktemp('runs') / 'photos')


@pytest.fixture
def photos(tmp_path):
    """Three photos of one size, and one of another."""
    folder = tmp_path / 'photos'
    folder.mkdir()
    for number, path in enumerate(BCCD[:4], 1):
        picture = Image.open(path).crop((0, 0, 64, 48))
        (picture.rotate(90, expand=True) if number == 3 else picture).save(folder / f'{number}.png')
    return folder


def by_hand(run, path, seed, **options):
    """What tools/reconstruct.py did with one file: the mask is drawn within the model."""
    model = model_from_checkpoint(load_config(run / 'config.py'), run / 'best_loss.pth', masked=True)
    imgs = torch.from_numpy(read_image(path).transpose(2, 0, 1).copy())[None]
    torch.manual_seed(seed)
    result = reconstruct(model, model.data_preprocessor({'imgs': imgs})['imgs'], **options)
    return result, model.data_preprocessor


@pytest.mark.slow
def test_the_examples_of_the_page_run(run, photos, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(run, 'runs/photos')
    for path in photos.glob('*.png'):
        Image.open(path).resize((96, 72)).save(path.with_suffix('.jpg'))
        path.unlink()
    write_normal(tmp_path / 'parts' / 'normal')
    write_normal(tmp_path / 'parts' / 'new', count=3)
    shutil.move('parts/new/001.png', 'parts/new/1.png')
    namespace = {}
    for block in blocks_of(PAGE):
        exec(compile(block.text, block.place, 'exec'), namespace)
        if 'picture' in namespace:
            assert isinstance(namespace.pop('picture'), Image.Image)
    assert len(list((tmp_path / 'pictures').glob('*.png'))) == 4
    assert len(read_embeddings('features.npz')) == 4 and namespace['vectors'].shape[0] == 4
    assert len(list((tmp_path / 'defects').glob('*_map.png'))) == 3
    assert set(re.findall(r'`(\w+)\(', PAGE.read_text())) >= {'load_reconstructor', 'load_feature_extractor'}


def test_a_reconstruction_is_that_of_the_model_alone(run, photos):
    """In batches, too: the mask of an image follows from the seed and its place."""
    for batch_size in (1, 3):
        found = load_reconstructor(run, seed=5, batch_size=batch_size, device='cpu')(photos)
        assert [one.name for one in found] == ['1.png', '2.png', '3.png', '4.png']
        for number, one in enumerate(found):
            expected, units = by_hand(run, photos / one.name, 5 + number)
            image = read_image(photos / one.name)
            assert one.size == image.shape[:2] and np.abs(one.image - image).max() < 1e-3
            assert np.array_equal(one.hidden, expected.hidden[0, 0].numpy()) and 0 < one.hidden.mean() < 1
            prediction = units.denormalize(expected.predicted)[0].permute(1, 2, 0).numpy()
            np.testing.assert_allclose(one.prediction, prediction, atol=1e-2)
            hidden = one.hidden[..., None]
            np.testing.assert_allclose(one.paste, np.where(hidden, prediction, image), atol=1e-2)
            mean, std = units.mean[:, 0, 0].numpy(), units.std[:, 0, 0].numpy()
            np.testing.assert_allclose(one.masked, np.where(hidden, mean, image), atol=1e-2)
            error = np.where(one.hidden, (np.abs(prediction - image) / std).mean(2), 0)
            np.testing.assert_allclose(one.error, error, atol=1e-3)


def test_pictures_are_those_of_the_tool(run, photos, tmp_path):
    reconstructor = load_reconstructor(run, seed=5, device='cpu')
    record = reconstructor.write(photos, tmp_path / 'out', side=96)
    assert record == json.loads((tmp_path / 'out' / 'reconstructions.json').read_text()) and len(record['images']) == 4
    for number, entry in enumerate(record['images']):
        columns = draw_reconstruction(*by_hand(run, entry['image'], 5 + number)[:1], 0, reconstructor._units)
        expected = np.asarray(make_picture_grid([list(columns.values())], list(columns), 96), int)
        picture = np.asarray(Image.open(tmp_path / 'out' / entry['picture']), int)
        assert picture.shape == expected.shape and np.abs(picture - expected).max() <= 2  # batches round otherwise
    assert reconstructor.write(photos, tmp_path / 'out', side=96) == record  # its own files may be replaced
    (tmp_path / 'out' / '000_1.png').write_text('of a user')
    with pytest.raises(UserError, match='1 file that this tool did not write'):
        reconstructor.write(photos, tmp_path / 'out')


def test_a_folder_files_arrays_and_pictures_are_the_same(run, photos):
    paths = sorted(photos.glob('*.png'))
    reconstructor, extractor = load_reconstructor(run, device='cpu'), load_feature_extractor(run, device='cpu')
    whole, vectors = reconstructor(photos), extractor(photos)
    pictures = [Image.open(path) for path in paths]
    for images in (paths, str(photos / '*.png'), pictures, [np.array(one) for one in pictures]):
        for one, other in zip(whole, reconstructor(images), strict=True):
            assert np.array_equal(one.paste, other.paste) and one.index == other.index
        found = extractor(images)
        np.testing.assert_allclose(found.choose(), vectors.choose(), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(reconstructor(pictures[0])[0].paste, whole[0].paste, atol=1e-2)
    assert [one.index for one in reconstructor.iterate(path for path in paths)] == [0, 1, 2, 3]
    drawn = reconstructor.draw(paths[:2])
    assert np.array_equal(np.asarray(drawn), np.asarray(reconstructor.draw(whole[:2])))
    assert drawn.size[0] == np.asarray(reconstructor.draw(whole[0])).shape[1] and drawn.size[1] > 2 * 48


def test_ratio_masking_and_seed(run, photos):
    shares = [load_reconstructor(run, ratio=r, device='cpu')(photos / '1.png')[0].hidden.mean() for r in (0.25, 0.5)]
    assert shares == pytest.approx([0.25, 0.5], abs=0.02)  # of 6 x 8 cells
    masks = {}
    for name, options in {
        'plain': {},
        'same': {'seed': 0},
        'seed': {'seed': 1},
        'name': {'masking': 'UniformMasking'},
        'config': {'masking': {'type': 'UniformMasking', 'ratio': 0.5}},
        'built': {'masking': RandomMasking(ratio=0.9, unit=8), 'ratio': 0.5},
    }.items():
        masks[name] = load_reconstructor(run, device='cpu', **options)(photos / '1.png')[0].hidden
    assert np.array_equal(masks['plain'], masks['same']) and not np.array_equal(masks['plain'], masks['seed'])
    assert masks['name'].mean() == masks['plain'].mean() == 0.75
    assert masks['config'].mean() == masks['built'].mean() == 0.5
    assert (masks['name'][::8, ::8].reshape(3, 2, 4, 2).sum((1, 3)) == 3).all()  # three of each 2 x 2 cells


def test_the_generator_of_the_user_goes_on_where_it_was(run, photos):
    reconstructor = load_reconstructor(run, device='cpu')
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    reconstructor(photos)
    assert torch.equal(torch.rand(3), expected)


def test_what_cannot_be_read_is_skipped_and_what_does_not_fit_is_refused(run, photos, tmp_path):
    (photos / 'bad.png').write_text('no picture')
    np.save(tmp_path / 'five.npy', np.zeros((48, 64, 5), np.uint8))
    reconstructor, extractor = load_reconstructor(run, device='cpu'), load_feature_extractor(run, device='cpu')
    detector = fit_anomaly_detector(run, write_normal(tmp_path / 'normal'), device='cpu')
    for tool in (reconstructor, extractor, detector):
        assert len(tool(photos)) == 4 and list(tool.skipped) == ['bad.png']
        for images, sentence in (
            ([], 'There are no images'),
            (tmp_path / 'five.npy', r'five\.npy has 5 channels'),
            (photos / 'bad.png', 'None of 1 image can be read'),
            (tmp_path / 'nothing', 'There is no image or folder'),
            (
                3,
                'Images are paths, folders, NumPy arrays .H, W, C. or pictures of Pillow, or a list of them, not int',
            ),
            ([{'a': 1}], 'or pictures of Pillow, not dict'),
            (torch.zeros(3, 8, 8), r'not Tensor: convert it with \.permute\(1, 2, 0\)\.numpy'),
            (np.zeros((2, 48, 64, 3), np.uint8), r'not \(2, 48, 64, 3\) of uint8'),
            (np.zeros((48, 64, 3), np.int64), 'of int64'),
        ):
            with pytest.raises(UserError, match=sentence):
                tool(images)
    assert detector.draw(tmp_path / 'normal' / '*10.png').size[1] >= 64  # a pattern of a single one
    with pytest.raises(UserError, match=r'draw\(\) shows one image, not 5 images'):
        detector.draw(photos)
    record = reconstructor.write([tmp_path / 'five.npy', photos], tmp_path / 'out')
    reasons = {one['image']: one['reason'] for one in record['skipped']}
    assert len(record['images']) == 4 and '5 channels' in reasons[str(tmp_path / 'five.npy')] and len(reasons) == 2


@pytest.mark.parametrize(
    'options, sentence',
    [
        ({'ratio': 1.0}, r'ratio=1\.0 must be between 0 and 1'),
        ({'masking': 'BlockMaskin'}, "There is no masking named 'BlockMaskin'; did you mean BlockMasking"),
        ({'masking': {'type': 'RandomMasking', 'unit': 16}}, 'cells of 16 pixels, and .* with cells of 8: leave unit'),
        ({'batch_size': 0}, 'batch_size=0 must be 1 or more'),
    ],
)
def test_arguments_out_of_range_are_refused(run, options, sentence):
    with pytest.raises(UserError, match=sentence):
        load_reconstructor(run, device='cpu', **options)


def test_an_encoder_alone_reconstructs_nothing(run, tmp_path):
    model = load_reconstructor(run, device='cpu').model
    del model.objectives['pixel']
    with pytest.raises(UserError, match='No objective of this model predicts a picture'):
        Reconstructor(model)


def test_large_images_are_alone_in_their_batch(run, photos, monkeypatch):
    """Two pictures of 64 x 48 pixels have more than 5000 together."""
    sizes = []
    reconstructor = load_reconstructor(run, device='cpu')
    reconstructor.model.register_forward_pre_hook(lambda module, args: sizes.append(len(args[0])))
    whole = reconstructor(photos)
    assert sizes == [2, 1, 1]  # the third has another size
    monkeypatch.setattr('mae_toolkit.apis.reconstruct.MOST_PIXELS', 5000)
    for one, other in zip(reconstructor(photos), whole, strict=True):
        np.testing.assert_allclose(one.paste, other.paste, atol=1e-2)
    assert sizes[3:] == [1, 1, 1, 1]


def test_colors_are_main_components():
    """Of a plane of colors in many channels, they are the plane: linear in it, the same in both maps."""
    rng = np.random.default_rng(0)
    latent = rng.normal(size=(2, 3, 6, 5)) * np.array([9.0, 4.0, 1.0])[:, None, None]
    basis = np.linalg.qr(rng.normal(size=(16, 3)))[0]
    maps = [torch.from_numpy(np.einsum('cd,dhw->chw', basis, x) + 7).float() for x in latent]
    colors = np.stack(color_components(maps)).astype(float)
    assert colors.shape == (2, 6, 5, 3) and colors.min() == 0 and colors.max() == 255
    for channel in range(3):
        values, color = latent[:, channel].ravel(), colors[..., channel].ravel()
        assert abs(np.corrcoef(values, color)[0, 1]) > 0.97
    assert np.array_equal(color_components(maps)[0], colors[0])
    (flat,) = color_components([torch.ones(4, 2, 2)])
    assert (flat == 128).all()
    (two,) = color_components([torch.randn(2, 4, 4)])  # an encoder of two channels has no third component
    assert two[..., 2].max() == 0 and two[..., 1].max() == 255


def test_features_are_drawn_beside_their_images(run, photos):
    extractor = FeatureExtractor(*load_encoder(run))
    (maps,) = [batch.features.maps[-1] for batch in extractor.encode(photos)]
    picture = np.asarray(extractor.draw(photos))
    size = extractor.transform.preparation.size
    assert picture.shape[1] == 2 * size[1] + 3 * 6
    block = size[0] // maps.shape[2]
    columns = np.asarray(color_components(list(maps))[0]).repeat(block, 0).repeat(block, 1)
    top = next(y for y in range(len(picture)) if np.array_equal(picture[y : y + size[0], -6 - size[1] : -6], columns))
    shown = picture[top : top + size[0], 6 : 6 + size[1]]
    assert shown.std() > 5 and np.asarray(extractor.draw(photos, side=2 * size[1])).shape[1] == 4 * size[1] + 3 * 6
    with pytest.raises(UserError, match='There is no level 9'):
        extractor.draw(photos, level=9)


def test_vectors_are_written_and_made_once(run, photos, tmp_path):
    extractor = load_feature_extractor(run, device='cpu')
    first = extractor.write(photos, tmp_path / 'features.npz')
    found = read_embeddings(tmp_path / 'features.npz')
    assert found.names == first.names and found.about['source'] == str(run)
    extractor.embed = None  # nothing is encoded again
    assert extractor.write(photos, tmp_path / 'features.npz').names == first.names
