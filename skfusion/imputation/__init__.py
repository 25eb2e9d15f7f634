"""Strategies of `ModalityImputer`: what fills a missing modality from those that are present.

A strategy is a small estimator with `fit(X, names, settings)` and `fill(X, name)`; one that is a distribution has
`draw(X, rng)`, and one that knows its error `spread(X, name)` (see `Strategy`).
"""

from skfusion._lazy import lazy_names

STRATEGIES = {
    "conversion": "skfusion.imputation.conversion:Conversion",
    "linear": "skfusion.imputation.linear:Linear",
    "regressor": "skfusion.imputation.regressor:Regressor",
    "factor": "skfusion.imputation.factor:Factor",
    "knn": "skfusion.imputation.neighbors:Neighbors",
    "mean": "skfusion.imputation.constant:Mean",
    "zero": "skfusion.imputation.constant:Zero",
    "vae": "skfusion.imputation.vae:VAE",
    "gan": "skfusion.imputation.gan:GAN",
    "diffusion": "skfusion.imputation.diffusion:Diffusion",
    "average": "skfusion.imputation.average:Average",
}
"""Name of a strategy to where its class is; adding one is one line here."""

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    {
        **{where.partition(":")[2]: where for where in STRATEGIES.values()},
        "Strategy": "skfusion.imputation.strategy:Strategy",
    },
)
