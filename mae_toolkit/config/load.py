"""Read configs, and apply options that change them."""

import sys
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from mmengine.config import Config

import mae_toolkit
from mae_toolkit import registry
from mae_toolkit.config.checks import check_config, list_runner_keys
from mae_toolkit.config.knobs import list_knobs, read_config
from mae_toolkit.config.shipped import find_shipped, list_shipped
from mae_toolkit.errors import UserError, frames, is_own_file


def load_config(path: str | Path, options: Mapping[str, Any] | None = None) -> Config:
    """Read a config file, apply options, and refuse what no part of a run would read.

    Example::

        cfg = load_config('configs/pretrain/quickstart.py', {'train_cfg.max_epochs': 1})

    ``custom_imports=dict(imports=['my_masking'])`` finds ``my_masking.py`` beside the config, ``projects.mixmim``
    in the repository, and whatever else Python finds.

    Settings at the top of a file, such as ``size = 224``, may be replaced by a child config and by options, and what
    the file derives from them follows, see :mod:`mae_toolkit.config.knobs`.

    Args:
        path: A text config of MMEngine, with ``_base_``; or the name of one that comes with the toolkit, such as
            ``'pretrain/quickstart.py'``, which is found from everywhere.
        options: Values by dotted key, which replace those of the file.

    Raises:
        UserError: If the file is missing or cannot be read, or a key or type in it is unknown.
    """
    path = _find(Path(path))
    _make_importable(path.resolve().parent, Path(mae_toolkit.__file__).resolve().parents[1])
    options = options or {}
    keys = list_runner_keys()
    knobs = {name: value for name, value in list_knobs(path, keys).items() if name in options}
    for name, value in knobs.items():
        _check_knob(name, options[name], value)
    try:
        cfg = read_config(path, keys, {name: options[name] for name in knobs})
    except UserError:
        raise
    except Exception as error:  # a config is a program, and may fail in any way
        raise UserError(f'The config {path} cannot be read: {_describe_error(error)}') from error
    options = {option: value for option, value in options.items() if option not in knobs}
    _check_keys(cfg, options)
    merge_options(cfg, options)
    check_config(cfg)
    return cfg


def _find(path: Path) -> Path:
    """Return a file as it is, else the config of the toolkit that has this name.

    Raises:
        UserError: If there is none, with the nearest names.
    """
    if path.is_file():
        return path
    if found := find_shipped(path):
        return found
    near = [
        str(path.parent / name) for name in get_close_matches(path.name, [p.name for p in path.parent.glob('*.py')], 2)
    ]
    shipped = list_shipped()
    near = near or get_close_matches(path.as_posix(), shipped, 2)
    hint = f'; did you mean {" or ".join(near)}?' if near else '.'
    raise UserError(f'There is no config {path}{hint}')


def merge_options(cfg: Config, options: Mapping[str, Any]) -> None:
    """Set values of a config by dotted key, in place.

    Args:
        cfg: The config.
        options: Values by dotted key, such as ``{'train_cfg.max_epochs': 10}``.

    Raises:
        UserError: If a dict is to replace another value, which MMEngine does only with ``_delete_=True`` in the dict.
    """
    try:
        cfg.merge_from_dict(options)
    except (TypeError, KeyError) as error:
        raise UserError(f'The options {", ".join(options)} do not fit the config: {_one_line(error)}') from None


def _check_knob(name: str, value: object, old: object) -> None:
    """Refuse text for a setting that is a number, and the reverse."""
    kinds = {isinstance(value, str), isinstance(old, str)}
    if kinds == {True, False} and isinstance(value, str | int | float) and isinstance(old, str | int | float):
        raise UserError(f'--cfg-options {name}={value!r}: it is {old!r} in the config, so give a value of that kind.')


def _make_importable(*folders: Path) -> None:
    """Let Python find modules in folders, after all others, so that a config hides no module of the same name."""
    sys.path += [str(folder) for folder in folders if str(folder) not in sys.path]


def _check_keys(cfg: Config, options: Mapping[str, Any]) -> None:
    """Refuse options with a misspelled path; only a new key in an existing dict is allowed."""
    known = list_runner_keys()
    for option in options:
        node: Any = cfg
        parts = option.split('.')
        if parts[0] not in known:
            hint = f'; {cfg.filename} has used it by then: set it there.'
            hint = hint if parts[0] in cfg else registry.suggest(parts[0], known)
            raise UserError(f'--cfg-options {option} would change nothing, as no part of a run reads it{hint}')
        for i, part in enumerate(parts[:-1]):
            keys = [str(key) for key in node] if isinstance(node, Config | dict) else []
            node = _get_child(node, part)
            if node is None and option.startswith('model_wrapper_cfg.'):
                node = {}  # few configs choose an engine
            if node is None:
                hint = registry.suggest(part, keys) if keys else '.'
                raise UserError(f'--cfg-options {option}: the config has no {".".join(parts[: i + 1])!r}{hint}')
        if not isinstance(node, Config | dict | list | tuple):
            raise UserError(f'--cfg-options {option}: {".".join(parts[:-1])} is {node!r}, in which nothing can be set.')
        if isinstance(node, list | tuple) and _get_child(node, parts[-1]) is None:
            raise UserError(f'--cfg-options {option}: {".".join(parts[:-1])} has the items 0 to {len(node) - 1}.')


def _get_child(node: Any, key: str) -> Any:
    """Return what a dict or list of a config has under a name or an index; None if there is nothing."""
    if isinstance(node, list | tuple):
        return node[int(key)] if key.isdigit() and int(key) < len(node) else None
    return node.get(key) if isinstance(node, Config | dict) else None


def _describe_error(error: BaseException) -> str:
    """Describe what went wrong, and before it the cause in a module that was being imported, with its line."""
    parts: list[str] = []
    cause: BaseException | None = error
    while cause is not None:
        parts.insert(0, f'{type(cause).__name__}: {_one_line(cause)}{_describe_place(cause)}')
        cause = (cause.__cause__ or cause.__context__) if isinstance(cause, ImportError) else None
    return '; '.join(parts)


def _describe_place(error: BaseException) -> str:
    """Name the line at which a config or a user's own module failed; a syntax error names its own line."""
    if isinstance(error, SyntaxError):
        return ''
    calls = [(name, line) for name, line in frames(error.__traceback__) if not name or is_own_file(name)]
    if not calls:
        return ''
    file, line = calls[-1]  # without a file: MMEngine runs a config as text
    return f' (line {line}{f" of {Path(file).name}" if file else ""})'


def _one_line(error: BaseException) -> str:
    return ' '.join(str(error).split())
