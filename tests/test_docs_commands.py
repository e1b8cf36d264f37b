"""Every command and every example of README.md and docs/ is run, or names the test that runs it.

A fenced block of ``bash``, ``python`` or ``yaml`` has a comment directly above it:

- ``<!-- test: run -->``: the block is run here, in a copy of the repository's configs. ``<!-- test: run, short -->``
  cuts trainings to two steps, see ``shorten``; with ``<!-- test: run, short, with KEY=VALUE ... -->`` the tools get
  these ``--cfg-options``, too.
- ``<!-- test: file PATH -->``: the block is a config or the YAML of a table; it is written there, for the blocks below
  it on the page, and read.
- ``<!-- test: tests/test_x.py::test_y -->``: that test runs what the block says. With ``given PATH ...``, empty files
  of these names lie where the block looks for them.

Every command is also taken apart, run or not: the tool is there, its parser accepts the arguments, and the configs that
they name exist and accept the options. The same holds for commands within a sentence or a table. Capitals such as
CONFIG stand for what a reader has, see PLACEHOLDERS.
"""

import importlib.util
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
import torch

from mae_toolkit.apis import build_model, load_config
from mae_toolkit.checkpoints.files import GRIDS
from mae_toolkit.checkpoints.hub_cache import FILES
from mae_toolkit.checkpoints.positions import table_grids
from mae_toolkit.commands import build_parser
from mae_toolkit.transfer.experiment import read_experiment
from test_architecture import ROOMS

ROOT = Path(__file__).resolve().parents[1]
pytestmark = pytest.mark.process  # bash takes the commands apart
PAGES = [ROOT / 'README.md', *sorted((ROOT / 'docs').glob('*.md')), ROOT / 'docs' / 'results' / 'README.md']
TINY = ROOT / 'mae_toolkit' / 'data' / 'tiny'
FENCE = re.compile(r'(?:^<!-- test: (?P<how>[^\n]*?) -->\n)?^```(?P<language>\w*)\n(?P<text>.*?)^```$', re.M | re.S)
INLINE = re.compile(r'`((?:[A-Z_]+=\S+ )*(?:(?:python )?tools/[\w.]+|mae-toolkit) [^`]+)`')
LISTED = re.compile(r'(tests/test_\w+\.py)::(test_\w+)')
PLACEHOLDERS = {
    '/path/to/your/images': str(TINY / 'bccd' / 'images'),
    'CONFIG': 'configs/pretrain/quickstart.py',
    'CHECKPOINT': 'work_dirs/quickstart/epoch_20.pth',
    'IMAGES': 'photos',
}
# What bash is given in the place of programs: they are noted, with their arguments, and not run.
NOTED = """
note() { printf '%s\\0' "$@" $'\\n' >> calls; }
python() { note python "$@"; }
mae-toolkit() { note mae-toolkit "$@"; }
make() { note make "$@"; }
pip() { note pip "$@"; }
hf() { note hf "$@"; }
source() { [ "$1" = .venv/bin/activate ]; }
for script in tools/*.sh; do eval "function $script { note $script \\"\\$@\\"; }"; done
set -eu
"""
PRETRAIN = 'tools/train.py configs/pretrain/quickstart.py --work-dir'  # what "make pretrain" runs


class Block(NamedTuple):
    """A fenced block, and the comment above it."""

    place: str
    language: str
    text: str
    how: str


def blocks_of(page):
    text = page.read_text()
    for match in FENCE.finditer(text):
        line = text.count('\n', 0, match.start('text')) + 1
        if match['language'] in ('bash', 'python', 'yaml'):
            yield Block(f'{page.name}:{line}', match['language'], match['text'], match['how'] or '')


def fill(text):
    """The text with what stands in capitals for something of the reader's."""
    for name, value in PLACEHOLDERS.items():
        text = re.sub(rf'(?<![\w/.-]){re.escape(name)}(?![\w.])', value, text)
    return text


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory):
    """A checkpoint of the quickstart's model, untrained."""
    torch.manual_seed(0)
    model = build_model(load_config(ROOT / PLACEHOLDERS['CONFIG']))
    grids = {name: list(grid) for name, grid in table_grids(model).items()}
    path = tmp_path_factory.mktemp('checkpoint') / 'epoch_20.pth'
    torch.save({'state_dict': model.state_dict(), 'meta': {GRIDS: grids}}, path)
    return path


@pytest.fixture
def sandbox(tmp_path, monkeypatch, checkpoint):
    """A folder with copies of the configs, links to the rest of the repository, two photos and a checkpoint."""
    for name in ('configs', 'projects'):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns('__pycache__'))
    shutil.copytree(ROOT / 'docs', tmp_path / 'docs')
    for name in ('tools', 'mae_toolkit', 'tests'):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / 'photos').mkdir()
    for path in sorted((TINY / 'bccd' / 'images').glob('*'))[:2]:
        shutil.copy(path, tmp_path / 'photos')
    (tmp_path / 'work_dirs' / 'quickstart').mkdir(parents=True)
    shutil.copy(checkpoint, tmp_path / PLACEHOLDERS['CHECKPOINT'])
    monkeypatch.chdir(tmp_path)
    return tmp_path


def commands_of(text, place):
    """The commands of a piece of shell, with globs, braces and loops expanded by bash: lists of words."""
    calls = Path('calls')
    calls.write_bytes(b'')
    done = subprocess.run(['bash', '-c', NOTED + fill(text)], capture_output=True, text=True)
    assert done.returncode == 0, f'{place}: {done.stderr}'
    *whole, rest = calls.read_text().split('\0\n\0')
    assert not rest
    return [call.split('\0') for call in whole]


def check_command(command, place, monkeypatch):
    """The program is there, its parser accepts the arguments, and configs exist and accept the options."""
    program, *arguments = command
    if program == 'make':
        assert re.search(rf'^{arguments[0]}:', (ROOT / 'Makefile').read_text(), re.M), f'{place}: make {arguments[0]}'
    elif program == 'hf':  # the file of a repository of timm, which timm:NAME finds
        assert arguments[0] == 'download' and re.fullmatch(r'timm/\w+\.\w+', arguments[1]) and arguments[2] in FILES
    elif program == 'python' and arguments[0] == '-m':
        assert importlib.util.find_spec(arguments[1]), f'{place}: {arguments[1]}'
    elif program in ('python', 'mae-toolkit'):
        parsed = parse(arguments if program == 'python' else command, place, monkeypatch)
        values = [value for value in parsed.values() if isinstance(value, list | str)]
        named = [text for value in values for text in ([value] if isinstance(value, str) else value)]
        missing = [text for text in named if isinstance(text, str) and text.startswith('configs/')]
        missing = [text for text in missing if not Path(text).exists()]
        assert not missing, f'{place}: {missing}'
        if 'config' in parsed and parsed.get('cfg_options'):
            load_config(parsed['config'], parsed['cfg_options'])


def parse(arguments, place, monkeypatch):
    """What the parser of a tool, or of the program, makes of its arguments."""
    try:
        if arguments[0] == 'mae-toolkit':
            return vars(build_parser().parse_args(arguments[1:]))
        assert arguments[0].startswith('tools/'), f'{place}: {arguments[0]}'
        monkeypatch.setattr(sys, 'argv', arguments)
        return vars(load_tool(arguments[0])['parse_args']())
    except SystemExit:
        pytest.fail(f'{place}: the parser of {arguments[0]} refuses {" ".join(arguments[1:])}')


def load_tool(name):
    return runpy.run_path(str(ROOT / name), run_name='docs')


def run_command(command, how, place, monkeypatch):
    """Run a tool in this process."""
    program, *arguments = command
    if program == 'pip':
        return
    if program == 'mae-toolkit':
        parsed = build_parser().parse_args(arguments)
        parsed.run(parsed)
        return
    if program == 'make':
        assert arguments == ['pretrain'] and PRETRAIN in (ROOT / 'Makefile').read_text()
        arguments = [*PRETRAIN.split(), 'work_dirs/quickstart']
        shutil.rmtree('work_dirs/quickstart')
    options = how.partition('with ')[2].split()
    if ', short' in how and arguments[0] == 'tools/train.py':
        options += shorten(load_config(arguments[1]))
    if options:
        arguments += ['--cfg-options', *options]
    monkeypatch.setattr(sys, 'argv', arguments)
    load_tool(arguments[0])['main']()
    for short, whole in {'epoch_2': 'epoch_20', 'iter_2': 'iter_200'}.items():  # the names of the whole trainings
        for path in Path('work_dirs').glob(f'*/{short}.pth'):
            path.rename(path.with_stem(whole))


def shorten(cfg):
    """Options that cut a training to two steps, without processes that load images."""
    epochs, loaders = 'max_epochs' in cfg.train_cfg, ('train_dataloader', 'val_dataloader', 'test_dataloader')
    changes = {'train_cfg.max_epochs' if epochs else 'train_cfg.max_iters': 2, 'train_cfg.val_interval': 2}
    changes |= {'train_dataloader.num_batch_per_epoch': 1} if epochs else {}
    changes |= {'param_scheduler.0.end': 1, 'param_scheduler.1.begin': 1, 'default_hooks.checkpoint.interval': 2}
    changes |= {f'{loader}.num_workers': 0 for loader in loaders if cfg.get(loader)}
    changes |= {f'{loader}.persistent_workers': False for loader in loaders if cfg.get(loader)}
    changes |= {'train_dataloader.batch_size': 2, 'env_cfg.num_threads': 1}
    return [f'{key}={value}' for key, value in changes.items()]


def prepare(how, block, sandbox):
    """Write the files that a block is, or that it looks for."""
    if how.startswith('file '):
        path = sandbox / how.removeprefix('file ')
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(block.text)
        load_config(path) if path.suffix == '.py' else read_experiment(path)
    for name in how.partition(' given ')[2].split():
        (sandbox / name).parent.mkdir(parents=True, exist_ok=True)
        (sandbox / name).touch()


def check_named_tests(how, place):
    for file, name in LISTED.findall(how):
        path = ROOT / file
        assert path.is_file() and re.search(rf'^def {name}\(', path.read_text(), re.M), f'{place}: {file}::{name}'


@pytest.mark.parametrize('page', PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_blocks_of_a_page_work(page, sandbox, monkeypatch):
    namespace = {}
    for block in blocks_of(page):
        how, place = block.how, block.place
        assert re.match(r'run\b|file |tests/', how), (
            f'{place}: no <!-- test: ... --> above the block says how it is run'
        )
        check_named_tests(how, place)
        prepare(how, block, sandbox)
        running = how.startswith('run')
        if block.language == 'bash':
            for command in commands_of(block.text, place):
                check_command(command, place, monkeypatch)
                if running:
                    run_command(command, how, place, monkeypatch)
        elif running:
            exec(compile(fill(block.text), place, 'exec'), namespace)


@pytest.mark.parametrize('page', PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_within_the_text_are_accepted(page, sandbox, monkeypatch):
    text = FENCE.sub('', page.read_text())
    for found in (' '.join(span.split()) for span in INLINE.findall(text)):  # a span may go over two lines
        for command in commands_of(found, f'{page.name}: {found}'):
            check_command(command, f'{page.name}: {found}', monkeypatch)


@pytest.mark.parametrize('page', PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_stand_in_fences_and_links_lead_somewhere(page):
    text = FENCE.sub('', page.read_text())
    assert not re.findall(r'^ {4,}(?:[A-Z_]+=\S+ )*(?:python|make|pip|tools/|mae-toolkit).*', text, re.M)
    links = re.findall(r'\]\(([^)\s#]+)(?:#[\w-]*)?\)', page.read_text())
    missing = [link for link in links if '://' not in link and not (page.parent / link).exists()]
    assert not missing


@pytest.fixture(scope='module')
def source():
    """All that is written in code, tools, tests and configs, and the names of these files."""
    folders = ('mae_toolkit', 'tools', 'tests', 'configs', 'projects')
    paths = (path for folder in folders for path in (ROOT / folder).rglob('*'))
    suffixes = ('.py', '.sh', '.yaml', '.yml')
    return '\n'.join(f'{path}\n{path.read_text()}' for path in paths if path.suffix in suffixes)


@pytest.mark.parametrize('page', [page for page in PAGES if page.stem != 'traps'], ids=lambda page: page.stem)
def test_names_in_the_text_exist(page, source):
    """Of classes, functions, arguments, settings: so that a renaming does not leave the old name in a document."""
    text = FENCE.sub('', page.read_text())
    names = {name for span in re.findall(r'`([^`]+)`', text) for name in re.findall(r'[A-Za-z]\w{3,}', span)}
    marked = {name for name in names if '_' in name.strip('_') or re.search(r'[a-z][A-Z]', name)}
    assert not {name for name in marked - {'TASK_FIRST', 'TASK_OTHER'} if name not in source}


def test_the_index_names_every_page():
    text = (ROOT / 'docs' / 'index.md').read_text()
    assert not [
        page.name for page in (ROOT / 'docs').glob('*.md') if f'({page.name}' not in text and page.stem != 'index'
    ]


def test_the_design_has_the_rooms_in_the_order_of_the_plan():
    _, _, plan = (ROOT / 'docs' / 'design.md').read_text().partition('## The plan of the package')
    rows = [row.split('|')[1] for row in plan.splitlines() if row.startswith('| ')][1:]
    named = [re.findall(r'`(\w+)(?:/|\.py)`', row) or ['ground'] for row in rows]
    assert tuple(room for names in named for room in names) == ROOMS
