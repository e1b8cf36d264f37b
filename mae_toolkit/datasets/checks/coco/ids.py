"""Ids, flags and numbers in an annotation file."""

from __future__ import annotations

from typing import Any

import numpy as np


def is_id(key: Any) -> bool:
    """Return whether a value can be an id for MMDetection and pycocotools; 1.0 can, as pandas writes it."""
    return type(key) in (int, str) or (type(key) is float and key.is_integer())


def is_flag(value: Any) -> bool:
    """Return whether a value is 0 or 1, as a number or as false and true."""
    return type(value) in (int, float, bool) and value in (0, 1)


def find_repeated(keys: list[Any]) -> np.ndarray:
    """Return which ids an earlier item has too (N,); values that are not ids are skipped."""
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
    """Convert ints and floats to an array; whole numbers too large for a float become infinite."""
    try:
        return np.array(values, float)
    except OverflowError:
        return np.array([value if abs(value) < 2**1000 else np.inf for value in values], float)
