"""Extractors for type II early fusion: features that no later loss changes."""

import copy
from typing import Any

import numpy as np
from scipy import sparse
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import check_random_state

from skfusion.preprocessing import table_preprocessor

_BATCH = 1024
_HIDDEN = 128
"""Units of an autoencoder's hidden layers, one on each side of the embedding."""


class FrozenModule(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """A torch module as a transformer: evaluated, never trained.

    Parameters
    ----------
    module : nn.Module
        Takes float32 (B, …), zeros where a sequence is padded, and gives (B, D). It is copied at fit.
    device : str or torch.device, default="auto"
        Where it runs.
    """

    def __init__(self, module: Any, device: Any = "auto") -> None:
        self.module = module
        self.device = device

    def fit(self, X: Any, y: Any = None) -> "FrozenModule":
        """Copy the module; nothing is learnt."""
        # It stays on the CPU between calls, so that its pickle loads on any machine.
        self.module_ = copy.deepcopy(self.module).cpu().eval()
        for parameter in self.module_.parameters():
            parameter.requires_grad_(False)
        self._n_features_out = self.transform(X[:1]).shape[1]
        return self

    def transform(self, X: Any) -> Any:
        """Return what the module makes of `X`, float32 (n_samples, D)."""
        import torch

        from skfusion.training.device import resolve_device

        device = resolve_device(self.device)
        module = self.module_ if device.type == "cpu" else copy.deepcopy(self.module_).to(device)
        parts = []
        with torch.inference_mode():
            for start in range(0, X.shape[0], _BATCH):
                rows = X[start : start + _BATCH]
                rows = np.array(rows.toarray() if sparse.issparse(rows) else rows, dtype=np.float32)
                batch = torch.from_numpy(np.where(np.isnan(rows), np.float32(0), rows)).to(device)
                parts.append(module(batch).flatten(1).cpu().numpy())
        return np.concatenate(parts)


class Autoencoder(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """An encoder trained by reconstruction: the squared error of the standardised values.

    Parameters
    ----------
    n_latent : int, default=32
        Width of the embedding.
    max_epochs : int, default=50
        Passes over the training data.
    scale : bool, default=True
        Standardise what is encoded and reconstructed.
    device : str or torch.device, default="auto"
        Where it is trained.
    random_state : int, RandomState or None, default=None
        Initial weights, dropout, and order of the batches.
    """

    def __init__(
        self,
        n_latent: int = 32,
        *,
        max_epochs: int = 50,
        scale: bool = True,
        device: Any = "auto",
        random_state: Any = None,
    ) -> None:
        self.n_latent = n_latent
        self.max_epochs = max_epochs
        self.scale = scale
        self.device = device
        self.random_state = random_state

    def fit(self, X: Any, y: Any = None) -> "Autoencoder":
        """Train on the values `X` of one modality (n_samples, …); `y` is not used."""
        from skfusion.encoders.dense import MLP
        from skfusion.fusion.single import SingleModality
        from skfusion.joint import JointFusionRegressor
        from skfusion.training.device import resolve_device, seeded

        seed = int(check_random_state(self.random_state).randint(np.iinfo(np.int32).max))
        self.preprocessor_ = table_preprocessor("X", X, scale=self.scale, project=True, random_state=seed).fit(X)
        table = self._table(X)
        with seeded(seed, resolve_device(self.device)):
            encoder = MLP(table.shape[1:], self.n_latent, n_hidden=_HIDDEN, dropout_rate=0.0)
            single = SingleModality(self.n_latent, _HIDDEN)
        self.network_ = JointFusionRegressor(
            encoder,
            single,
            n_latent=_HIDDEN,
            scale=False,
            max_epochs=self.max_epochs,
            weight_decay=0.0,
            device=self.device,
            random_state=seed,
        ).fit(table, table if table.shape[1] > 1 else table[:, 0])
        self._n_features_out = self.n_latent
        return self

    def transform(self, X: Any) -> Any:
        """Return the embedding, float32 (n_samples, n_latent)."""
        return self.network_.embed(self._table(X), "X")

    def _table(self, X: Any) -> Any:
        table = self.preprocessor_.transform(X)
        return table.toarray() if sparse.issparse(table) else table
