"""Configs: reading, and options that change them."""

import sys
from difflib import get_close_matches
from pathlib import Path

from mmengine.config import Config

import mae_toolkit
from mae_toolkit import registry
from mae_toolkit.config.checks import check_config, keys_of_runner
from mae_toolkit.errors import UserError, frames, is_own_file


def load_config(path, options=None):
    """Read a config file, apply ``key=value`` options and refuse what nothing would read.

    ``custom_imports=dict(imports=['my_masking'])`` in it finds ``my_masking.py`` beside the config, ``projects.mixmim``
    in the repository, and whatever else Python finds.

    Args:
        path (str): A text config of MMEngine, with ``_base_``.
        options (dict | None): Values by dotted key.

    Raises:
        UserError: If the file is missing or cannot be read, or a key or type in it is unknown.
    """
    path = Path(path)
    if not path.is_file():
        near = get_close_matches(path.name, [p.name for p in path.parent.glob('*.py')], 2)
        hint = f'; did you mean {" or ".join(str(path.parent / n) for n in near)}?' if near else '.'
        raise UserError(f'There is no config {path}{hint}')
    _make_importable(path.resolve().parent, Path(mae_toolkit.__file__).resolve().parents[1])
    try:
        cfg = Config.fromfile(str(path))
    except Exception as error:  # it is a program, and may fail in any way
        raise UserError(f'The config {path} cannot be read: {_reason(error)}') from error
    _refuse_new_keys(cfg, options or {})
    merge_options(cfg, options or {})
    check_config(cfg)
    return cfg


def merge_options(cfg, options):
    """Set values of a config by dotted key, in place.

    Raises:
        UserError: If a dict is to go where there is none, which MMEngine does with ``_delete_=True`` alone.
    """
    try:
        cfg.merge_from_dict(options)
    except (TypeError, KeyError) as error:
        raise UserError(f'The options {", ".join(options)} do not fit the config: {_one_line(error)}') from None


def _make_importable(*folders):
    """Let Python find modules in folders, after all others, so that the name of a config hides none."""
    sys.path += [str(folder) for folder in folders if str(folder) not in sys.path]


def _refuse_new_keys(cfg, options):
    """An option sets what the config has, or a new key of a dict that it has; a misspelt path is refused."""
    read = keys_of_runner()
    for option in options:
        node = cfg
        parts = option.split('.')
        if parts[0] not in read:
            hint = f'; {cfg.filename} has used it by then: set it there.'
            hint = hint if parts[0] in cfg else registry.suggest(parts[0], read)
            raise UserError(f'--cfg-options {option} would change nothing, as no part of a run reads it{hint}')
        for i, part in enumerate(parts[:-1]):
            node = _child(node, part)
            if node is None:
                raise UserError(f'--cfg-options {option}: the config has no {".".join(parts[: i + 1])!r}.')
        if not isinstance(node, Config | dict | list | tuple):
            raise UserError(f'--cfg-options {option}: {".".join(parts[:-1])} is {node!r}, in which nothing can be set.')
        if isinstance(node, list | tuple) and _child(node, parts[-1]) is None:
            raise UserError(f'--cfg-options {option}: {".".join(parts[:-1])} has the items 0 to {len(node) - 1}.')


def _child(node, part):
    """What a dict or list of a config holds under a name or a number, or None."""
    if isinstance(node, list | tuple):
        return node[int(part)] if part.isdigit() and int(part) < len(node) else None
    return node.get(part) if isinstance(node, Config | dict) else None


def _reason(error):
    """What went wrong, and before it the cause in a module that was to be imported, with its line."""
    said = []
    while error is not None:
        said.insert(0, f'{type(error).__name__}: {_one_line(error)}{_where(error)}')
        error = (error.__cause__ or error.__context__) if isinstance(error, ImportError) else None
    return '; '.join(said)


def _where(error):
    """The line at which a config or a user's own module failed; a syntax error says its own."""
    if isinstance(error, SyntaxError):
        return ''
    calls = [(name, line) for name, line in frames(error.__traceback__) if not name or is_own_file(name)]
    file, line = calls[-1] if calls else (None, None)  # MMEngine runs a config without a file name
    return '' if file is None else f' (line {line}{f" of {Path(file).name}" if file else ""})'


def _one_line(error):
    return ' '.join(str(error).split())
