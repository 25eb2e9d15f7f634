"""Sphinx's settings; `make docs` builds without a network and without a warning."""

import shutil
from pathlib import Path

import skfusion

HERE = Path(__file__).parent

# Pages of names that are gone would break the build.
shutil.rmtree(HERE / "api" / "generated", ignore_errors=True)

project = "skfusion"
author = "The skfusion developers"
copyright = "2026, The skfusion developers"
release = version = skfusion.__version__

extensions = ["myst_parser", "numpydoc", "sphinx.ext.autodoc", "sphinx.ext.autosummary"]
source_suffix = {".rst": "restructuredtext", ".md": "markdown"}
exclude_patterns = ["_build"]
myst_heading_anchors = 3

html_theme = "furo"
html_title = f"skfusion {release}"
html_copy_source = False

autosummary_generate = True
autosummary_imported_members = True  # packages only re-export; their pages list every name that they export
templates_path = ["_templates"]
# What estimators share with each other is shown on each; what they have from scikit-learn is not.
_SCIKIT_LEARN = (
    "BaseEstimator, ClassifierMixin, RegressorMixin, TransformerMixin, ClassNamePrefixFeaturesOutMixin, Module, tuple"
)
_METHODS = ("fit", "partial_fit", "predict", "predict_proba", "score", "transform")
_REQUESTS = [f"set_{method}_request" for method in _METHODS]
_FIELDS = ["values", "mask", "times", "variables", "offset"]  # of named tuples, whose docstring has them
autodoc_default_options = {
    "inherited-members": _SCIKIT_LEARN,
    "exclude-members": ", ".join(
        [*_REQUESTS, *_FIELDS, "get_metadata_routing", "get_params", "set_params", "set_output"]
    ),
}
autodoc_typehints = "none"
numpydoc_show_class_members = False
numpydoc_class_members_toctree = False

MASKS = (
    *("attention", "early_sum", "early_concat", "hierarchical", "hierarchical_split", "cross_attention"),
    *("cross_attention_concat", "bottleneck", "zorro", "everything_at_once"),
)


def draw_masks(app):
    """Draw who may attend to whom, as the code of this build does it, for the guide on fusions."""
    import matplotlib as mpl

    mpl.use("agg")
    from skfusion.inspection import AttentionMaskDisplay

    folder = HERE / "_build" / "masks"
    folder.mkdir(parents=True, exist_ok=True)
    for fusion in MASKS:
        figure = AttentionMaskDisplay.from_fusion(fusion).figure_
        figure.savefig(folder / f"{fusion}.svg", bbox_inches="tight", metadata={"Date": None})
        mpl.pyplot.close(figure)


def setup(app):
    app.connect("builder-inited", draw_masks)
