import copy

import pytest
from instances import DATA, INSTANCES, SMALL, N, instance, make_target


@pytest.fixture(params=INSTANCES)
def estimator(request):
    """One unfitted instance after the other, with fewer epochs than scikit-learn's checks of accuracy want."""
    estimator = instance(request.param)
    params = estimator.get_params(deep=True)
    epochs = [path for path in params if path.endswith("max_epochs") and params[path] == SMALL["max_epochs"]]
    return estimator.set_params(**dict.fromkeys(epochs, 8))


@pytest.fixture
def y(estimator):
    return make_target(estimator, N)


@pytest.fixture(scope="session")
def fitted_before():
    return {}


@pytest.fixture
def fitted(request, estimator, y, fitted_before):
    """The instance fitted on DATA, once a process; a copy, so that a test may do with it what it likes."""
    key = request.node.callspec.params["estimator"]
    if key not in fitted_before:
        fitted_before[key] = estimator.fit(DATA, y)
    return copy.deepcopy(fitted_before[key])
