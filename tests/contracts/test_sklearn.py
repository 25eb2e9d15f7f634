"""scikit-learn's own contract on every public estimator, without a skipped check."""

import os

from instances import INSTANCES, PUBLIC, instance
from sklearn.utils.estimator_checks import parametrize_with_checks
from sklearn.utils.validation import has_fit_parameter

from skfusion import LateFusionRegressor, LateFusionStacker


def checked():
    if os.environ.get("SKFUSION_CHECK_DEFAULTS") == "1":
        return [cls() for cls in PUBLIC.values()]
    return [instance(key) for key in INSTANCES]


def expected_failures(estimator):
    if not has_fit_parameter(estimator, "sample_weight"):
        return {}
    if isinstance(estimator, LateFusionStacker | LateFusionRegressor) and estimator.estimators is not None:
        # The check gives the folds, so that linear bases must pass; default ones resample, and scale without weights.
        return {}
    reason = (
        "a row of weight 2 is not the row twice: networks draw other minibatches, forests other samples, facades other "
        "folds, and scaling knows no weights"
    )
    return {f"check_sample_weight_equivalence_on_{kind}_data": reason for kind in ("dense", "sparse")}


@parametrize_with_checks(checked(), expected_failed_checks=expected_failures)
def test_scikit_learn_accepts_it(estimator, check):
    check(estimator)


def test_every_public_estimator_has_an_instance():
    assert {type(estimator).__name__ for estimator in INSTANCES.values()} == set(PUBLIC)
