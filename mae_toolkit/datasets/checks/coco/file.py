"""Reading of annotation files in COCO's format, with an error for every way in which a file can be invalid."""

from __future__ import annotations

import codecs
import json
from pathlib import Path
from typing import Any

from mae_toolkit.datasets.text_files import detect_wide_encoding
from mae_toolkit.errors import UserError

COMPRESSED_SIGNATURES = (b'\x1f\x8b', b'PK\x03\x04')  # gzip, zip
KEYS = ('images', 'annotations', 'categories')


def read_annotation_file(path: Path, optional: tuple[str, ...] = ()) -> dict[str, Any]:
    """Read a JSON file whose top level is a dict with lists of dicts: images, annotations and categories.

    Args:
        path: The file.
        optional: Keys that may be missing; they become empty lists.

    Raises:
        UserError: If the file is missing, or not of that form.
    """
    content = _parse(_decode(path))
    if not isinstance(content, dict):
        inner = isinstance(content, list) and len(content) == 1 and isinstance(content[0], dict)
        hint = 'take the dict out of the list' if inner else f'it needs the keys {", ".join(KEYS)}'
        raise UserError(f"it holds a {type(content).__name__} where COCO's format has a dict: {hint}.")
    for key in KEYS:
        _check_list(content, key, key in optional)
    return content


def _decode(path: Path) -> str:
    try:
        if path.exists() and not path.is_file() and not path.is_dir():  # reading a pipe would wait forever
            raise UserError('the annotation file is not a regular file: set data_root and ann_file.')
        data = path.read_bytes()
    except FileNotFoundError:
        raise UserError('there is no such annotation file: set data_root and ann_file.') from None
    except (OSError, ValueError) as error:
        raise UserError(f'the annotation file cannot be read: {getattr(error, "strerror", None) or error}.') from None
    if not data.strip():
        raise UserError('the annotation file is empty: write it again.')
    if data.startswith(COMPRESSED_SIGNATURES):
        raise UserError('the annotation file is compressed: unpack it.')
    encoding = detect_wide_encoding(data)
    if encoding or b'\0' in data[:4]:
        name = encoding.upper() if encoding else 'UTF-16 or UTF-32'
        raise UserError(f'the annotation file is in {name}: save it as UTF-8.')
    if data.startswith(codecs.BOM_UTF8):
        raise UserError(
            'the annotation file begins with a byte order mark, which JSON readers refuse: save it as UTF-8 without '
            'one.'
        )
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise UserError(
            f'the annotation file is not UTF-8 (byte {data[error.start]:#x} at position {error.start}): save it as '
            'UTF-8.'
        ) from None


def _parse(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        if error.pos >= len(text.rstrip()) or error.msg.startswith('Unterminated'):
            raise UserError(
                f'the annotation file is cut off after {len(text)} characters: copy or write it again.'
            ) from None
        raise UserError(
            f'the annotation file is not JSON (line {error.lineno}, column {error.colno}: {error.msg}): write it again.'
        ) from None
    except RecursionError:
        raise UserError('the annotation file is nested too deeply to be read: write it again.') from None
    except ValueError as error:  # whole numbers of thousands of digits
        raise UserError(f'the annotation file cannot be read ({error}): write it again.') from None


def _check_list(content: dict[str, Any], key: str, is_optional: bool) -> None:
    if key not in content:
        if is_optional:
            content[key] = []
            return
        known = ', '.join(map(str, list(content)[:8])) or 'none'
        raise UserError(f'the annotation file has no {key!r} (its keys are {known}): add this list.')
    value = content[key]
    if not isinstance(value, list):
        raise UserError(f'{key!r} is a {type(value).__name__} where a list of dicts belongs: write the file again.')
    wrong = [i for i, item in enumerate(value) if type(item) is not dict]
    if wrong:
        kind = type(value[wrong[0]]).__name__
        raise UserError(
            f'{len(wrong)} of the {len(value)} items of {key!r} are not dicts ({key}[{wrong[0]}] is a {kind}): fix or '
            'remove them.'
        )
