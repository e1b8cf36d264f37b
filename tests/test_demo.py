"""What the page of mae-toolkit demo computes, reads and refuses, without a browser."""

import copy
import socket
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from demo_models import make_checkpoint, make_photos, write_files
from mae_toolkit.apis import fit_anomaly_detector
from mae_toolkit.commands import build_parser
from mae_toolkit.datasets import ImageLimits
from mae_toolkit.demo import Sources, load_models, uploads, views
from mae_toolkit.demo.figures import Figure, write_figures, write_problem
from mae_toolkit.demo.masks import AS_TRAINED, draw_mask, list_strategies, list_units, snap_to_cells
from mae_toolkit.demo.server import serve, serve_until_interrupted
from mae_toolkit.errors import UserError
from tiny import new_engine_state

UNIT = 8


@pytest.fixture(scope='module')
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp('demo')
    (folder / 'photos').mkdir()
    images = make_photos(folder / 'photos')
    with new_engine_state():
        sources = Sources(make_checkpoint(folder / 'whole.pth'), images=images, features=str(folder / 'f.npz'))
        return load_models(replace(sources, device='cpu'))


@pytest.fixture(scope='module')
def files(tmp_path_factory):
    return write_files(tmp_path_factory.mktemp('files'))


@pytest.fixture
def image(models, files):
    return models.reader.open(files / 'color.png')


def test_a_seed_decides_a_mask_whatever_was_drawn_before(models):
    imgs = torch.randn(1, 3, 40, 60, generator=torch.Generator().manual_seed(0))
    model, before = models.autoencoder, torch.get_rng_state()
    first = draw_mask(model, imgs, AS_TRAINED, 0.5, seed=3)
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(7)
    assert torch.equal(draw_mask(model, imgs, AS_TRAINED, 0.5, seed=3), first)
    assert not torch.equal(draw_mask(model, imgs, AS_TRAINED, 0.5, seed=4), first)
    assert first.shape == (1, 1, 5, 8) and first.sum() == 20  # 40 x 60 padded to 40 x 64; half of 40 cells
    assert model.masking.ratio == 0.75  # that of the training


def test_every_masking_that_works_alone_draws_a_mask(models):
    strategies = list_strategies(models.autoencoder)
    assert {'block', 'random (as in the training)', 'color noise'} <= strategies.keys()
    assert 'AttentionMasking' not in strategies.values() and 'RandomMasking' in strategies.values()
    imgs = torch.randn(1, 3, 96, 96)
    for name in strategies.values():
        for unit in list_units(models.autoencoder):
            if (name, unit) in (('BlockMasking', 32), ('InverseBlockMasking', 32)):
                continue  # 9 cells are fewer than their smallest block
            mask = draw_mask(models.autoencoder, imgs, name, 0.5, unit)
            factor = unit // UNIT
            blocks = mask.unfold(2, factor, factor).unfold(3, factor, factor).flatten(4)
            assert 0.3 < mask.float().mean() < 0.7 and (blocks.all(-1) == blocks.any(-1)).all(), (name, unit)


@pytest.mark.parametrize(
    ('ratio', 'unit', 'words'),
    [(1.0, 8, ['ratio=1.0', '0 and 1']), (0.5, 12, ['12', '8']), (0.5, 64, ['1 cells'])],
)
def test_what_cannot_be_drawn_is_refused(models, ratio, unit, words):
    with pytest.raises(UserError) as refused:
        draw_mask(models.autoencoder, torch.zeros(1, 3, 40, 60), AS_TRAINED, ratio, unit)
    assert all(word in str(refused.value) for word in words)


def test_painted_pixels_hide_the_cells_that_they_touch():
    painted = np.zeros((80, 120), bool)  # on a picture twice as large as the image
    painted[15, 17] = painted[16, 16] = painted[40, 15] = painted[79, 119] = True
    mask = snap_to_cells(painted, (40, 60), UNIT)
    expected = torch.zeros(1, 1, 5, 8, dtype=torch.bool)
    expected[0, 0, 0, 1] = expected[0, 0, 1, 1] = expected[0, 0, 2, 0] = expected[0, 0, 4, 7] = True
    assert torch.equal(mask, expected)
    with pytest.raises(UserError, match='Nothing is hidden'):
        snap_to_cells(np.zeros((80, 120), bool), (40, 60), UNIT)
    with pytest.raises(UserError, match='All 40 cells'):
        snap_to_cells(np.ones((80, 120), bool), (40, 60), UNIT)


def test_pixels_that_are_larger_than_cells_hide_all_that_they_touch():
    """An image of 8 x 3,000 pixels is painted on a picture of 2 x 640."""
    painted = np.zeros((2, 640), bool)
    painted[:, 10:20] = True
    mask = snap_to_cells(painted, (32, 12_000), UNIT)
    assert mask.shape == (1, 1, 4, 1500)
    middles = (np.arange(1500) + 0.5) * UNIT * 640 / 12_000
    assert (mask[0, 0].numpy() == ((middles >= 10) & (middles < 20))).all()
    with pytest.raises(UserError, match='All 6000 cells'):
        snap_to_cells(np.ones((2, 640), bool), (32, 12_000), UNIT)


def test_what_is_not_finite_is_told_and_not_shown(models, image):
    broken = replace(models, extractor=copy.deepcopy(models.extractor), autoencoder=copy.deepcopy(models.autoencoder))
    with torch.no_grad():
        for module in (broken.extractor.encoder, broken.autoencoder):
            for parameter in module.parameters():
                parameter.fill_(float('nan'))
    for show in (
        lambda: views.show_features(broken, image, 1),
        lambda: views.show_nearest(broken, image),
        lambda: views.show_anomalies(broken, image),
        lambda: views.show_drawn(broken, image, AS_TRAINED, 0.5, UNIT, 0),
    ):
        with pytest.raises(UserError, match='not finite'):
            show()


def test_a_size_that_is_asked_for_is_not_too_large_for_every_image(models, files):
    transform, limits = models.reader.transform, ImageLimits(1 << 22, 1 << 22)
    reader = uploads.ImageReader(transform, limits, 1100)  # a square has more than 2**20 pixels
    assert reader.open(files / 'color.png').seen.shape == (1100, 1650, 3)
    with pytest.raises(UserError, match='less thin'):
        reader.open(files / 'thin.png')
    with pytest.raises(UserError, match=r'--size 2049: .* 2,049 x 2,049 .* 4,194,304 pixels'):
        uploads.ImageReader(transform, limits, 2049)


@pytest.mark.parametrize('seed', [None, -3, 2**32])
def test_what_is_no_seed_is_refused_in_a_sentence(models, image, seed):
    with pytest.raises(UserError, match='Give a seed: a whole number from 0 to 4,294,967,295'):
        views.show_drawn(models, image, AS_TRAINED, 0.5, UNIT, seed)


@pytest.mark.parametrize('port', [0, -1, 65_536, 70_000])
def test_what_is_no_port_is_refused(models, port):
    with pytest.raises(UserError, match=rf'--port {port} must be from 1 to 65535'), serve(models, port=port):
        pass


@pytest.mark.parametrize('name', ['color.png', 'gray.png', 'rgba.png', 'cmyk.jpg', 'deep.png'])
def test_images_of_many_kinds_are_taken(models, files, name):
    image = models.reader.open(files / name)
    assert image.size == (40, 60) and image.seen.shape == (32, 48, 3) and image.seen.dtype == np.uint8
    assert bool(image.note) == (name == 'deep.png')
    if image.note:
        assert image.seen.min() < 30 and image.seen.max() > 225  # 12 of 16 bits, stretched


@pytest.mark.parametrize(
    ('name', 'words'),
    [
        ('notes.txt', ['cannot be read as an image']),
        ('empty.png', ['empty']),
        ('torn.png', ['cannot be read as an image']),
        ('huge.png', ['20,000 x 20,000', '33,554,432']),
        ('five.tif', ['5 channels', '3']),
        ('floats.npy', ['floats.npy']),
        ('thin.png', ['less thin']),
        ('gone.png', ['give it again']),
    ],
)
def test_what_is_no_image_is_refused_in_a_sentence(models, files, name, words, monkeypatch):
    if name == 'huge.png':  # by its header alone
        monkeypatch.setattr(uploads, 'open_image', lambda *args: pytest.fail('it is decoded'))
    with pytest.raises(UserError) as refused:
        models.reader.open(files / name)
    text = str(refused.value)
    assert text.startswith(name) and text.endswith('.') and '\n' not in text and str(files) not in text
    assert all(word in text for word in words), text


def test_large_files_are_refused_with_both_numbers(models, files):
    reader = uploads.ImageReader(models.reader.transform, ImageLimits(bytes=100))
    size = (files / 'color.png').stat().st_size
    with pytest.raises(UserError, match=rf'color.png is too large.*{size:,} bytes.*max_bytes=100'):
        reader.open(files / 'color.png')


def test_the_error_is_that_of_the_hidden_pixels(models, image):
    model, painted = models.autoencoder, np.zeros((32, 48), bool)
    painted[:, :20] = True  # 3 of 6 columns of cells
    shown = views.show_painted(models, image, painted)
    imgs = model.data_preprocessor({'imgs': torch.from_numpy(image.seen.transpose(2, 0, 1).copy())[None]})['imgs']
    mask = torch.zeros(1, 1, 4, 6, dtype=torch.bool)
    mask[..., :3] = True
    with torch.no_grad():
        predictions, _ = model(imgs, mask=mask, mode='predict')
    (objective,) = model.objectives.values()
    predicted = objective.target.to_image(predictions['pixel'])
    error = (predicted - imgs)[..., :24].abs().double().mean()
    guess = (imgs[..., :24] - imgs[..., 24:].mean((2, 3), keepdim=True)).abs().double().mean()
    assert f'<dd>{error:.3f}</dd>' in shown and f'<dd>{guess:.3f}</dd>' in shown and '12 of 24 (50%)' in shown
    assert shown.count('<img') == 5


def test_the_same_settings_show_the_same_and_change_no_model(models, image):
    before = {name: value.clone() for name, value in models.autoencoder.state_dict().items()}
    drawn = [views.show_drawn(models, image, AS_TRAINED, 0.5, UNIT, seed) for seed in (1, 2, 1)]
    assert drawn[0] == drawn[2] != drawn[1]
    assert not models.autoencoder.training and not any(p.requires_grad for p in models.autoencoder.parameters())
    assert all(torch.equal(value, before[name]) for name, value in models.autoencoder.state_dict().items())


def test_features_nearest_images_and_hard_parts_are_shown(models, files, image):
    assert views.show_features(models, image, 1).count('<img') == 2
    own = models.reader.open(models.collection.paths[2])
    shown = views.show_nearest(models, own)
    assert shown.count('<img') == 1 + 3 * 4 and shown.index('1, cosine 1.0000: 2.png') < shown.index('2, cosine')
    shown = views.show_anomalies(models, image)
    assert shown.count('<img') == 2 and 'hard to reconstruct' in shown


def test_a_detector_of_anomalies_and_a_predictor_see_the_whole_image(models, tmp_path, image):
    source, folder = models.extractor.notes['source'], models.collection.paths[0].parent
    with new_engine_state():
        fit_anomaly_detector(source, folder, device='cpu').save(tmp_path / 'parts.safetensors')
        own = load_models(Sources(source, anomaly=str(tmp_path / 'parts.safetensors'), device='cpu'))
    found = own.anomaly(image.path, show_progress=False)[0]
    shown = views.show_anomalies(own, image)
    assert f'<dd>{found.scores["max"]:.2f}</dd>' in shown and 'threshold' in shown and shown.count('<img') == 2
    brightest = 2 * own.anomaly.detector.thresholds['pixel']
    assert f'<span>{brightest:.2f} or more</span> <span>standard deviations above normal images</span>' in shown

    class Predictor:
        task, model = 'detection', torch.nn.Identity()

        def __call__(self, array):
            return array.shape

        def draw(self, array, result, side):
            assert result == array.shape == (40, 60, 3)
            return Image.fromarray(array).resize((side, side))

    shown = views.show_objects(replace(models, predictor=Predictor()), image)
    assert 'detection by Identity' in shown and shown.count('<img') == 1


def test_vectors_of_the_folder_are_kept(models):
    kept = models.collection.about['features']
    sources = Sources(str(models.extractor.notes['source']), images=str(models.collection.paths[0].parent))
    before = Path(kept).read_bytes()
    with new_engine_state():
        again = load_models(replace(sources, features=kept, device='cpu'))
    assert np.array_equal(again.collection.vectors, models.collection.vectors) and Path(kept).read_bytes() == before


def test_without_a_decoder_the_rest_works(tmp_path, files):
    with new_engine_state():
        models = load_models(Sources(make_checkpoint(tmp_path / 'encoder.pth', decoder=False), device='cpu'))
    assert models.autoencoder is None and 'decoder' in models.no_autoencoder
    assert views.show_features(models, models.reader.open(files / 'color.png'), 1).count('<img') == 2


def test_names_of_files_are_no_code():
    evil = '<img src=x onerror=alert(1)>.png'
    text = write_figures([Figure(np.zeros((2, 2, 3), np.uint8), evil)]) + write_problem(evil)
    assert '<img src=x' not in text and text.count('&lt;img src=x onerror=alert(1)&gt;.png') == 3


def run_command(*arguments):
    parsed = build_parser().parse_args(['demo', *map(str, arguments)])
    with new_engine_state(), pytest.raises(UserError) as refused:
        parsed.run(parsed)
    return str(refused.value)


def test_without_gradio_the_command_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, 'gradio', None)
    assert "pip install 'mae_toolkit[demo]'" in run_command('lost.pth')


def test_mistakes_are_refused_before_the_models_are_loaded(models, tmp_path):
    pytest.importorskip('gradio')
    assert 'lost.pth' in run_command('lost.pth')
    assert '--images' in run_command('lost.pth', '--features', 'f.npz')
    checkpoint = models.extractor.notes['source']
    assert 'lost' in run_command(checkpoint, '--images', tmp_path / 'lost')


def test_another_host_is_warned_of_and_a_taken_port_refused(models, capsys):
    pytest.importorskip('gradio')
    with socket.create_server(('127.0.0.1', 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=f'port {port}.*--port'):
            serve_until_interrupted(models, port=port)
        assert not capsys.readouterr().err
        with pytest.raises(UserError, match=f'port {port}'):
            serve_until_interrupted(models, '0.0.0.0', port)
    assert 'everybody who reaches this machine' in capsys.readouterr().err
    with pytest.raises(UserError, match='no address'):
        serve_until_interrupted(models, 'no address', port)
