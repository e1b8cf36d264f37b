"""Settings at the top of a config, which its children and options replace before it is evaluated."""

from pathlib import Path

import pytest

from mae_toolkit.config import load_config
from mae_toolkit.config.checks import list_runner_keys
from mae_toolkit.config.knobs import Knob, list_knobs, read_config, set_knobs
from mae_toolkit.errors import UserError
from tiny import QUICKSTART

KEYS = list_runner_keys()
BASE = """\
size = 224  # pixels
epochs = 10 * 2
root = '{{ fileDirname }}/images'
model = dict(size=size, half=size // 2)
train_cfg = dict(max_epochs=epochs)
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / 'base.py').write_text(BASE)
    (tmp_path / 'middle.py').write_text("_base_ = './base.py'\ndouble = 2 * _base_.size\nwork_dir = f'{double}'\n")
    return tmp_path


def read(folder, text, **options):
    path = folder / 'sub' / 'child.py'
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    return read_config(path, KEYS, options)


def test_what_a_base_derives_follows_its_child(folder):
    cfg = read(folder, "_base_ = ['../middle.py']\nsize = 32 * 5\nmodel = dict(depth=3)\n")
    assert cfg.model == dict(size=160, half=80, depth=3) and cfg.train_cfg.max_epochs == 20
    assert (cfg.size, cfg.work_dir) == (160, '320')
    assert cfg.root == f'{folder}/images' and cfg.filename == str(folder / 'sub' / 'child.py')


def test_an_option_replaces_the_value_of_every_file(folder):
    cfg = read(folder, "_base_ = '../middle.py'\nsize = 160\n", size=96, epochs=3)
    assert cfg.model == dict(size=96, half=48) and cfg.train_cfg.max_epochs == 3 and cfg.work_dir == '192'


def test_a_child_without_a_knob_is_read_as_it_is(folder):
    cfg = read(folder, "_base_ = '../middle.py'\nmodel = dict(size=3)\n")
    assert cfg.model == dict(size=3, half=112) and cfg.work_dir == '448'


def test_an_expression_comes_too_late_and_is_refused(folder):
    with pytest.raises(UserError, match='size to an expression.*write a constant, as in size = 224'):
        read(folder, "_base_ = '../middle.py'\nsize = _base_.size // 2\n")


def test_a_misspelled_knob_is_refused(folder):
    with pytest.raises(UserError, match='sets epoch, which nothing reads; did you mean epochs'):
        read(folder, "_base_ = '../base.py'\nepoch = 3\n")
    assert read(folder, "_base_ = '../base.py'\nepoch = 3\nmodel = dict(n=epoch)\n").model.n == 3


def test_errors_name_the_line_of_the_original(folder):
    with pytest.raises(TypeError) as caught:
        read(folder, "_base_ = [\n    '../base.py',\n]\nepochs = (\n    2 *\n    5\n)\na = len(0)\n", epochs=3)
    assert caught.traceback[-1].lineno + 1 == 8 and Path(caught.traceback[-1].path).name == 'child.py'


def test_a_name_that_is_set_twice_is_a_variable(folder):
    (folder / 'twice.py').write_text('a = 1\na = 2\nmodel = dict(a=a)\n')
    assert list_knobs(folder / 'twice.py', KEYS) == {}
    assert list_knobs(folder / 'middle.py', KEYS) == dict(size=224, epochs=20, root=f'{folder}/images')


def test_knobs_are_written_into_a_text_with_their_reasons():
    text = set_knobs(BASE, {'size': Knob(96, 'your images have 100 x 100 pixels'), 'epochs': Knob(7, 'why ' * 40)})
    assert text.startswith('size = 96  # your images have 100 x 100 pixels\n# why why')
    assert '\nepochs = 7\nroot' in text and text.endswith('max_epochs=epochs)\n')
    with pytest.raises(KeyError, match='no setting width'):
        set_knobs(BASE, {'width': Knob(1)})


def test_options_of_a_shipped_config_reach_what_it_derives():
    assert load_config(QUICKSTART, {'epochs': 7}).train_cfg.max_epochs == 7
    with pytest.raises(UserError, match="epochs='many'.*it is 20"):
        load_config(QUICKSTART, {'epochs': 'many'})


def test_a_key_that_a_run_and_the_file_read_is_set_in_both(folder):
    (folder / 'both.py').write_text("channels_rule = 'sum'\nmodel = dict(rule=channels_rule)\nlog_level = 'INFO'\n")
    cfg = read(folder, "_base_ = '../both.py'\nchannels_rule = 'mean'\nlog_level = 'DEBUG'\n")
    assert cfg.channels_rule == 'mean' and cfg.model.rule == 'mean' and cfg.log_level == 'DEBUG'
    assert list_knobs(folder / 'both.py', KEYS) == dict(channels_rule='sum')
