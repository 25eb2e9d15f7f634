"""A picture of embeddings."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.frozen import FrozenEstimator
from sklearn.utils import check_array, check_consistent_length

from skfusion._base import FusionEstimator
from skfusion._compat import on_arrays, optional
from skfusion.inspection.plot._shared import COLOURS
from skfusion.modalities import align, check_modalities

_MANY = 20
"""Whole numbers of more distinct values are amounts, not classes."""
_UNKNOWN = "0.78"


class EmbeddingDisplay:
    """The embedding of each head in two dimensions, side by side: a dot a sample.

    Every head is projected by itself, by principal components unless another transformer is given, so that axes of two
    panels have nothing to do with each other. Samples that lack what a head needs are not in its panel.

    Make one with `from_estimator`, or with `from_embeddings` where there are embeddings already.

    Parameters
    ----------
    coordinates : dict of str to ndarray (n_samples, 2)
        Where samples lie, by head; NaN for those that are not drawn.
    labels : array-like of shape (n_samples,), default=None
        What colours the dots: classes, or amounts. Those that are NaN or None are grey.
    axis_labels : dict of str to tuple of two str, default=None
        What is written beside the axes, by head.

    Attributes
    ----------
    axes_ : ndarray of matplotlib Axes of shape (n_heads,)
        What is drawn on.
    figure_ : matplotlib Figure
        The figure of them.
    points_ : dict of str to list of PathCollection
        The dots of each head: a collection a class, the unlabelled ones first; a single one for amounts.
    legend_, colorbar_ : matplotlib Legend, matplotlib Colorbar
        What explains the colours; None where nothing does.

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> import numpy as np
    >>> from skfusion import MultimodalPretrainer
    >>> from skfusion.inspection import EmbeddingDisplay
    >>> rng = np.random.default_rng(0)
    >>> latent = rng.normal(size=(100, 2))
    >>> X = {"rna": latent @ rng.normal(size=(2, 5)), "protein": latent @ rng.normal(size=(2, 4))}
    >>> pretrainer = MultimodalPretrainer(max_epochs=2, random_state=0).fit(X)
    >>> display = EmbeddingDisplay.from_estimator(pretrainer, X, latent[:, 0] > 0)
    >>> [axes.get_title() for axes in display.axes_]
    ['rna', 'protein', 'fusion']
    >>> display.coordinates["rna"].shape
    (100, 2)
    >>> plt.close(display.figure_)
    """

    def __init__(
        self,
        *,
        coordinates: dict[str, Any],
        labels: Any = None,
        axis_labels: dict[str, tuple[str, str]] | None = None,
    ) -> None:
        self.coordinates = coordinates
        self.labels = labels
        self.axis_labels = axis_labels

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        labels: Any = None,
        *,
        heads: Any = None,
        reducer: Any = None,
        ax: Any = None,
        **options: Any,
    ) -> "EmbeddingDisplay":
        """Embed, project, and draw.

        Parameters
        ----------
        estimator : fitted estimator
            With ``embed(X, head)``, such as a joint estimator or a `MultimodalPretrainer`; another one with
            ``transform`` has the one panel ``"transform"``.
        X : dict, Modalities, DataFrame, array, CSR matrix, AnnData or MuData
            The samples.
        labels : array-like of shape (n_samples,), default=None
            What colours the dots: classes, or amounts. Those that are NaN or None are grey.
        heads : list of str, default=None
            Names of modalities, ``"fusion"``, ``"global"``; None is every modality of `X`, and ``"fusion"``.
        reducer : transformer, default=None
            What takes embeddings to two dimensions, such as UMAP or ``TSNE()``; it is cloned, and fitted on each head.
            None is ``PCA(2)``.
        ax : matplotlib Axes or array of them, default=None
            Where to draw, one a head; None makes a figure.
        **options
            Given to `plot`.

        Returns
        -------
        EmbeddingDisplay
            With `axes_` and `figure_`.

        Raises
        ------
        ValueError
            Where a head is unknown or no sample has what it needs, or lengths differ.
        """
        optional("matplotlib.pyplot")
        embeddings = {}
        present: dict[str, Any] = {}
        if isinstance(estimator, FrozenEstimator):
            estimator = estimator.estimator
        if isinstance(estimator, FusionEstimator):
            X = check_modalities(estimator, X, reset=False)
            align.check_same_order("labels", X.sample_ids, labels)
            present = dict(zip(X.names, X.present.T))
        if hasattr(estimator, "embed"):
            somebody = [name for name, there in present.items() if there.any()]
            for head in [*(somebody or present), "fusion"] if heads is None else heads:
                embeddings[head] = estimator.embed(X, head)
        elif heads is not None:
            raise ValueError(
                f"heads is {heads!r}, but {type(estimator).__name__} has no embed(X, head); leave it None."
            )
        else:
            embeddings["transform"] = np.asarray(estimator.transform(X), dtype=float)
        has_any: Any = np.any(list(present.values()), axis=0) if present else np.True_
        for head, embedding in embeddings.items():
            there = np.broadcast_to(present.get(head, has_any), len(embedding))
            embeddings[head] = np.where(there[:, None], embedding, np.nan)
        return cls.from_embeddings(embeddings, labels, reducer=reducer, ax=ax, **options)

    @classmethod
    def from_embeddings(
        cls, embeddings: Mapping[str, Any], labels: Any = None, *, reducer: Any = None, ax: Any = None, **options: Any
    ) -> "EmbeddingDisplay":
        """Project, and draw.

        Parameters
        ----------
        embeddings : dict of str to ndarray (n_samples, width)
            Title of a panel to the embeddings; rows with NaN are not drawn. What has two columns is drawn as it is.
        labels : array-like of shape (n_samples,), default=None
            What colours the dots.
        reducer : transformer, default=None
            What takes embeddings to two dimensions; None is ``PCA(2)``.
        ax : matplotlib Axes or array of them, default=None
            Where to draw, one an embedding; None makes a figure.
        **options
            Given to `plot`.

        Returns
        -------
        EmbeddingDisplay
            With `axes_` and `figure_`.
        """
        optional("matplotlib.pyplot")
        if not embeddings:
            raise ValueError("there is nothing to draw; due is at least one head.")
        coordinates, axis_labels = {}, {}
        for head, table in embeddings.items():
            table = check_array(table, dtype=np.float64, ensure_all_finite="allow-nan", input_name=head)
            coordinates[head], axis_labels[head] = _projected(head, table, reducer)
        check_consistent_length(*coordinates.values(), labels)
        return cls(coordinates=coordinates, labels=labels, axis_labels=axis_labels).plot(ax, **options)

    def plot(self, ax: Any = None, *, point_kw: dict[str, Any] | None = None) -> "EmbeddingDisplay":
        """Draw.

        Parameters
        ----------
        ax : matplotlib Axes or array of them, default=None
            Where to draw, one a head; None makes a figure.
        point_kw : dict, default=None
            Given to matplotlib's ``scatter``.

        Returns
        -------
        EmbeddingDisplay
            Itself.
        """
        plt = optional("matplotlib.pyplot")
        n_heads = len(self.coordinates)
        if ax is None:
            size = {"figsize": (2.9 * n_heads + 0.9, 3.0), "layout": "constrained"}
            self.axes_ = plt.subplots(1, n_heads, squeeze=False, **size)[1].ravel()
        else:
            self.axes_ = np.atleast_1d(np.asarray(ax, dtype=object)).ravel()
        if len(self.axes_) != n_heads:
            raise ValueError(
                f"ax has {len(self.axes_)} Axes; due are {n_heads}, one for each of {list(self.coordinates)}."
            )
        self.figure_ = self.axes_[0].figure
        n_samples = len(next(iter(self.coordinates.values())))
        style = {"s": np.clip(4000 / max(n_samples, 1), 2, 16), "linewidths": 0, "rasterized": n_samples > 5000}
        groups = _groups(self.labels, n_samples, optional("matplotlib").colormaps)
        self.points_ = {}
        for axes, (head, xy) in zip(self.axes_, self.coordinates.items()):
            self.points_[head] = [
                axes.scatter(*xy[rows].T, **{**style, **how, **(point_kw or {})}) for rows, how in groups
            ]
            axes.set_title(head, fontsize="medium")
            for axis, text in zip((axes.xaxis, axes.yaxis), (self.axis_labels or {}).get(head, ("", ""))):
                axis.set_label_text(text, fontsize="small")
            axes.tick_params(labelbottom=False, labelleft=False, length=0)
            axes.spines[["top", "right"]].set_visible(False)
        self._explain(n_samples)
        return self

    def _explain(self, n_samples: int) -> None:
        """Say what the colours mean, and how many samples a panel lacks."""
        for axes, xy in zip(self.axes_, self.coordinates.values()):
            gone = int(np.isnan(xy).any(axis=1).sum())
            if gone:
                axes.set_title(f"without {gone}", loc="right", fontsize="x-small", color="0.4")
        self.legend_ = self.colorbar_ = None
        last, points = self.axes_[-1], next(reversed(self.points_.values()))
        if points[-1].get_array() is not None:
            self.colorbar_ = self.figure_.colorbar(points[-1], ax=last)
        elif self.labels is not None:
            beside = {"loc": "center left", "bbox_to_anchor": (1, 0.5), "frameon": False, "fontsize": "small"}
            self.legend_ = last.legend(handles=points, markerscale=2, ncols=1 + len(points) // 13, **beside)


def _projected(head: str, table: Any, reducer: Any) -> tuple[Any, tuple[str, str]]:
    """Return the coordinates (n_samples, 2), and what to write beside the axes."""
    rows = np.flatnonzero(~np.isnan(table).any(axis=1))
    if not len(rows):
        raise ValueError(f"no sample has what the head {head!r} needs; leave it out of heads.")
    found, names = table[rows], ("", "")
    if found.shape[1] > 2 and reducer is not None:
        found = np.asarray(clone(reducer).fit_transform(found))[:, :2]
    elif found.shape[1] > 2 and np.ptp(found, axis=0).any():
        pca = on_arrays(PCA(2)).fit(found)
        found = pca.transform(found)
        first, second = pca.explained_variance_ratio_
        names = (f"PC 1 ({first:.0%})", f"PC 2 ({second:.0%})")
    coordinates = np.full((len(table), 2), np.nan)
    coordinates[rows, : found.shape[1]] = found[:, :2]
    if found.shape[1] == 1:
        coordinates[rows, 1] = 0
    return coordinates, names


def _groups(labels: Any, n_samples: int, colormaps: Any) -> list[tuple[Any, dict[str, Any]]]:
    """Return the rows that are drawn at a time, and how; those without a label come first, and lie below."""
    if labels is None:
        return [(np.arange(n_samples), {"color": COLOURS[0]})]
    values = pd.Series(labels).reset_index(drop=True)
    known = values.notna().to_numpy()
    groups: list[tuple[Any, dict[str, Any]]] = []
    if not known.all():
        groups.append((np.flatnonzero(~known), {"color": _UNKNOWN, "label": "no label"}))
    is_number = pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values)
    amounts = (is_number and (values[known] % 1 != 0).any()) or (is_number and values.nunique() > _MANY)
    if amounts:
        return [*groups, (np.flatnonzero(known), {"c": values[known].to_numpy(dtype=float), "cmap": "viridis"})]
    if is_number and values.dtype.kind == "f":
        values = values.astype("Int64")  # classes that had to be floats beside NaN
    classes = values.cat.categories if hasattr(values, "cat") else sorted(values[known].unique())
    shades = [*range(0, _MANY, 2), *range(1, _MANY, 2)]  # neighbours in "tab20" are two shades of one colour
    many = [colormaps["tab20"](shades[k % _MANY]) for k in range(len(classes))]
    for k, label in enumerate(classes):
        colour = COLOURS[k] if len(classes) <= len(COLOURS) else many[k]
        groups.append((np.flatnonzero((values == label).fillna(False)), {"color": [colour], "label": str(label)}))
    return groups
