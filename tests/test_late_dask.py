"""Late fusion on Dask's workers: the same result, also where one is killed in the middle, and data sent once."""

import os
import signal
from pathlib import Path

import numpy as np
import pytest
from joblib import parallel_config
from sklearn.linear_model import LogisticRegression

from skfusion import LateFusionStacker
from skfusion._stacking import Lessons

distributed = pytest.importorskip("distributed")
pytestmark = pytest.mark.filterwarnings("ignore")


class Mortal(LogisticRegression):
    """Kills the process of its first fit."""

    def __init__(self, note=None):
        super().__init__()
        self.note = note

    def fit(self, X, y, sample_weight=None):
        if self.note is not None and not Path(self.note).exists():
            Path(self.note).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().fit(X, y, sample_weight)


@pytest.fixture(scope="module")
def client():
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, silence_logs=50
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


def test_a_worker_that_dies_changes_nothing(client, tmp_path):
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, size=200)
    X = {name: rng.normal(size=(200, 5)) + y[:, None] for name in "abc"}
    alone = LateFusionStacker({name: [("lr", Mortal())] for name in X}, cv=3).fit(X, y)
    estimators = {name: [("lr", Mortal(str(tmp_path / "died") if name == "b" else None))] for name in X}
    before = workers(client)
    with parallel_config("dask", wait_for_workers_timeout=10):
        spread = LateFusionStacker(estimators, cv=3).fit(X, y)
    assert (tmp_path / "died").exists()
    assert workers(client) != before
    # What is sent may lie in memory by row instead of by column, and is added up in another order.
    np.testing.assert_allclose(spread.predict_proba(X), alone.predict_proba(X), rtol=1e-10)
    for key, found in alone.oof_predictions_.items():
        np.testing.assert_allclose(spread.oof_predictions_[key], found, rtol=1e-10)


def workers(client):
    return set(client.run(os.getpid).values())


def test_what_all_fits_share_is_sent_once(client, monkeypatch):
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, size=200)
    X = {name: rng.normal(size=(200, 50)) + y[:, None] for name in "ab"}
    sent = []
    submit = distributed.Client.submit

    def recording(self, function, *args, **kwargs):
        sent.extend(arg for arg in args if isinstance(arg, Lessons))
        return submit(self, function, *args, **kwargs)

    monkeypatch.setattr(distributed.Client, "submit", recording)
    with parallel_config("dask"):
        model = LateFusionStacker(LogisticRegression(), "mean", cv=4).fit(X, y)
    assert [lessons.values.shape for lessons in sent] == [(200, 50), (200, 50)]
    assert model.score(X, y) > 0.9
