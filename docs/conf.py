"""Sphinx's settings; `make docs` builds without a network and without a warning."""

import shutil
from pathlib import Path

import skfusion

# Pages of names that are gone would break the build.
shutil.rmtree(Path(__file__).parent / "api" / "generated", ignore_errors=True)

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
_REQUESTS = [f"set_{method}_request" for method in ("fit", "partial_fit", "predict", "score", "transform")]
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
