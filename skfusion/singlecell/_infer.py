"""What SplicingFusion says of velocity."""

from typing import Any

import numpy as np
import pandas as pd
from sklearn.utils.validation import check_is_fitted

from skfusion.modalities import Modalities
from skfusion.singlecell._annotate import velocity_slots, write_neighbors
from skfusion.singlecell._velocity import NoVelocity, VelocityModel

_DECODED = ("mixture", "minimal")
"""Methods whose velocity the network decodes."""


class InfersVelocity:
    """RNA velocity and latent time of an estimator of cells, and their way into an AnnData."""

    method: Any
    n_neighbors: int
    genes_: Any
    _has_names: bool
    pretrainer_: Any
    n_hidden: int
    _counts: list[str]
    _read: Any

    def _fit_velocity(self, cells: Modalities, seed: int) -> None:
        """Fit the model of velocity; where there is none to fit, keep the reason for those who ask for it."""
        self._velocity: Any = None
        if self.method is None:
            self._no_velocity = "method is None, so that no velocity was fitted; set method='dynamical', and fit."
            return
        try:
            self._velocity = VelocityModel(self.method, self.n_neighbors, self._counts, seed).fit(cells)
        except NoVelocity as error:
            self._no_velocity = f"no velocity was fitted: {error}"

    def _velocity_objectives(self) -> list[Any]:
        """Return what the network has to learn of velocity."""
        if self.method not in _DECODED or self._velocity is None:
            return []
        from skfusion.objectives import Velocity

        model = self._velocity
        (moments, cells), model.scaled = model.scaled, None
        # Of moments that are divided by their maxima: β is 1 of the counts.
        rates = {"beta": model.ratio, "gamma": model.gamma} if self.method == "minimal" else {}
        return [Velocity(moments, cells, decoder=self.method, n_hidden=self.n_hidden, **rates)]

    def _decode_velocity(self, cells: Modalities, what: str) -> Any:
        """Ask the trained decoder for "velocity" or "time" (n_cells, n_genes)."""
        import torch

        from skfusion.objectives import Velocity

        net = self.pretrainer_.net_
        decoder = next(o for o in net.criterion_ if isinstance(o, Velocity)).module.eval()
        embedding = torch.from_numpy(self.pretrainer_.embed(cells, "fusion"))
        with torch.inference_mode():
            parts = [getattr(decoder, what)(part.to(net.device)).cpu() for part in embedding.split(1024)]
        return torch.cat(parts).numpy()

    def _infer(self, cells: Modalities) -> tuple[Any, Any]:
        """Return velocity (n_cells, n_velocity_genes) and time (n_cells,), None where the method knows none."""
        model = self._velocity
        there = np.any(cells.present, axis=1, keepdims=True)  # (n_cells, 1)
        if self.method not in _DECODED:
            return model.infer(cells)
        velocity = np.where(there, self._decode_velocity(cells, "velocity") * model.span, 0)
        if self.method == "minimal":
            return velocity, None
        from skfusion.decoders.kinetics import DURATION

        time = self._decode_velocity(cells, "time").mean(axis=1) / DURATION
        return velocity, np.where(there[..., 0], time, np.nan)

    def _velocity_model(self) -> Any:
        check_is_fitted(self)
        if self._velocity is None:
            raise ValueError(self._no_velocity)
        return self._velocity

    @property
    def velocity_genes_(self) -> Any:
        """Which of `genes_` have a velocity, a mask (n_genes,)."""
        found = np.zeros(len(self.genes_), dtype=bool)
        found[self._velocity_model().genes] = True
        return found

    def velocity(self, X: Any) -> Any:
        """Return the RNA velocity of cells: how fast their spliced expression changes.

        Moments are taken over the nearest training cells that have both layers, so that a cell with one layer has a
        velocity as well, and no cell's depends on which others come with it. Under "mixture" and "minimal" the
        embedding is decoded.

        Parameters
        ----------
        X : AnnData, dict or Modalities
            Cells with one layer or both.

        Returns
        -------
        ndarray of float32 (n_cells, n_genes)
            In the order of `genes_`; NaN for genes that are no `velocity_genes_`, 0 for a cell with no layer. In
            normalised spliced counts, of a unit of latent time ("dynamical"), of each gene's own time ("mixture"), or
            of 1 / β of each gene ("minimal", "steady_state").

        Raises
        ------
        ValueError
            Where no velocity was fitted, for a reason that the message tells.
        """
        self._velocity_model()
        velocity, _ = self._infer(self._read(X))
        out = np.full((len(velocity), len(self.genes_)), np.nan, dtype=np.float32)
        out[:, self._velocity.genes] = velocity
        return out

    def latent_time(self, X: Any) -> Any:
        """Return how far cells have come: on the clock that all genes share, or ("mixture") on the mean of theirs.

        Parameters
        ----------
        X : AnnData, dict or Modalities
            Cells with one layer or both.

        Returns
        -------
        ndarray (n_cells,)
            From 0 to 1; NaN for a cell with no layer.

        Raises
        ------
        ValueError
            Where no velocity was fitted, or by "steady_state" or "minimal".
        """
        self._velocity_model()
        _, time = self._infer(self._read(X))
        if time is None:
            raise ValueError(f"method is {self.method!r}, which knows no time; set method='dynamical', and fit.")
        return time

    def annotate(self, adata: Any) -> Any:
        """Write embeddings, velocity and kinetics into an AnnData, under the names that scanpy and scVelo look for.

        - ``obsm``: "X_fusion", "X_spliced", "X_unspliced".
        - ``layers``: "Ms", "Mu", "velocity"; NaN for genes without velocity. Under "dynamical" also "fit_t", the time
          since a gene went on.
        - ``obs``: "latent_time".
        - ``var``: "velocity_genes", "velocity_gamma", "velocity_r2", and under "dynamical" the kinetics ``fit_alpha``,
          ``fit_beta``, ``fit_gamma``, ``fit_scaling``, ``fit_t_`` (for how long transcription is on), ``fit_start``,
          ``fit_before`` and ``fit_after`` (when it goes on, and its rates before and after). `PhasePortraitDisplay`
          draws these; scVelo draws a gene that starts from nothing, at 0.
        - ``obsp`` and ``uns``: neighbours, where there are none yet.

        Without a velocity the embeddings alone are written.

        Parameters
        ----------
        adata : AnnData
            Cells with one layer or both; it is changed.

        Returns
        -------
        AnnData
            The same one.
        """
        from skfusion.decoders.kinetics import DURATION

        check_is_fitted(self)
        cells = self._read(adata)
        embeddings = {head: self.pretrainer_.embed(cells, head) for head in ["fusion", *cells.names]}
        written: dict[str, dict[str, Any]] = {"obsm": {f"X_{head}": found for head, found in embeddings.items()}}
        model = self._velocity
        if model is not None:
            spliced, unspliced = model.moments(cells)
            velocity, time = self._infer(cells)
            where = pd.Index(list(map(str, adata.var_names))).get_indexer(pd.Index(self.genes_))
            # Genes that were fitted without names are known by their positions.
            own = (where if self._has_names else self.genes_.astype(int))[model.genes]
            written |= velocity_slots(model, spliced, unspliced, velocity, time, own, adata.n_vars)
        # Nothing is written until all of it is known.
        for slot, entries in written.items():
            for key, values in entries.items():
                getattr(adata, slot)[key] = values
        if model is not None:
            adata.uns["velocity_params"] = {"mode": self.method, "n_neighbors": self.n_neighbors, "duration": DURATION}
        known = "neighbors" in adata.uns or {"connectivities", "distances"} & set(adata.obsp)
        if not known and adata.n_obs > self.n_neighbors:
            write_neighbors(adata, embeddings["fusion"], self.n_neighbors)
        return adata
