"""Encoders of sets that are handed in as sequences: regions of an image, segments of a document."""

import torch
from torch import Tensor, nn

from skfusion.encoders.batch import ModalityBatch, Tokens
from skfusion.encoders.dropout import SHARE_OF_INPUTS, Dropout

_BOX = 4


class Regions(nn.Module):
    """One token a region: its features, plus where its box is [1]_, plus which segment it belongs to [2]_.

    A sample is (regions, channels); the channels are features, then the box (x1, y1, x2, y2), then a segment id. The
    box, with its width, height and area, goes through a linear map of its own. Boxes and segment ids are not scaled
    before: give coordinates as shares of the image's sides, in [0, 1]. No position is added, since regions are a set.
    `n_hidden` and `n_layers` are not used.

    Parameters
    ----------
    shape : tuple of int
        Shape of a sample, (R, C).
    n_latent : int
        Width of the tokens.
    dropout_rate : float, default=0.5
        Features are dropped in training at .4 of that rate.
    n_box : {4, 0}, default=4
        Channels that hold a box; 0 where regions have none.
    n_segments : int, default=0
        Number of segments; where there are any, the last channel holds the whole number of one, from 0.

    References
    ----------
    .. [1] Chen et al., "UNITER: universal image-text representation learning", ECCV, 2020.
    .. [2] Devlin et al., "BERT: pre-training of deep bidirectional transformers for language understanding", NAACL,
       2019.
    """

    kinds = ("sequence",)

    def __init__(
        self,
        shape: tuple[int, ...],
        n_latent: int,
        *,
        dropout_rate: float = 0.5,
        n_box: int = _BOX,
        n_segments: int = 0,
        **options: object,
    ) -> None:
        super().__init__()
        if n_box not in (0, _BOX):
            raise ValueError(f"n_box is {n_box!r}; due is {_BOX} (x1, y1, x2, y2), or 0 where regions have no box.")
        if n_segments < 0:
            raise ValueError(f"n_segments is {n_segments!r}; due is the number of segments, or 0 where there are none.")
        self.n_raw = self.count_raw(n_box=n_box, n_segments=n_segments)
        n_features = shape[1] - self.n_raw
        if n_features < 1:
            raise ValueError(
                f"samples of regions have shape {shape}, {shape[1]} channel(s); due are at least {self.n_raw + 1}: "
                f"features, then {n_box} of the box (n_box) and {self.n_raw - n_box} of the segment "
                f"(n_segments={n_segments}). Pass functools.partial(Regions, n_box=0) for regions without boxes."
            )
        self.n_box, self.n_segments = n_box, n_segments
        self.n_out = n_latent
        self.dropout = Dropout(SHARE_OF_INPUTS * dropout_rate)
        self.features = nn.Linear(n_features, n_latent)
        self.box = nn.Linear(_BOX + 3, n_latent) if n_box else None
        self.segment = nn.Parameter(0.02 * torch.randn(n_segments, n_latent)) if n_segments else None

    @classmethod
    def count_raw(cls, *, n_box: int = _BOX, n_segments: int = 0, **options: object) -> int:
        """Return how many of the last channels preprocessing leaves as they are."""
        return n_box + (n_segments > 0)

    def forward(self, batch: ModalityBatch) -> Tokens:
        """Values (B, R, C) -> tokens (B, R, n_latent)."""
        values = torch.where(batch.mask.unsqueeze(-1), batch.values, 0.0)  # (B, R, C)
        n_features = values.shape[-1] - self.n_raw
        tokens: Tensor = self.features(self.dropout(values[..., :n_features]))  # (B, R, n_latent)
        if self.box is not None:
            tokens = tokens + self.box(with_size(values[..., n_features : n_features + _BOX]))
        if self.segment is not None:
            tokens = tokens + self.segment[self._whole(values[..., -1])]
        return Tokens(tokens, batch.mask)

    def _whole(self, ids: Tensor) -> Tensor:
        """Check segment ids (B, R), and return them as integers."""
        whole = ids.long()
        odd = (ids != whole) | (whole < 0) | (whole >= self.n_segments)
        # This waits for the device; an index out of range there would end the process without saying why.
        if bool(odd.any()):
            raise ValueError(
                f"a segment id is {ids[odd][0].item():g}; due are whole numbers from 0 to {self.n_segments - 1} "
                f"(n_segments={self.n_segments}) in the last channel of each region."
            )
        return whole


def with_size(box: Tensor) -> Tensor:
    """Boxes (…, 4) of x1, y1, x2, y2, with width, height and area, (…, 7)."""
    size = box[..., 2:] - box[..., :2]  # (…, 2)
    return torch.cat([box, size, size.prod(-1, keepdim=True)], dim=-1)
