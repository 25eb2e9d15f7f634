"""What imports what: the floors of the package, and how late the heavy packages are loaded."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import skfusion

PACKAGE = Path(skfusion.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))
HEAVY = ("torch", "skorch", "anndata", "mudata", "matplotlib")
OPTIONAL = ("mudata", "matplotlib", "accelerate", "dask", "skops", "zarr")

FLOORS = [
    ("modalities",),
    ("encoders",),
    ("fusion",),
    ("decoders",),
    ("objectives",),
    ("training",),
    (),  # estimators: whatever lies on no other floor
    ("inspection",),
]
"""Bottom-up; a floor imports from itself and from floors below."""


def imported(path):
    """All modules that a file imports, at its top or inside functions, as dotted names."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def part_of(module):
    """The first component below skfusion: a folder, or a file's name."""
    return module.split(".")[1] if module.count(".") else ""


def floor_of(part):
    return next((i for i, parts in enumerate(FLOORS) if part in parts), FLOORS.index(()))


def part_of_file(path):
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def packages_of(path):
    return {module.partition(".")[0] for module in imported(path)}


def run(code):
    """Run code in a fresh interpreter and return which heavy packages it loaded."""
    code += f"\nimport sys\nprint(*[name for name in {HEAVY} if name in sys.modules])"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()


# Helpers without a floor: names that import nothing of the package, which every floor may use.
EVERYWHERE = ("_lazy", "_compat", "_warn")


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_an_import_goes_only_up_the_floors(path):
    own = floor_of(part_of_file(path))
    # The facade of the package names classes of all floors, and imports none before it is asked for one.
    if part_of_file(path) == "__init__":
        own = len(FLOORS)
    for module in imported(path):
        if module.startswith("skfusion.") and part_of(module) not in EVERYWHERE:
            assert floor_of(part_of(module)) <= own, f"{path} imports {module}"


def test_helpers_of_every_floor_import_nothing_of_the_package():
    for name in EVERYWHERE:
        assert "skfusion" not in packages_of(PACKAGE / f"{name}.py")


@pytest.mark.parametrize("part", ["encoders", "fusion", "objectives", "decoders"])
def test_torch_floors_never_import_scikit_learn(part):
    for path in (PACKAGE / part).rglob("*.py"):
        assert "sklearn" not in packages_of(path), path


def test_modalities_never_import_torch():
    for path in (PACKAGE / "modalities").rglob("*.py"):
        assert not {"torch", "skorch"} & packages_of(path), path


def test_only_training_knows_skorch():
    knowing = {path.relative_to(PACKAGE).parts[0] for path in FILES if "skorch" in packages_of(path)}
    assert knowing == {"training"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_optional_packages_come_in_through_compat_alone(path):
    assert not set(OPTIONAL) & packages_of(path)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_private_names_of_scikit_learn_are_known_to_compat_alone(path):
    if path.name == "_compat.py":
        pytest.skip("this is it")
    private = [m for m in imported(path) if m.startswith("sklearn.") and any(p.startswith("_") for p in m.split("."))]
    assert not private


def test_importing_the_package_loads_nothing_heavy():
    assert run("import skfusion; assert skfusion.__version__") == []


def test_making_and_copying_estimators_loads_nothing_heavy():
    code = """
import skfusion
from sklearn.base import BaseEstimator, clone
for name in skfusion.__all__:
    found = getattr(skfusion, name)
    if isinstance(found, type) and issubclass(found, BaseEstimator):
        estimator = clone(found())
        repr(estimator)
        names = estimator.get_params()
        estimator.set_params(modalities=["a"])
        for path in names:
            if path in ("joint__lr", "late__cv"):
                estimator.set_params(**{path: names[path]})
import skfusion.encoders, skfusion.fusion, skfusion.objectives, skfusion.decoders
assert skfusion.encoders.ENCODERS and skfusion.fusion.FUSIONS
"""
    assert run(code) == []


def test_a_modalities_of_arrays_loads_nothing_heavy():
    code = """
import numpy as np
from skfusion import Modalities, EarlyFusionTransformer, LateFusionStacker
X = Modalities({"a": np.eye(20), "b": np.ones((20, 2))})
EarlyFusionTransformer().fit_transform(X[:10])
LateFusionStacker().fit(X, np.arange(20) % 2).predict(X)
"""
    assert run(code) == []


@pytest.mark.parametrize(
    "package",
    [
        "skfusion",
        "skfusion.encoders",
        "skfusion.fusion",
        "skfusion.objectives",
        "skfusion.decoders",
        "skfusion.imputation",
        "skfusion.singlecell",
    ],
)
def test_every_name_of_a_lazy_package_resolves(package):
    module = sys.modules.get(package) or __import__(package, fromlist=["*"])
    for name in module.__all__:
        assert getattr(module, name).__name__ == name
    assert set(module.__all__) <= set(dir(module))
    with pytest.raises(AttributeError, match=f"module '{package}' has no attribute 'nonsense'"):
        _ = module.nonsense
