"""Values of --cfg-options: what Python reads, and texts as they are."""

import argparse

import pytest

from mae_toolkit.apis import load_config
from mae_toolkit.cli import ConfigOptions
from tiny import QUICKSTART


def read(*texts):
    parser = argparse.ArgumentParser()
    parser.add_argument('--cfg-options', nargs='+', action=ConfigOptions, default={})
    return parser.parse_args(['--cfg-options', *texts]).cfg_options


@pytest.mark.parametrize(
    ('text', 'value'),
    [
        ('1', 1),
        ('1e-3', 1e-3),
        ('-1', -1),
        ('007', 7),
        ('True', True),
        ('false', False),
        ('None', None),
        ('', ''),
        ('0.9,0.95', [0.9, 0.95]),
        ('0.9, 0.95', [0.9, 0.95]),
        ('(0,1)', (0, 1)),
        ('[]', []),
        ('()', ()),
        ('{}', {}),
        ('[1, [2, 3]]', [1, [2, 3]]),
        ('[a, b]', ['a', 'b']),
        ('[a b, c]', ['a b', 'c']),
        ('[horizontal,vertical]', ['horizontal', 'vertical']),
        ('[(1, 2), a]', [(1, 2), 'a']),
        ('[0.1, x, True]', [0.1, 'x', True]),
        ("'1'", '1'),
        ('"a, b"', 'a, b'),
        ("['a, b', 'c']", ['a, b', 'c']),
        ("[{'type': 'A', 'x': 1}]", [{'type': 'A', 'x': 1}]),
        ('/data/my set, v2/images', '/data/my set, v2/images'),
        ('/data/a,b', '/data/a,b'),
        ('a,b', 'a,b'),
        ('/data/my (old) set', '/data/my (old) set'),
        ('/data/[1]', '/data/[1]'),
        ('(old) data/x', '(old) data/x'),
        ('1,2/images', '1,2/images'),
        ('C:\\new\\table', 'C:\\new\\table'),
        ('x=y', 'x=y'),
        ('2024-01-02', '2024-01-02'),
        ('a#b', 'a#b'),
        ('{1, 2}', '{1, 2}'),
        ("it's", "it's"),
    ],
)
def test_values(text, value):
    found = read(f'key={text}')['key']
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize('text', ["custom_hooks=[dict(type='EMAHook', momentum=1e-4)]", 'a', '=1', 'a=[b]c]', 'x=[(a]'])
def test_what_cannot_be_read(text, capsys):
    with pytest.raises(SystemExit) as end:
        read(text)
    assert end.value.code == 2 and text in capsys.readouterr().err


def test_blanks_without_quotes_of_the_shell_are_refused(capsys):
    with pytest.raises(SystemExit):
        read('data_root=/data/my', 'set,', 'v2/images')
    assert 'set,' in capsys.readouterr().err


def test_an_engine_is_chosen_by_an_option():
    cfg = load_config(QUICKSTART, {'model_wrapper_cfg.type': 'mae_toolkit.FSDP2'})
    assert cfg.model_wrapper_cfg == {'type': 'mae_toolkit.FSDP2'}
