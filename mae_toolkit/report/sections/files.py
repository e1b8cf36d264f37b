"""By which one knows again what the report is about: hashes of the checkpoint, the config and the images; versions."""

from __future__ import annotations

import platform
from importlib import metadata
from pathlib import Path

import torch

import mae_toolkit
from mae_toolkit.engine.hooks.run_record import hash_config
from mae_toolkit.evaluation.embeddings.cache import hash_weights
from mae_toolkit.export.description import read_fingerprint
from mae_toolkit.printing import format_count, printable
from mae_toolkit.report.blocks import Block, Table
from mae_toolkit.report.inputs import ReportInputs
from mae_toolkit.report.places import hash_files
from mae_toolkit.report.section import Section
from mae_toolkit.run_files import read_git_commit

# By their names in the index.
PACKAGES = ('torch', 'torchvision', 'timm', 'onedl-mmengine', 'numpy', 'pillow', 'opencv-python-headless')


def build(inputs: ReportInputs) -> list[Block]:
    """Hash what the report read, and list the versions with which it was made."""
    return [
        Table('What the report is about', (), _list_hashes(inputs)),
        Table('With what it was made', (), _list_versions(inputs)),
    ]


def _list_hashes(inputs: ReportInputs) -> list[tuple[str, str]]:
    checkpoint = inputs.checkpoint
    parts = [checkpoint] if checkpoint.is_file() else sorted(path for path in checkpoint.rglob('*') if path.is_file())
    size = sum(path.stat().st_size for path in parts)
    what = '' if checkpoint.is_file() else f', of the hashes of its {format_count(len(parts), "file")}'
    files = [item for item in inputs.images.items if isinstance(item, Path)]
    rows = [
        ('checkpoint', f'{printable(checkpoint)}, {size / 1e6:,.1f} MB'),
        (f'SHA-256 of the checkpoint{what}', hash_files(parts)),
        ('weights of the encoder', hash_weights(inputs.extractor.encoder)),
        ('hash of the config', hash_config(inputs.cfg)),
    ]
    if files:
        rows.append((f'SHA-256 of the hashes of {format_count(len(files), "image")}', hash_files(files)))
    trained = read_fingerprint(inputs.run)
    if trained is not None:
        count = '' if trained['images'] is None else f' of {format_count(trained["images"], "image")}'
        rows.append(('fingerprint of the training images', f'{trained["fingerprint"]}{count}'))
    return rows


def _list_versions(inputs: ReportInputs) -> list[tuple[str, str]]:
    found = {'python': platform.python_version(), 'mae_toolkit': mae_toolkit.__version__}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:  # torch of a system, or a headless OpenCV under another name
            continue
    device = torch.cuda.get_device_name() if inputs.device.startswith('cuda') else inputs.device
    rows = [*found.items(), ('device', device), ('seed', str(inputs.seed))]
    commit = read_git_commit(Path(mae_toolkit.__file__).parent)
    return [*rows, ('commit of the toolkit', commit)] if commit else rows


SECTION = Section('files', 'Files, hashes and versions', build)
