"""Where the fits of late fusion run: any joblib backend, with what they share sent once."""

from contextlib import nullcontext
from typing import Any

from joblib import Parallel, parallel_config
from joblib.parallel import get_active_backend


def run_fits(calls: list[Any], shared: list[Any], *, n_jobs: Any, verbose: int = 0) -> list[Any]:
    """Run delayed `calls` in one `joblib.Parallel`, and return what they return.

    On Dask's backend, each worker gets its own copy of the objects in `shared` before the first call, so that nothing
    is sent again, and nothing is lost with a worker.
    """
    client = getattr(get_active_backend()[0], "client", None)
    with nullcontext() if client is None else parallel_config("dask", client=client, scatter=shared):
        return list(Parallel(n_jobs=n_jobs, verbose=verbose)(calls))
