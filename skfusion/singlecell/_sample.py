"""New cells of SplicingFusion."""

from numbers import Integral
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from skfusion.modalities import Modalities
from skfusion.singlecell._density import Density, LogTotals
from skfusion.singlecell._layers import some


class DrawsCells:
    """Cells that an estimator draws, of a density that is fitted after training or of a prior that training met."""

    generator: str
    n_density: int
    batch_key: Any
    genes_: Any
    layers_: Any
    pretrainer_: Any
    _keys: Any
    _batches: Any
    _counts: Any
    _libraries: Any
    _n_features_out: Any
    _density: Any

    def _fit_density(self, cells: Modalities, codes: Any, seed: int) -> Any:
        """Fit what `sample` draws from: the density of embeddings and log totals, or, beside a prior, of totals."""
        chosen = some(np.arange(len(cells)), seed)
        cells = cells[chosen]
        logs = np.reshape([np.log(self._libraries.of(cells, layer)) for layer in self._counts], (-1, len(cells))).T
        if self.generator == "vae":
            return LogTotals().fit(logs, np.ones((len(cells), 1)) if codes is None else codes[chosen])
        embedding = self.pretrainer_.embed(cells, "fusion")
        points = np.column_stack([embedding, logs])
        spread = np.where(points.std(axis=0) > 0, points.std(axis=0), 1)
        spread[: embedding.shape[1]] = embedding.std()
        return Density(self.n_density, spread).fit(points, seed)

    def sample(self, n_samples: int = 1, *, batch: Any = None, random_state: Any = None) -> Any:
        """Draw new cells.

        Under the `generator` "density", embeddings and totals come from their density in training [1]_, and counts from
        the decoders of "expression". Under "vae", a latent comes from its prior [2]_, totals from a log-normal density
        by batch, and counts from the decoders of "generative".

        Parameters
        ----------
        n_samples : int, default=1
            How many cells.
        batch : str, default=None
            The batch that decoders are told; None draws it as often as it was in training.
        random_state : int, RandomState or None, default=None
            What is drawn.

        Returns
        -------
        AnnData
            The layers under their names, CSR where they are counts, over `genes_`. ``obsm["X_fusion"]`` holds the
            embeddings that were drawn, or ``obsm["X_vae"]`` the latents, which are no embeddings.

        References
        ----------
        .. [1] Ghosh et al., "From variational to deterministic autoencoders", ICLR, 2020.
        .. [2] Kingma and Welling, "Auto-encoding variational Bayes", ICLR, 2014.
        """
        from anndata import AnnData

        from skfusion.singlecell._decode import draw, n_latent_of

        check_is_fitted(self)
        if batch is not None and self._batches is None:
            raise ValueError(
                f"batch is {batch!r}, but no batch_key was fitted; leave it out, or set batch_key and fit."
            )
        if not isinstance(n_samples, Integral) or n_samples < 1:
            raise ValueError(f"n_samples is {n_samples!r}; due is a whole number of at least 1.")
        rng, n = check_random_state(random_state), int(n_samples)
        obs, covariates = pd.DataFrame(index=[f"generated_{i}" for i in range(n)]), None
        if self._batches is not None:
            obs[self.batch_key] = self._batches.draw(n, rng) if batch is None else self._batches.known(batch, n)
            covariates = self._batches.one_hot(AnnData(obs=obs), n)
        # What was fitted says how: `generator` may have been set since.
        key = "X_vae" if isinstance(self._density, LogTotals) else "X_fusion"
        if key == "X_vae":
            places = rng.normal(size=(n, n_latent_of(self.pretrainer_)))
            logs = self._density.sample(np.ones((n, 1)) if covariates is None else covariates, rng)
        else:
            places, logs = np.split(self._density.sample(n, rng), [self._n_features_out], axis=1)
        places = np.ascontiguousarray(places, dtype=np.float32)
        layers = {}
        for layer in self.layers_:
            library = None
            if layer in self._counts:
                library = np.exp(logs[:, self._counts.index(layer)]).astype(np.float32)
            seed = int(rng.randint(2**31 - 1))
            values = draw(self.pretrainer_, places, layer, library, covariates, seed, by_prior=key == "X_vae")
            if library is None:
                values = self.pretrainer_.preprocessors_[layer].transformer[0].inverse_transform(values)
            layers[self._keys[layer]] = values if library is None else sparse.csr_matrix(values)
        var = pd.DataFrame(index=list(map(str, self.genes_)))
        return AnnData(obs=obs, var=var, layers=layers, obsm={key: places})
