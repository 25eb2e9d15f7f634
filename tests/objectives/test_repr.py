"""What objectives show of themselves, and what a grid over them does."""

import inspect
from importlib import import_module

import numpy as np
import pytest
import torch
from sklearn.model_selection import GridSearchCV

from skfusion import Modalities, MultimodalPretrainer
from skfusion.objectives import (
    CCA,
    MILNCE,
    OBJECTIVES,
    Alignment,
    Combinatorial,
    Contrastive,
    Conversion,
    CrossMasked,
    Distillation,
    Expression,
    Generative,
    Masked,
    Matching,
    NextToken,
    PseudoSupervision,
    Ranking,
    Reconstruction,
    TableTransfer,
)

SHOWN = {
    "Alignment(method='exact', pairs=[('a', 'b')])": Alignment(method="exact", pairs=[("a", "b")]),
    "CCA(n_projection=None)": CCA(n_projection=None),
    "Combinatorial(temperature=0.1)": Combinatorial(temperature=0.1),
    "Contrastive(temperature=0.1, learn_temperature=False)": Contrastive(temperature=0.1, learn_temperature=False),
    "Conversion(cotrain=True)": Conversion(cotrain=True),
    "CrossMasked(rate=0.5)": CrossMasked(rate=0.5),
    "Distillation(predictions=<5 x 3>, alpha=0.1)": Distillation(torch.zeros(5, 3), alpha=0.1),
    "Expression(likelihood='poisson')": Expression(likelihood="poisson"),
    "Generative(n_latent=3, n_warmup=0)": Generative(n_latent=3, n_warmup=0),
    "MILNCE(pairs=[('a', 'b')])": MILNCE(pairs=[("a", "b")]),
    "Masked(rate=0.3, modalities=['a'])": Masked(rate=0.3, modalities=["a"]),
    "Matching(when='all')": Matching(when="all"),
    "NextToken(n_layers=1)": NextToken(n_layers=1),
    "PseudoSupervision(weight=0.5)": PseudoSupervision(weight=0.5),
    "Ranking(fewer=0.5)": Ranking(fewer=0.5),
    "Reconstruction(n_hidden=8)": Reconstruction(n_hidden=8),
    "TableTransfer(n_clusters=4)": TableTransfer(n_clusters=4),
}


@pytest.mark.parametrize("shown", SHOWN)
def test_the_repr_tells_what_is_not_at_its_default(shown):
    assert repr(SHOWN[shown]) == shown


@pytest.mark.parametrize("name", OBJECTIVES)
def test_every_objective_shows_all_its_arguments(name):
    module, _, called = OBJECTIVES[name].partition(":")
    objective = getattr(import_module(module), called)
    assert called in {type(given).__name__ for given in SHOWN.values()}
    built = Distillation(torch.zeros(2, 2)) if objective is Distillation else objective()
    if objective is not Distillation:
        assert repr(built) == f"{called}()"
    assert set(inspect.signature(objective).parameters) - set(built.arguments()) <= {"sample_weight", "n_latent"}


def test_a_grid_tells_its_candidates_apart():
    X = Modalities({"a": np.random.default_rng(0).normal(size=(40, 3))})
    grid = {"objectives": [[Masked(rate=0.2)], [Masked(rate=0.4)]]}
    search = GridSearchCV(MultimodalPretrainer(max_epochs=1, random_state=0), grid, cv=2, scoring=lambda p, X: 0.0)
    search.fit(X)
    assert str(search.best_params_) == "{'objectives': [Masked(rate=0.2)]}"
    assert list(map(str, search.cv_results_["param_objectives"])) == ["[Masked(rate=0.2)]", "[Masked(rate=0.4)]"]
