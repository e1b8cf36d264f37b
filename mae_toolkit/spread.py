"""Some of many items, at equal distances."""


def spread_indices(total: int, count: int) -> list[int]:
    """Choose indices at equal distances over the whole length: ``spread_indices(10, 4)`` is ``[0, 2, 5, 7]``.

    Args:
        total: Number of items.
        count: How many to choose; all, if there are no more.
    """
    count = min(count, total)
    return [i * total // count for i in range(count)]
