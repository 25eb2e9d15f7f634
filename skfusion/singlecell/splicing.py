"""Spliced and unspliced counts as two modalities of a cell."""

import warnings
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from skfusion._base import FusionEstimator, fits
from skfusion._compat import integer, options, real
from skfusion.modalities import Modalities
from skfusion.preprocessing import to_dense
from skfusion.pretrain import MultimodalPretrainer
from skfusion.singlecell._layers import choose_genes, loadings, read_layers, what_is_no_count, with_genes

_OTHER = {"spliced": "unspliced", "unspliced": "spliced"}
_OUTPUTS = ("log_normalized", "normalized", "counts")


class SplicingFusion(ClassNamePrefixFeaturesOutMixin, TransformerMixin, FusionEstimator):
    """Fuse the spliced and the unspliced counts of cells, from AnnData to embeddings, expression and new cells.

    Each layer is a modality whose tokens are patches of genes, and whose genes have one identity in both. Under Zorro's
    masked attention [1]_ the embedding of a layer has seen nothing of the other one. It is trained without labels, by
    contrast between the layers and between each and the fusion, and by predicting the counts of both layers from each
    embedding [2]_. Cells that lack a layer are fitted, embedded and predicted like others.

    Parameters
    ----------
    spliced_layer, unspliced_layer : str or None, default="spliced", "unspliced"
        Layers of the AnnData. With None for one of them the other one is fitted alone. A dict or Modalities holds
        "spliced" and "unspliced".
    batch_key : str, default=None
        Column of ``obs`` that tells batches apart. Decoders are told of it, so that embeddings need not be.
    present_keys : dict of str to str, default=None
        Boolean columns of ``obs`` that say which cells have "spliced", "unspliced".
    method : {"dynamical", "steady_state"}, default="dynamical"
        The model of transcription that velocity is inferred from.
    genes : list of str, default=None
        Which genes to fit; None chooses `n_top_genes`.
    n_top_genes : int or None, default=2000
        So many genes whose log-normalised values vary most in either layer; None takes all.
    fusion : str, class, functools.partial or nn.Module, default="zorro"
        As in `MultimodalPretrainer`.
    objectives : "auto" or list, default="auto"
        As in `MultimodalPretrainer`. "auto" is contrast at a temperature of .07 where there are two layers, and
        expression, which `predict_expression`, `score` and `sample` need.
    likelihood : {"negative_binomial", "zero_inflated_negative_binomial", "poisson"}, default="negative_binomial"
        Distribution of counts. Layers that are no counts, such as scaled ones, are normal, of which a warning tells.
    dispersion : {"gene", "gene-cell"}, default="gene"
        Whether θ is one a gene, or one a gene and cell.
    n_tokens : int, default=8
        Patches of genes a layer, at most 512.
    learn_genes : bool, default=False
        Whether training changes the genes' identities, which start as loadings of principal components of both layers.
        With few cells they are better left there.
    modality_dropout : float, default=0.1
        Probability with which a layer is left out of a cell in training; one is always kept.
    n_hidden : int, default=128
        Width of the decoders' hidden layer.
    n_latent : int, default=64
        Width of the embeddings.
    n_heads : int, default=4
        Attention heads; a divisor of `n_latent`.
    n_fusion_layers : int, default=2
        Layers of the fusion.
    dropout_rate : float, default=0.2
        Share of hidden units dropped in training.
    n_neighbors : int, default=30
        Neighbours over which the moments of velocity are taken.
    lr : float, default=0.002
        Peak of the learning rate.
    max_epochs : int, default=60
        Passes over the cells.
    batch_size : int or "auto", default="auto"
        "auto" is a tenth of the cells, from 64 to 1024.
    device : str or torch.device, default="auto"
        "auto" takes cuda, then mps, then cpu.
    random_state : int, RandomState or None, default=None
        Initial weights, dropout, and order of the batches.
    verbose : int, default=0
        1 shows a progress bar, 2 prints a line an epoch.

    Attributes
    ----------
    genes_ : ndarray of str (n_genes,)
        The genes that are fitted.
    layers_ : list of str
        "spliced", "unspliced", or the one of them that is fitted.
    batches_ : list of str
        Batches seen in fit, where there is a `batch_key`.
    pretrainer_ : MultimodalPretrainer
        What was trained.
    history_ : skorch.History
        Losses and seconds of each epoch.
    n_features_in_ : int
        Genes of the training data.

    References
    ----------
    .. [1] Recasens et al., "Zorro: the masked multimodal transformer", arXiv:2301.09595, 2023.
    .. [2] Lopez et al., "Deep generative modeling for single-cell transcriptomics", Nature Methods 15, 2018.

    Examples
    --------
    >>> import numpy as np
    >>> from anndata import AnnData
    >>> from skfusion.singlecell import SplicingFusion
    >>> rng = np.random.default_rng(0)
    >>> rates = np.exp(rng.normal(size=(100, 2)) @ rng.normal(size=(2, 30)))
    >>> adata = AnnData(layers={"spliced": rng.poisson(3 * rates), "unspliced": rng.poisson(rates)})
    >>> model = SplicingFusion(n_latent=16, max_epochs=5, random_state=0).fit(adata)
    >>> model.transform(adata).shape
    (100, 16)
    >>> del adata.layers["unspliced"]
    >>> model.predict_expression(adata, "unspliced").shape
    (100, 30)
    """

    _parameter_constraints = {
        "spliced_layer": [str, None],
        "unspliced_layer": [str, None],
        "batch_key": [str, None],
        "present_keys": [dict, None],
        "method": [options("dynamical", "steady_state")],
        "genes": ["array-like", None],
        "n_top_genes": [integer(1), None],
        "objectives": [list, tuple, options("auto")],
        "likelihood": [options("negative_binomial", "zero_inflated_negative_binomial", "poisson")],
        "dispersion": [options("gene", "gene-cell")],
        "n_tokens": [integer(1)],
        "learn_genes": ["boolean"],
        "modality_dropout": [real(0, 1)],
        "n_hidden": [integer(1)],
        "n_latent": [integer(1)],
        "n_heads": [integer(1)],
        "n_fusion_layers": [integer(1)],
        "dropout_rate": [real(0, 1)],
        "n_neighbors": [integer(1)],
        "lr": [real(0, closed="neither")],
        "max_epochs": [integer(1)],
        "batch_size": [integer(1), options("auto")],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        spliced_layer: Any = "spliced",
        unspliced_layer: Any = "unspliced",
        *,
        batch_key: Any = None,
        present_keys: Any = None,
        method: str = "dynamical",
        genes: Any = None,
        n_top_genes: Any = 2000,
        fusion: Any = "zorro",
        objectives: Any = "auto",
        likelihood: str = "negative_binomial",
        dispersion: str = "gene",
        n_tokens: int = 8,
        learn_genes: bool = False,
        modality_dropout: float = 0.1,
        n_hidden: int = 128,
        n_latent: int = 64,
        n_heads: int = 4,
        n_fusion_layers: int = 2,
        dropout_rate: float = 0.2,
        n_neighbors: int = 30,
        lr: float = 2e-3,
        max_epochs: int = 60,
        batch_size: Any = "auto",
        device: Any = "auto",
        random_state: Any = None,
        verbose: int = 0,
    ) -> None:
        self.spliced_layer = spliced_layer
        self.unspliced_layer = unspliced_layer
        self.batch_key = batch_key
        self.present_keys = present_keys
        self.method = method
        self.genes = genes
        self.n_top_genes = n_top_genes
        self.fusion = fusion
        self.objectives = objectives
        self.likelihood = likelihood
        self.dispersion = dispersion
        self.n_tokens = n_tokens
        self.learn_genes = learn_genes
        self.modality_dropout = modality_dropout
        self.n_hidden = n_hidden
        self.n_latent = n_latent
        self.n_heads = n_heads
        self.n_fusion_layers = n_fusion_layers
        self.dropout_rate = dropout_rate
        self.n_neighbors = n_neighbors
        self.lr = lr
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.device = device
        self.random_state = random_state
        self.verbose = verbose

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.transformer_tags.preserves_dtype = []  # embeddings are float32
        return tags

    @fits
    def fit(self, X: Any, y: Any = None) -> "SplicingFusion":
        """Train on cells.

        Parameters
        ----------
        X : AnnData, dict or Modalities
            Cells with their layers, sparse or dense; those that lack a layer too.
        y : array-like, default=None
            Never looked at.

        Returns
        -------
        self
            The fitted estimator.

        Raises
        ------
        ValueError
            Where a layer is not there (the message lists those that are), layers are of unequal shape, genes have no
            unique names, or training diverges.
        """
        if self.spliced_layer is None and self.unspliced_layer is None:
            raise ValueError("spliced_layer and unspliced_layer are both None; due is at least one layer.")
        whole = read_layers(X, self._keys, self.present_keys, fit=True)
        there = whole.present.any(axis=1)
        codes = self._learn_batches(X, len(whole))
        if not there.all():
            whole, codes = whole[there], None if codes is None else codes[there]
        self.layers_ = list(whole.names)
        self.n_features_in_ = whole[whole.names[0]].shape[1]
        self._has_names = whole._columns[whole.names[0]] is not None
        self.genes_ = np.array(choose_genes(whole, self.genes, self.n_top_genes), dtype=object)
        self._learn_kinds(whole)
        chosen = self._chosen(whole)
        self._learn_libraries(whole, chosen)
        seed = int(check_random_state(self.random_state).randint(np.iinfo(np.int32).max))
        self.pretrainer_ = self._pretrainer(seed, codes, loadings(chosen, self.n_latent, seed)).fit(chosen)
        return self

    # reading

    @property
    def _keys(self) -> dict[str, Any]:
        return {"spliced": self.spliced_layer, "unspliced": self.unspliced_layer}

    def _read(self, X: Any) -> Modalities:
        """Return the layers of `X` over the fitted genes, checked to be of the kinds that were fitted."""
        whole = read_layers(X, self._keys, self.present_keys, fit=False)
        known = [name for name in whole.names if name in self.layers_]
        if not known:
            raise ValueError(f"X has the layers {whole.names}, and fitted was {self.layers_}; pass one of these.")
        whole = whole.select(known)
        if not (self._has_names and whole._columns[known[0]] is not None):
            width = whole[known[0]].shape[1]
            if width != self.n_features_in_:
                raise ValueError(
                    f"layers have {width} genes; due are {self.n_features_in_}, as at fit, where genes have no names "
                    "to be aligned by. Pass an AnnData, or DataFrames."
                )
        for column, name in enumerate(known):
            odd = what_is_no_count(whole[name], whole.present[:, column])
            if odd is not None and name in self._counts:
                raise ValueError(
                    f"layer {name!r} holds {odd}; due are counts, as at fit. Pass the raw layer, or fit on scaled ones."
                )
        return self._chosen(whole)

    def _learn_kinds(self, X: Modalities) -> None:
        """Learn which layers are counts; warn of those that are not."""
        odd = {name: what_is_no_count(X[name], there) for name, there in zip(X.names, X.present.T)}
        self._counts = [name for name, what in odd.items() if what is None]
        scaled = {name: what for name, what in odd.items() if what is not None}
        if scaled:
            said = "; ".join(f"layer {name!r} holds {what}" for name, what in scaled.items())
            warnings.warn(
                f"{said}, where counts are due. It is standardised instead of log-normalised, and decoded by a normal "
                "distribution; pass raw counts where there are some.",
                UserWarning,
                stacklevel=4,
            )

    def _chosen(self, X: Modalities) -> Modalities:
        """Return the fitted genes: counts as CSR of integers, other layers dense."""
        if not self._has_names or X._columns[X.names[0]] is None:
            names = [str(i) for i in range(self.n_features_in_)] if not self._has_names else None
            if names is None:
                # Fitted by name, and here is an array: as wide as at fit, so it is in that order.
                raise ValueError(
                    "X has no names of genes, and fitted were genes by name; pass an AnnData or DataFrames."
                )
            X = Modalities._of(dict(X._data), dict.fromkeys(X.names, tuple(names)), X.present, X.sample_ids)
        X = with_genes(X, list(self.genes_))
        data = {}
        for column, name in enumerate(X.names):
            if name in self._counts:
                rows = sparse.csr_matrix(X[name])
                there = X.present[:, column]
                if not there.all():
                    rows = sparse.csr_matrix(sparse.diags_array(there.astype(np.int32)) @ _finite(rows))
                data[name] = rows.astype(np.int32)
            else:
                data[name] = to_dense(X[name]).astype(np.float32)
        return Modalities._of(data, X._columns, X.present, X.sample_ids)

    def _learn_batches(self, X: Any, n_cells: int) -> Any:
        """Learn the batches; return them one-hot, None without a `batch_key`."""
        vars(self).pop("batches_", None)
        if self.batch_key is None:
            return None
        values = self._batch_values(X)
        self.batches_ = sorted(pd.unique(values))
        return self._one_hot(values)

    def _batch_values(self, X: Any) -> Any:
        obs = getattr(X, "obs", None)
        if obs is None or self.batch_key not in obs:
            has = "no obs" if obs is None else f"obs {list(obs)}"
            raise ValueError(f"batch_key is {self.batch_key!r}, which X lacks; it has {has}.")
        return obs[self.batch_key].astype(str).to_numpy()

    def _one_hot(self, values: Any) -> Any:
        """Return batches (n_cells, n_batches); one that was not fitted has an equal part in all."""
        codes = pd.Index(self.batches_).get_indexer(values)
        known = np.eye(len(self.batches_), dtype=np.float32)
        return np.where(codes[:, None] >= 0, known[codes], np.float32(1 / len(self.batches_)))

    def _covariates(self, X: Any, n_cells: int) -> Any:
        """Return what decoders are told of cells to predict: without a `batch_key` in them, all batches equally."""
        if self.batch_key is None:
            return None
        if self.batch_key in getattr(X, "obs", ()):
            return self._one_hot(self._batch_values(X))
        return np.full((n_cells, len(self.batches_)), 1 / len(self.batches_), dtype=np.float32)

    def _learn_libraries(self, whole: Modalities, chosen: Modalities) -> None:
        """Learn totals over the fitted genes, their share of all genes, and how those of the layers go together."""
        self.library_sizes_: dict[str, float] = {}
        self._shares_fitted: dict[str, float] = {}
        logs = {}
        for column, name in enumerate(chosen.names):
            if name not in self._counts:
                continue
            there = chosen.present[:, column]
            own = _totals(chosen[name])[there]
            every = _totals(_finite(sparse.csr_matrix(whole[name])))[there]
            if not own.any():
                raise ValueError(f"layer {name!r} holds no count at all; leave it out, or pass one that does.")
            self.library_sizes_[name] = float(np.median(own[own > 0]))
            self._shares_fitted[name] = float(own.sum() / every.sum())
            logs[name] = np.where(there, np.log(np.maximum(_totals(chosen[name]), 1)), np.nan)
        self._library_lines: dict[str, tuple[float, float]] = {}
        if len(logs) == 2:
            for name, other in _OTHER.items():
                x, y = logs[other], logs[name]
                both = np.isfinite(x) & np.isfinite(y)
                if both.sum() > 2 and np.ptp(x[both]) > 0:
                    slope = np.cov(x[both], y[both])[0, 1] / np.var(x[both], ddof=1)
                    self._library_lines[name] = (float(y[both].mean() - slope * x[both].mean()), float(slope))

    # training

    def _pretrainer(self, seed: int, codes: Any, start: Any) -> MultimodalPretrainer:
        from skfusion.encoders import Expression, GeneEmbedding
        from skfusion.training.device import resolve_device, seeded

        with seeded(seed, resolve_device(self.device)):
            genes = GeneEmbedding(len(self.genes_), self.n_latent, start, learn=self.learn_genes)
        encoder = partial(Expression, n_tokens=self.n_tokens, gene_embedding=genes)
        return MultimodalPretrainer(
            self._build_objectives(codes),
            encoder,
            self.fusion,
            modality_dropout=self.modality_dropout if len(self.layers_) > 1 else 0.0,
            n_hidden=self.n_hidden,
            n_latent=self.n_latent,
            n_heads=self.n_heads,
            n_fusion_layers=self.n_fusion_layers,
            dropout_rate=self.dropout_rate,
            lr=self.lr,
            max_epochs=self.max_epochs,
            batch_size=self.batch_size,
            device=self.device,
            random_state=seed,
            verbose=self.verbose,
        )

    def _build_objectives(self, codes: Any) -> Any:
        if self.objectives != "auto":
            return list(self.objectives)
        from skfusion.objectives import Contrastive, Expression

        expression = Expression(
            likelihood=self.likelihood, dispersion=self.dispersion, n_hidden=self.n_hidden, covariates=codes
        )
        return [expression] if len(self.layers_) < 2 else [Contrastive(temperature=0.07), expression]

    # embeddings

    @property
    def history_(self) -> Any:
        """Skorch's history: losses and seconds of each epoch."""
        return self.pretrainer_.history_

    @property
    def _n_features_out(self) -> int:
        return self.pretrainer_._n_features_out

    def transform(self, X: Any) -> Any:
        """Return the fused embedding.

        Parameters
        ----------
        X : AnnData, dict or Modalities
            Cells with one layer or both.

        Returns
        -------
        ndarray of float32 (n_cells, n_latent)
            A cell with no layer gets the mean of the training cells.
        """
        return self.embed(X, "fusion")

    def embed(self, X: Any, head: str = "fusion") -> Any:
        """Return the embedding of one head.

        Parameters
        ----------
        X : AnnData, dict or Modalities
            Cells with one layer or both.
        head : {"fusion", "global", "spliced", "unspliced"}, default="fusion"
            The fused embedding, that of all tokens, or that of one layer, which has seen nothing of the other.

        Returns
        -------
        ndarray of float32 (n_cells, n_latent)
            A cell without what the head needs gets the mean of the training cells.
        """
        check_is_fitted(self)
        return self.pretrainer_.embed(self._read(X), head)

    # expression

    def predict_expression(
        self, X: Any, layer: str = "unspliced", *, output: str = "log_normalized", target_sum: float = 1e4
    ) -> Any:
        """Predict the expression of a layer, also where cells lack it.

        Cells that have the layer are predicted from the fused embedding, that is denoised; others from the other
        layer's embedding.

        Parameters
        ----------
        X : AnnData, dict or Modalities
            Cells with one layer or both.
        layer : {"spliced", "unspliced"}, default="unspliced"
            What to predict.
        output : {"log_normalized", "normalized", "counts"}, default="log_normalized"
            The expected log1p of normalised counts (below the log1p of what is expected), expected normalised counts,
            or expected counts. A layer that was fitted as no counts comes in its own units.
        target_sum : float, default=10000
            Total over all genes that counts are normalised to.

        Returns
        -------
        ndarray of float32 (n_cells, n_genes)
            In the order of `genes_`. A cell with no layer gets the mean of the training cells.
        """
        if output not in _OUTPUTS:
            raise ValueError(f"output is {output!r}; due is one of {list(_OUTPUTS)}.")
        check_is_fitted(self)
        if layer not in self.layers_:
            raise ValueError(f"layer is {layer!r}; due is one of {self.layers_}.")
        from skfusion.decoders.moments import expected_log1p

        parts = []
        for decoded, library in self._decoded(X, layer):
            if library is None:
                scaler = self.pretrainer_.preprocessors_[layer].transformer[0]
                parts.append(scaler.inverse_transform(decoded.mean.cpu().numpy()))
                continue
            # Genes that were not fitted have their part in a cell's total.
            scale = target_sum * self._shares_fitted[layer] / library.unsqueeze(1)  # (B, 1)
            if output == "log_normalized":
                found = expected_log1p(decoded, scale)
            else:
                found = decoded.mean if output == "counts" else decoded.mean * scale
            parts.append(found.cpu().numpy())
        return np.concatenate(parts).astype(np.float32)

    def _decoded(self, X: Any, layer: str) -> Iterator[tuple[Any, Any]]:
        """Yield distributions of a layer over cells, and the cells' totals in it, None where it is no counts."""
        import torch

        cells = self._read(X)
        covariates = self._covariates(X, len(cells))
        objective = self._expression()
        pretrainer = self.pretrainer_
        data = pretrainer._tensors(_complete(cells, self.layers_, pretrainer))
        objective.eval()
        start = 0
        for output in pretrainer.net_.outputs(data):
            stop = start + len(output.fused)
            rows = slice(start, stop)
            with torch.inference_mode():
                yield self._decode(
                    objective, output, layer, cells[rows], None if covariates is None else covariates[rows]
                )
            start = stop

    def _decode(self, objective: Any, output: Any, layer: str, cells: Modalities, covariates: Any) -> tuple[Any, Any]:
        import torch

        device = output.fused.device
        there = cells.present[:, cells.names.index(layer)] if layer in cells else np.zeros(len(cells), dtype=bool)
        given = None if covariates is None else torch.from_numpy(covariates).to(device)
        library = None
        if layer in self._counts:
            library = torch.from_numpy(self._libraries(cells, layer, there)).to(device)
        fused = objective.decode(layer, "fusion", output.fused, library=library, batch=given)
        other = _OTHER[layer]
        if there.all() or other not in self.layers_:
            return fused, library
        crossed = objective.decode(layer, other, output.heads[other], library=library, batch=given)
        return _choose(torch.from_numpy(there).to(device), fused, crossed), library

    def _libraries(self, cells: Modalities, layer: str, there: Any) -> Any:
        """Return the totals of a layer over the fitted genes; from those of the other layer where it is missing."""
        found = np.full(len(cells), self.library_sizes_[layer])
        other = _OTHER[layer]
        if layer in self._library_lines and other in cells:
            known = cells.present[:, cells.names.index(other)]
            intercept, slope = self._library_lines[layer]
            logs = np.log(np.maximum(_totals(cells[other]), 1))
            found = np.where(known, np.exp(intercept + slope * logs), found)
        if layer in cells:
            found = np.where(there, np.maximum(_totals(cells[layer]), 1), found)
        return found.astype(np.float32)

    def _expression(self) -> Any:
        from skfusion.objectives import Expression

        found = next((o for o in self.pretrainer_.net_.criterion_ if isinstance(o, Expression)), None)
        if found is None:
            raise ValueError(
                f"this needs the objective 'expression', and trained were {list(self.pretrainer_.objectives_)}; leave "
                "objectives at 'auto', or add it."
            )
        return found

    def score(self, X: Any, y: Any = None) -> float:
        """Return the mean log-likelihood of a cell's counts, of all layers that it has, from the fused embedding.

        Parameters
        ----------
        X : AnnData, dict or Modalities
            Cells with one layer or both.
        y : array-like, default=None
            Never looked at.

        Returns
        -------
        float
            In nats; the larger, the better.
        """
        import torch

        check_is_fitted(self)
        cells = self._read(X)
        total = np.zeros(len(cells))
        for column, layer in enumerate(cells.names):
            start = 0
            for decoded, library in self._decoded(X, layer):
                stop = start + len(decoded.mean)
                values = to_dense(cells[layer][start:stop])
                if library is None:
                    values = self.pretrainer_.preprocessors_[layer].transformer.transform(values)
                there = cells.present[start:stop, column]
                target = torch.from_numpy(np.asarray(values, dtype=np.float32)).to(decoded.mean.device)
                logs = decoded.log_prob(target).sum(1).cpu().double().numpy()
                total[start:stop] += np.where(there, logs, 0.0)
                start = stop
        return float(total[cells.present.any(axis=1)].mean())


def _totals(rows: Any) -> Any:
    """Return the sum over genes of each cell (n_cells,), float64."""
    return np.asarray(rows.sum(axis=1), dtype=np.float64).ravel()


def _finite(rows: Any) -> Any:
    """Return CSR whose values, those of missing cells too, are finite."""
    if rows.dtype.kind != "f" or np.isfinite(rows.data).all():
        return rows
    rows = rows.copy()
    rows.data = np.nan_to_num(rows.data, posinf=0, neginf=0)
    return rows


def _complete(cells: Modalities, layers: list[str], pretrainer: Any) -> Any:
    """Return `cells` as the pretrainer wants them, with the layers that they lack."""
    from skfusion.modalities import check_modalities

    return check_modalities(pretrainer, cells, reset=False)


def _choose(there: Any, first: Any, second: Any) -> Any:
    """Return the distribution that is `first` where cells are `there` (B,), else `second`."""
    import torch

    parameters = {
        name: torch.where(there.unsqueeze(1), getattr(first, name), getattr(second, name))
        for name in first.arg_constraints
    }
    return type(first)(**parameters, validate_args=False)
