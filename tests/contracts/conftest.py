import copy

import pytest
from instances import DATA, INSTANCES, N, instance, make_target


@pytest.fixture(params=INSTANCES)
def estimator(request):
    """One unfitted instance after the other."""
    return instance(request.param)


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
