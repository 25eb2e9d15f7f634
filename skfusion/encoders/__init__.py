"""Encoders: one modality to tokens (B, T, D).

An encoder is an ``nn.Module`` built as ``Encoder(shape, n_latent, n_hidden=, n_layers=, dropout_rate=, groups=)``;
``groups`` are the features that the columns of a table belong to, or None. Its ``kinds`` say what it takes, ``n_out``
how wide its tokens are, and calling it on a `ModalityBatch` gives `Tokens`. One whose last channels shall come unscaled
has a classmethod ``count_raw(**options)`` that says how many, and then ``n_raw``. One with ``takes_counts`` gets counts
as they came, with ``offset`` in the `ModalityBatch`, and ``counts=``, the `CountStatistics` of training.
"""

from skfusion._lazy import lazy_names

ENCODERS = {
    "identity": "skfusion.encoders.dense:Identity",
    "linear": "skfusion.encoders.dense:Linear",
    "mlp": "skfusion.encoders.dense:MLP",
    "conv1d": "skfusion.encoders.conv:Conv1d",
    "conv2d": "skfusion.encoders.conv:Conv2d",
    "conv3d": "skfusion.encoders.conv:Conv3d",
    "tokens": "skfusion.encoders.tokens:FeatureTokenizer",
    "patches": "skfusion.encoders.tokens:Patches",
    "steps": "skfusion.encoders.tokens:Steps",
    "patch2d": "skfusion.encoders.patches:Patch2d",
    "patch3d": "skfusion.encoders.patches:Patch3d",
    "expression": "skfusion.encoders.expression:Expression",
    "regions": "skfusion.encoders.regions:Regions",
}
"""Name of an encoder to where its class is; adding one is one line here."""

DEFAULTS = {"dense": "mlp", "sequence": "conv1d", "image": "conv2d", "volume": "conv3d"}
"""The encoder that "auto" stands for, by the kind of the prepared values."""

TOKENIZERS = {"dense": "patches", "sequence": "steps", "image": "patch2d", "volume": "patch3d"}
"""What stands before the transformer of "shared", by kind."""

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    {
        **{where.partition(":")[2]: where for where in ENCODERS.values()},
        "GeneEmbedding": "skfusion.encoders.expression:GeneEmbedding",
        "Batch": "skfusion.encoders.batch:Batch",
        "ModalityBatch": "skfusion.encoders.batch:ModalityBatch",
        "Tokens": "skfusion.encoders.batch:Tokens",
        "Wrapped": "skfusion.encoders.pretrained:Wrapped",
    },
)
