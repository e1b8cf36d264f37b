"""The nearest of many vectors, by FAISS where it is installed."""

from __future__ import annotations

from importlib.util import find_spec

import torch
from torch import Tensor

from mae_toolkit.errors import UserError
from mae_toolkit.evaluation.embeddings.pooling import normalize_rows

CHUNK = 1024  # queries that are compared at once


def find_nearest(queries: Tensor, references: Tensor, k: int, use_faiss: bool | None = None) -> tuple[Tensor, Tensor]:
    """Find the references of greatest cosine similarity.

    Args:
        queries: (M, C).
        references: (N, C).
        k: How many are found for each query.
        use_faiss: Whether FAISS searches; wherever it is installed if None. Both find the same, but for the
            rounding of single precision.

    Returns:
        Cosines (M, k), the greatest first, and rows of the references (M, k); of equal cosines that were found the
        lower row comes first.

    Raises:
        UserError: If there are fewer references than ``k``.
    """
    if k > len(references):
        raise UserError(
            f'{k} neighbors are asked for, and there are {len(references)} images to find them among: ask for fewer.'
        )
    queries, references = normalize_rows(queries), normalize_rows(references)
    if use_faiss is None:
        use_faiss = find_spec('faiss') is not None
    search = _search_faiss if use_faiss else _search_torch
    parts = [_order(*search(part, references, k)) for part in queries.split(CHUNK)]
    cosines, rows = zip(*parts, strict=True)
    return torch.cat(cosines), torch.cat(rows)


def _search_torch(queries: Tensor, references: Tensor, k: int) -> tuple[Tensor, Tensor]:
    cosines, rows = (queries @ references.T).topk(k, dim=1)
    return cosines, rows


def _search_faiss(queries: Tensor, references: Tensor, k: int) -> tuple[Tensor, Tensor]:
    import faiss

    index = faiss.IndexFlatIP(references.shape[1])
    index.add(references.cpu().numpy())
    cosines, rows = index.search(queries.cpu().numpy(), k)
    return torch.from_numpy(cosines).to(queries.device), torch.from_numpy(rows).to(queries.device)


def _order(cosines: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Sort neighbors by cosine and then by row, so that equal ones do not depend on who searched."""
    by_row = rows.argsort(dim=1)
    cosines, rows = cosines.gather(1, by_row), rows.gather(1, by_row)
    by_cosine = cosines.argsort(dim=1, descending=True, stable=True)
    return cosines.gather(1, by_cosine), rows.gather(1, by_cosine)
