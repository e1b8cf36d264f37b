"""What every folder of projects/ has, and that a config there is found without any help."""

import re
import subprocess
import sys

import pytest
import torch

from mae_toolkit.apis import load_config
from test_project_hpm import small as hpm
from test_project_mixmim import small as mixmim
from test_project_ummae import small as ummae
from tiny import ROOT

PROJECTS = sorted(path.parent for path in (ROOT / 'projects').glob('*/README.md'))
CONFIGS = sorted((ROOT / 'projects').glob('*/configs/*.py'))
every_project = pytest.mark.parametrize('folder', PROJECTS, ids=[folder.name for folder in PROJECTS])


def test_every_folder_has_a_readme():
    assert {path.parent.parent for path in CONFIGS} == set(PROJECTS)
    assert {path.parent for path in (ROOT / 'projects').glob('*/__init__.py')} == set(PROJECTS)


@every_project
def test_a_project_has_its_parts_and_its_links_lead_somewhere(folder):
    text = (folder / 'README.md').read_text()
    links = [link for link in re.findall(r'\]\(([^)\s#]+)\)', text) if '://' not in link]
    assert not [link for link in links if not (folder / link).exists()]
    told = {(folder / link).resolve() for link in links}
    assert {path for path in CONFIGS if path.parent.parent == folder} <= told
    assert ROOT / 'tests' / f'test_project_{folder.name}.py' in told


@pytest.mark.parametrize('path', CONFIGS, ids=[path.stem for path in CONFIGS])
def test_configs_are_read(path):
    assert load_config(path).custom_imports['imports'] == [f'projects.{path.parent.parent.name}']


@pytest.mark.process
def test_the_repository_is_searched_from_any_directory(tmp_path):
    """With the package alone on the path, as an editable install has it."""
    (tmp_path / 'mae_toolkit').symlink_to(ROOT / 'mae_toolkit')
    command = [sys.executable, ROOT / 'tools' / 'print_config.py', CONFIGS[0]]
    env = {'PYTHONPATH': str(tmp_path), 'PYTHONSAFEPATH': '1'}
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=env)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(('make', 'size'), [(mixmim, (64, 96)), (ummae, (128, 192)), (hpm, (32, 48))])
def test_nothing_waits_for_a_device_or_stays_on_another(make, size):
    """On the device meta, which has no values: everything is made there, and nothing is looked at."""
    model, imgs = make().to('meta').train(), torch.empty(4, 3, *size, device='meta')
    sum(model(imgs, mode='loss').values()).backward()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)
    assert model.eval()(imgs, mode='predict')[0]['pixel'].is_meta and model(imgs)[0].is_meta


@pytest.mark.parametrize(('make', 'size'), [(mixmim, (64, 96)), (ummae, (128, 192)), (hpm, (32, 48))])
def test_mixed_precision_gives_nearly_the_same_losses(make, size):
    model, imgs, losses = make().eval(), torch.randn(4, 3, *size), []
    for enabled in (False, True):
        torch.manual_seed(0)  # the masks
        with torch.autocast('cpu', torch.bfloat16, enabled=enabled):
            losses.append(model(imgs, mode='loss'))
    for name, loss in losses[0].items():
        assert losses[1][name].dtype is torch.float32
        assert losses[1][name].item() == pytest.approx(loss.item(), rel=0.02)
