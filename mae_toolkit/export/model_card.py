"""The README.md beside exported weights: what they are, and the lines that load them."""

import json
from collections.abc import Mapping
from typing import Any

MARK = '<!-- written by mae_toolkit export -->'


def write_card(title: str, description: Mapping[str, Any], library: str, loading: str) -> str:
    """Write the model card of an exported encoder, in the layout of the Hugging Face Hub.

    Args:
        title: Name of the architecture.
        description: What :func:`~mae_toolkit.export.description.describe` returns.
        library: Name of the library that reads the folder.
        loading: Lines of Python that load it.
    """
    license = description['license']
    head = [f'license: {license}'] if license else []
    head += [f'library_name: {library}', 'pipeline_tag: image-feature-extraction', 'tags:', '- mae_toolkit']
    origin = description['began_with']
    rows = {
        'method': _describe_method(description['method']),
        'training': _join(description['training']),
        'images': _describe_data(description['data']),
        'began with': f'`{origin}`' if origin else 'random weights',
        'license': license or 'not stated; say it with `--license`, and mind that of the weights it began with',
        'versions': _join(description['versions']),
    }
    lines = ['---', *head, '---', MARK, '', f'# {title}', '', 'An encoder without its decoder, for features of images.']
    lines += ['', '| | |', '|---|---|', *(f'| {name} | {text} |' for name, text in rows.items() if text), '']
    lines += ['```python', loading.strip(), '```', '']
    lines += ['Images are prepared so, in the units of the files:', '', '```json']
    return '\n'.join([*lines, json.dumps(description['preparation'], indent=2), '```', ''])


def _describe_method(method: Mapping[str, Any]) -> str:
    ratio = '' if method['ratio'] is None else f', {method["ratio"]:.0%} hidden' if _is_number(method['ratio']) else ''
    targets = ', '.join(map(str, method['targets'].values()))
    parts = (method['model'], method['masking'] and f'{method["masking"]}{ratio}', method['decoder'], targets)
    return '; '.join(part for part in parts if part)


def _describe_data(data: Mapping[str, Any] | None) -> str | None:
    if data is None:
        return None
    count = '' if data['images'] is None else f'{data["images"]:,} images; '
    return f'{count}fingerprint {data["fingerprint"]}'


def _join(values: Mapping[str, Any]) -> str:
    return ', '.join(f'{name} {value}' for name, value in values.items() if value is not None)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
