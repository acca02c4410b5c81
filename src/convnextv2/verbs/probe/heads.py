"""Classifiers on frozen features: nearest neighbours, and logistic regression."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

if TYPE_CHECKING:
    from sklearn.linear_model import LogisticRegression

Features = NDArray[np.float32]
Labels = NDArray[Any]
"""int64 (N,), the class of each image; or 0 and 1, (N, K), if an image may have several classes or none."""

TEMPERATURE = 0.07
STRENGTHS = (0.001, 0.01, 0.1, 1.0, 10.0)
"""Values that C, the inverse of the regularisation, is chosen from; the strongest regularisation first."""

ITERATIONS = 200
"""At most, of each fit."""

_UNCHOSEN = 0.1
_CELLS = 2**25  # similarities computed at a time


@dataclass(frozen=True)
class LinearProbe:
    """value: accuracy, or mean average precision (of classes that some image has) if images may have several.

    strength: C.  chosen: whether there were labels to choose it with.  converged: within the limit of iterations.
    """

    value: float
    strength: float
    chosen: bool
    converged: bool


def nearest_neighbours(
    train: Features, labels: Labels, others: Features, *, k: int, temperature: float = TEMPERATURE
) -> Labels:
    """Predict the class of each of `others` by the votes of its k nearest (Wu et al. 2018, section 3.4).

    train: (N, D), N at least k, with labels (N,).  others: (M, D).  Nearness is the cosine s, and a vote weighs
    exp(s / temperature). Of equal classes the first wins. Returns (M,).
    """
    bank, known = F.normalize(torch.from_numpy(train)), torch.from_numpy(labels)
    classes = int(known.max()) + 1
    found = []
    for block in F.normalize(torch.from_numpy(others)).split(max(1, _CELLS // len(bank))):
        cosine, nearest = (block @ bank.T).topk(k)
        votes = torch.zeros(len(block), classes).scatter_add_(1, known[nearest], (cosine / temperature).exp())
        found.append(votes.argmax(1))
    return torch.cat(found).numpy()


def linear_probe(train: Features, labels: Labels, others: Features, truth: Labels, *, seed: int = 0) -> LinearProbe:
    """Fit logistic regression on features standardised by the training ones; one per class if images have several.

    train: (N, D) with labels (N,) or (N, K), of at least two classes.  others: (M, D), with truth (M,) or (M, K).
    C is chosen on a fifth of the training labels, drawn by class and by `seed`, the strongest regularisation of equal
    ones; then all of them are fitted.
    """
    heads = _Heads()
    held = held_out(labels, seed)
    can_choose = labels[held].any() if labels.ndim == 2 else held.any()
    values: dict[float, float] = {}
    for strength in STRENGTHS if can_choose else ():
        heads.fit(train[~held], labels[~held], strength)
        values[strength] = heads.score(train[held], labels[held])
    strength = max(values, key=values.__getitem__, default=_UNCHOSEN)
    converged = heads.fit(train, labels, strength)
    return LinearProbe(heads.score(others, truth), strength, bool(values), converged)


def held_out(labels: Labels, seed: int) -> NDArray[np.bool_]:
    """Choose a fifth of the labels, (N,): of each class, rounded, and one if it has two or more; never all of a class.

    Of labels (N, K) a fifth of all images.
    """
    order = np.random.default_rng(seed).permutation(len(labels))
    held = np.zeros(len(labels), bool)
    if labels.ndim == 2:
        held[order[: len(labels) // 5]] = True
        return held
    for label in np.unique(labels):
        members = order[labels[order] == label]
        held[members[: max(1, round(len(members) / 5)) if len(members) > 1 else 0]] = True
    return held


class _Heads:
    """Regressions on the same features, each fit starting from the last: of all classes at once, or one per class."""

    def __init__(self) -> None:
        from sklearn.preprocessing import StandardScaler

        self._scaler = StandardScaler()
        self._heads: dict[int, LogisticRegression] = {}

    def fit(self, features: Features, labels: Labels, strength: float) -> bool:
        """Fit all; returns whether all have converged."""
        features = np.asarray(self._scaler.fit_transform(features))
        converged = True
        for column, target in enumerate([labels] if labels.ndim == 1 else labels.T):
            if np.ptp(target) == 0:  # nothing to learn
                self._heads.pop(column, None)
            else:
                converged &= self._fit(column, features, target, strength)
        return converged

    def _fit(self, column: int, features: Features, target: Labels, strength: float) -> bool:
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.linear_model import LogisticRegression

        head = self._heads.setdefault(column, LogisticRegression(max_iter=ITERATIONS, warm_start=True))
        head.set_params(C=strength)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # the return value reports it
            head.fit(features, target)
        return int(np.max(head.n_iter_)) < ITERATIONS

    def score(self, features: Features, truth: Labels) -> float:
        """Compute the accuracy, or the mean average precision of the classes that some image has; there must be one."""
        features = np.asarray(self._scaler.transform(features))
        if truth.ndim == 1:
            return float(np.mean(self._heads[0].predict(features) == truth))
        from sklearn.metrics import average_precision_score

        found = []
        for column in np.flatnonzero(truth.any(0)).tolist():
            head = self._heads.get(column)
            scores = np.zeros(len(features)) if head is None else head.decision_function(features)
            found.append(float(average_precision_score(truth[:, column], scores)))
        return float(np.mean(found))
