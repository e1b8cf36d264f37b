"""tools/explain.py bias: its sets, labels and files, and the planted bias of its page."""

import json
import subprocess

import numpy as np
import pytest
from PIL import Image

from anomaly_sets import make_image, write_autoencoder
from mae_toolkit.apis import explain_bias, load_reconstructor
from mae_toolkit.apis.encoders import load_autoencoder
from mae_toolkit.apis.explain.bias_sets import choose_set
from mae_toolkit.errors import UserError
from parts import images, make_model
from test_docs_commands import blocks_of, load_tool
from tiny import ROOT, refuse

PAGE = ROOT / 'docs' / 'explain.md'
HOG = {'target': {'type': 'HOGTarget', 'cell': 4}, 'losses': [{'type': 'MaskedL2Loss'}]}
NOTED = 'python() { printf "%s\\n" "$@" > words; }\n'  # of the last program that the block calls


@pytest.fixture(scope='module')
def run(tmp_path_factory):
    """The run of a small masked autoencoder."""
    return write_autoencoder(tmp_path_factory.mktemp('runs') / 'photos')


@pytest.fixture(scope='module')
def photos(tmp_path_factory):
    """A folder of class folders with five images each."""
    folder = tmp_path_factory.mktemp('photos')
    for number in range(10):
        path = folder / ('a', 'b')[number % 2] / f'{number}.png'
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(make_image(number)).save(path)
    return folder


@pytest.mark.process
def test_the_planted_bias_of_the_page(tmp_path, monkeypatch):
    """The block of the page, as bash takes it apart, with an untrained model in place of the trained one."""
    block = next(block for block in blocks_of(PAGE) if 'test_the_planted_bias_of_the_page' in block.how)
    (tmp_path / 'mae_toolkit').symlink_to(ROOT / 'mae_toolkit')
    (tmp_path / 'work_dirs').mkdir()
    write_autoencoder(tmp_path / 'work_dirs' / 'blood')
    subprocess.run(['bash', '-euc', NOTED + block.text], cwd=tmp_path, check=True)
    words = (tmp_path / 'words').read_text().split('\n')[:-1]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr('sys.argv', words)
    load_tool(words[0])['main']()
    numbers = json.loads((tmp_path / 'bias.json').read_text())['numbers']
    assert numbers['number_of_images'] == {'user': 24, 'reference': 64, 'training': 64}
    found = {one['bin']: one for one in numbers['bins'] if one['family'] == 'class'}
    assert found['dsb2018']['images'] == 8 and found['dsb2018']['training_share'] == 0
    assert found['dsb2018']['compared_with'] == 'all cells of the reference'
    assert found['bccd']['training_share'] == 1 and len(numbers['images']) == 24


@pytest.mark.slow
def test_a_run_a_model_and_a_reconstructor_say_the_same(run, photos):
    reconstructor = load_reconstructor(run, device='cpu')
    whole = explain_bias(run, photos, photos, masks=2, device='cpu')
    own = load_autoencoder(run)[1]
    same = explain_bias(reconstructor, photos, photos, masks=2, transform=own)
    assert same.numbers == whole.numbers
    loaded = explain_bias(reconstructor, photos, photos, masks=2, size=32)
    again = explain_bias(reconstructor.model, photos, photos, masks=2, size=32)
    assert loaded.numbers == again.numbers
    assert whole.numbers['unknown'] == [] and whole.numbers['findings'][0].startswith('No bias found: none of ')
    assert json.loads(json.dumps(whole.numbers, allow_nan=False)) == whole.numbers
    assert whole.numbers['overall']['value'] == pytest.approx(1)  # the same images
    assert {one['bin'] for one in whole.numbers['bins'] if one['family'] == 'class'} == {'a', 'b'}
    assert min(whole.picture.size) > 800 and len(np.unique(np.asarray(whole.picture))) > 100
    errors = [one['relative_error'] for one in whole.numbers['images']]
    assert errors == sorted(errors, reverse=True)


def test_held_out_images_are_what_errors_are_compared_with(run, photos):
    held_out = [make_image(100 + number) for number in range(9)]
    found = explain_bias(run, photos, photos, held_out=held_out, masks=1, device='cpu').numbers
    assert found['number_of_images'] == {'user': 10, 'reference': 9, 'training': 10}
    shares = {one['bin']: (one['share'], one['training_share']) for one in found['bins'] if one['family'] == 'class'}
    assert shares['a'] == (0.5, 0.5)


@pytest.mark.slow
def test_models_without_a_picture_and_with_other_channels(photos):
    about = {'type': 'mae_toolkit.ImagePreprocessor', 'mean': [127.5] * 3, 'std': [60.0] * 3}
    model = make_model(objectives={'hog': HOG}, data_preprocessor=about).eval()
    found = explain_bias(model, photos, photos, masks=1)
    assert found.numbers['error_of'].startswith('HOGTarget')
    assert 'spatial frequency' not in {one['family'] for one in found.numbers['bins']}
    five = {'type': 'mae_toolkit.ImagePreprocessor', 'mean': [500.0] * 5, 'std': [100.0] * 5}
    encoder = {'type': 'ViT', 'patch_size': 8, 'embed_dim': 24, 'depth': 1, 'num_heads': 3, 'in_chans': 5}
    model = make_model(encoder=encoder | {'img_size': (32, 48)}, data_preprocessor=five).eval()
    words = [(500 + 100 * img.permute(1, 2, 0).numpy()).clip(0, 65535).astype(np.uint16) for img in images(8, 5)]
    found = explain_bias(model, words, words, masks=1)
    assert {'channel', 'intensity'} <= {one['family'] for one in found.numbers['bins']}


@pytest.mark.slow
def test_what_cannot_be_read_is_named_and_left_out(run, photos, tmp_path):
    for path in photos.glob('*/*.png'):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / 'broken.png').write_bytes(b'no image')
    found = explain_bias(run, tmp_path, photos, masks=1, device='cpu')
    assert list(found.skipped) == ['broken.png'] and found.numbers['number_of_images']['user'] == 10
    assert all(one['family'] != 'class' for one in found.numbers['bins'])  # loose images have no classes


def test_mistakes_are_refused_before_any_work(run, photos, tmp_path):
    few = [str(path) for path in sorted(photos.glob('a/*.png'))]
    tool = 'explain', 'bias', run
    text = refuse(*tool, *few, '--reference', photos, '--out', tmp_path / 'a.png', plain=True)
    assert 'Your images: 5 images' in text and '8 or more' in text
    text = refuse(*tool, photos, '--reference', *few, '--out', tmp_path / 'a.png', plain=True)
    assert 'The reference: 5 images' in text
    (tmp_path / 'labels.csv').write_text('file,label\n' + ''.join(f'{path},x\n' for path in few))
    label = '--labels', tmp_path / 'labels.csv'
    text = refuse(*tool, photos, '--reference', photos, *label, '--out', tmp_path / 'a.png', plain=True)
    assert 'names no class of 5 of 10 images' in text
    text = refuse(*tool, photos, '--reference', photos, '--size', 8, '--out', tmp_path / 'a.png', plain=True)
    assert '8 x 8 pixels' in text and '16 or more' in text
    with pytest.raises(UserError, match='masks=0'):
        explain_bias(run, photos, photos, masks=0)


def test_images_and_classes_are_chosen_together(photos):
    found = choose_set(photos, None, 8, 'images')
    assert len(found.items) == 8 and found.classes == [path.parent.name for path in found.items]
