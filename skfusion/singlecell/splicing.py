"""Spliced and unspliced counts as two modalities of a cell."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from skfusion._base import FusionEstimator, fits
from skfusion._build import resolve
from skfusion._compat import as_asked, integer, options, real
from skfusion.imputation.strategy import Strategy
from skfusion.modalities import Modalities
from skfusion.modalities.backed import in_memory
from skfusion.objectives import OBJECTIVES
from skfusion.preprocessing import to_dense
from skfusion.pretrain import MultimodalPretrainer
from skfusion.singlecell._batches import Batches
from skfusion.singlecell._counts import learn_counts
from skfusion.singlecell._imputer import OTHER, fit_imputers
from skfusion.singlecell._infer import InfersVelocity
from skfusion.singlecell._layers import choose_genes, fitted_genes, loadings, read_fitted, read_layers
from skfusion.singlecell._libraries import Libraries, has
from skfusion.singlecell._mudata import anndata_of, rows_in
from skfusion.singlecell._sample import DrawsCells

_OUTPUTS = ("log_normalized", "normalized", "counts")


class SplicingFusion(DrawsCells, InfersVelocity, ClassNamePrefixFeaturesOutMixin, TransformerMixin, FusionEstimator):
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
    mod : str, default=None
        Which AnnData of a MuData holds the layers and ``obs``; None finds the only one that has them. Cells that the
        MuData has beside it lack both layers.
    method : {"auto", "dynamical", "mixture", "minimal", "steady_state"} or None, default="auto"
        The model of transcription that velocity is inferred from [3]_: kinetics along a latent time that all genes
        share (`dynamical_velocity`); a mixture of states whose times the fused embedding tells, trained with it
        (`skfusion.decoders.VelocityDecoder`); distances from a steady state, of moments that the fused embedding tells
        ("minimal", `skfusion.decoders.MinimalVelocityDecoder`) or of those observed. "auto" is "dynamical" where the
        cells have what it needs, else none; a method by name warns where it cannot be fitted. None saves its time.
    genes : list of str, default=None
        Which genes to fit; None chooses `n_top_genes`.
    n_top_genes : int or None, default=2000
        So many genes whose log-normalised values vary most in either layer; None takes all.
    fusion : str, class, functools.partial or nn.Module, default="zorro"
        As in `MultimodalPretrainer`.
    objectives : "auto" or list, default="auto"
        As in `MultimodalPretrainer`, "expression" and "generative", by name or class, with the `likelihood` and
        `dispersion` below. "auto" is contrast at a temperature of .07 where there are two layers, and expression, which
        `predict_expression` and `score` need, and `sample` under the `generator` "density".
    likelihood : {"negative_binomial", "zero_inflated_negative_binomial", "poisson"}, default="negative_binomial"
        Distribution of counts. Layers that are no counts, such as scaled ones, are normal, of which a warning tells.
    dispersion : {"gene", "gene-cell"}, default="gene"
        Whether θ is one a gene, or one a gene and cell.
    n_tokens : int, default=8
        Patches of genes a layer, at most 512.
    imputer : str, Strategy or None, default="linear"
        A strategy of `ModalityImputer`. The log-normalised expression of a layer that a cell lacks is the average of
        what it predicts, ridge regression by default, and what the network does; None leaves it to the network.
    target_sum : float, default=10000
        Total over all genes that expression is normalised to.
    generator : {"density", "vae"}, default="density"
        What `sample` draws from: a density of the embeddings, fitted after training, or the prior of a latent that is
        trained with them, for which the objective "generative" is added, all that `sample` then needs.
    n_density : int, default=20
        Principal components in which the density of embeddings is fitted, under the `generator` "density" alone.
    learn_genes : bool, default=False
        Whether training changes the genes' identities, which start as loadings of principal components of both layers.
        With few cells they are better left there.
    modality_dropout : float, default=0.0
        Probability with which a layer is left out of a cell in training; one is always kept. It brings the fused
        embedding of cells that lack a layer closer to that of others; a layer's own needs none.
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
        Neighbours over which the moments of velocity are taken: training cells that have both layers, near in the
        principal components of the spliced layer.
    lr : float, default=0.003
        Peak of the learning rate.
    max_epochs : int, default=30
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
    .. [3] Bergen et al., "Generalizing RNA velocity to transient cell states through dynamical modeling", Nature
       Biotechnology 38, 2020.

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
        "mod": [str, None],
        "method": [options("auto", "dynamical", "mixture", "minimal", "steady_state"), None],
        "genes": ["array-like", None],
        "n_top_genes": [integer(1), None],
        "objectives": [list, tuple, options("auto")],
        "likelihood": [options("negative_binomial", "zero_inflated_negative_binomial", "poisson")],
        "dispersion": [options("gene", "gene-cell")],
        "n_tokens": [integer(1)],
        "imputer": [str, Strategy, None],
        "target_sum": [real(0, closed="neither")],
        "generator": [options("density", "vae")],
        "n_density": [integer(1)],
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
        mod: Any = None,
        method: Any = "auto",
        genes: Any = None,
        n_top_genes: Any = 2000,
        fusion: Any = "zorro",
        objectives: Any = "auto",
        likelihood: str = "negative_binomial",
        dispersion: str = "gene",
        n_tokens: int = 8,
        imputer: Any = "linear",
        target_sum: float = 1e4,
        generator: str = "density",
        n_density: int = 20,
        learn_genes: bool = False,
        modality_dropout: float = 0.0,
        n_hidden: int = 128,
        n_latent: int = 64,
        n_heads: int = 4,
        n_fusion_layers: int = 2,
        dropout_rate: float = 0.2,
        n_neighbors: int = 30,
        lr: float = 3e-3,
        max_epochs: int = 30,
        batch_size: Any = "auto",
        device: Any = "auto",
        random_state: Any = None,
        verbose: int = 0,
    ) -> None:
        self.spliced_layer = spliced_layer
        self.unspliced_layer = unspliced_layer
        self.batch_key = batch_key
        self.present_keys = present_keys
        self.mod = mod
        self.method = method
        self.genes = genes
        self.n_top_genes = n_top_genes
        self.fusion = fusion
        self.objectives = objectives
        self.likelihood = likelihood
        self.dispersion = dispersion
        self.n_tokens = n_tokens
        self.imputer = imputer
        self.target_sum = target_sum
        self.generator = generator
        self.n_density = n_density
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
        X : AnnData, MuData, dict or Modalities
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
        for name in () if self.objectives == "auto" else self.objectives:
            if isinstance(name, str):
                resolve("objectives", name, OBJECTIVES)  # velocity takes a while, and names are known now
        whole = read_layers(X, self._keys, self.present_keys, self.mod, fit=True)
        there = whole.present.any(axis=1)
        self._batches = None
        if self.batch_key is not None:
            self._batches = Batches(self.batch_key).fit(anndata_of(X, self.mod, self._keys))
        codes = self._covariates(X, len(whole))
        if not there.all():
            whole, codes = whole[there], None if codes is None else codes[there]
        if len(whole) < 2:
            raise ValueError(f"{len(whole)} cells have a layer; due are at least 2.")
        self.layers_ = list(whole.names)
        self.n_features_in_ = whole[whole.names[0]].shape[1]
        self._has_names = whole._columns[whole.names[0]] is not None
        self.genes_ = np.array(choose_genes(whole, self.genes, self.n_top_genes), dtype=object)
        self._counts = learn_counts(whole)
        chosen = fitted_genes(whole, self.genes_, self._counts, None if self._has_names else self.n_features_in_)
        self._libraries = Libraries().fit(whole, chosen, self._counts)
        seed = int(check_random_state(self.random_state).randint(np.iinfo(np.int32).max))
        self._fit_velocity(chosen, seed)
        self.pretrainer_ = self._pretrainer(seed, codes, loadings(chosen, self.n_latent, seed)).fit(chosen)
        # What was trained is a copy; these hold training data.
        self.pretrainer_.objectives = list(self.pretrainer_.objectives_)
        self._imputers = {}
        if self.imputer is not None and len(self._counts) == 2:
            self._imputers = fit_imputers(self.imputer, whole, chosen, self.target_sum, device=self.device, seed=seed)
        self._density = self._fit_density(chosen, codes, seed)
        return self

    # reading

    @property
    def _keys(self) -> dict[str, Any]:
        return {"spliced": self.spliced_layer, "unspliced": self.unspliced_layer}

    def _read(self, X: Any) -> Modalities:
        """Return the layers of `X` over the fitted genes, checked to be of the kinds that were fitted."""
        whole = read_layers(X, self._keys, self.present_keys, self.mod, fit=False)
        width = None if self._has_names else self.n_features_in_
        return read_fitted(whole, self.layers_, self.genes_, self._counts, width)

    # training

    def _pretrainer(self, seed: int, codes: Any, start: Any) -> MultimodalPretrainer:
        from skfusion.encoders import Expression, GeneEmbedding
        from skfusion.training.device import resolve_device, seeded

        with seeded(seed, resolve_device(self.device)):
            genes = GeneEmbedding(len(self.genes_), self.n_latent, start, learn=self.learn_genes)
            objectives = self._build_objectives(codes)
        encoder = partial(Expression, n_tokens=self.n_tokens, gene_embedding=genes)
        return MultimodalPretrainer(
            objectives,
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
        from skfusion.objectives import Contrastive, Generative
        from skfusion.singlecell._objectives import with_options

        specs = self.objectives
        if isinstance(specs, str):
            specs = [*([Contrastive(temperature=0.07)] if len(self.layers_) > 1 else []), "expression"]
        options = {
            "likelihood": self.likelihood,
            "dispersion": self.dispersion,
            "n_hidden": self.n_hidden,
            "covariates": codes,
        }
        built = [*with_options(specs, options), *self._velocity_objectives()]
        if self.generator == "vae" and not any(isinstance(objective, Generative) for objective in built):
            built.append(Generative(**options))
        return built

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
        X : AnnData, MuData, dict or Modalities
            Cells with one layer or both.

        Returns
        -------
        ndarray of float32 (n_cells, n_latent)
            A cell with no layer gets the mean of the training cells.
        """
        check_is_fitted(self)
        cells = self._read(X)
        return as_asked(self, self.pretrainer_.embed(cells, "fusion"), cells.sample_ids)

    def embed(self, X: Any, head: str = "fusion") -> Any:
        """Return the embedding of one head.

        Parameters
        ----------
        X : AnnData, MuData, dict or Modalities
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

    def predict_expression(self, X: Any, layer: str = "unspliced", *, output: str = "log_normalized") -> Any:
        """Predict the expression of a layer, also where cells lack it.

        Cells that have the layer are predicted from the fused embedding, that is denoised; others from the other
        layer's embedding.

        Parameters
        ----------
        X : AnnData, MuData, dict or Modalities
            Cells with one layer or both.
        layer : {"spliced", "unspliced"}, default="unspliced"
            What to predict.
        output : {"log_normalized", "normalized", "counts"}, default="log_normalized"
            The expected log1p of normalised counts (below the log1p of what is expected), expected normalised counts,
            or expected counts. A layer that was fitted as no counts comes in its own units.

        Returns
        -------
        ndarray of float32 (n_cells, n_genes)
            In the order of `genes_`.
        """
        if output not in _OUTPUTS:
            raise ValueError(f"output is {output!r}; due is one of {list(_OUTPUTS)}.")
        check_is_fitted(self)
        if layer not in self.layers_:
            raise ValueError(f"layer is {layer!r}; due is one of {self.layers_}.")
        from skfusion.decoders.moments import expected_log1p

        cells = self._read(X)
        library = self._library(cells, layer)
        parts = []
        start = 0
        for found in self._decoded(X, cells, layer, library):
            stop = start + len(found.mean)
            if library is None:
                scaler = self.pretrainer_.preprocessors_[layer].transformer[0]
                parts.append(scaler.inverse_transform(found.mean.cpu().numpy()))
            elif output == "counts":
                parts.append(found.mean.cpu().numpy())
            else:
                # Genes that were not fitted have their part in a cell's total.
                scale = self.target_sum * self._libraries.parts[layer] / library[start:stop, None]
                scale = found.mean.new_tensor(scale)  # (B, 1)
                parts.append((expected_log1p(found, scale) if output == "log_normalized" else found.mean * scale).cpu())
            start = stop
        expression = np.concatenate(parts).astype(np.float32)
        if output == "log_normalized" and layer in self._imputers:
            self._average(expression, cells, layer)
        return expression

    def _average(self, expression: Any, cells: Modalities, layer: str) -> None:
        """Average, for cells that lack the layer and have the other one, the network's prediction and the imputer's."""
        other = OTHER[layer]
        rows = np.flatnonzero(has(cells, other) & ~has(cells, layer))
        if len(rows):
            expression[rows] += self._imputers[layer].predict(cells[rows])
            expression[rows] /= 2

    def _library(self, cells: Modalities, layer: str) -> Any:
        return self._libraries.of(cells, layer) if layer in self._counts else None

    def _covariates(self, X: Any, n_cells: int) -> Any:
        """Return what decoders are told of each cell's batch (n_cells, n_batches), None where they are told nothing."""
        if self._batches is None:
            return None
        source = anndata_of(X, self.mod, self._keys)
        return self._batches.one_hot(source, n_cells, rows_in(X, source))

    def _decoded(self, X: Any, cells: Modalities, layer: str, library: Any) -> Iterator[Any]:
        from skfusion.singlecell._decode import decoded

        return decoded(self.pretrainer_, cells, layer, library, self._covariates(X, len(cells)))

    def score(self, X: Any, y: Any = None) -> float:
        """Return the mean log-likelihood of a cell's counts, of all layers that it has, from the fused embedding.

        Parameters
        ----------
        X : AnnData, MuData, dict or Modalities
            Cells with one layer or both.
        y : array-like, default=None
            Never looked at.

        Returns
        -------
        float
            In nats; the larger, the better.

        Raises
        ------
        ValueError
            Where no cell has a layer.
        """
        import torch

        check_is_fitted(self)
        cells = self._read(X)
        known = cells.present.any(axis=1)
        if not known.any():
            raise ValueError(f"none of the {len(cells)} cells of X has a layer, so that there is nothing to score.")
        total = np.zeros(len(cells))
        for column, layer in enumerate(cells.names):
            start = 0
            for found in self._decoded(X, cells, layer, self._library(cells, layer)):
                stop = start + len(found.mean)
                values = to_dense(in_memory(cells[layer][start:stop]))
                if layer not in self._counts:
                    values = self.pretrainer_.preprocessors_[layer].transformer.transform(values)
                there = cells.present[start:stop, column]
                target = torch.from_numpy(np.asarray(values, dtype=np.float32)).to(found.mean.device)
                logs = found.log_prob(target).sum(1).cpu().double().numpy()
                total[start:stop] += np.where(there, logs, 0.0)
                start = stop
        return float(total[known].mean())
