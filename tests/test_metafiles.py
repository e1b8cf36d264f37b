"""Each method's folder says what there is in it: README.md for people, metafile.yml for programs of OpenMMLab."""

import re

import pytest
import yaml

from mae_toolkit.config.load import load_config
from recipe_reader import PRETRAIN, ROOT, configs

pytestmark = pytest.mark.slow

FOLDERS = sorted(path for path in PRETRAIN.iterdir() if path.is_dir() and path.name not in ('__pycache__', 'custom'))
LINK = re.compile(r'\[[^\]]*\]\(([^)\s#]+)\)')
DOWNSTREAM = [ROOT / 'configs' / task for task in ('classification', 'detection')]
PUBLISHED = re.compile(r'([\d.]+\d)% (top-1)|(box AP|mask AP) ([\d.]+\d)')
NAMES = {'Top 1 Accuracy': 'top-1'}  # as configs have them
every_folder = pytest.mark.parametrize('folder', FOLDERS, ids=lambda folder: folder.name)


def metafile(folder):
    return yaml.safe_load((folder / 'metafile.yml').read_text())


def readme(folder):
    return (folder / 'README.md').read_text()


def test_every_config_is_in_one_metafile():
    named = [model['Config'] for folder in FOLDERS for model in metafile(folder)['Models']]
    assert sorted(named) == sorted(str(path.relative_to(ROOT)) for path in configs())


def published(path):
    """Numbers that the comment at the top of a config says were published, by what they measure."""
    lines = [line.removeprefix('# ') for line in path.read_text().splitlines() if line.startswith('# ')]
    _, _, told = ' '.join(lines).partition('Published: ')
    return {kind or ap: float(share or value) for share, kind, ap, value in PUBLISHED.findall(told)}


@pytest.mark.parametrize('folder', DOWNSTREAM, ids=lambda folder: folder.name)
def test_metafiles_of_transfer_say_what_the_configs_say(folder):
    said = metafile(folder)
    collections = {collection['Name']: collection for collection in said['Collections']}
    assert collections.keys() == {model['In Collection'] for model in said['Models']}
    for collection in collections.values():
        assert (ROOT / collection['README']).is_file() and collection['Paper']['Title']
        assert re.fullmatch(r'https://arxiv\.org/abs/\d{4}\.\d{5}', collection['Paper']['URL'])
    paths = sorted(path for path in folder.glob('*.py') if not path.stem.startswith('custom_'))  # templates
    assert sorted(ROOT / model['Config'] for model in said['Models']) == paths
    for model in said['Models']:
        path, meta = ROOT / model['Config'], model['Metadata']
        cfg = load_config(path)
        assert model['Name'] == path.stem
        length = cfg.train_cfg.get('max_epochs'), cfg.train_cfg.get('max_iters')
        assert (meta.get('Epochs'), meta.get('Iterations')) == length
        base = cfg.get('auto_scale_lr', {}).get('base_batch_size', cfg.train_dataloader.batch_size)
        assert meta['Batch Size'] == base
        assert meta['Architecture'] == cfg.model.get('encoder', cfg.model.get('backbone')).arch
        results = model.get('Results', ())
        assert all(result['Source'] == 'as published, not ours' for result in results)
        metrics = {key: value for result in results for key, value in result['Metrics'].items()}
        assert {NAMES.get(key, key): value for key, value in metrics.items()} == published(path), path


def test_published_numbers_of_detectors_are_told_in_one_way():
    rows = [line for line in (ROOT / 'docs' / 'detection.md').read_text().splitlines() if LINK.search(line)]
    rows = {LINK.search(line)[1].rpartition('/')[2]: line.strip('|').split('|')[-2:] for line in rows if line[0] == '|'}
    for model in metafile(ROOT / 'configs' / 'detection')['Models']:
        metrics = {key: value for result in model.get('Results', ()) for key, value in result['Metrics'].items()}
        if metrics:
            told = [cell.strip() for cell in rows[f'{model["Name"]}.py']]
            assert told == [str(metrics.get(key, '')) for key in ('box AP', 'mask AP')]


@every_folder
def test_a_metafile_is_complete_and_its_paths_exist(folder):
    said = metafile(folder)
    (collection,) = said['Collections']
    assert (ROOT / collection['README']).samefile(folder / 'README.md')
    assert (
        re.fullmatch(r'https://arxiv\.org/abs/\d{4}\.\d{5}', collection['Paper']['URL'])
        and collection['Paper']['Title']
    )
    for model in said['Models']:
        path = ROOT / model['Config']
        assert path.parent == folder and model['Name'] == path.stem
        assert model['In Collection'] == collection['Name']
        for result in model.get('Results', ()):
            assert result['Source'] == 'as published, not ours'


@every_folder
def test_a_metafile_says_what_the_configs_say(folder):
    for model in metafile(folder)['Models']:
        cfg, said = load_config(ROOT / model['Config']), model['Metadata']
        assert said['Epochs'] == cfg.train_cfg.max_epochs
        assert said['Batch Size'] == cfg.auto_scale_lr.base_batch_size
        assert said['Architecture'] == cfg.model.encoder.arch


@every_folder
def test_a_readme_has_the_rows_of_the_metafile(folder):
    """So that no number is told in two ways."""
    text, said = readme(folder), metafile(folder)
    rows = {LINK.search(line)[1]: line for line in text.splitlines() if line.startswith('| [')}
    assert rows.keys() == {f'{model["Name"]}.py' for model in said['Models']}
    for model in said['Models']:
        cells = [cell.strip() for cell in rows[f'{model["Name"]}.py'].strip('|').split('|')]
        accuracy = [str(result['Metrics']['Top 1 Accuracy']) for result in model.get('Results', ())] or ['none']
        meta = model['Metadata']
        assert cells[1:] == [f'`{meta["Architecture"]}`', str(meta['Epochs']), str(meta['Batch Size']), *accuracy]
    assert said['Collections'][0]['Paper']['URL'] in text
    assert '**as published, not ours**' in text
    missing = [link for link in LINK.findall(text) if '://' not in link and not (folder / link).exists()]
    assert not missing


@every_folder
def test_the_commands_of_a_readme_name_configs_that_exist(folder):
    commands = re.findall(r'^ {4}.*?(configs/\S+\.py)', readme(folder), re.M)
    assert len(commands) == 2 and all((ROOT / path).is_file() for path in commands)
