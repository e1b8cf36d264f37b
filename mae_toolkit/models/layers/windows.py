"""Windows of a map of tokens: of whole maps, and of the visible tokens alone."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from mae_toolkit.models.cells import Packing, pick_rows, place_rows

MOST_SIZES = 4  # batched attention calls per layer


class Group(NamedTuple):
    """Windows that are padded to the same number of tokens.

    Attributes:
        pairs: (n, S, S), for a query and a key their places within the window, as one index of a (W, W) table.
        padding: (n, 1, 1, S) bool, True where a slot holds no token.
    """

    pairs: Tensor
    padding: Tensor


class WindowPlan(NamedTuple):
    """The places of the visible tokens of a batch in windows, for one map size, window and shift.

    Attributes:
        slots: (B*N,) the slot of each token; distinct.
        groups: Windows of all images by padded size.
        total: Number of slots.
    """

    slots: Tensor
    groups: tuple[Group, ...]
    total: int

    def spread(self, tokens: Tensor) -> list[Tensor]:
        """Put tokens (B*N, C) in their slots: one tensor (n, S, C) per group, zero where there is no token."""
        rows = place_rows(tokens, self.slots, self.total)
        counts = [group.padding.shape[0] * group.padding.shape[-1] for group in self.groups]
        parts = rows.split(counts)
        return [part.unflatten(0, (-1, g.padding.shape[-1])) for part, g in zip(parts, self.groups, strict=True)]

    def collect(self, parts: Sequence[Tensor]) -> Tensor:
        """Take the tokens (B*N, C) out of their slots: the inverse of :meth:`spread`."""
        return pick_rows(torch.cat([part.flatten(0, 1) for part in parts]), self.slots)


def plan_windows(
    packing: Packing,
    size: tuple[int, int],
    window: tuple[int, int],
    shift: tuple[int, int],
    device: torch.device | None = None,
) -> WindowPlan:
    """Plan attention over the visible tokens of each window. This waits for the device of the packing.

    Windows lie as Swin shifts them (arXiv:2103.14030, section 3.2): a shift s leaves windows of s rows and columns at
    the borders. A window with few tokens is padded to one of at most ``MOST_SIZES`` sizes, chosen so that the
    attention of all has the fewest pairs.

    Args:
        packing: The visible cells.
        size: Rows and columns of the map.
        window: Rows and columns of a window, in positions of the map.
        shift: Rows and columns by which windows are shifted.
        device: Device of the plan; that of the packing if None.
    """
    y, x = (axis.cpu().numpy() for axis in packing.positions(size))  # (B, N)
    rows, columns = ((n + w - 1 - s) // w + 1 for n, w, s in zip(size, window, shift, strict=True))
    lead = [(w - s) % w for w, s in zip(window, shift, strict=True)]
    ids = (np.arange(len(y))[:, None] * (rows + 1) + (y + lead[0]) // window[0]) * (columns + 1)
    ids = (ids + (x + lead[1]) // window[1]).ravel()
    place = ((y + lead[0]) % window[0] * window[1] + (x + lead[1]) % window[1]).ravel()
    order = np.argsort(ids, kind='stable')
    _, counts = np.unique(ids, return_counts=True)
    return _arrange(order, counts, place, window[0] * window[1], device or packing.ids.device)


def _arrange(order: np.ndarray, counts: np.ndarray, place: np.ndarray, area: int, device: torch.device) -> WindowPlan:
    """Give each token its slot: windows by padded size, tokens of a window side by side."""
    sizes = np.array(choose_padded_sizes(counts))
    chosen_size = np.searchsorted(sizes, counts)  # the smallest size that holds the window
    begin = np.concatenate([[0], counts.cumsum()[:-1]])  # of each window among the ordered tokens
    slots = np.empty(len(order), np.int64)
    groups, total = [], 0
    for k, size in enumerate(sizes):
        chosen = np.flatnonzero(chosen_size == k)
        if not len(chosen):
            continue
        inside = np.arange(size)
        filled = inside < counts[chosen, None]  # (n, S)
        tokens = order[np.minimum(begin[chosen, None] + inside, len(order) - 1)]  # (n, S)
        where = np.where(filled, place[tokens], 0)
        slots[tokens[filled]] = (total + np.arange(filled.size).reshape(filled.shape))[filled]
        pairs = where[:, :, None] * area + where[:, None, :]
        padding = torch.from_numpy(~filled)[:, None, None].to(device)
        groups.append(Group(torch.from_numpy(pairs).to(device), padding))
        total += filled.size
    return WindowPlan(torch.from_numpy(slots).to(device), tuple(groups), total)


def choose_padded_sizes(counts: np.ndarray, most: int = MOST_SIZES) -> list[int]:
    """Choose the sizes to which windows are padded at the least cost.

    The cost of a window of padded size s is s**2. Solved exactly, over the distinct counts.

    Args:
        counts: Tokens of each window.
        most: Maximum number of sizes.

    Returns:
        The sizes, rising.
    """
    values, numbers = np.unique(counts, return_counts=True)
    before = np.concatenate([[0], numbers.cumsum()])
    best = np.full((most + 1, len(values) + 1), np.inf)
    best[:, 0] = 0
    cut = np.zeros((most + 1, len(values) + 1), int)
    for k in range(1, most + 1):
        for end in range(1, len(values) + 1):
            cost = best[k - 1, :end] + (before[end] - before[:end]) * float(values[end - 1]) ** 2
            cut[k, end] = cost.argmin()
            best[k, end] = cost[cut[k, end]]
    sizes: list[int] = []
    k, end = most, len(values)
    while end:
        sizes.append(int(values[end - 1]))
        k, end = k - 1, cut[k, end]
    return sizes[::-1]


def partition(x: Tensor, window: tuple[int, int], shift: tuple[int, int]) -> Tensor:
    """Cut a map (B, H, W, C) into windows (B*n, W, C), padded to whole windows and then shifted, as in MMDetection."""
    x = pad(x, (0, 0, 0, -x.shape[2] % window[1], 0, -x.shape[1] % window[0]))
    x = x.roll((-shift[0], -shift[1]), (1, 2)) if any(shift) else x
    b, height, width, c = x.shape
    x = x.view(b, height // window[0], window[0], width // window[1], window[1], c)
    return x.transpose(2, 3).reshape(-1, window[0] * window[1], c)


def assemble(windows: Tensor, size: tuple[int, int], window: tuple[int, int], shift: tuple[int, int]) -> Tensor:
    """Join windows into the map (B, *size, C): the inverse of :func:`partition`."""
    height, width = (-(-n // w) * w for n, w in zip(size, window, strict=True))
    x = windows.view(-1, height // window[0], width // window[1], *window, windows.shape[-1])
    x = x.transpose(2, 3).reshape(-1, height, width, windows.shape[-1])
    x = x.roll(shift, (1, 2)) if any(shift) else x
    return x[:, : size[0], : size[1]]


def padding_mask(size: tuple[int, int], window: tuple[int, int], device: torch.device) -> Tensor | None:
    """Mark the places of windows that lie beyond a map.

    Returns:
        (n, 1, 1, W) bool, True beyond the map, or None where windows divide the map.
    """
    if all(n % w == 0 for n, w in zip(size, window, strict=True)):
        return None
    held = partition(torch.ones(1, *size, 1, device=device), window, (0, 0))[..., 0]  # (n, W)
    return (held == 0)[:, None, None]


def shift_mask(
    size: tuple[int, int], window: tuple[int, int], shift: tuple[int, int], device: torch.device
) -> Tensor | None:
    """Mark the pairs of places that only the shift brought into one window.

    Returns:
        (n, 1, W, W) bool, True for such pairs, or None without a shift.
    """
    if not any(shift):
        return None
    parts = []
    for n, w, s in zip(size, window, shift, strict=True):
        whole = -(-n // w) * w
        parts.append((torch.arange(whole, device=device) >= whole - s).long() if s else torch.zeros(whole).long())
    region = (parts[0].to(device)[:, None] * 2 + parts[1].to(device))[None, :, :, None]
    region = partition(region, window, (0, 0))[..., 0]  # (n, W); rolled maps: the last s rows came from the top
    return (region[:, :, None] != region[:, None, :]).unsqueeze(1)
