"""Hashes of what decides the numbers of a run: the settings, the weights with which it begins, the data."""

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mae_toolkit.checkpoints.source import find_source
from mae_toolkit.config.checks import list_runner_keys
from mae_toolkit.errors import UserError

LOAD_FROM = 'load_from'  # the key of a config that names the weights with which it begins
UNDECIDED = ('work_dir', 'resume', 'launcher', 'experiment_name', 'visualizer', 'vis_backends')
BLOCK = 2**22  # bytes
LISTS = ('*.txt', '*/*.txt', '*/*/*.txt')  # in a labeled set: names of classes, and of the images of splits


def digest(value: object) -> str:
    """Return a short hash of plain values, in which the order of keys does not count."""
    text = json.dumps(value, sort_keys=True, default=_name)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def hash_file(path: Path) -> str:
    """Return the SHA-256 of the content of a file."""
    total = hashlib.sha256()
    with open(path, 'rb') as file:
        while block := file.read(BLOCK):
            total.update(block)
    return total.hexdigest()


def settings_hash(cfg: Config, checkpoint: str | None = None) -> str:
    """Return the hash of what a run reads of a config, without the places of things: work directory, data, checkpoint.

    Variables of the config, such as ``size``, count by what is derived from them.

    Args:
        cfg: The whole config.
        checkpoint: Path of the weights, as the config has it.
    """
    read = set(list_runner_keys()) - set(UNDECIDED)
    plain = {key: value for key, value in cfg.to_dict().items() if key in read}
    if '://' not in str(plain.get(LOAD_FROM)):  # a file counts with the data
        plain.pop(LOAD_FROM, None)
    names = {root: f'<data {i}>' if i else '<data>' for i, root in enumerate(_find_roots(plain))}
    names = dict(sorted(names.items(), key=lambda item: -len(item[0])))  # a root may lie in another
    return digest(_without_places(plain, names, str(checkpoint) if checkpoint else None))


class FileHashes:
    """Hashes of files and folders; each is read once in the life of this object."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], str | None] = {}

    def content(self, path: str | Path) -> str | None:
        """Return the SHA-256 of a file, or None where there is none."""
        return self._once(('content', str(path)), lambda: hash_file(Path(path)) if Path(path).is_file() else None)

    def weights(self, source: str | Path) -> str | None:
        """Return the SHA-256 of a file of weights, with the format and the part that a user names, or None without one.

        Args:
            source: ``[FORMAT:]FILE[#PART]``, see :func:`~mae_toolkit.checkpoints.source.find_source`.
        """
        try:
            found = find_source(source)
        except UserError:
            return None
        content = self.content(found.path)
        word, part = found.format and f'{found.format}:', found.part and f'#{found.part}'
        return None if content is None else f'{word}{content}{part}'

    def listing(self, path: str | Path) -> str | None:
        """Return the SHA-256 of the names and sizes of all files below a folder, or None where there is none."""
        return self._once(('listing', str(path)), lambda: _hash_listing(Path(path)))

    def data(self, cfg: Config) -> dict[str, str | None]:
        """Hash what a config trains and tests on.

        Annotation files count by their content, folders of images by the names and sizes of their files.

        Returns:
            Hashes by name within the root; None for what is missing.
        """
        found = find_data(cfg)
        weights = {LOAD_FROM: self.weights(found.pop(LOAD_FROM))} if LOAD_FROM in found else {}
        return self._places(found) | weights

    def labeled_set(self, path: str | Path, images: str | Path | None = None) -> dict[str, str | None]:
        """Hash a labeled set: lists of labels and splits by content, folders by the names and sizes of their files.

        Args:
            path: Folder of the set, or a file of labels.
            images: Folder of the images, if it is another one.

        Returns:
            As :meth:`data`.
        """
        lists = sorted(text for depth in LISTS for text in Path(path).glob(depth))
        names = {text: f'{Path(path).resolve().name}/{text.relative_to(path)}' for text in lists}
        return self._places(find_set(path, images)) | {name: self.content(text) for text, name in names.items()}

    def _places(self, places: Mapping[str, Path]) -> dict[str, str | None]:
        """Hash files by their content, and folders, whose names end with a slash, by their listing."""
        return {
            name: self.listing(place) if name.endswith('/') else self.content(place) for name, place in places.items()
        }

    def _once(self, key: tuple[str, str], make: Callable[[], str | None]) -> str | None:
        if key not in self._known:
            self._known[key] = make()
        return self._known[key]


def find_data(cfg: Config) -> dict[str, Path]:
    """Find the files and folders that a config trains and tests on, and its ``load_from``.

    Returns:
        Paths by name within the root, as ``coco/annotations/train.json``; names of folders end with a slash.
    """
    found: dict[str, Path] = {}
    for dataset in _find_datasets_of_stages(cfg):
        root = Path(dataset.get('data_root') or '')
        for name in _names_within(dataset):
            _add(found, f'{root.name}/{name}'.replace('//', '/'), root / name)
    weights = cfg.get(LOAD_FROM)
    return found | ({LOAD_FROM: Path(weights)} if weights and '://' not in weights else {})


def find_set(path: str | Path, images: str | Path | None = None) -> dict[str, Path]:
    """Find the files and folders of a labeled set, see :meth:`FileHashes.labeled_set`.

    Returns:
        Paths by name; names of folders end with a slash.
    """
    path = Path(path)
    is_file = path.is_file()
    found = {path.name if is_file else f'{path.resolve().name}/': path}
    folder = Path(images) if images is not None else path.parent if is_file else None
    if folder is not None:
        _add(found, f'{folder.resolve().name}/', folder)
    return found


def _without_places(value: Any, roots: dict[str, str], checkpoint: str | None) -> Any:
    """Replace roots of data and the checkpoint by fixed names in plain values."""
    if isinstance(value, dict):
        return {str(key): _without_places(item, roots, checkpoint) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_places(item, roots, checkpoint) for item in value]
    if not isinstance(value, str):
        return value
    if value == checkpoint:
        return '<checkpoint>'
    for root, name in roots.items():
        if value == root or value.startswith(root.rstrip('/') + '/'):
            return name + value.removeprefix(root).lstrip('/')
    return value


def _find_roots(value: Any) -> list[str]:
    """Find all values of ``data_root`` in a config, each once: those of training first."""
    if isinstance(value, dict):
        own = [str(value['data_root'])] if value.get('data_root') else []
        parts = sorted(value.items(), key=lambda item: not str(item[0]).startswith('train'))
        return list(dict.fromkeys(own + [root for _, part in parts for root in _find_roots(part)]))
    if isinstance(value, list | tuple):
        return list(dict.fromkeys(root for part in value for root in _find_roots(part)))
    return []


def _name(value: Any) -> str:
    """Name in JSON what is no plain value, such as a class or a function."""
    return f'{value.__module__}.{value.__qualname__}' if hasattr(value, '__qualname__') else repr(value)


def _add(found: dict[str, Path], name: str, path: Path) -> None:
    """Keep a path under its name, or under a longer one, where another root of this name has such a path."""
    while found.get(name, path) != path:
        name = f'other {name}'
    found[name] = path


def _find_datasets_of_stages(cfg: Config) -> list[dict]:
    """Find the configs of the datasets that are trained and tested on."""
    stages = ('train', 'test' if cfg.get('test_dataloader') else 'val')
    loaders = [cfg.get(f'{stage}_dataloader') or {} for stage in stages]
    return [dataset for loader in loaders for dataset in _find_datasets(loader.get('dataset'))]


def _names_within(dataset: dict) -> list[str]:
    """List what a dataset reads below its root."""
    listed, prefixes, split = (dataset.get(key) for key in ('ann_file', 'data_prefix', 'split'))
    if isinstance(prefixes, dict):
        folders = sorted({str(value) for value in prefixes.values() if isinstance(value, str)})
    else:
        folders = [split] if split else ([] if listed else [''])
    return [*([listed] if listed else []), *(f'{folder.rstrip("/")}/' for folder in folders)]


def _find_datasets(value: Any) -> list[dict]:
    """Find the configs of datasets that read files, within those that mix or repeat them."""
    if isinstance(value, list | tuple):
        return [found for item in value for found in _find_datasets(item)]
    if not isinstance(value, dict):
        return []
    inner = [found for key in ('dataset', 'datasets') for found in _find_datasets(value.get(key))]
    return inner or ([value] if value.get('data_root') or value.get('ann_file') else [])


def _hash_listing(path: Path) -> str | None:
    if not path.is_dir():
        return None
    total = hashlib.sha256()
    seen: set[str] = set()
    for folder, subfolders, files in os.walk(path, followlinks=True):
        real = os.path.realpath(folder)
        subfolders[:] = sorted(name for name in subfolders if not name.startswith('.') and real not in seen)
        seen.add(real)
        for name in sorted(name for name in files if not name.startswith('.')):
            full = Path(folder, name)
            total.update(f'{full.relative_to(path)}\0{full.stat().st_size}\n'.encode('utf-8', 'surrogateescape'))
    return total.hexdigest()
