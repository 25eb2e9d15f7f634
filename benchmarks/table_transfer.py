"""A table that teaches the network of an image: the image alone, and with `TableTransfer`. All are tested on images.

"digits": handwritten digits, 15 x 16 pixel averages; the table has 6 morphological features, the mean of each of nine
blocks of the image, and a category, its darkest block. "planted": noise of 16 x 16 pixels, and in it four gratings of
an orientation and a strength each, of random phase; the class is the strongest. The table has the four strengths
without noise, as many columns of noise, and a category of three levels, whether the first is low, middle or high. The
gratings have no place, since the embedding of an image is a mean over places.

Each seed draws the labelled samples anew; all contenders of a seed get the same ones. "every channel" is the same
objective with a single group of channels, so that each column sees all of them: what the transport adds is the
difference to that. Differences are paired, with Student's interval over seeds.

    python benchmarks/table_transfer.py
"""

import argparse
from functools import partial

import numpy as np
import pandas as pd
import torch
from _timing import machine

from skfusion import JointFusionClassifier
from skfusion.datasets import load_handwritten
from skfusion.fusion import Primary
from skfusion.inspection import corrected_resampled_interval
from skfusion.objectives import TableTransfer

CONTENDERS = {
    "image alone": None,
    "table transfer": {},
    "table transfer, every channel": {"n_clusters": 1},
    "table transfer, weight 1": {"transfer_weight": 1.0},
    "table transfer, weight 1, every channel": {"transfer_weight": 1.0, "n_clusters": 1},
}
ALONE = "image alone"


def digits(seed, n_train):
    """Return images, table, labels, and the rows to train and to test on."""
    bunch = load_handwritten()
    y = np.asarray(bunch.target)
    images = np.asarray(bunch.data["pix"]).reshape(-1, 1, 16, 15)
    blocks = np.stack(
        [b.mean((1, 2, 3)) for rows in np.split(images[:, :, :15], 3, 2) for b in np.split(rows, 3, 3)], 1
    )
    table = pd.DataFrame(bunch.data["mor"]).add_prefix("mor")
    table = table.join(pd.DataFrame(blocks).add_prefix("block"))
    table["darkest"] = blocks.argmax(1).astype(str)
    order = np.random.default_rng(seed).permutation(len(y))
    return images, table, y, order[:n_train], order[n_train:]


def planted(seed, n_train, n_test=1000):
    """Return the same of gratings in noise."""
    rng = np.random.default_rng(seed)
    n = n_train + n_test
    strength = rng.uniform(0, 1.5, size=(n, 4))
    phase = rng.uniform(0, 2 * np.pi, size=(n, 4, 1, 1))
    angle = np.arange(4)[:, None, None] * np.pi / 4
    row, column = np.mgrid[:16, :16]
    waves = np.sin(2 * np.pi / 4 * (np.cos(angle) * column + np.sin(angle) * row) + phase)  # (n, 4, 16, 16)
    images = (strength[..., None, None] * waves).sum(1, keepdims=True) + rng.normal(size=(n, 1, 16, 16))
    y = strength.argmax(1)
    table = pd.DataFrame(np.hstack([strength, rng.normal(size=(n, 4))])).add_prefix("column")
    table["level"] = np.array(["low", "middle", "high"])[np.digitize(strength[:, 0], [0.5, 1.0])]
    return images, table, y, np.arange(n_train), np.arange(n_train, n)


def scores(draw, seed, n_train, max_epochs):
    """Return the accuracy of each contender on the images of one draw."""
    images, table, y, train, test = draw(seed, n_train)
    found = {}
    for name, options in CONTENDERS.items():
        X = {"image": images[train], "table": table.iloc[train].reset_index(drop=True)}
        model = JointFusionClassifier(
            encoders={"image": "conv2d", "table": "tokens"} if options is not None else {"image": "conv2d"},
            fusion=partial(Primary, modality="image"),
            objectives=None if options is None else [TableTransfer(**options)],
            max_epochs=max_epochs,
            random_state=seed,
            device="cpu",
        )
        model.fit(X if options is not None else {"image": X["image"]}, y[train])
        found[name] = model.score({"image": images[test]}, y[test])
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", nargs="+", default=["digits", "planted"], choices=["digits", "planted"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--n-train", type=int, nargs="+", default=[100, 400])
    parser.add_argument("--max-epochs", type=int, default=50)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{machine()}; {len(arguments.seeds)} paired seeds, {arguments.max_epochs} epochs\n")
    print("| data | labelled | method | accuracy | difference to the image alone |")
    print("| --- | ---: | --- | ---: | ---: |")
    for draw in ({"digits": digits, "planted": planted}[name] for name in arguments.data):
        for n_train in arguments.n_train:
            runs = [scores(draw, seed, n_train, arguments.max_epochs) for seed in arguments.seeds]
            for name in CONTENDERS:
                own, alone = (100 * np.array([run[which] for run in runs]) for which in (name, ALONE))
                low, high = corrected_resampled_interval(own - alone, n_train, 0)
                difference = f"{(own - alone).mean():+.2f} [{low:+.2f}, {high:+.2f}]" if name != ALONE else ""
                print(f"| {draw.__name__} | {n_train} | {name} | {own.mean():.2f} | {difference} |", flush=True)


if __name__ == "__main__":
    main()
