"""AnomalyDINO: the angle to the nearest of all normal patches."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn.functional import normalize

from mae_toolkit.evaluation.anomaly.methods.method import AnomalyMethod, to_rows, to_scores
from mae_toolkit.evaluation.anomaly.neighbors import find_neighbors


class AnomalyDINO(AnomalyMethod):
    """Compare each patch with the nearest of all normal patches by the cosine; nothing is chosen or estimated.

    Damm et al., arXiv:2405.14529, section 3, without its masking of the background and its rotations. All patches are
    kept: it is for few images.

    Args:
        seed: Not used: nothing is drawn.
    """

    def __init__(self, seed: int = 0) -> None:
        self.bank = torch.empty(0, 0)
        self._added: list[Tensor] = []

    def add(self, maps: Tensor) -> None:
        """Take in maps (B, D, h, w) of normal images."""
        self._added.append(normalize(to_rows(maps), dim=1))

    def finish(self, show_progress: bool = True) -> None:
        """Put all patches into one memory."""
        self.bank = torch.cat(self._added)
        self._added = []

    def score(self, maps: Tensor) -> Tensor:
        """Measure 1 - cos of each position and its nearest normal patch: (B, D, h, w) to (B, h, w)."""
        distances, _ = find_neighbors(normalize(to_rows(maps), dim=1), self.bank)
        return to_scores(distances[:, 0].square() / 2, maps)  # which is 1 - cos of vectors of length 1

    def state(self) -> dict[str, Tensor]:
        """Return the memory."""
        return {'bank': self.bank}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Set the memory."""
        self.bank = state['bank']
