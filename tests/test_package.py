"""What is packed and installed: the wheel, the imports, the repository's files."""

import os
import re
import subprocess
import sys
import tomllib
import zipfile
from importlib import metadata
from pathlib import Path

import pytest

import mae_toolkit
from launching import ROOT
from mae_toolkit import commands
from warm import run_python

PACK = 'mae_toolkit/data/tiny'
PATTERNS = ('*', '*.py', '*.md', '*.yml', '*.yaml', '*.sh', '*.txt')  # in MANIFEST.in
LINK = re.compile(r'!?\[[^\]]*\]\(([^)\s#]+)[^)]*\)|(?:src|href)="([^"#]+)"')


def tracked():
    """Paths of the files that git tracks."""
    done = subprocess.run(['git', 'ls-files', '-z'], cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        pytest.skip('this is no git clone')
    return [ROOT / name for name in done.stdout.split('\0') if name and (ROOT / name).exists()]


def python(code, **kwargs):
    return subprocess.run([sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True, **kwargs)


@pytest.fixture(scope='module')
def wheel(tmp_path_factory):
    """The wheel, built without the network from the source distribution of what git tracks."""
    source = tmp_path_factory.mktemp('source')
    for path in tracked():
        copy = source / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes())
    command = [sys.executable, '-m', 'build', '--no-isolation', '--outdir', source / 'dist', source]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = (source / 'dist').glob('*.whl')
    return zipfile.ZipFile(path)


@pytest.mark.process
def test_the_wheel_has_all_modules_and_the_images_with_their_licenses(wheel):
    packed = {name for name in wheel.namelist() if name.startswith('mae_toolkit/')}
    expected = {str(path.relative_to(ROOT)) for path in tracked() if path.is_relative_to(ROOT / 'mae_toolkit')}
    configs = {f'mae_toolkit/{path.relative_to(ROOT)}' for path in tracked() if path.is_relative_to(ROOT / 'configs')}
    assert packed == expected | configs
    listed = [f'{PACK}/{line}' for split in ('train', 'val') for line in lines(f'{PACK}/{split}.txt')]
    assert len(listed) == len(set(listed)) == 120 and packed.issuperset(listed)
    assert {f'{PACK}/SOURCE.md', f'{PACK}/bccd/LICENSE', f'{PACK}/dsb2018/LICENSE'} <= packed
    tops = {name.split('/')[0] for name in wheel.namelist()}
    assert tops == {'mae_toolkit', f'mae_toolkit-{mae_toolkit.__version__}.dist-info'}


@pytest.mark.process
def test_the_wheel_needs_no_checkout(wheel, tmp_path):
    """The program runs and finds its configs and the images in them, from a folder of its own."""
    wheel.extractall(tmp_path / 'site')
    (tmp_path / 'empty').mkdir()
    place = {'cwd': tmp_path / 'empty', 'env': os.environ | {'PYTHONPATH': str(tmp_path / 'site')}}
    code = """
from pathlib import Path
import mae_toolkit
from mae_toolkit.apis import load_config
from mae_toolkit.config.shipped import list_shipped

from mae_toolkit.planning.templates import find_template

assert find_template('vit').is_relative_to(Path(mae_toolkit.__file__).parent)
cfg = load_config('configs/pretrain/quickstart.py', {'size': 32})
assert Path(cfg.train_dataloader.dataset.data_root, 'train.txt').is_file()
print(Path(mae_toolkit.__file__).parents[1], len(list_shipped()))
"""
    done = run_python('-c', code, **place)
    assert done.returncode == 0, done.stderr
    site, count = done.stdout.split()
    assert site == str(tmp_path / 'site') and int(count) > 80
    done = run_python('-m', 'mae_toolkit', 'pretrain', '--help', **place)
    assert done.stdout.startswith('usage: mae-toolkit pretrain'), done.stderr
    points = wheel.read(f'mae_toolkit-{mae_toolkit.__version__}.dist-info/entry_points.txt').decode()
    assert 'mae-toolkit = mae_toolkit.commands:main' in points


@pytest.mark.process
def test_paths_in_the_configs_of_the_wheel_lead_to_its_images(wheel, tmp_path):
    wheel.extractall(tmp_path)
    found = []
    for path in sorted((tmp_path / 'mae_toolkit' / 'configs').rglob('*.py')):
        for rest in re.findall(r'\{\{ fileDirname \}\}([\w./]+)', path.read_text()):
            found.append(path)
            assert Path(f'{path.parent}{rest}').is_dir()
    assert len(found) >= 4


def lines(name):
    return (ROOT / name).read_text().split()


@pytest.mark.process
def test_the_wheel_says_what_it_needs(wheel):
    text = wheel.read(f'mae_toolkit-{mae_toolkit.__version__}.dist-info/METADATA').decode()
    needs = re.findall(r'^Requires-Dist: ([\w-]+)([^;\n]*)(;.*)?$', text, re.M)
    base = {name for name, _, condition in needs if not condition}
    assert {'torch', 'torchvision', 'timm', 'onedl-mmengine', 'scikit-image', 'simplejpeg'} <= base
    assert not any(word in name for name in base for word in ('mmcv', 'mmdet', 'mmseg'))
    extras = set(re.findall(r'^Provides-Extra: (.+)$', text, re.M))
    assert extras == {
        *('all', 'cluster', 'demo', 'det', 'dev', 'docs', 'embed', 'explain', 'labels', 'onnx', 'seg', 'weights')
    }
    assert re.search(r'^License-Expression: Apache-2.0$', text, re.M)
    assert set(re.search(r'^Requires-Python: (.+)$', text, re.M)[1].split(',')) == {'>=3.11', '<3.15'}


@pytest.mark.process
def test_the_version_is_written_once():
    assert metadata.version('mae_toolkit') == mae_toolkit.__version__
    places = [path for path in tracked() if path.suffix in ('.py', '.toml', '.cfg')]
    places = [path for path in places if f"'{mae_toolkit.__version__}'" in path.read_text()]
    assert places == [ROOT / 'mae_toolkit' / '__init__.py']
    assert f'## {mae_toolkit.__version__}' in (ROOT / 'CHANGELOG.md').read_text()


@pytest.mark.process
def test_every_requirement_is_pinned_for_the_integration(wheel):
    text = wheel.read(f'mae_toolkit-{mae_toolkit.__version__}.dist-info/METADATA').decode()
    pinned = {canonical(line.split('==')[0]) for line in lines('requirements/ci.txt') if '==' in line}
    extras = re.search(r'\[([\w,]+)\]', (ROOT / 'Makefile').read_text())[1].replace(',', '|')
    needs = re.findall(rf'^Requires-Dist: ([\w-]+)[^;\n]*(; extra == "(?:{extras})")?$', text, re.M)
    assert {canonical(name) for name, _ in needs} <= pinned


def canonical(name):
    return re.sub(r'[-_.]+', '-', name).lower()


@pytest.mark.process
def test_pretraining_imports_no_mmcv():
    code = """
import pkgutil, sys, importlib, mae_toolkit
for module in pkgutil.walk_packages(mae_toolkit.__path__, 'mae_toolkit.'):
    importlib.import_module(module.name)
found = {name.split('.')[0] for name in sys.modules} & {'mmcv', 'mmdet', 'mmseg', 'mmpretrain'}
print('found', *sorted(found))
"""
    done = run_python('-c', code)
    assert done.stdout.split() == ['found'], done.stderr


@pytest.mark.process
def test_pictures_can_be_the_first_import():
    done = run_python('-c', 'from mae_toolkit.visualization import reconstruct')
    assert done.returncode == 0, done.stderr


def install(folder, name, version='1.2.3'):
    """Make a distribution look installed."""
    info = folder / f'{name.replace("-", "_")}-{version}.dist-info'
    info.mkdir()
    (info / 'METADATA').write_text(f'Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n')


@pytest.mark.process
@pytest.mark.parametrize(
    ('upstream', 'fork'),
    [
        ('mmengine', 'onedl-mmengine'),
        ('mmcv', 'onedl-mmcv'),
        ('mmcv-lite', 'onedl-mmcv'),
        ('mmdet', 'onedl-mmdetection'),
        ('mmsegmentation', 'onedl-mmsegmentation'),
    ],
)
def test_a_fork_beside_its_upstream_is_refused(tmp_path, upstream, fork):
    install(tmp_path, fork)
    alone = python('import mae_toolkit', env={'PYTHONPATH': str(tmp_path)})
    assert alone.returncode == 0, alone.stderr
    install(tmp_path, upstream)
    both = python('import mae_toolkit', env={'PYTHONPATH': str(tmp_path)})
    said = both.stderr.splitlines()[-1]
    assert both.returncode == 1
    assert said.startswith(f'ImportError: {upstream} 1.2.3 and {fork} 1.2.3 are installed together')
    assert f'run "pip uninstall -y {upstream} {fork} && pip install --no-cache-dir {fork}".' in said


@pytest.mark.process
def test_no_tracked_file_is_large():
    large = {path.name: path.stat().st_size for path in tracked() if path.stat().st_size > 2e6}
    assert not large


@pytest.mark.process
def test_no_machine_path_is_told():
    pattern = re.compile(r'(?<![\w.])/(?:work|home|root)/\w')
    texts = [path for path in tracked() if path.suffix in ('.py', '.md', '.txt', '.toml', '.yml', '.yaml', '.sh')]
    found = [str(path) for path in texts if path.name != 'test_package.py' and pattern.search(path.read_text())]
    assert not found


@pytest.mark.parametrize('name', ['README.md', 'CONTRIBUTING.md', 'CHANGELOG.md', 'mae_toolkit/data/README.md'])
def test_every_relative_link_leads_somewhere(name):
    page = ROOT / name
    links = [markdown or html for markdown, html in LINK.findall(page.read_text())]
    missing = [link for link in links if '://' not in link and not (page.parent / link).exists()]
    assert not missing


def test_the_settings_agree_on_the_pythons():
    settings = tomllib.loads((ROOT / 'pyproject.toml').read_text())
    assert settings['tool']['ruff']['target-version'] == 'py311'
    workflow = (ROOT / '.github' / 'workflows' / 'ci.yml').read_text()
    assert re.search(r"python: \['3.11', '3.12', '3.13'\]", workflow)
    installed = re.findall(r"\{python: '([\d.]+)', constraints: requirements/(\w+.txt)\}", workflow)
    assert installed == [('3.14', 'ci.txt'), ('3.11', 'oldest.txt')]
    setup = (ROOT / 'setup.py').read_text()
    pythons = re.findall(r'Programming Language :: Python :: ([\d.]+)', setup)
    assert pythons == ['3.11', '3.12', '3.13', '3.14'] and "python_requires='>=3.11,<3.15'" in setup


def requirements(name):
    """Constraints of a file in requirements/: versions by canonical name."""
    pairs = [line.split('==') for line in lines(f'requirements/{name}') if '==' in line]
    return {canonical(package): version for package, version in pairs}


@pytest.mark.process
def test_the_oldest_supported_versions_are_the_lower_bounds(wheel):
    text = wheel.read(f'mae_toolkit-{mae_toolkit.__version__}.dist-info/METADATA').decode()
    needs = re.findall(r'^Requires-Dist: ([\w-]+)([^;\n]*)$', text, re.M)
    bounds = {canonical(name): re.search(r'>=([\d.]+)', versions)[1] for name, versions in needs}
    assert requirements('oldest.txt') == {name: f'{bound}.*' for name, bound in bounds.items()}
    pinned = requirements('ci.txt')
    for name, bound in bounds.items():
        assert [*map(int, pinned[name].split('.'))] >= [*map(int, bound.split('.'))]


@pytest.mark.process
def test_the_dockerfile_has_what_it_copies_and_its_commands_are_shell():
    """It is built where there is Docker, by the integration; here it is parsed."""
    text = (ROOT / 'Dockerfile').read_text().replace('\\\n', ' ')
    steps = [line.split(maxsplit=1) for line in text.splitlines() if line and not line.startswith('#')]
    assert {name for name, _ in steps} <= {'FROM', 'ARG', 'WORKDIR', 'COPY', 'RUN', 'USER', 'ENTRYPOINT', 'CMD'}
    copied = {source for name, rest in steps if name == 'COPY' for source in rest.split()[:-1]}
    copied = {source for source in copied if not source.startswith(('-', '/'))}
    assert all((ROOT / source).exists() for source in copied)
    packed = re.findall(r'^(?:include|recursive-include) (.+)$', (ROOT / 'MANIFEST.in').read_text(), re.M)
    assert {name for line in packed for name in line.split()} <= {
        *(*copied, 'mae_toolkit/data', 'mae_toolkit/report/templates', *PATTERNS)
    }
    defined = {rest.split('=')[0] for name, rest in steps if name == 'ARG'}
    for name, rest in steps:
        if name == 'RUN':
            subprocess.run(['bash', '-n', '-c', rest], check=True)
            assert set(re.findall(r'\$(\w+)', rest)) <= defined
    pythons = re.findall(r'^FROM python:([\d.]+)-slim', text, re.M)
    assert pythons and set(pythons) <= {'3.11', '3.12', '3.13'}  # of the integration


@pytest.mark.process
@pytest.mark.parametrize(
    ('version', 'code'),
    [('3.10', 2), ('3.11', 0), ('3.13', 0), ('3.14', 2)],
)
def test_make_refuses_a_python_that_does_not_fit(tmp_path, version, code):
    """A stand-in answers in the place of a Python of that version."""
    program = tmp_path / 'python'
    pretend = f'import sys\nsys.version_info = ({version.replace(".", ", ")}, 0)\nexec(sys.argv[2])\n'
    program.write_text(f'#!{sys.executable}\n{pretend}')
    program.chmod(0o755)
    command = ['make', '-C', ROOT, 'check-python', f'PYTHON={program}']
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == code, done.stderr
    assert ('is not Python 3.11 to 3.13 with venv' in done.stderr) == bool(code)


@pytest.mark.parametrize(
    ('arguments', 'advice'),
    [
        (('pretrain', 'photos', '--out', 'run'), 'go on with --resume'),
        (('embed', 'run', 'photos', '--out', 'x.npz'), 'the same command goes on'),
        (('similar', 'photos', '1.jpg', '--out', 'x.png'), 'begin again'),
    ],
)
def test_after_an_interruption_a_command_says_how_to_go_on(monkeypatch, capsys, arguments, advice):
    def interrupt(args):
        raise KeyboardInterrupt

    monkeypatch.setattr(f'mae_toolkit.commands.{arguments[0]}.run', interrupt)
    with pytest.raises(SystemExit) as ended:
        commands.main(arguments)
    assert ended.value.code == 130 and f'interrupted; {advice}' in capsys.readouterr().err
