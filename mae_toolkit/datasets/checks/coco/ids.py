"""Ids and numbers in an annotation file."""

from __future__ import annotations

from typing import Any

import numpy as np


def is_id(key: Any) -> bool:
    """Tell whether MMDetection and pycocotools find something again by a key; pandas writes whole numbers as 1.0."""
    return type(key) in (int, str) or (type(key) is float and key.is_integer())


def is_flag(value: Any) -> bool:
    """Tell whether a value is 0 or 1, as numbers or as false and true."""
    return type(value) in (int, float, bool) and value in (0, 1)


def find_repeated(keys: list[Any]) -> np.ndarray:
    """Find the ids that an earlier item has; what is no id is passed over."""
    repeated = np.zeros(len(keys), bool)
    if len({key for key in keys if is_id(key)}) == len(keys):
        return repeated
    seen: set[Any] = set()
    for i, key in enumerate(keys):
        if is_id(key):
            repeated[i] = key in seen
            seen.add(key)
    return repeated


def to_floats(values: list[Any]) -> np.ndarray:
    """Convert ints and floats; whole numbers beyond any float become infinite."""
    try:
        return np.array(values, float)
    except OverflowError:
        return np.array([value if abs(value) < 2**1000 else np.inf for value in values], float)
