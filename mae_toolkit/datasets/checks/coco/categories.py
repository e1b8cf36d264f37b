"""Check of the categories of an annotation file against the classes of the config."""

from __future__ import annotations

from collections import Counter
from difflib import get_close_matches
from typing import Any

from mae_toolkit.datasets.checks.coco.ids import is_id
from mae_toolkit.datasets.checks.coco.settings import CocoSettings
from mae_toolkit.datasets.checks.report import SplitReport
from mae_toolkit.printing import some

REMEDY = 'set metainfo=dict(classes=...) to fit, or fix the file'


def check_categories(categories: list[dict[str, Any]], settings: CocoSettings, report: SplitReport) -> dict[Any, int]:
    """Check the categories of a file.

    Args:
        categories: The categories of the file.
        settings: What the config says.
        report: Receives the findings.

    Returns:
        Class index of each category that the config names, by the category's id; empty if there is none.
    """
    if not _check_fields(categories, report):
        return {}
    names = [category['name'] for category in categories]
    classes = list(settings.classes)
    repeated = [name for name, count in Counter(classes).items() if count > 1]
    if repeated:
        report.add_sentence(
            f'the config names the class {repeated[0]!r} twice', 'set metainfo=dict(classes=...) to distinct names'
        )
    missing = [name for name in classes if name not in names]
    for name in missing:
        report.add(
            'classes of the config are not in the file',
            _describe_nearest(name, names),
            total=len(classes),
            remedy=REMEDY,
            fatal=True,
        )
    order = [name for name in names if name in classes]
    if not missing and not repeated and order != classes and not settings.has_own_loading:
        report.add_sentence(
            f'the order of the classes in the file is {some(order)}, that of the config {some(classes)}',
            'set metainfo=dict(classes=...) in the order of the file',
        )
    if missing or repeated:
        return {}
    return {category['id']: classes.index(category['name']) for category in categories if category['name'] in classes}


def _check_fields(categories: list[dict[str, Any]], report: SplitReport) -> bool:
    """Check ids and names, and return whether they can be used."""
    total, remedy = len(categories), 'give each category a whole number as id'
    found = len(report.findings)
    for i, category in enumerate(categories):
        place = f'categories[{i}]'
        if not is_id(category.get('id')):
            report.add('categories have no whole number as "id"', place, total=total, remedy=remedy, fatal=True)
        if not isinstance(category.get('name'), str) or not category['name']:
            report.add('categories have no "name"', place, total=total, remedy='name them', fatal=True)
    if len(report.findings) > found:
        return False
    for key in ('id', 'name'):
        counts = Counter(category[key] for category in categories)
        for value, count in counts.items():
            if count > 1:
                report.add(
                    f'values of "{key}" are of several categories',
                    f'{value!r} of {count}',
                    remedy=f'give each category a "{key}" of its own',
                    fatal=True,
                )
    return len(report.findings) == found


def _describe_nearest(name: str, names: list[str]) -> str:
    """Describe a class, and the category that is probably meant."""
    plain = {other.strip().casefold(): other for other in reversed(names)}
    key = name.strip().casefold()
    if key in plain:
        close = [key]
    else:
        close = get_close_matches(key, list(plain), 1, 0.7)
    if close:
        return f'{name!r}, where the file has {plain[close[0]]!r}'
    listed = ', '.join(map(repr, names[:5])) + (', …' if len(names) > 5 else '')
    return f'{name!r}, where the file has {listed or "none"}'
