"""Logistic regression of vectors, by scikit-learn."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from mae_toolkit.evaluation.probes.data import Part, ProbeData, ProbeResult, check_classes, compute_accuracy

STRENGTHS = tuple(float(value) for value in 10 ** np.linspace(-6, 5, 8))  # of C, as CAPI has them
MAX_ITERATIONS = 1000


def fit_logistic(part: Part, strength: float) -> tuple[Pipeline, bool]:
    """Fit logistic regression with an L2 penalty to standardized vectors, in float64.

    Args:
        part: Vectors and labels.
        strength: C of scikit-learn: the greater it is, the weaker the penalty.

    Returns:
        The model, and whether L-BFGS has converged.
    """
    model = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=MAX_ITERATIONS))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter('always', ConvergenceWarning)
        model.fit(part.features.double().numpy(), part.labels.numpy())
    return model, not any(issubclass(warning.category, ConvergenceWarning) for warning in caught)


def run_logistic(data: ProbeData, strengths: Sequence[float] = STRENGTHS) -> ProbeResult:
    """Classify by logistic regression; C is chosen on the held-out part of the training images.

    Args:
        data: Vectors.
        strengths: Values of C.

    Raises:
        UserError: If there is one class only.
    """
    fit, choose = data.fit, data.choose
    check_classes(fit.labels, 'Logistic regression')
    tried = {}
    for strength in strengths:
        model, _ = fit_logistic(fit, strength)
        # The loss where accuracies are equal.
        tried[strength] = score_logistic(model, choose), -compute_loss(model, choose)
    best = max(tried, key=lambda strength: tried[strength])
    model, converged = fit_logistic(data.train, best)
    settings = {'C': best, 'held-out accuracy': tried[best][0]}
    if not converged:
        settings['converged'] = False
    return ProbeResult(
        {'accuracy': score_logistic(model, data.val)}, {'accuracy': score_logistic(model, data.test)}, settings
    )


def score_logistic(model: Pipeline, part: Part) -> float:
    """Compute the accuracy of a model on vectors."""
    return compute_accuracy(model.predict(part.features.double().numpy()), part.labels)


def compute_loss(model: Pipeline, part: Part) -> float:
    """Compute the cross-entropy of a model on vectors whose classes it has learned; infinity if one has no chance."""
    with np.errstate(divide='ignore'):  # of log(0)
        chances = model.predict_log_proba(part.features.double().numpy())
    known = np.isin(part.labels, model.classes_)
    if not known.any():
        return 0.0
    columns = np.searchsorted(model.classes_, part.labels[known])
    return float(-chances[known, columns].mean())
