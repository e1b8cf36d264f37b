"""Methods of anomaly detection by name; a new one is one file and one entry here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mae_toolkit.errors import UserError
from mae_toolkit.evaluation.anomaly.methods.anomalydino import AnomalyDINO
from mae_toolkit.evaluation.anomaly.methods.method import AnomalyMethod
from mae_toolkit.evaluation.anomaly.methods.padim import PaDiM
from mae_toolkit.evaluation.anomaly.methods.patchcore import PatchCore
from mae_toolkit.evaluation.anomaly.methods.reconstruction import Reconstruction
from mae_toolkit.registry import suggest

METHODS: dict[str, type[AnomalyMethod]] = {
    'patchcore': PatchCore,
    'padim': PaDiM,
    'anomalydino': AnomalyDINO,
    'reconstruction': Reconstruction,
}

__all__ = ['METHODS', 'AnomalyMethod', 'build_method', 'check_method']


def check_method(name: str) -> None:
    """Refuse a name that is no method.

    Raises:
        UserError: With the nearest names.
    """
    if name not in METHODS:
        raise UserError(f'There is no method {name!r}{suggest(name, METHODS)}')


def build_method(name: str, settings: Mapping[str, Any], seed: int = 0) -> AnomalyMethod:
    """Build a method by its name and arguments."""
    check_method(name)
    return METHODS[name](**settings, seed=seed)
