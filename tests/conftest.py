"""One thread a process, unless the environment says otherwise: the tests' networks are too small to share out."""

import os

# Read when numpy, torch and their like are first imported, which is after this.
for _variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_variable, "1")
