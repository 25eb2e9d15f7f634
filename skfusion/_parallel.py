"""Where the fits of late fusion run: any joblib backend, with what they share sent once."""

import warnings
from typing import Any

from joblib import Parallel
from joblib.parallel import get_active_backend


def run_fits(calls: list[Any], shared: list[Any], *, n_jobs: Any, verbose: int = 0) -> list[Any]:
    """Run delayed `calls` in one `joblib.Parallel`, and return what they return.

    On Dask's backend, the objects in `shared` are sent once, as tasks that the calls depend on: Dask computes them
    again where the worker that holds them dies, which it cannot do for data that was scattered.
    """
    backend = get_active_backend()[0]
    client = getattr(backend, "client", None)
    if client is None:
        return list(Parallel(n_jobs=n_jobs, verbose=verbose)(calls))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sending large graph")
        sent = {id(each): client.submit(_same, each, pure=False) for each in shared}
    backend.data_futures.update(sent)
    try:
        return list(Parallel(n_jobs=n_jobs, verbose=verbose)(calls))
    finally:
        for key in sent:
            backend.data_futures.pop(key, None)


def _same(each: Any) -> Any:
    return each
