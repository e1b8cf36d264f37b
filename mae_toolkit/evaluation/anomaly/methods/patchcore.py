"""PatchCore: the distance to a memory of normal patches."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from mae_toolkit.errors import UserError
from mae_toolkit.evaluation.anomaly.coreset import choose_coreset
from mae_toolkit.evaluation.anomaly.methods.method import AnomalyMethod, to_rows, to_scores
from mae_toolkit.evaluation.anomaly.neighbors import find_neighbors

SUPPORT = 9  # neighbors in the memory that re-weight the score of an image, as in the paper's code


class PatchCore(AnomalyMethod):
    """Compare each patch with the nearest in a memory of normal patches, from which a coreset was chosen.

    Roth et al., arXiv:2106.08265: sections 3.1 (locally averaged features), 3.2 (coreset) and 3.3 (scores).

    Args:
        coreset: Share of the patches that is kept, above 0 and at most 1.
        neighbors: Nearest patches whose distance is averaged.
        reweight: Make the score of an image lower if the normal patch next to its most unusual one is a common one
            (equation 7).
        seed: Seed of the choice.

    Raises:
        UserError: If an argument is out of its range.
    """

    local = 3

    def __init__(self, coreset: float = 0.1, neighbors: int = 1, reweight: bool = False, seed: int = 0) -> None:
        if not 0 < coreset <= 1:
            raise UserError(
                f'coreset={coreset} must be above 0 and at most 1: it is the share of patches that is kept.'
            )
        if neighbors < 1:
            raise UserError(f'neighbors={neighbors} must be 1 or more.')
        self.coreset, self.neighbors, self.reweight, self.seed = coreset, neighbors, reweight, seed
        self.bank = torch.empty(0, 0)
        self._added: list[Tensor] = []

    def add(self, maps: Tensor) -> None:
        """Take in maps (B, D, h, w) of normal images."""
        self._added.append(to_rows(maps))

    def finish(self, show_progress: bool = True) -> None:
        """Choose the patches that are kept."""
        patches = torch.cat(self._added)
        self._added = []
        count = max(1, round(self.coreset * len(patches)))
        self.bank = patches[choose_coreset(patches, count, self.seed, show_progress)]
        _check_neighbors(self.neighbors, self.bank)

    def score(self, maps: Tensor) -> Tensor:
        """Measure the distance of each position to the memory: (B, D, h, w) to (B, h, w)."""
        distances, _ = find_neighbors(to_rows(maps), self.bank, self.neighbors)
        return to_scores(distances.mean(1), maps)

    def weigh(self, maps: Tensor, scores: Tensor) -> Tensor | None:
        """Return the weights (B,) of equation 7, or None if they are not asked for."""
        if not self.reweight:
            return None
        places = scores.flatten(1).argmax(1)  # (B,)
        unusual = maps.flatten(2)[torch.arange(len(maps), device=maps.device), :, places]  # (B, D)
        _, nearest = find_neighbors(unusual, self.bank)
        _, support = find_neighbors(self.bank[nearest[:, 0]], self.bank, SUPPORT)  # (B, S), itself first
        distances = (unusual[:, None] - self.bank[support]).square().sum(2).sqrt()
        return 1 - distances.softmax(1)[:, 0]

    def state(self) -> dict[str, Tensor]:
        """Return the memory."""
        return {'bank': self.bank}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Set the memory."""
        self.bank = state['bank']


def _check_neighbors(neighbors: int, bank: Tensor) -> None:
    if neighbors > len(bank):
        raise UserError(
            f'{neighbors} neighbors are asked for, and the memory holds {len(bank)} patches: ask for fewer, or fit on '
            'more images.'
        )
