"""Joint training against a hand-written loop over the same network, optimizer, schedule and data.

Prints seconds (median of 7 interleaved rounds) and ratios of JointFusionClassifier to each alternative, each the median
of the ratios of one round. "Our dropout" is `skfusion.encoders.dropout.Dropout` in the hand-written network: what is
left there is the cost of the loop itself. The hand-written loops start from scaled float32 tensors; the time of
JointFusionClassifier holds its input checks, its scaling, and the pass that learns the mean embeddings.
"""

import argparse
import warnings
from functools import partial

import numpy as np
import torch
from _timing import interleave, machine, median_ratio
from sklearn.neural_network import MLPClassifier
from torch import nn

from skfusion import JointFusionClassifier
from skfusion.encoders.dropout import Dropout

N, WIDTHS, HIDDEN, LATENT, N_CLASSES = 20_000, (200, 100), 128, 64, 5
LR, DECAY, SMOOTHING, DROPOUT = 3e-3, 1e-2, 0.1, 0.5


def make_data():
    rng = np.random.default_rng(0)
    y = rng.integers(N_CLASSES, size=N)
    X = {
        name: (rng.normal(size=(N, d)) + 0.3 * rng.normal(size=(N_CLASSES, d))[y]).astype(np.float32)
        for name, d in zip(("a", "b"), WIDTHS)
    }
    return X, y


class HandWritten(nn.Module):
    """The network of JointFusionClassifier's defaults, without anything about missing modalities."""

    def __init__(self, dropout=nn.Dropout):
        super().__init__()
        self.encoders = nn.ModuleList(
            nn.Sequential(
                dropout(0.4 * DROPOUT),
                nn.Linear(d, HIDDEN),
                nn.LayerNorm(HIDDEN),
                nn.GELU(),
                dropout(DROPOUT),
                nn.Linear(HIDDEN, LATENT),
            )
            for d in WIDTHS
        )
        self.fusion = nn.Sequential(dropout(DROPOUT), nn.Linear(2 * LATENT, LATENT), nn.LayerNorm(LATENT), nn.GELU())
        self.head = nn.Linear(LATENT, N_CLASSES)

    def forward(self, a, b):
        fused = torch.cat([self.encoders[0](a), self.encoders[1](b)], dim=1)
        return self.head(self.fusion(fused))


def hand_written(X, y, batch_size, epochs, *, fused=False, dropout=nn.Dropout):
    torch.manual_seed(0)
    network = HandWritten(dropout).train()
    a, b, target = (torch.from_numpy(v) for v in (X["a"], X["b"], y))
    options = {"fused": True} if fused else {}
    optimizer = torch.optim.AdamW(network.parameters(), lr=LR, weight_decay=DECAY, **options)
    steps = -(-N // batch_size) * epochs
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=LR, total_steps=steps)
    loss_function = nn.CrossEntropyLoss(label_smoothing=SMOOTHING)
    for _ in range(epochs):
        order = torch.randperm(N)
        for start in range(0, N, batch_size):
            rows = order[start : start + batch_size]
            optimizer.zero_grad()
            loss = loss_function(network(a[rows], b[rows]), target[rows])
            loss.backward()
            optimizer.step()
            schedule.step()
    return network


def plain_skorch(X, y, batch_size, epochs):
    from skorch import NeuralNetClassifier

    net = NeuralNetClassifier(
        HandWritten,
        criterion=nn.CrossEntropyLoss(label_smoothing=SMOOTHING),
        optimizer=torch.optim.AdamW,
        optimizer__weight_decay=DECAY,
        lr=LR,
        max_epochs=epochs,
        batch_size=batch_size,
        train_split=None,
        iterator_train__shuffle=True,
        verbose=0,
    )
    return net.fit(X, y)


def sklearn_mlp(X, y, batch_size, epochs):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mlp = MLPClassifier((HIDDEN, LATENT), batch_size=batch_size, max_iter=epochs, learning_rate_init=LR)
        return mlp.fit(np.hstack([X["a"], X["b"]]), y)


def skfusion(X, y, batch_size, epochs):
    return JointFusionClassifier(
        n_hidden=HIDDEN,
        n_latent=LATENT,
        dropout_rate=DROPOUT,
        lr=LR,
        weight_decay=DECAY,
        label_smoothing=SMOOTHING,
        batch_size=batch_size,
        max_epochs=epochs,
        device="cpu",
        random_state=0,
    ).fit(X, y)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--epochs", type=int, default=10)
    arguments = parser.parse_args()
    X, y = make_data()
    scaled = {name: (v - v.mean(0)) / v.std(0) for name, v in X.items()}
    print(f"joint training: {N} x {WIDTHS}, {arguments.epochs} epochs, {machine()}, torch {torch.__version__}")
    for batch_size in (128, 1024):
        epochs = arguments.epochs
        seconds = interleave(
            {
                "hand-written loop": partial(hand_written, scaled, y, batch_size, epochs),
                "hand-written loop, fused optimizer": partial(hand_written, scaled, y, batch_size, epochs, fused=True),
                "hand-written loop, fused optimizer, our dropout": partial(
                    hand_written, scaled, y, batch_size, epochs, fused=True, dropout=Dropout
                ),
                "JointFusionClassifier": partial(skfusion, X, y, batch_size, epochs),
                "skorch as it comes (no schedule)": partial(plain_skorch, scaled, y, batch_size, epochs),
                "MLPClassifier (another net, no schedule)": partial(sklearn_mlp, X, y, batch_size, epochs),
            },
            arguments.rounds,
        )
        print(f"\nbatch {batch_size:<46} seconds   JointFusionClassifier / this")
        ours = seconds["JointFusionClassifier"]
        for name, values in seconds.items():
            print(f"  {name:<48} {np.median(values):7.2f}   {median_ratio(ours, values):.2f}", flush=True)


if __name__ == "__main__":
    main()
