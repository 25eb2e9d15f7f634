"""The shipped data: what is in them, where they come from, and that they can be learned from."""

import subprocess
import sys
from importlib.resources import files

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import cross_val_score, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import skfusion.datasets
from skfusion import Modalities
from skfusion.datasets import (
    load_basic_motions,
    load_clothing_reviews,
    load_dentate_gyrus,
    load_handwritten,
    load_nutrimouse,
)

LOADERS = [getattr(skfusion.datasets, name) for name in skfusion.datasets.__all__]
DATA = files("skfusion.datasets") / "data"


@pytest.fixture(scope="module")
def clothing():
    return load_clothing_reviews()


def linear():
    return make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))


def counts(target):
    return dict(zip(*(part.tolist() for part in np.unique(target, return_counts=True))))


# what every loader obeys


@pytest.mark.parametrize("load", LOADERS)
def test_the_bunch_has_the_customary_fields(load):
    bunch = load()
    assert {"data", "target", "target_names", "DESCR"} <= set(bunch)
    assert bunch.target.shape == (bunch.data.shape[0],)
    classes = np.unique(bunch.target)
    assert len(bunch.target_names) == len(classes)
    if bunch.target.dtype.kind == "U":
        assert bunch.target_names.tolist() == classes.tolist()
    else:
        assert classes.tolist() == list(range(len(classes)))


@pytest.mark.parametrize("load", LOADERS)
def test_return_X_y_gives_the_same_data_and_target(load):
    bunch = load()
    data, target = load(return_X_y=True)
    assert type(data) is type(bunch.data)
    assert data.shape == bunch.data.shape
    np.testing.assert_array_equal(target, bunch.target)


@pytest.mark.parametrize("load", LOADERS)
def test_each_call_gives_data_of_its_own(load):
    first, second = load(), load()
    before = second.target[0]
    first.target[:] = first.target[-1]
    assert second.target[0] == before
    assert load().target[0] == before


@pytest.mark.parametrize(
    ("load", "licence"),
    [
        (load_handwritten, "CC BY 4.0"),
        (load_dentate_gyrus, "BSD-3-Clause"),
        (load_clothing_reviews, "CC0"),
        (load_basic_motions, "BSD-3-Clause"),
        (load_nutrimouse, "MIT"),
    ],
)
def test_the_description_names_source_and_licence(load, licence):
    description = load().DESCR
    assert ":Source:" in description
    assert licence in description.partition(":Licence:")[2]


def test_every_data_file_has_its_source_and_all_are_small():
    sources = (DATA / "SOURCES.md").read_text(encoding="utf-8")
    shipped = [file for file in DATA.iterdir() if not file.name.endswith((".md", ".rst"))]
    assert len(shipped) == len(LOADERS)
    for file in shipped:
        assert f"`{file.name}`" in sources
    assert sum(len(file.read_bytes()) for file in DATA.iterdir()) < 8 * 2**20


def test_importing_the_loaders_imports_neither_torch_nor_anndata():
    code = (
        "import sys, skfusion.datasets as d; d.load_nutrimouse(); d.load_basic_motions(); "
        "print(sorted({'torch', 'skorch', 'anndata'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# handwritten


def test_handwritten_has_six_views_of_2000_digits():
    digits = load_handwritten()
    shapes = {name: digits.data[name].shape for name in digits.data.names}
    widths = {"fou": 76, "fac": 216, "kar": 64, "pix": 240, "zer": 47, "mor": 6}
    assert shapes == {name: (2000, width) for name, width in widths.items()}
    assert list(shapes) == list(widths)
    assert all(digits.data[name].dtype == np.float64 for name in widths)
    assert digits.target.dtype == np.int64
    assert counts(digits.target) == dict.fromkeys(range(10), 200)
    assert digits.data.present.all()


def test_a_linear_model_reads_the_digits():
    X, y = load_handwritten(return_X_y=True)
    table = np.hstack([X[name] for name in X.names])
    train, test, y_train, y_test = train_test_split(table, y, test_size=0.5, random_state=0, stratify=y)
    assert linear().fit(train, y_train).score(test, y_test) > 0.97


# dentate gyrus


def test_dentate_gyrus_has_the_layers_of_rna_velocity():
    adata = load_dentate_gyrus().data
    assert adata.shape == (100, 278)
    assert set(adata.layers) == {"spliced", "unspliced", "Ms", "Mu", "velocity"}
    for name in ("spliced", "unspliced"):
        assert sparse.issparse(adata.layers[name])
        assert adata.layers[name].format == "csr"
        assert adata.layers[name].dtype == np.float32
        # Normalised by library size: no counts.
        assert (adata.layers[name].data % 1 != 0).any()
    assert {name: adata.obsm[name].shape[1] for name in adata.obsm} == {"X_pca": 30, "X_umap": 2, "X_diffmap": 15}
    assert adata.obs_names.is_unique
    assert adata.var_names.is_unique
    assert "Tmeff2" in adata.var_names


def test_dentate_gyrus_has_twelve_cell_types_some_of_them_rare():
    bunch = load_dentate_gyrus()
    types = counts(bunch.target)
    assert len(types) == 12
    assert (types["Granule mature"], types["Granule immature"], types["Neuroblast"]) == (38, 33, 12)
    assert sum(n == 1 for n in types.values()) == 6
    assert bunch.target.tolist() == bunch.data.obs["clusters"].tolist()


def test_smoothed_layers_are_those_of_the_same_cells_and_genes():
    layers = load_dentate_gyrus().data.layers
    for raw, smooth in (("spliced", "Ms"), ("unspliced", "Mu")):
        means = np.asarray(layers[raw].mean(axis=0)).ravel(), layers[smooth].mean(axis=0)
        assert np.corrcoef(np.log1p(means))[0, 1] > 0.95
        cells = np.log1p(layers[raw].toarray()), np.log1p(layers[smooth])
        similarity = np.corrcoef(cells[0] - cells[0].mean(axis=0), cells[1] - cells[1].mean(axis=0))[:100, 100:]
        own = np.diag(similarity)
        assert own.mean() > similarity[~np.eye(100, dtype=bool)].mean() + 0.1


def test_velocity_is_missing_gene_by_gene():
    missing = np.isnan(load_dentate_gyrus().data.layers["velocity"])
    assert missing.all(axis=0).sum() == 156
    assert missing.sum() == 156 * 100


def test_modalities_take_the_dentate_gyrus():
    X = Modalities.from_anndata(load_dentate_gyrus().data)
    assert X.names == ["spliced", "unspliced"]
    assert X.shape == (100, 2)


# clothing reviews


def test_clothing_reviews_have_two_texts_and_a_table(clothing):
    X = clothing.data
    assert X.names == ["title", "review", "tabular"]
    assert X.shape == (23486, 3)
    assert [X.kind(name) for name in X.names] == ["text", "text", "table"]
    assert counts(clothing.target) == {0: 4172, 1: 19314}
    assert clothing.target_names[1] == "recommended"
    assert len(np.unique(clothing.clothing_id)) == 1206


def test_texts_are_missing_where_the_customer_wrote_none(clothing):
    X = clothing.data
    assert (~X.present).sum(axis=0).tolist() == [3810, 845, 0]
    # Almost nobody writes a title without a review.
    assert (~X.present[:, 0] & ~X.present[:, 1]).sum() == 844
    for column, name in enumerate(("title", "review")):
        assert X[name].dtype == object
        assert all(
            isinstance(text, str) if there else text is None for text, there in zip(X[name], X.present[:, column])
        )
    assert X["title"][:3].tolist() == [None, None, "Some major design flaws"]
    assert X["review"][0] == "Absolutely wonderful - silky and sexy and comfortable"


def test_the_table_holds_no_column_that_tells_the_target(clothing):
    table = clothing.data["tabular"]
    assert list(table) == ["Age", "Positive Feedback Count", "Division Name", "Department Name", "Class Name"]
    categories = table.select_dtypes("category")
    assert categories.nunique().tolist() == [3, 6, 20]
    assert categories.isna().sum().tolist() == [14, 14, 14]
    assert all(pd.api.types.is_integer_dtype(table[name]) for name in ("Age", "Positive Feedback Count"))
    assert table["Age"].agg(["min", "max"]).tolist() == [18, 99]


def test_the_texts_tell_who_recommends(clothing):
    X, y = clothing.data[:6000], clothing.target[:6000]
    texts = [f"{title or ''} {review or ''}" for title, review in zip(X["title"], X["review"])]
    model = make_pipeline(TfidfVectorizer(sublinear_tf=True, min_df=2), LogisticRegression(max_iter=1000))
    model.fit(texts[:4000], y[:4000])
    assert roc_auc_score(y[4000:], model.predict_proba(texts[4000:])[:, 1]) > 0.92


# basic motions


def test_basic_motions_are_sequences_with_their_official_split():
    motions = load_basic_motions()
    assert motions.data.names == ["accelerometer", "gyroscope"]
    for name in motions.data.names:
        assert motions.data[name].shape == (80, 100, 3)
        assert motions.data[name].dtype == np.float32
        assert motions.data.kind(name) == "sequence"
    assert motions.train.dtype == bool
    assert motions.train.tolist() == [True] * 40 + [False] * 40
    for part in (motions.target[motions.train], motions.target[~motions.train]):
        assert counts(part) == dict.fromkeys(["badminton", "running", "standing", "walking"], 10)


def test_the_second_axis_of_basic_motions_is_time():
    # The first recording as printed in the archive, first channel.
    first = load_basic_motions().data["accelerometer"][0, :5, 0]
    np.testing.assert_allclose(first, [0.079106, 0.079106, -0.903497, 1.116125, 1.6382], rtol=1e-6)


def test_a_linear_model_tells_the_activities_apart():
    motions = load_basic_motions()
    X = np.hstack(
        [np.hstack([v.mean(axis=1), v.std(axis=1)]) for v in map(motions.data.__getitem__, motions.data.names)]
    )
    model = linear().fit(X[motions.train], motions.target[motions.train])
    assert model.score(X[~motions.train], motions.target[~motions.train]) >= 0.9


# nutrimouse


def test_nutrimouse_has_genes_and_lipids_with_names():
    mice = load_nutrimouse()
    assert mice.data["gene"].shape == (40, 120)
    assert mice.data["lipid"].shape == (40, 21)
    assert mice.data.columns("gene")[:3] == ["X36b4", "ACAT1", "ACAT2"]
    assert mice.data.columns("lipid")[-1] == "C22.6n.3"
    assert mice.data["gene"][0, :3].tolist() == [-0.42, -0.65, -0.84]
    assert mice.data.present.all()


def test_nutrimouse_has_two_crossed_targets():
    diet = load_nutrimouse().target
    genotype = load_nutrimouse(target="genotype").target
    assert counts(diet) == dict.fromkeys(["coc", "fish", "lin", "ref", "sun"], 8)
    assert counts(genotype) == {"ppar": 20, "wt": 20}
    assert set(counts(np.char.add(diet, genotype)).values()) == {4}


def test_nutrimouse_names_the_targets_it_has():
    with pytest.raises(ValueError, match=r"'age'; allowed are 'diet' and 'genotype'"):
        load_nutrimouse(target="age")


@pytest.mark.parametrize(("target", "modality"), [("diet", "lipid"), ("genotype", "gene")])
def test_each_target_of_nutrimouse_has_a_modality_that_tells_it(target, modality):
    X, y = load_nutrimouse(target=target, return_X_y=True)
    assert cross_val_score(linear(), X[modality], y, cv=4).mean() > 0.9
