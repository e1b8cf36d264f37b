"""The command ``mae-toolkit pretrain`` and the function behind it, as a user calls them."""

import importlib
import json
import subprocess
import sys
import time

import numpy as np
import pytest
from mmengine.config import Config
from PIL import Image

from mae_toolkit import finetune, pretrain
from mae_toolkit.apis import load_config
from mae_toolkit.apis.finetuning_tasks import TASKS
from mae_toolkit.apis.run_checks import check_resumed_minutes
from mae_toolkit.commands import demo as demo_command
from mae_toolkit.commands import export as export_command
from mae_toolkit.commands import finetune as finetune_command
from mae_toolkit.commands import main
from mae_toolkit.demo.uploads import MOST_BYTES, MOST_PIXELS
from mae_toolkit.errors import UserError
from mae_toolkit.export.export import FORMATS
from mae_toolkit.export.graphs import DYNAMIC
from test_configs import ROOT
from tiny import run
from warm import run_python

ARGUMENTS = ('--encoder', 'vit_tiny_patch16_224', '--size', '64')
SMALL = ('--cfg-options', 'model.encoder.depth=1', 'model.decoder.depth=1', 'env_cfg.num_threads=1', 'workers=0')


@pytest.fixture(scope='module')
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp('photos')
    for seed in range(16):
        small = Image.fromarray(np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8))
        small.resize((96, 72), Image.Resampling.BICUBIC).save(folder / f'{seed:02}.jpg')
    return folder


def call(*arguments, status=0):
    done = run_python('-m', 'mae_toolkit', 'pretrain', *map(str, arguments))
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.mark.process
@pytest.mark.slow
def test_a_folder_becomes_a_run_whose_config_is_the_users_own(photos, tmp_path):
    out = tmp_path / 'run'
    text = call(photos, *ARGUMENTS, '--epochs', 4, '--out', out, *SMALL)
    for part in ('16 (', '96 x 72', 'vit_tiny_patch16_224', '--epochs', 'held-out image', 'of their mean color'):
        assert part in text
    written = (out / 'config.py').read_text()
    assert written.count('  # ') > 20 and f"data_root = '{photos}'" in written
    assert json.loads((out / 'fingerprint.json').read_text())['images'] == 16
    verdict = json.loads((out / 'verdict.json').read_text())
    assert verdict['images'] == 1 and all(sentence in text for sentence in verdict['sentences'])
    cfg = load_config(out / 'config.py')
    assert cfg.model.encoder.depth == 1 and cfg.train_dataloader.dataset.pipeline[0].size == 64

    assert 'go on with --resume' in call(photos, *ARGUMENTS, '--out', out, status=2)
    (out / 'verdict.json').unlink()
    call(photos, '--out', out, '--resume', '--cfg-options', 'epochs=8')
    assert (out / 'epoch_2.pth').exists() and (out / 'verdict.json').exists()
    assert (out / 'config.py').read_text() == written

    again = tmp_path / 'again'
    run('train', out / 'config.py', '--work-dir', again, '--cfg-options', 'size=32', 'epochs=1', plain=True)
    assert (again / 'epoch_1.pth').exists()


@pytest.mark.parametrize(
    ('given', 'said'),
    [
        (dict(folder='nowhere'), 'There is no folder'),
        (dict(folder='texts'), r'has no images of a format that is read: it holds 3 files \(2 .txt, 1 .mp4\)'),
        (dict(folder='empty'), 'has no images: it is empty'),
        (dict(folder='three'), '3 images, which are too few'),
        (dict(folder='broken'), '10 of 10 images in .* cannot be read, such as 0.jpg'),
        (dict(encoder='convnextv2_tini'), 'did you mean convnextv2_tiny'),
        (dict(encoder=None), 'No encoder is named'),
        (dict(weights='https://host/w.pth'), 'nothing is downloaded'),
        (dict(weights='a_config.py'), 'is a config, not weights'),
        (dict(size=100), 'multiple of 16, such as 96 or 112'),
        (dict(resume=True), 'holds no config.py'),
        (dict(labels='labels'), r'1 of the 5 images of labels cannot be read \(bad.jpg'),
    ],
)
def test_mistakes_are_one_sentence_and_leave_nothing(photos, tmp_path, monkeypatch, given, said):
    monkeypatch.chdir(tmp_path)
    for folder in ('empty', 'texts', 'three', 'broken'):
        (tmp_path / folder).mkdir()
    for i, path in enumerate(sorted(photos.iterdir())[:4]):
        (tmp_path / 'labels' / str(i % 2)).mkdir(parents=True, exist_ok=True)
        (tmp_path / 'labels' / str(i % 2) / path.name).write_bytes(path.read_bytes())
    (tmp_path / 'labels' / '1' / 'bad.jpg').write_bytes(b'no image')
    for name in ('a.txt', 'b.txt', 'c.mp4'):
        (tmp_path / 'texts' / name).write_text('text')
    for path in sorted(photos.iterdir())[:3]:
        (tmp_path / 'three' / path.name).write_bytes(path.read_bytes())
    for number in range(10):
        (tmp_path / 'broken' / f'{number}.jpg').write_bytes(b'no image')
    (tmp_path / 'a_config.py').write_text('model = dict()\n')
    with pytest.raises(UserError, match=said):
        pretrain(**dict(folder=photos, encoder='vit_tiny_patch16_224', out='run') | given)
    assert not (tmp_path / 'run' / 'config.py').exists()


def test_minutes_of_a_resumed_run_are_those_it_began_with(tmp_path):
    config = tmp_path / 'config.py'
    for had, given in ((2.0, 2), (2.0, None), (None, None), (1e-5, 0.00001)):
        check_resumed_minutes(Config({'minutes': had}), config, given)
    with pytest.raises(UserError, match=r'began with --minutes 2, and goes on .* leave --minutes 60 out'):
        check_resumed_minutes(Config({'minutes': 2.0}), config, 60)
    template = ROOT / 'configs' / 'pretrain' / 'custom' / 'vit.py'
    config.write_text(f"_base_ = '{template}'\nepochs = 80  # --minutes 2: a comment, which users may change\n")
    with pytest.raises(UserError, match='began without --minutes'):
        pretrain('photos', out=tmp_path, minutes=2, resume=True)


@pytest.mark.process
def test_help_loads_no_heavy_library():
    """``--help`` must answer at once, and torch takes seconds to load."""
    code = (
        'import sys\nfrom mae_toolkit.commands import build_parser\nbuild_parser()\n'
        "print(*{'torch', 'timm', 'mmengine', 'cv2', 'matplotlib', 'transformers'} & sys.modules.keys(), 'loaded')"
    )
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ['loaded']


def test_the_choices_of_the_commands_are_those_of_the_library():
    """They are written in the commands, which must not load the library for --help."""
    assert tuple(TASKS) == finetune_command.TASKS
    assert (demo_command.MOST_PIXELS, demo_command.MOST_BYTES) == (MOST_PIXELS, MOST_BYTES)
    assert export_command.FORMATS == FORMATS and tuple(DYNAMIC) == export_command.DYNAMIC


def test_a_command_says_at_once_what_it_does(tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(['pretrain', str(tmp_path / 'nowhere'), '--encoder', 'vit_tiny_patch16_224', '--out', str(tmp_path / 'o')])
    said = capsys.readouterr().err.splitlines()
    assert said[0].startswith('mae-toolkit pretrain: loading') and 'There is no folder' in said[-1]


@pytest.mark.parametrize(
    ('module', 'command'),
    [('pretraining', 'pretrain photos --out run'), ('finetuning', 'finetune classify photos --out run')],
)
def test_minutes_count_before_the_libraries_are_loaded(monkeypatch, module, command):
    """Loading them can take a minute on a busy machine."""
    name, called = command.split()[0], []
    module = importlib.import_module(f'mae_toolkit.apis.{module}')
    monkeypatch.setattr(module, name, lambda *args, **given: called.append(time.perf_counter() - given['began']))
    monkeypatch.setattr('mae_toolkit.commands.run_tool', lambda run, resume: (time.sleep(0.2), run()))
    main([*command.split(), '--minutes', '1'])
    assert called[0] > 0.2


def test_minutes_are_no_option_of_the_config(photos, tmp_path):
    given = dict(out=tmp_path / 'run', cfg_options={'minutes': 5})
    with pytest.raises(UserError, match='minutes=5 would change no length: give --minutes'):
        pretrain(photos, 'vit_tiny_patch16_224', **given)
    with pytest.raises(UserError, match='minutes=5 would change no length: give --minutes'):
        finetune('classify', photos, **given)
