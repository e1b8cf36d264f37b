"""tools/explain.py: every command and example of its page, the files that it writes, and what it refuses."""

import json
import re
import shlex
import shutil

import numpy as np
import pytest
from PIL import Image

from anomaly_sets import make_image, write_autoencoder
from mae_toolkit import apis
from mae_toolkit.apis import explain
from mae_toolkit.apis.explain.commands import COMMANDS
from mae_toolkit.apis.explain.explanation import Explanation
from mae_toolkit.apis.explain.sources import choose_images, open_extractor, open_reconstructor
from mae_toolkit.errors import UserError
from test_docs_commands import blocks_of, load_tool
from tiny import ROOT, refuse

PAGE = ROOT / 'docs' / 'explain.md'


@pytest.fixture(scope='module')
def run(tmp_path_factory):
    """The run of a small masked autoencoder."""
    return write_autoencoder(tmp_path_factory.mktemp('runs') / 'photos')


@pytest.fixture
def folder(run, tmp_path, monkeypatch):
    """A working directory with the runs and photos of the page."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(run, 'runs/photos')
    shutil.copy('runs/photos/best_loss.pth', 'runs/photos/epoch_10.pth')  # as trainings name their checkpoints
    (tmp_path / 'photos').mkdir()
    for seed in range(5):
        Image.fromarray(make_image(seed)).save(f'photos/{seed + 1}.jpg')
    for place, name in enumerate(('mine', 'training')):  # as many as intervals over images take
        (tmp_path / name).mkdir()
        for seed in range(8):
            Image.fromarray(make_image(8 * place + seed)).save(f'{name}/{seed}.png')
    return tmp_path


@pytest.mark.slow
def test_the_commands_of_the_page(folder, monkeypatch):
    """Each writes its picture and its numbers; each function is named, and each sub-command shown."""
    namespace, shown = {}, set()
    for block in blocks_of(PAGE):
        if 'test_the_commands_of_the_page' not in block.how:
            continue
        if block.language == 'python':
            exec(compile(block.text, block.place, 'exec'), namespace)
            continue
        for line in block.text.replace('\\\n', ' ').splitlines():
            monkeypatch.setattr('sys.argv', words := shlex.split(line)[1:])
            load_tool(words[0])['main']()
            out = folder / words[words.index('--out') + 1]
            numbers = json.loads(out.with_suffix('.json').read_text())
            assert numbers['numbers'] and numbers['caption'].endswith('.') and min(Image.open(out).size) > 100
            shown.add(words[1])
    own = {name for name, command in COMMANDS.items() if f'`{name}`' in PAGE.read_text()}
    assert shown == own == set(COMMANDS)


def test_every_sub_command_has_a_function_of_its_name():
    for name, command in COMMANDS.items():
        function = command.explain.__name__
        assert function == f'explain_{name.replace("-", "_")}'
        assert getattr(apis, function) is getattr(explain, function) is command.explain
        assert f'`{function}`' in PAGE.read_text()


def test_files_of_others_are_not_replaced(tmp_path):
    explanation = Explanation('title', Image.new('RGB', (8, 8)), 'A caption.', {'a': 1})
    explanation.write(tmp_path / 'a.png')
    explanation.write(tmp_path / 'a.png')  # its own
    (tmp_path / 'b.json').write_text('{}')
    with pytest.raises(UserError, match=r'b\.json.*--force'):
        explanation.write(tmp_path / 'b.png')
    assert not (tmp_path / 'b.png').exists()
    explanation.write(tmp_path / 'b.png', force=True)
    assert json.loads((tmp_path / 'b.json').read_text())['numbers'] == {'a': 1}
    with pytest.raises(UserError, match=r'a\.jpg.*\.png'):
        explanation.write(tmp_path / 'a.jpg')
    assert explanation._repr_png_().startswith(b'\x89PNG')


def test_mistakes_are_refused_before_any_work(folder):
    tool = 'explain', 'receptive-field', folder / 'runs/photos'
    photo = folder / 'photos' / '1.png'
    Image.fromarray(make_image(0)).save(photo)
    assert 'which is read' in refuse(*tool, photo, '--out', photo, '--force', plain=True)
    assert 'nowhere' in refuse(*tool, folder / 'nowhere', '--out', folder / 'a.png', plain=True)
    text = refuse(*tool, photo, '--out', folder / 'a.png', '--level', 3, plain=True)
    assert 'no level 3' in text and '1 level' in text
    text = refuse(*tool, photo, '--out', folder / 'a.png', '--size', 1, 2, 3, plain=True)
    assert 'size 1 2 3' in text
    (folder / 'broken.jpg').write_bytes(b'no image')
    text = refuse(*tool, folder / 'broken.jpg', '--out', folder / 'a.png', plain=True)
    assert 'None of 1 image can be read' in text
    assert not re.findall(r'a\.(png|json)', ' '.join(path.name for path in folder.iterdir()))


def test_images_are_chosen_evenly():
    items, names, note = choose_images([np.full((8, 8), i, np.uint8) for i in range(10)], 4)
    assert note == ' Of 10 images, 4 were used, evenly chosen; most (--max-images) sets how many.'
    assert [item[0, 0] for item in items] == [0, 2, 5, 7] and names == [f'image {i}' for i in (0, 2, 5, 7)]
    assert len(choose_images(items, 9).items) == 4 and choose_images(items, 9).note == ''
    with pytest.raises(UserError, match='most=0'):
        choose_images(items, 0)


def test_what_is_loaded_is_not_loaded_again(run):
    extractor, reconstructor = open_extractor(run, device='cpu'), open_reconstructor(run, device='cpu')
    assert open_extractor(extractor) is extractor and open_reconstructor(reconstructor) is reconstructor
    assert open_reconstructor(reconstructor.model, ratio=0.5).model is reconstructor.model
    assert open_extractor(run, size=[48, 64], device='cpu').transform.preparation.size == (48, 64)
