"""Which kind of fusion, does it help, and what if a modality is missing?

Asked of two data sets that ship with skfusion: digits that are described in six ways, and cells with spliced and
unspliced expression in an AnnData.
"""

import time
import warnings
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from joblib import parallel_config
from sklearn.model_selection import GridSearchCV, train_test_split

from skfusion import FusionClassifier
from skfusion.datasets import load_dentate_gyrus, load_handwritten
from skfusion.inspection import FusionComparisonDisplay, compare_fusions

FIGURE = Path("demo/fusion_comparison.png")
COLUMNS = ["kind", "mean", "sd", "difference", "ci_low", "ci_high"]


def choose_fusion(X, y):
    """Search a grid over the type of fusion, as over any other parameter."""
    grid = GridSearchCV(FusionClassifier(random_state=0), {"fusion": ["early", "joint", "late"]}, cv=3)
    grid.fit(X, y)
    print("\nGridSearchCV over the type of fusion, mean accuracy of 3 folds")
    for fusion, accuracy in zip(grid.cv_results_["param_fusion"], grid.cv_results_["mean_test_score"]):
        print(f"  {fusion:5}  {accuracy:.3f}{'  <- best' if fusion == grid.best_params_['fusion'] else ''}")
    return grid.best_estimator_


def compare(X, y):
    """Score every single modality and every fusion on the same folds."""
    result = compare_fusions(X, y, cv=5, random_state=0, verbose=1)
    table = result.table.sort_values("mean", ascending=False)[COLUMNS]
    print(f"\ncompare_fusions, accuracy in 5 folds; difference to the best single modality, {result.best_single}")
    print(table.rename_axis(None).to_string(float_format="{:.3f}".format))
    return result


def main():
    start = time.perf_counter()
    # joblib says so where it replaces a worker that has grown by importing torch; nothing is lost.
    warnings.filterwarnings("ignore", "A worker stopped while some jobs")

    print("=== Handwritten digits: 10 classes, six modalities ===")
    X, y = load_handwritten(return_X_y=True)
    # Few labels, as is usual where labels are dear; the other 1760 digits tell how good the best model really is.
    X_train, X_test, y_train, y_test = train_test_split(X, y, train_size=240, stratify=y, random_state=0)
    print(X_train)
    model = choose_fusion(X_train, y_train)
    digits = compare(X_train, y_train)
    print(f"\nAccuracy of the best one on {len(X_test)} new digits")
    print(f"  with all modalities  {model.score(X_test, y_test):.3f}")
    for name in X.names:
        print(f"  without {name:11}  {model.score(X_test.drop([name]), y_test):.3f}")

    print("\n=== Dentate gyrus: cell types, spliced and unspliced expression in an AnnData ===")
    adata, cell_type = load_dentate_gyrus(return_X_y=True)
    names, counts = np.unique(cell_type, return_counts=True)
    common = np.isin(cell_type, names[counts >= 10])
    X, y = adata[common].copy(), cell_type[common]
    print("  ".join(f"{name}: {count}" for name, count in zip(names, counts) if count >= 10))
    X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=0.3, stratify=y, random_state=0)
    model = choose_fusion(X_train, y_train)
    cells = compare(X, y)  # of all cells, since they are few; its folds hold out by themselves
    print(f"\nAccuracy of the best one on {len(X_test)} new cells")
    print(f"  with both layers     {model.score(X_test, y_test):.3f}")
    for name in ("spliced", "unspliced"):
        without = X_test.copy()
        del without.layers[name]
        print(f"  without {name:11}  {model.score(without, y_test):.3f}")

    figure, axes = plt.subplots(2, figsize=(8.5, 7), height_ratios=[9, 5], layout="constrained")
    for ax, result, title in zip(axes, (digits, cells), ("Handwritten digits", "Dentate gyrus, cell type")):
        FusionComparisonDisplay.from_comparison(result, ax=ax)
        ax.set_title(title, loc="left")
    FIGURE.parent.mkdir(exist_ok=True)
    figure.savefig(FIGURE, dpi=150)
    print(f"\nThe figure is in {FIGURE}. All of this took about {time.perf_counter() - start:.0f} seconds.")


# Worker processes import this file: without the guard, each would start the demo again.
if __name__ == "__main__":
    with parallel_config(n_jobs=2):
        main()
