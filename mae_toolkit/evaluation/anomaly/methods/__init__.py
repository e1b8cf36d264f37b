"""Methods of anomaly detection by name; a new one is one file and one entry here."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
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

__all__ = ['METHODS', 'AnomalyMethod', 'build_method', 'check_method', 'list_settings', 'refuse_strays']


def check_method(name: str) -> None:
    """Refuse a name that is no method.

    Raises:
        UserError: With the nearest names.
    """
    if name not in METHODS:
        raise UserError(f'There is no method {name!r}{suggest(name, METHODS)}')


def list_settings(name: str) -> list[str]:
    """List the arguments of a method, without its seed."""
    return [key for key in inspect.signature(METHODS[name]).parameters if key != 'seed']


def refuse_strays(methods: Sequence[str], settings: Mapping[str, Any]) -> None:
    """Refuse settings that none of the methods takes.

    Raises:
        UserError: With those that they take.
    """
    known = [key for name in methods for key in list_settings(name)]
    for key in settings:
        if key not in known:
            raise UserError(f'{" and ".join(methods)}: there is no setting {key!r}{suggest(key, known)}')


def build_method(name: str, settings: Mapping[str, Any], seed: int = 0) -> AnomalyMethod:
    """Build a method by its name, with those of the settings that it takes."""
    check_method(name)
    return METHODS[name](**{key: settings[key] for key in list_settings(name) if key in settings}, seed=seed)
