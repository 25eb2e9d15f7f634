"""What SplicingFusion says of velocity."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from sklearn.utils.validation import check_is_fitted

from skfusion._warn import warn
from skfusion.modalities import Modalities
from skfusion.singlecell._annotate import velocity_columns, write, write_neighbors
from skfusion.singlecell._layers import anndata_of
from skfusion.singlecell._velocity import CHUNK, NoVelocity, VelocityModel

_DECODED = ("mixture", "minimal")
"""Methods whose velocity the network decodes."""


class InfersVelocity:
    """RNA velocity and latent time of an estimator of cells, and their way into an AnnData."""

    method: Any
    mod: Any
    _keys: Any
    n_neighbors: int
    genes_: Any
    _has_names: bool
    pretrainer_: Any
    n_hidden: int
    _counts: list[str]
    _read: Any

    def _fit_velocity(self, cells: Modalities, seed: int) -> None:
        """Fit the model of velocity; where there is none to fit, keep the reason for those who ask for it.

        Who has named a method has asked already.
        """
        self._velocity: Any = None
        if self.method is None:
            self._no_velocity = "method is None, so that no velocity was fitted; set method='dynamical', and fit."
            return
        method = "dynamical" if self.method == "auto" else self.method
        try:
            self._velocity = VelocityModel(method, self.n_neighbors, self._counts, seed).fit(cells)
        except NoVelocity as error:
            self._no_velocity = f"no velocity was fitted: {error}"
            if self.method != "auto":
                warn(f"method is {self.method!r}, but {self._no_velocity} method=None or 'auto' goes without.")

    def _velocity_objectives(self) -> list[Any]:
        """Return what the network has to learn of velocity."""
        if self._velocity is None or self._velocity.method not in _DECODED:
            return []
        from skfusion.objectives import Velocity

        model = self._velocity
        (moments, cells), model.scaled = model.scaled, None
        # Of moments that are divided by their maxima: β is 1 of the counts.
        rates = {"beta": model.ratio, "gamma": model.gamma} if model.method == "minimal" else {}
        return [Velocity(moments, cells, decoder=model.method, n_hidden=self.n_hidden, **rates)]

    def _decode_velocity(self, cells: Modalities) -> tuple[Any, Any]:
        """Ask the trained decoder for velocity (n_cells, n_velocity_genes) and, where it knows one, time (n_cells,)."""
        import torch

        from skfusion.decoders.kinetics import DURATION
        from skfusion.objectives import Velocity

        net = self.pretrainer_.net_
        decoder = next(o for o in net.criterion_ if isinstance(o, Velocity)).module.eval()
        there = np.any(cells.present, axis=1)
        with torch.inference_mode():
            parts = torch.from_numpy(self.pretrainer_.embed(cells, "fusion")).to(net.device).split(1024)
            velocity = torch.cat([decoder.velocity(part) for part in parts]).cpu().numpy() * self._velocity.span
            velocity = np.where(there[:, None], velocity, 0)
            if not self._velocity.knows_time:
                return velocity, None
            time = torch.cat([decoder.time(part).mean(dim=1) for part in parts]).cpu().numpy() / DURATION
        return velocity, np.where(there, time, np.nan)

    def _infer(self, cells: Modalities, with_moments: bool = False) -> Iterator[tuple[slice, Any, Any, Any]]:
        """Yield, so that what is dense at once is bounded, which cells, and of them velocity, time and moments.

        Velocity is (n_cells, n_velocity_genes), time (n_cells,) or None where the method knows none, and moments are
        those of spliced and of unspliced, or None where nobody needs them.
        """
        model = self._velocity
        is_decoded = model.method in _DECODED
        for start in range(0, len(cells), CHUNK):
            rows = slice(start, start + CHUNK)
            part = cells[rows]
            moments: Any = model.moments(part) if with_moments or not is_decoded else None
            velocity, time = self._decode_velocity(part) if is_decoded else model.infer(*moments)
            yield rows, velocity, time, moments

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
        X : AnnData, MuData, dict or Modalities
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
        model, cells = self._velocity_model(), self._read(X)
        out = np.full((len(cells), len(self.genes_)), np.nan, dtype=np.float32)
        for rows, velocity, _, _ in self._infer(cells):
            out[rows, model.genes] = velocity
        return out

    def latent_time(self, X: Any) -> Any:
        """Return how far cells have come: on the clock that all genes share, or ("mixture") on the mean of theirs.

        Parameters
        ----------
        X : AnnData, MuData, dict or Modalities
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
        model = self._velocity_model()
        if not model.knows_time:
            raise ValueError(f"method is {model.method!r}, which knows no time; set method='dynamical', and fit.")
        return np.concatenate([time for _, _, time, _ in self._infer(self._read(X))])

    def annotate(self, adata: Any) -> Any:
        """Write embeddings, velocity and kinetics into an AnnData, under the names that scanpy and scVelo look for.

        - ``obsm``: "X_fusion", "X_spliced", "X_unspliced".
        - ``layers``: "Ms", "Mu", "velocity"; NaN for genes without velocity. A cell with no layer has the velocity 0,
          and NaN as its moments.
        - ``obs``: "latent_time".
        - ``var``: "velocity_genes"; "velocity_gamma" and "velocity_r2", the slope of the line of a gene's steady state,
          by its extreme cells, and the share of variance that the line explains. Under "dynamical" also the kinetics
          that velocity then comes from: ``kinetics_before``, ``kinetics_alpha``, ``kinetics_after`` (rates of
          transcription), ``kinetics_start``, ``kinetics_stop`` (when it switches, on a clock on which cells are from 0
          to ``uns["velocity_params"]["duration"]``), ``kinetics_beta``, ``kinetics_gamma`` and ``kinetics_scaling``
          (what is seen of unspliced relative to spliced expression). `PhasePortraitDisplay` draws these. Genes that
          transcription leaves as it found them have the same in scVelo's terms, ``fit_alpha``, ``fit_beta``,
          ``fit_gamma``, ``fit_scaling``, ``fit_t_``, ``fit_u0`` and ``fit_s0``, with times since the switch in the
          layer "fit_t", and scVelo draws them; for others, whose curve it would draw wrongly, these are NaN.
        - ``obsp`` and ``uns``: neighbours in "X_fusion", where there are none yet but those of an earlier call. Cells
          that are no more than `n_neighbors` get none.

        What an earlier call wrote and this one does not, such as the latent time of another method, is removed, also
        where somebody has written over it since. Without a velocity the embeddings alone are written.

        Parameters
        ----------
        adata : AnnData or MuData
            Cells with one layer or both; it is changed. Of a MuData, the AnnData that holds the layers is.

        Returns
        -------
        AnnData or MuData
            The same one.
        """
        check_is_fitted(self)
        given, adata = adata, anndata_of(adata, self.mod, self._keys)
        cells = self._read(adata)
        embeddings = {head: self.pretrainer_.embed(cells, head) for head in ["fusion", *cells.names]}
        slots: dict[str, dict[str, Any]] = {"obsm": {f"X_{head}": found for head, found in embeddings.items()}}
        if self._velocity is not None:
            slots |= self._velocity_slots(cells, adata.var_names)
        # Nothing is written until all of it is known.
        write(adata, slots)
        write_neighbors(adata, embeddings["fusion"], self.n_neighbors)
        return given

    def _velocity_slots(self, cells: Modalities, var_names: Any) -> dict[str, dict[str, Any]]:
        """Return what goes into layers, var, obs and uns of an AnnData with these genes."""
        from skfusion.decoders.kinetics import DURATION

        model = self._velocity
        where = pd.Index(list(map(str, var_names))).get_indexer(pd.Index(self.genes_))
        # Genes that were fitted without names are known by their positions.
        own = (where if self._has_names else self.genes_.astype(int))[model.genes]
        shape = len(cells), len(var_names)
        columns = velocity_columns(model, own, len(var_names))
        layers = {name: np.full(shape, np.nan, dtype=np.float32) for name in ("Ms", "Mu", "velocity")}
        if model.dynamics is not None:
            layers["fit_t"] = np.full(shape, np.nan, dtype=np.float32)
            drawn = np.isfinite(columns["fit_alpha"][own])
        latent_time: Any = np.empty(len(cells)) if model.knows_time else None
        for rows, velocity, time, moments in self._infer(cells, with_moments=True):
            for layer, values in zip(layers.values(), (*moments, velocity)):
                layer[rows, own] = values
            if latent_time is not None:
                latent_time[rows] = time
            if model.dynamics is not None:
                # Each gene's own clock, which starts where its transcription first switches.
                since = np.maximum(DURATION * time[:, None] - model.dynamics.start[drawn], 0)
                layers["fit_t"][rows, own[drawn]] = since
        slots: dict[str, dict[str, Any]] = {
            "layers": layers,
            "var": columns,
            "uns": {"velocity_params": {"mode": model.method, "n_neighbors": model.n_neighbors, "duration": DURATION}},
        }
        if latent_time is not None:
            slots["obs"] = {"latent_time": latent_time}
        return slots
