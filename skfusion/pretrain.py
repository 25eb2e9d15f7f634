"""Self-supervision: encoders and a fusion that learn without labels."""

import copy
import math
from numbers import Integral, Real
from typing import Any

import numpy as np
from sklearn.model_selection import ShuffleSplit
from sklearn.utils import Bunch, check_random_state
from sklearn.utils.validation import check_is_fitted

from skfusion._base import fits
from skfusion._build import build_objectives, prepared
from skfusion._compat import options, real
from skfusion._network import NetworkEstimator, batch_size
from skfusion._rehearsal import Stored, carry_projections, nearest_to_centres
from skfusion._retrieval import most_similar
from skfusion._targets import drop_empty
from skfusion._warn import warn
from skfusion.modalities import Modalities, check_modalities

_MIN_SAMPLES_TO_HOLD_OUT = 50
_FEW_TO_CONTRAST = 16
"""Fewer samples in a batch that have two modalities are easily told apart."""
_INSTEAD = "'reconstruction' and 'masked' learn from each modality by itself"
_REHEARSAL = "rehearsal"
"""The objective that `partial_fit` adds."""
_REHEARSAL_WEIGHT = 200.0
"""Its error is a mean over units, and small: with less weight, embeddings drift from under what was fitted on them."""


class MultimodalPretrainer(NetworkEstimator):
    """Encoders and a fusion trained without labels, on samples of which many may lack modalities.

    What it learns is handed on: ``JointFusionClassifier(pretrained=FrozenEstimator(pretrainer))`` starts from its
    encoders and fusion, ``EarlyFusionTransformer(transformers={"rna": FrozenEstimator(pretrainer)})`` and
    ``ModalityImputer(encoders=FrozenEstimator(pretrainer))`` work on its embeddings.

    Parameters
    ----------
    objectives : "auto" or list, default="auto"
        What is learned, by name (see `skfusion.objectives`) or as instances; their losses are added up. "auto" is
        ``["contrastive"]`` where samples have two modalities or more, else ``["reconstruction"]``.
    encoders : "auto", str, nn.Module, transformer or dict by modality, default="auto"
        As in `JointFusionClassifier`.
    fusion : str, class, functools.partial or nn.Module, default="zorro"
        As in `JointFusionClassifier`. Under "zorro" a modality's embedding has seen nothing of the others, so that
        contrast between modalities cannot be won by copying.
    modalities : dict or list, default=None
        How `X` is split, or which modalities to take; see the guide on input.
    weights : dict of str to float, default=None
        What the losses of objectives are multiplied by, by name; 1 for those it does not name. "rehearsal" is that of
        `partial_fit`, 200 by default.
    pretrained : estimator, default=None
        Another pretrainer to start from, cloned and fitted on the same samples; ``FrozenEstimator(p)`` keeps its fit,
        and may also be of a joint estimator.
    modality_dropout : float, dict of str to float or "curriculum", default=0.0
        Probability with which a present modality is left out of a sample in training; one is always kept.
    fill_missing : {"token", "prior"} or None, default=None
        What stands in for a missing modality before the fusion; see `JointFusionClassifier`.
    drop_token : float, default=0.0
        Share of a modality's tokens that is left out in training, where it has several.
    n_hidden : int, default=128
        Width of the encoders' hidden layers.
    n_latent : int, default=64
        Width of the embeddings.
    n_layers : int, default=1
        Hidden layers of an encoder.
    n_heads : int, default=4
        Attention heads, where the fusion has attention; a divisor of `n_latent`.
    n_fusion_layers : int, default=2
        Layers of the fusion, where it is a transformer.
    dropout_rate : float, default=0.2
        Share of hidden units dropped in training.
    scale : bool, default=True
        Standardise numbers, log-normalise counts.
    lr : float, default=0.002
        Learning rate; its peak under "one_cycle".
    max_epochs : int, default=100
        Passes over the training data.
    batch_size : int or "auto", default="auto"
        "auto" is a tenth of the samples, from 64 to 1024: contrast wants large batches.
    optimizer : "adamw", class or functools.partial, default="adamw"
        A torch optimizer.
    weight_decay : float, default=0.01
        Given to optimizers that know it.
    scheduler : "one_cycle", class, functools.partial or None, default="one_cycle"
        A torch learning rate scheduler.
    early_stopping : bool, default=False
        Hold out a part, stop when its loss no longer improves, and restore the best weights. Nothing is held out below
        50 samples.
    validation_fraction : float, default=0.1
        The part that is held out.
    n_iter_no_change : int, default=10
        Epochs without improvement before it stops.
    callbacks : list of skorch callbacks, default=None
        They are copied.
    device : str or torch.device, default="auto"
        "auto" takes cuda, then mps, then cpu.
    precision : {"float32", "bf16"}, default="float32"
        What the network computes in.
    compile : bool, default=False
        Train through `torch.compile`.
    rehearsal : float, default=0.05
        Share of its samples that a call of `partial_fit` keeps, rounded down, for later calls to rehearse; 0 keeps
        none.
    warm_start : bool, default=False
        A further `fit` goes on from the weights and the objectives of the last one.
    random_state : int, RandomState or None, default=None
        Initial weights, dropout, corruption, order of the batches, and transformers that bring no seed of their own.
    verbose : int, default=0
        1 shows a progress bar, 2 prints a line an epoch.

    Attributes
    ----------
    net_ : FusionNet
        The skorch net.
    network_ : FusionNetwork
        The torch module.
    objectives_ : dict of str to nn.Module
        The trained objectives.
    history_ : skorch.History
        Losses and seconds of each epoch; ``train_loss_of_<name>`` is that of an objective before it is weighted.
    stored_ : Stored
        What `partial_fit` has kept: ``values`` as the encoders get them, by modality, and ``present``.
    modality_names_in_, n_features_by_modality_, n_features_in_
        What was seen in fit.

    Examples
    --------
    >>> import numpy as np
    >>> from skfusion import MultimodalPretrainer
    >>> rng = np.random.default_rng(0)
    >>> latent = rng.normal(size=(200, 3))
    >>> X = {"rna": latent @ rng.normal(size=(3, 20)), "protein": latent @ rng.normal(size=(3, 8))}
    >>> pretrainer = MultimodalPretrainer(max_epochs=30, random_state=0).fit(X)
    >>> pretrainer.transform({"rna": X["rna"][:5]}).shape  # without the protein
    (5, 64)
    >>> found = pretrainer.retrieve(X, by="rna", of="protein", k=1).indices[:, 0]
    >>> bool(np.mean(found == np.arange(200)) > 0.5)
    True
    """

    _parameter_constraints = {
        **NetworkEstimator._parameter_constraints,
        "objectives": [list, tuple, options("auto")],
        "weights": [dict, None],
        "rehearsal": [real(0, 1, closed="both")],
    }

    def __init__(
        self,
        objectives: Any = "auto",
        encoders: Any = "auto",
        fusion: Any = "zorro",
        *,
        modalities: Any = None,
        weights: Any = None,
        pretrained: Any = None,
        modality_dropout: Any = 0.0,
        fill_missing: Any = None,
        drop_token: float = 0.0,
        n_hidden: int = 128,
        n_latent: int = 64,
        n_layers: int = 1,
        n_heads: int = 4,
        n_fusion_layers: int = 2,
        dropout_rate: float = 0.2,
        scale: bool = True,
        lr: float = 2e-3,
        max_epochs: int = 100,
        batch_size: Any = "auto",
        optimizer: Any = "adamw",
        weight_decay: float = 1e-2,
        scheduler: Any = "one_cycle",
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 10,
        callbacks: Any = None,
        device: Any = "auto",
        precision: str = "float32",
        compile: bool = False,
        rehearsal: float = 0.05,
        warm_start: bool = False,
        random_state: Any = None,
        verbose: int = 0,
    ) -> None:
        self.objectives = objectives
        self.encoders = encoders
        self.fusion = fusion
        self.modalities = modalities
        self.weights = weights
        self.pretrained = pretrained
        self.modality_dropout = modality_dropout
        self.fill_missing = fill_missing
        self.drop_token = drop_token
        self.n_hidden = n_hidden
        self.n_latent = n_latent
        self.n_layers = n_layers
        self.n_heads = n_heads
        self.n_fusion_layers = n_fusion_layers
        self.dropout_rate = dropout_rate
        self.scale = scale
        self.lr = lr
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.optimizer = optimizer
        self.weight_decay = weight_decay
        self.scheduler = scheduler
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.callbacks = callbacks
        self.device = device
        self.precision = precision
        self.compile = compile
        self.rehearsal = rehearsal
        self.warm_start = warm_start
        self.random_state = random_state
        self.verbose = verbose

    @fits
    def fit(self, X: Any, y: Any = None) -> "MultimodalPretrainer":
        """Train encoders and fusion.

        Parameters
        ----------
        X : dict, Modalities, DataFrame, array, CSR matrix, AnnData or MuData
            The samples; those that lack modalities too.
        y : array-like, default=None
            Never looked at.

        Returns
        -------
        self
            The fitted pretrainer.

        Raises
        ------
        ValueError
            Where the input is not as due (it names the modality), no objective concerns any sample, or training
            diverges.
        """
        goes_on = self.warm_start and hasattr(self, "net_")
        X = check_modalities(self, X, reset=not goes_on)
        keep = drop_empty(X, np.ones(len(X), dtype=bool))
        X = X if keep.all() else X[keep]
        if goes_on:
            self._go_on(X)
        else:
            self.__dict__.pop("stored_", None)
            self._start(X)
        self._train(X)
        return self

    @fits
    def partial_fit(self, X: Any, y: Any = None) -> "MultimodalPretrainer":
        """Learn from further samples, which may have other modalities, and forget little of what was learnt [1]_.

        Each call is a stage of `max_epochs`; the first one is the same as `fit`. Modalities that are new get encoders,
        and the fusion grows by them. After a stage, samples near the centres of all of them are kept, and later stages
        imitate on mixtures of these what the network was before (`skfusion.objectives.rehearsal.Rehearsal`). A `fit`
        before counts as a stage that has kept nothing.

        Encoders, what modalities share, and the fusion are carried over; what objectives learn, such as decoders,
        starts anew in each stage, as published. Only projections of embeddings that are compared go on from where they
        were: else `retrieve` would be lost for a modality that the stage lacks, as it is with "cca". Preprocessing is
        that of the stage that a modality came in; `n_latent` and the kind of the fusion are those of the first stage.

        Parameters
        ----------
        X : dict, Modalities, DataFrame, array, CSR matrix, AnnData or MuData
            The samples of this stage; modalities seen before, new ones, or both.
        y : array-like, default=None
            Never looked at.

        Returns
        -------
        self
            The fitted pretrainer.

        Raises
        ------
        ValueError
            Where the input is not as due (it names the modality), or where training diverges.

        References
        ----------
        .. [1] Ye et al., "Continual self-supervised learning: towards universal multi-modal medical data
           representation learning", CVPR, 2024.

        Examples
        --------
        >>> import numpy as np
        >>> from skfusion import MultimodalPretrainer
        >>> rng = np.random.default_rng(0)
        >>> first, second = rng.normal(size=(200, 6)), rng.normal(size=(200, 4))
        >>> pretrainer = MultimodalPretrainer(max_epochs=2, random_state=0).partial_fit({"text": first})
        >>> pretrainer.partial_fit({"image": second}).embed({"text": first}, "text").shape
        (200, 64)
        >>> pretrainer.stored_.present.sum(axis=0)
        array([10, 10])
        """
        before = copy.copy(self) if hasattr(self, "net_") else None
        X = check_modalities(self, X, reset=before is None, grow=before is not None)
        keep = drop_empty(X, np.ones(len(X), dtype=bool))
        X = X if keep.all() else X[keep]
        if before is None:
            self._start(X)
        else:
            self._grow(X, before)
        self._train(X)
        self._store(X)
        return self

    def _grow(self, X: Modalities, before: "MultimodalPretrainer") -> None:
        """Build network and objectives from those that were before."""
        from skfusion.fusion.grow import grow
        from skfusion.training.device import resolve_device, seeded

        device, old = resolve_device(self.device), before.network_
        # Shifted by the epochs before, so that the encoder of each stage starts from other weights.
        with seeded(before.net_.seed + before.n_iter_, device):
            encoders, trunk = self._build_encoders(X, None, before.net_.seed, before)
            new = list(encoders)[len(old.names) :]
            if new and isinstance(self.fusion, str) and self.fusion == "pretrained":
                raise ValueError(
                    f"fusion is 'pretrained', which cannot grow by the modalities {new}; choose a fusion by name."
                )
            fusion = self._build_fusion(encoders) if new else old.part("fusion")
            network = self._assemble(encoders, trunk, fusion)
            widths = [encoder.n_out for encoder in encoders.values()]
            known = widths[: len(old.names)]
            if new:
                grow(old.fusion, fusion, known, widths)
            if type(network.stand_in) is type(old.stand_in) and old.stand_in is not None:
                grow(old.stand_in, network.stand_in, known, widths)
            self._require_same_fusion(old.fusion, network.fusion, dict(zip(network.names, widths)))
            self._build_trainer(network, X, device, before.net_.seed, self._rehearsal(old, device))
        for name, objective in self.objectives_.items():
            carry_projections(before.objectives_.get(name), objective)
        self.net_.history = copy.deepcopy(before.history_)

    def _require_same_fusion(self, old: Any, fusion: Any, widths: dict[str, int]) -> None:
        """Raise where the parameters would make another network than that of the stage before."""
        from skfusion.fusion.network import head_widths

        width = head_widths(fusion, widths)["fusion"]
        if width != self.n_latent_:
            raise ValueError(
                f"n_latent is {width}, but the stages before had {self.n_latent_}; set it back, or call fit to start "
                "anew."
            )
        if type(fusion) is not type(old):
            raise ValueError(
                f"fusion is {type(fusion).__name__}, but the stages before had {type(old).__name__}; set it back, or "
                "call fit to start anew."
            )

    def _rehearsal(self, old: Any, device: Any) -> dict[str, Any]:
        """Return the objective that keeps what was learnt before, where something is stored."""
        from skfusion.objectives.rehearsal import Rehearsal
        from skfusion.training.batches import TensorData

        stored = getattr(self, "stored_", None)
        if not self.rehearsal or stored is None or not len(stored.present):
            return {}
        teacher = copy.deepcopy(old)
        # The same share as the network will leave out.
        teacher.drop_token = self.drop_token
        return {_REHEARSAL: Rehearsal(TensorData(stored.values, stored.present, device), teacher)}

    def _store(self, X: Modalities) -> None:
        """Keep some samples of this stage, and drop what rehearsed those of others."""
        net = self.net_
        if _REHEARSAL in net.objective_names:
            kept = [n for n, name in enumerate(net.objective_names) if name != _REHEARSAL]
            net.criterion_ = type(net.criterion_)(net.criterion_[n] for n in kept)
            net.objective_names = [net.objective_names[n] for n in kept]
        X = X[nearest_to_centres(self._features(X), self.rehearsal, net.seed)]
        values = {
            name: self.preprocessors_[name].apply(X[name], there).astype(np.float32)
            for name, there in zip(X.names, X.present.T)
        }
        more = Stored(values, X.present)
        before = getattr(self, "stored_", None)
        self.stored_ = more if before is None else before.joined(more)

    def _features(self, X: Modalities) -> Any:
        """Return what samples are alike by: the embedding of a sample's modality, the fused one where it has several.

        Each is centred, so that it matters less which head it is of.
        """
        heads = [*self.modality_names_in_, "fusion"]
        if len({len(self.embedding_means_[head]) for head in heads}) > 1:
            return self.embed(X)
        several = X.present.sum(axis=1) > 1
        which = np.where(several, len(X.names), X.present.argmax(axis=1))
        means = np.stack([self.embedding_means_[head] for head in heads])
        found, start = np.empty((len(X), means.shape[1]), dtype=np.float32), 0
        for output in self.net_.outputs(self._tensors(X)):
            stop = start + len(output.fused)
            for h, head in enumerate(heads):
                rows = which[start:stop] == h
                found[start:stop][rows] = output.heads[head].float().cpu().numpy()[rows]
            start = stop
        return found - means[which]

    def _start(self, X: Modalities) -> None:
        """Fit the preprocessing and build network and objectives."""
        from skfusion.training.device import resolve_device, seeded

        seed = int(check_random_state(self.random_state).randint(np.iinfo(np.int32).max))
        device = resolve_device(self.device)
        with seeded(seed, device):
            source = self._fit_pretrained(X, None, seed)
            encoders, trunk = self._build_encoders(X, None, seed, source)
            network = self._assemble(encoders, trunk, self._build_fusion(encoders, source))
            self._build_trainer(network, X, device, seed)

    def _build_trainer(self, network: Any, X: Modalities, device: Any, seed: int, rehearsal: Any = None) -> None:
        objectives = {**self._build_objectives(X), **(rehearsal or {})}
        prepared(objectives, lambda: self._setting(network))
        size = batch_size(self.batch_size, len(X), n_batches=10, smallest=64)
        self.net_ = self._build_net(network, objectives, batch_size=size, device=device, seed=seed)
        self.net_.weights = self._weights()

    def _weights(self) -> dict[str, float]:
        return {_REHEARSAL: _REHEARSAL_WEIGHT, **(self.weights or {})}

    def _build_objectives(self, X: Modalities) -> dict[str, Any]:
        specs = self.objectives
        if isinstance(specs, str):
            specs = ["contrastive" if (X.present.sum(axis=1) > 1).any() else "reconstruction"]
        if not specs:
            raise ValueError("objectives is empty; due is at least one, or 'auto'.")
        objectives = build_objectives(specs)
        self._check_weights(list(objectives))
        for name, objective in objectives.items():
            if getattr(objective, "needs_target", False):
                raise ValueError(
                    f"objectives holds {name!r}, which learns from a target; it is for JointFusionClassifier and "
                    "JointFusionRegressor."
                )
        return objectives

    def _check_weights(self, names: list[str]) -> None:
        """Raise where `weights` names no objective, or holds what is no weight."""
        for name, weight in (self.weights or {}).items():
            if name not in (*names, _REHEARSAL):
                raise ValueError(f"weights names {name!r}, which is no objective here; these are {names}.")
            if not isinstance(weight, Real) or not 0 <= float(weight) < math.inf:
                raise ValueError(f"weights[{name!r}] is {weight!r}; due is a number of at least 0.")

    def _go_on(self, X: Modalities) -> None:
        """Prepare to train the network on."""
        from skfusion.training.device import seeded

        known = self.net_.objective_names
        self._check_weights(known)
        if not isinstance(self.objectives, str):
            with seeded(self.net_.seed, self.net_.device):
                asked = list(self._build_objectives(X))
            if asked != known:
                raise ValueError(
                    f"objectives are {asked}, but under warm_start a fit goes on with those of the last one, {known}. "
                    "Set them back, set warm_start=False to start anew, or call partial_fit, which keeps the network "
                    "and builds objectives anew."
                )
        # A copy, so that a failing fit leaves the old network as it was.
        self.net_ = copy.deepcopy(self.net_)
        network = self.network_
        network.modality_dropout, network.drop_token = self._dropout_by_modality(network.names), self.drop_token
        self.net_.precision, self.net_.compile_network = self.precision, self.compile
        self.net_.weights = self._weights()
        if self.batch_size != "auto":
            self.net_.batch_size = self.batch_size
        self.net_.set_lr(self.lr)

    def _train(self, X: Modalities) -> None:
        """Train; raise where no objective concerns any sample, and warn of those that do not."""
        from skfusion.training.idle import RefuseIdle, idle

        train = self._tensors(X)
        held_out = None
        if self.early_stopping and len(X) >= _MIN_SAMPLES_TO_HOLD_OUT:
            splitter = ShuffleSplit(1, test_size=self.validation_fraction, random_state=self.net_.seed)
            held_out = next(splitter.split(np.zeros(len(X))))
        self._warn_of_few(X)
        names = [name for name in self.net_.objective_names if name != _REHEARSAL]
        n_several = int((X.present.sum(axis=1) > 1).sum())
        message = (
            f"the objectives {{}} concern no sample: {n_several} of {len(X)} have two modalities or more, which most "
            f"objectives need. Give samples that have what they learn from, or choose others; {_INSTEAD}."
        )
        n_before = len(self.net_.history)
        watcher = RefuseIdle(names, message.format(names))
        self._run_net(train, held_out, self.max_epochs, self.scheduler, self.early_stopping, watcher)
        left = idle(names, self.net_.history[n_before:])
        # Those that are told which samples they are for may well be for none of these.
        left = [name for name in left if getattr(self.objectives_[name], "when", "any") == "any"]
        if left:
            warn(message.format(left))
        self._seen_last = [name for name, there in zip(X.names, X.present.T) if there.any()]

    def _warn_of_few(self, X: Modalities) -> None:
        """Warn where a batch has hardly anything to contrast."""
        comparing = {name: o for name, o in self.objectives_.items() if hasattr(o, "project")}
        several = X.present.sum(axis=1) > 1
        size = min(self.net_.batch_size, len(X))
        n_pairs = size * float(several.mean())
        if not several.any():
            # Those that leave the fused embedding out have nothing to compare at all, of which training tells.
            names = [name for name, objective in comparing.items() if "fusion" in objective.heads]
            what = f"no sample has two modalities or more, so that {names} compare modalities with the fusion alone"
        else:
            names = [name for name, objective in comparing.items() if not getattr(objective, "n_memory", 0)]
            what = (
                f"batches of {size} samples hold about {n_pairs:.0f} that have two modalities or more; {names} learn "
                f"little from fewer than {_FEW_TO_CONTRAST}"
            )
        if not names or n_pairs >= _FEW_TO_CONTRAST:
            return
        enough = several.sum() >= _FEW_TO_CONTRAST
        advice = "Use a larger batch_size." if enough else f"Choose objectives for what there is: {_INSTEAD}."
        warn(f"{what}. {advice}")

    @property
    def objectives_(self) -> dict[str, Any]:
        """The trained objectives by name."""
        return dict(zip(self.net_.objective_names, self.net_.criterion_))

    def retrieve(self, X: Any, by: str, of: str, k: int = 10) -> Bunch:
        """Find who goes with whom: for each sample's modality `by`, the samples whose modality `of` is most similar.

        Parameters
        ----------
        X : dict, Modalities, DataFrame, array, CSR matrix, AnnData or MuData
            The samples; those that have `by` ask, those that have `of` answer.
        by, of : str
            Heads: names of modalities, or ``"fusion"``.
        k : int, default=10
            How many to find, at least 1; at most as many are found as have `of`.

        Returns
        -------
        Bunch
            indices : ndarray of int (n_samples, k)
                Positions in `X`, the most similar first; -1 for samples that lack `by`.
            similarities : ndarray of float32 (n_samples, k)
                The cosines; NaN for samples that lack `by`.

        Raises
        ------
        ValueError
            Where no objective has brought the embeddings of different modalities together, or not those asked for.
        """
        import torch

        from skfusion.objectives.cca import CCA

        check_is_fitted(self)
        comparing = next((o for o in self.net_.criterion_ if hasattr(o, "project")), None)
        if comparing is None:
            raise ValueError(
                f"retrieve compares embeddings of different modalities, which the objectives {list(self.objectives_)} "
                "do not bring together; pretrain with 'contrastive' or 'cca'."
            )
        if not isinstance(k, Integral) or k < 1:
            raise ValueError(f"k is {k!r}; due is a whole number of at least 1.")
        X = check_modalities(self, X, reset=False)
        unit: dict[str, Any] = {}
        there: dict[str, Any] = {}
        for parameter, head in (("by", by), ("of", of)):
            if head not in comparing.heads:
                raise ValueError(f"{parameter} is {head!r}; due is one of {list(comparing.heads)}.")
            if isinstance(comparing, CCA) and head in X.names and head not in self._seen_last:
                raise ValueError(
                    f"{parameter} is {head!r}, but no sample of the last training had it, and 'cca' learns its space "
                    "anew each time; train with samples that have it, or by 'contrastive'."
                )
            unit[parameter], there[parameter] = [], self._has(X, head)
        comparing.eval()
        with torch.inference_mode():
            for output in self.net_.outputs(self._tensors(X)):
                for parameter, head in (("by", by), ("of", of)):
                    unit[parameter].append(comparing.project(head, output.heads[head]).float().cpu().numpy())
        asking, answering = (np.flatnonzero(there[parameter]) for parameter in ("by", "of"))
        if not len(answering):
            raise ValueError(f"no sample of X has {of!r}, so there is nothing to find.")
        k = min(int(k), len(answering))
        questions, answers = np.concatenate(unit["by"])[asking], np.concatenate(unit["of"])[answering]
        indices = np.full((len(X), k), -1)
        similarities = np.full((len(X), k), np.nan, dtype=np.float32)
        best, similarities[asking] = most_similar(questions, answers, k)
        indices[asking] = answering[best]
        return Bunch(indices=indices, similarities=similarities)
