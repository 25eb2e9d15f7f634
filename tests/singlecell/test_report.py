import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from sklearn.metrics import silhouette_score

from skfusion import MultimodalPretrainer
from skfusion.singlecell import zero_shot_report
from skfusion.singlecell.report import batch_silhouette, untrained


@pytest.fixture
def adata():
    rng = np.random.default_rng(0)
    kind = rng.integers(3, size=120)
    rates = np.exp(rng.normal(size=(3, 60)))[kind] * rng.lognormal(0, 0.3, (120, 1))
    found = AnnData(rng.poisson(rates), obs={"kind": kind.astype(str), "batch": rng.integers(2, size=120).astype(str)})
    found.obsm["X_planted"] = 9 * np.eye(3)[kind] + rng.normal(size=(120, 3))
    found.obsm["X_noise"] = rng.normal(size=(120, 4))
    return found


def test_planted_types_are_found_and_noise_is_not(adata):
    report = zero_shot_report(adata, {"planted": "X_planted", "noise": adata.obsm["X_noise"]}, "kind", "batch")
    assert report.index[0] == "planted"
    planted, noise = report.loc["planted"], report.loc["noise"]
    assert planted["ari"] == planted["nmi"] == planted["neighbor_purity"] == 1
    assert planted["ari_sd"] == 0
    assert abs(noise["ari"]) < 0.05
    assert noise["neighbor_purity"] < 0.5
    kind = adata.obs["kind"]
    assert planted["label_silhouette"] == pytest.approx(silhouette_score(adata.obsm["X_planted"], kind))
    assert planted["batch_silhouette"] > 0.9


def test_baselines_stand_in_the_table_also_where_they_win(adata):
    report = zero_shot_report(adata, {"noise": "X_noise"}, "kind")
    assert report["kind"].to_dict() == {
        "highly variable genes": "baseline",
        "library size": "baseline",
        "noise": "embedding",
    }
    assert report.index[0] == "highly variable genes"
    assert report["n_dimensions"].to_dict() == {"highly variable genes": 50, "library size": 1, "noise": 4}
    assert "batch_silhouette" not in report


def test_the_report_depends_on_neither_scale_nor_turn_nor_order(adata):
    turn = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))[0]
    plain = zero_shot_report(adata, {"a": "X_planted"}, "kind", "batch").loc["a"]
    turned = zero_shot_report(adata, {"a": 5 * adata.obsm["X_planted"] @ turn + 2}, "kind", "batch").loc["a"]
    pd.testing.assert_series_equal(plain, turned)
    order = np.random.default_rng(2).permutation(120)
    pd.testing.assert_series_equal(plain, zero_shot_report(adata[order], {"a": "X_planted"}, "kind", "batch").loc["a"])


def test_cells_without_a_label_are_left_out(adata):
    some = adata.obs["kind"].where(np.arange(120) >= 20)
    whole = zero_shot_report(adata[20:].copy(), {"a": "X_planted"}, "kind").loc["a"]
    pd.testing.assert_series_equal(zero_shot_report(adata, {"a": "X_planted"}, some).loc["a"], whole)


def test_batches_that_lie_apart_are_told_from_mixed_ones():
    rng = np.random.default_rng(0)
    codes, batches = np.repeat([0, 1], 300), np.tile([0, 1], 300)
    mixed = rng.normal(size=(600, 2)) + 20 * codes[:, None]
    assert batch_silhouette(mixed, codes, batches) > 0.9
    assert batch_silhouette(mixed + np.array([[0.0, 30.0]]) * batches[:, None], codes, batches) < 0.1
    assert np.isnan(batch_silhouette(mixed, codes, codes))  # no type in two batches


def test_silhouettes_of_many_cells_are_taken_over_some(adata):
    some = zero_shot_report(adata, {"a": "X_planted"}, "kind", max_cells=60).loc["a"]
    whole = zero_shot_report(adata, {"a": "X_planted"}, "kind").loc["a"]
    assert some["label_silhouette"] != whole["label_silhouette"]
    assert some["label_silhouette"] == pytest.approx(whole["label_silhouette"], abs=0.05)


def test_an_untrained_encoder_stays_as_it_was_drawn(adata):
    estimator = MultimodalPretrainer(n_latent=8, max_epochs=3, device="cpu", random_state=0)
    report = zero_shot_report(adata, {"noise": "X_noise"}, "kind", estimator=estimator)
    assert report.loc["untrained MultimodalPretrainer", "kind"] == "baseline"
    assert report.loc["untrained MultimodalPretrainer", "n_dimensions"] == 8
    assert not hasattr(estimator, "history_")
    first, again = untrained(estimator, adata), untrained(estimator, adata)
    np.testing.assert_array_equal(first, again)
    trained = estimator.fit(adata).transform(adata)
    assert np.abs(trained - first).max() > 10 * np.abs(again - first).max()
    with pytest.raises(ValueError, match=r"estimator is a NoNetwork without \['lr', 'max_epochs'\]"):
        zero_shot_report(adata, {"noise": "X_noise"}, "kind", estimator=NoNetwork())


class NoNetwork:
    def get_params(self, deep=True):
        return {}


def test_counts_are_found_where_they_lie(adata):
    layered = AnnData(layers={"spliced": adata.X}, obs=adata.obs, obsm=dict(adata.obsm))
    plain = zero_shot_report(adata, {"noise": "X_noise"}, "kind")
    pd.testing.assert_frame_equal(zero_shot_report(layered, {"noise": "X_noise"}, "kind"), plain)
    adata.layers["raw"], adata.X = adata.X, np.log1p(adata.X)
    pd.testing.assert_frame_equal(zero_shot_report(adata, {"noise": "X_noise"}, "kind", layer="raw"), plain)
    with pytest.warns(UserWarning, match="X holds no counts"):
        zero_shot_report(adata, {"noise": "X_noise"}, "kind")


def test_bad_input_says_what_is_due(adata):
    given = {"noise": "X_noise"}
    with pytest.raises(ValueError, match=r"is 'X_umap', which obsm lacks; it has \['X_planted', 'X_noise'\]"):
        zero_shot_report(adata, {"a": "X_umap"}, "kind")
    with pytest.raises(ValueError, match=r"embeddings\['a'\] has 9 rows for 120 cells"):
        zero_shot_report(adata, {"a": np.ones((9, 2))}, "kind")
    with pytest.raises(ValueError, match=r"labels is 'cluster', which obs lacks; it has \['kind', 'batch'\]"):
        zero_shot_report(adata, given, "cluster")
    with pytest.raises(ValueError, match=r"batch has shape \(3,\); due is \(120,\)"):
        zero_shot_report(adata, given, "kind", ["a", "b", "c"])
    with pytest.raises(ValueError, match=r"labels are .* in all cells; due are at least two labels"):
        zero_shot_report(adata, given, ["a"] * 120)
    with pytest.raises(ValueError, match=r"layer is 'counts'; adata has the layers \[\]"):
        zero_shot_report(adata, given, "kind", layer="counts")
    with pytest.raises(ValueError, match="n_neighbors is 120 for 120 cells"):
        zero_shot_report(adata, given, "kind", n_neighbors=120)
    with pytest.raises(TypeError, match="embeddings is 'X_noise'; due is a dict"):
        zero_shot_report(adata, "X_noise", "kind")
    with pytest.raises(TypeError, match="adata is a ndarray"):
        zero_shot_report(adata.X, given, "kind")
    with pytest.raises(ValueError, match="n_seeds is 0"):
        zero_shot_report(adata, given, "kind", n_seeds=0)
    adata.X = adata.X - adata.X.mean(axis=0)
    with pytest.raises(ValueError, match="X has negative values, so it was centred"):
        zero_shot_report(adata, given, "kind")
