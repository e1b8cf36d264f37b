"""The string by which a user names weights, everywhere: ``[FORMAT:]FILE[#PART]``.

``mae_pretrain_vit_base.pth``, ``runs/photos`` (a run's folder), ``timm:convnextv2_tiny.fcmae`` (in the local cache of
Hugging Face), ``dino.pth#teacher.backbone`` (one of several sets of weights in a file).
"""

import re
from dataclasses import dataclass
from pathlib import Path

from mae_toolkit.checkpoints.hub_cache import find_in_cache
from mae_toolkit.checkpoints.links import read_link
from mae_toolkit.checkpoints.names import FORMATS, OURS, TIMM
from mae_toolkit.checkpoints.run_folder import find_run, is_run
from mae_toolkit.checkpoints.sharded import is_sharded
from mae_toolkit.errors import UserError
from mae_toolkit.printing import format_count
from mae_toolkit.registry import suggest

# Weights in folders of Hugging Face and timm, and in those that this toolkit exports.
IN_FOLDERS = ('model.safetensors', 'pytorch_model.bin', 'open_clip_model.safetensors', 'open_clip_pytorch_model.bin')
FORMAT = re.compile(r'([A-Za-z][\w.-]+):(.+)', re.DOTALL)  # two letters at least: one is a drive of Windows
URL = re.compile(r'([a-z][a-z0-9+.-]*)://|(hf[-_]hub):', re.IGNORECASE)
CONFIGS = ('.py', '.yaml', '.yml', '.json')


@dataclass(frozen=True)
class WeightsSource:
    """Where weights are.

    Attributes:
        path: The file, or the folder of a sharded checkpoint.
        format: The word for the format of the names in it, such as ``'timm'``; empty if it is to be found out.
        part: The place of the weights in the file, or what their names begin with; empty if it is to be found out.
    """

    path: Path
    format: str = ''
    part: str = ''

    def __str__(self) -> str:
        """Return the file and the part, as a user writes them."""
        return f'{self.path}#{self.part}' if self.part else str(self.path)


def find_source(text: str | Path | WeightsSource) -> WeightsSource:
    """Find the file that a user names by ``[FORMAT:]FILE[#PART]``.

    FORMAT states by which names the weights go where that must not be guessed. PART is a set of weights in the file, by
    its keys (``teacher``), or what the names begin with (``backbone``), or both (``teacher.backbone``). FILE may also
    be a sharded checkpoint, the folder of a run, or one with a ``model.safetensors``; after ``timm:`` it may be the
    name of timm's weights, which are looked for in the local cache of Hugging Face. Nothing is ever downloaded. A file
    whose name contains ``:`` or ``#`` is found by its whole name first.

    Args:
        text: The string; a source that is found already is returned as it is.

    Raises:
        UserError: If there is no such file, or it is no file of weights: a URL, a config, another folder.
    """
    if isinstance(text, WeightsSource):
        return text
    text = str(text)
    if found := _find_existing(text):
        return WeightsSource(_find_file(found.path), found.format, found.part)
    if url := URL.match(text):
        raise UserError(_describe_download(text, url[1] or url[2]))
    match = FORMAT.fullmatch(text)
    word, rest = (match[1], match[2]) if match else ('', text)
    file, _, part = rest.partition('#')
    if word == TIMM:
        return WeightsSource(find_in_cache(file), TIMM, part)
    known = {TIMM, OURS, *(form.word for form in FORMATS)}
    if word and word not in known:
        raise UserError(
            f'There is no file {text:.200}, and {word!r} is no format of weights{suggest(word, sorted(known))}'
        )
    raise UserError(f'There is no checkpoint {file:.200}: give the path of a .pth or .safetensors file.{_hint(file)}')


def is_in_cache_alone(text: str) -> bool:
    """Return whether a string names weights of timm in the cache of Hugging Face, rather than a file or folder.

    Args:
        text: ``[FORMAT:]FILE[#PART]``, for which :func:`find_source` finds weights.
    """
    return _find_existing(text) is None


def _find_existing(text: str) -> WeightsSource | None:
    """Find the reading of a string whose file or folder exists; the longest name of a file comes first."""
    match = FORMAT.fullmatch(text)
    for word, rest in (('', text), *([(match[1], match[2])] if match else [])):
        ends = [len(rest), *(i for i in range(len(rest) - 1, 0, -1) if rest[i] == '#')]
        for end in ends:
            path = Path(rest[:end]).expanduser() if rest.startswith('~') else Path(rest[:end])
            if rest[:end] and _exists(path):
                return WeightsSource(path, word, rest[end + 1 :])
    return None


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError, RuntimeError):  # no name of a file
        return False


def _find_file(path: Path) -> Path:
    """Return a file of weights, or that in a folder; a sharded checkpoint is a folder itself.

    Raises:
        UserError: If it is a config, or a folder without weights.
    """
    if (target := read_link(path)) is not None and is_sharded(target):
        return target
    if is_sharded(path):
        return path
    if path.is_file():
        if path.suffix.lower() in CONFIGS:
            raise UserError(
                f'{path} is a config, not weights: give a .pth or .safetensors file, or the folder of a run.'
            )
        return path
    held = [path / name for name in IN_FOLDERS if (path / name).is_file()]
    if held:
        return held[0]
    if is_run(path):
        return find_run(path).checkpoint
    if any(path.glob('*.index.json')):
        raise UserError(
            f'{path} holds weights in several files, which are not read: save them as one .safetensors file.'
        )
    names = sorted(child.name for child in path.iterdir()) if path.is_dir() else []
    what = f'{format_count(len(names), "other file")} ({", ".join(names[:4])})' if names else 'nothing'
    raise UserError(
        f'{path} is neither the folder of a run nor one with {IN_FOLDERS[0]}; it holds {what}: give a .pth or '
        '.safetensors file.'
    )


def _describe_download(text: str, scheme: str) -> str:
    """Say how to get what lies behind an address."""
    hub = re.match(r'(?:hf://|hf[-_]hub:|https?://(?:www\.)?huggingface\.co/)(?:models/)?([^/#?]+/[^/#?@]+)', text)
    if hub:
        way = f'hf download {hub[1]} model.safetensors --local-dir .'
    else:
        way = f'curl -LO {text}' if scheme.lower() in ('http', 'https', 'ftp') else 'the program of its owner'
    return f'{text} is an address, and nothing is downloaded: get the file by `{way}`, and give its path.'


def _hint(file: str) -> str:
    """Say more about a name that looks like that of a model of Hugging Face or timm."""
    if re.fullmatch(r'[\w-]+/[\w.-]+', file) and Path(file).suffix.lower() not in (
        '.pth',
        '.pt',
        '.safetensors',
        '.bin',
    ):
        return f' If it is a model of Hugging Face: `hf download {file} --local-dir FOLDER`, and give the folder.'
    return ''
