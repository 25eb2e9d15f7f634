"""Fusion that predicts from one modality, and lets the others only learn beside it."""

from typing import Any

import torch
from torch import Tensor

from skfusion.fusion.blocks import PooledFusion, stack


class Primary(PooledFusion):
    """The embedding of one modality; the others have heads, and count where it is missing alone.

    A sample without the primary modality gets the mean of the others' embeddings that are present. It is what an
    objective needs that teaches one modality by the others, such as `skfusion.objectives.TableTransfer` [1]_: what is
    predicted where the primary modality is there does not depend on the others.

    As most of what is there has no say in the fused embedding, ``fusion=`` knows it by no name: it comes as the class,
    or as ``functools.partial(Primary, modality="image")``.

    Parameters
    ----------
    widths, n_latent, dropout_rate, n_heads
        As in every fusion of embeddings.
    modality : str, default=None
        The primary modality; None is the first.

    References
    ----------
    .. [1] Jiang et al., "Tabular insights, visual impacts: transferring expertise from tables to images", ICML, 2024.

    Examples
    --------
    >>> from functools import partial
    >>> import numpy as np
    >>> from skfusion import JointFusionClassifier
    >>> from skfusion.fusion import Primary
    >>> rng = np.random.default_rng(0)
    >>> X, y = {"a": rng.normal(size=(40, 3)), "b": rng.normal(size=(40, 2))}, np.arange(40) % 2
    >>> model = JointFusionClassifier(fusion=partial(Primary, modality="b"), max_epochs=1, random_state=0).fit(X, y)
    >>> bool((model.predict_proba(X) == model.predict_proba({"b": X["b"]})).all())
    True
    """

    def __init__(self, widths: dict[str, int], n_latent: int, *, modality: str | None = None, **options: Any) -> None:
        names = list(widths)
        if modality is not None and modality not in names:
            raise ValueError(f"modality of Primary is {modality!r}; due is one of {names}, or None for the first.")
        super().__init__(widths, n_latent, **options)
        self.column = 0 if modality is None else names.index(modality)

    def combine(self, stacked: list[Tensor], present: Tensor) -> Tensor:
        """M x (B, D) -> (B, D)."""
        own, there = stacked[self.column], present[:, self.column : self.column + 1]  # (B, D), (B, 1)
        # What is missing is zero, so the sum of all is that of the others where the primary one is missing.
        others = stack(stacked).sum(1) / present.sum(1, keepdim=True).clamp(min=1)  # (B, D)
        return torch.where(there, own, others)
