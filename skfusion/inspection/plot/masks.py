"""A picture of who may attend to whom in a fusion."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from skfusion._compat import optional

_COLOURS = ("0.93", "#0072B2")  # Okabe and Ito's blue, on a light grey
_CELL = 0.24  # inches a token
_LETTER = 0.09  # inches


class AttentionMaskDisplay:
    """Which tokens may attend to which in a fusion: a cell is filled where its row's token may attend to its column's.

    There is one panel a distinct mask, called by the layers that have it. ``"read-out"`` has the learned queries from
    which embeddings are made; where a fusion runs over several sets of modalities, each has a panel.

    Make one with `from_fusion`, which finds the masks by running the fusion.

    Parameters
    ----------
    masks : dict of str to DataFrame
        Title of a panel to a bool table, whose rows and columns are called by the modality that owns the token,
        ``"fusion"`` or ``"global"``.
    name : str, default=None
        What is drawn, the title of the figure.

    Attributes
    ----------
    axes_ : ndarray of matplotlib Axes of shape (n_masks,)
        What is drawn on.
    figure_ : matplotlib Figure
        The figure of it.
    images_ : dict of str to AxesImage
        What is drawn of each mask.

    Examples
    --------
    >>> from functools import partial
    >>> import matplotlib.pyplot as plt
    >>> from skfusion.fusion import Zorro
    >>> from skfusion.inspection import AttentionMaskDisplay
    >>> display = AttentionMaskDisplay.from_fusion(partial(Zorro, n_fusion_tokens=1), {"labs": 2, "ecg": 3})
    >>> list(display.masks)
    ['layers 1 and 2', 'read-out']
    >>> display.masks["read-out"].astype(int)
    to      labs  labs  ecg  ecg  ecg  fusion
    from
    labs       1     1    0    0    0       0
    ecg        0     0    1    1    1       0
    fusion     0     0    0    0    0       1
    global     1     1    1    1    1       1
    >>> plt.close(display.figure_)
    """

    def __init__(self, *, masks: dict[str, pd.DataFrame], name: str | None = None) -> None:
        self.masks = masks
        self.name = name

    @classmethod
    def from_fusion(
        cls,
        fusion: Any,
        modalities: Mapping[str, int] | None = None,
        *,
        n_latent: int = 8,
        n_fusion_layers: int = 2,
        ax: Any = None,
        **options: Any,
    ) -> "AttentionMaskDisplay":
        """Find out by running a fusion, and draw.

        The fusion gets random weights and random tokens, and its attention is recorded: what is drawn is what its code
        does, before anything is learned.

        Parameters
        ----------
        fusion : str, class, functools.partial or nn.Module
            As in a joint estimator: a name of `skfusion.fusion.FUSIONS`, a fusion class or a partial of one; or a
            fusion that was built for these modalities with tokens `n_latent` wide.
        modalities : dict of str to int, default=None
            The number of tokens of each modality; None is ``{"a": 3, "b": 3}``.
        n_latent : int, default=8
            Width of the tokens.
        n_fusion_layers : int, default=2
            Layers of the fusion, where it is a transformer.
        ax : matplotlib Axes or array of them, default=None
            Where to draw, one a mask; None makes a figure.
        **options
            Given to `plot`.

        Returns
        -------
        AttentionMaskDisplay
            With `axes_` and `figure_`.

        Raises
        ------
        ValueError
            Where the fusion records no attention (it lists those that do), or `modalities` is not as due.
        """
        optional("matplotlib.pyplot")
        from skfusion.inspection.masks import attention_masks

        modalities = {"a": 3, "b": 3} if modalities is None else modalities
        masks = attention_masks(fusion, modalities, n_latent=n_latent, n_fusion_layers=n_fusion_layers)
        return cls(masks=masks, name=_name(fusion)).plot(ax, **options)

    def plot(self, ax: Any = None, *, image_kw: dict[str, Any] | None = None) -> "AttentionMaskDisplay":
        """Draw.

        Parameters
        ----------
        ax : matplotlib Axes or array of them, default=None
            Where to draw, one a mask; None makes a figure.
        image_kw : dict, default=None
            Given to matplotlib's ``imshow``.

        Returns
        -------
        AttentionMaskDisplay
            Itself.
        """
        plt = optional("matplotlib.pyplot")
        self.axes_ = self._new_axes(plt) if ax is None else np.atleast_1d(np.asarray(ax, dtype=object)).ravel()
        if len(self.axes_) != len(self.masks):
            raise ValueError(
                f"ax has {len(self.axes_)} Axes; due are {len(self.masks)}, one for each of {list(self.masks)}."
            )
        self.figure_ = self.axes_[0].figure
        colours = optional("matplotlib.colors").ListedColormap(_COLOURS)
        style = {"cmap": colours, "vmin": 0, "vmax": 1, "interpolation": "nearest", **(image_kw or {})}
        self.images_ = {}
        for axes, (title, mask) in zip(self.axes_, self.masks.items()):
            self.images_[title] = axes.imshow(mask.to_numpy(dtype=float), **style)
            axes.set_title(title, fontsize="medium")
            axes.set_xlabel("to")
            axes.set_ylabel("from")
            _name_tokens(axes, mask)
        return self

    def _new_axes(self, plt: Any) -> Any:
        """Make a figure in which a token is equally large in every panel."""
        # A panel of few tokens is as wide as its title.
        widths = [max(mask.shape[1], 0.4 * len(title)) for title, mask in self.masks.items()]
        margin = _LETTER * max(len(label) for mask in self.masks.values() for label in [*mask.index, *mask.columns])
        height = _CELL * max(map(len, self.masks.values())) + margin + 1.1
        width = _CELL * sum(widths) + (margin + 0.5) * len(widths)
        figure, axes = plt.subplots(
            1, len(widths), figsize=(width, height), width_ratios=widths, squeeze=False, layout="constrained"
        )
        if self.name is not None:
            figure.suptitle(self.name)
        return axes.ravel()


def _name(fusion: Any) -> str:
    if isinstance(fusion, str):
        return fusion
    made = fusion.func if isinstance(fusion, partial) else fusion
    return str(getattr(made, "__name__", type(made).__name__))


def _name_tokens(axes: Any, mask: pd.DataFrame) -> None:
    """Write each owner once, in the middle of its tokens, and draw lines between tokens and between owners."""
    for axis, line, owners in ((axes.xaxis, axes.axvline, mask.columns), (axes.yaxis, axes.axhline, mask.index)):
        starts = [i for i in range(len(owners)) if i == 0 or owners[i] != owners[i - 1]]
        ends = [*starts[1:], len(owners)]
        axis.set_ticks([(start + end - 1) / 2 for start, end in zip(starts, ends)], [owners[start] for start in starts])
        axis.set_ticks(np.arange(1, len(owners)) - 0.5, minor=True)
        axis.remove_overlapping_locs = False  # the middle of an owner may lie between two tokens
        axis.grid(which="minor", color="white", linewidth=1)
        for start in starts[1:]:
            line(start - 0.5, color="0.2", linewidth=1)
        crowded = any(_LETTER * len(owners[start]) > _CELL * (end - start) for start, end in zip(starts, ends))
        if axis is axes.xaxis and crowded:
            axis.set_tick_params(which="major", rotation=90)
    axes.tick_params(which="both", length=0)
    axes.spines[:].set_color("0.2")
