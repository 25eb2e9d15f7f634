"""The documentation: its python blocks run and print what the text block after them says, its links lead somewhere."""

import doctest
import io
import re
from contextlib import redirect_stdout
from pathlib import Path

import matplotlib.pyplot as plt
import pytest

import skfusion
import skfusion.datasets
import skfusion.decoders
import skfusion.encoders
import skfusion.fusion
import skfusion.imputation
import skfusion.inspection
import skfusion.objectives
import skfusion.singlecell
from skfusion._build import resolve
from skfusion.fusion import FUSIONS
from skfusion.fusion.blocks import PooledFusion
from skfusion.imputation import STRATEGIES
from skfusion.inspection.masks import attention_masks
from skfusion.objectives import OBJECTIVES

ROOT = Path(__file__).resolve().parent.parent
PAGES = [
    *ROOT.glob("*.md"),
    *(page for page in sorted((ROOT / "docs").rglob("*.md")) if not {"_build", "generated"} & set(page.parts)),
]
BLOCK = re.compile(r"^```python\n(?P<code>.*?)^```\n(?:\n?^```text\n(?P<output>.*?)^```$)?", re.M | re.S)
LINK = re.compile(r"\]\((?!https?:|#)([^)#\s]+)")
SAME = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS


def name(page):
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", [page for page in PAGES if BLOCK.search(page.read_text())], ids=name)
def test_the_code_of_a_page_runs_and_prints_what_it_says(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    plt.switch_backend("agg")
    text, namespace = page.read_text(), {"__name__": "page"}
    for block in BLOCK.finditer(text):
        first_line = text.count("\n", 0, block.start("code"))
        code = compile("\n" * first_line + block["code"], str(page), "exec")
        with redirect_stdout(io.StringIO()) as printed:
            exec(code, namespace)
        if block["output"] is not None:
            same = doctest.OutputChecker().check_output(block["output"], printed.getvalue(), SAME)
            assert same, f"{name(page)}:{first_line + 1} prints\n{printed.getvalue()}"
    plt.close("all")


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_between_files_lead_somewhere(page):
    lost = [link for link in LINK.findall(page.read_text()) if not (page.parent / link).exists()]
    assert not lost


LISTED = [
    skfusion,
    skfusion.datasets,
    skfusion.inspection,
    skfusion.imputation,
    skfusion.encoders,
    skfusion.fusion,
    skfusion.objectives,
    skfusion.decoders,
    skfusion.singlecell,
]


@pytest.mark.parametrize("package", LISTED, ids=lambda package: package.__name__)
def test_every_public_name_is_on_the_api_page(package):
    listed = (ROOT / "docs" / "api.md").read_text().split()
    lacking = [name for name in package.__all__ if f"{package.__name__}.{name}" not in listed]
    assert not lacking


def has_attention_maps(fusion):
    try:
        return bool(attention_masks(fusion, {"a": 1, "b": 1}))
    except ValueError:
        return False


def test_the_table_of_fusions_says_of_each_what_it_is():
    rows = re.findall(r'^\| `"(\w+)"` \|(.*)\|$', (ROOT / "docs" / "guide" / "fusions.md").read_text(), re.M)
    table = {fusion: [cell.strip() for cell in cells.split("|")] for fusion, cells in rows}
    assert list(table) == list(FUSIONS)
    for fusion, (works_on, _, _, own_predictions, maps, _) in table.items():
        made = resolve("fusion", fusion, FUSIONS)
        assert works_on == ("embeddings" if issubclass(made, PooledFusion) else "tokens"), fusion
        assert own_predictions == ("always" if getattr(made, "predicts_by_head", False) else "on request"), fusion
        assert maps == ("yes" if has_attention_maps(fusion) else "no"), fusion


def test_the_table_of_strategies_says_of_each_whether_it_draws():
    section = (ROOT / "docs" / "guide" / "missing.md").read_text().partition("## Filling in")[2].partition("\n## ")[0]
    rows = re.findall(r'^\| `"(\w+)"` \|(.*)\|$', section, re.M)
    table = {strategy: [cell.strip() for cell in cells.split("|")] for strategy, cells in rows}
    assert set(table) == set(STRATEGIES)
    for strategy, (example, _, _, draws) in table.items():
        made = resolve("strategy", strategy, STRATEGIES)
        assert example.startswith(f"`{made.__name__}("), strategy
        assert draws == ("yes" if hasattr(made, "draw") else "no"), strategy


def test_the_table_of_objectives_names_all_that_pretrain():
    rows = re.findall(r'^\| `"(\w+)"` \|', (ROOT / "docs" / "guide" / "pretraining.md").read_text(), re.M)
    made = {name: resolve("objectives", name, OBJECTIVES) for name in OBJECTIVES}
    assert set(rows) == {name for name, objective in made.items() if not getattr(objective, "needs_target", False)}
