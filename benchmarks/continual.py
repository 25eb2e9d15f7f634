"""Continual pretraining: what is forgotten of the first modality when others follow, with and without rehearsal.

Three planted modalities come one after another through one shared encoder. Each is a linear map of four latents to 16
features, whose signs are its class, one of 16, with noise on latents and features; maps are drawn anew. After each
stage, logistic regression on embeddings of 1,000 training samples of the first modality is scored on 1,000 others. The
first stage takes 40 epochs and the others 60 each, at a learning rate of .01: with fewer steps, or a smaller rate, the
shared weights move too little to forget, and .03 ends in weights that no longer move. ``python benchmarks/continual.py``
"""

import argparse
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np
from _timing import machine
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skfusion import MultimodalPretrainer

MODALITIES = ("first", "second", "third")
N_SAMPLES = 1000
N_LATENTS = 4
EPOCHS = (40, 60, 60)
NETWORK = {
    "encoders": "shared",
    "n_latent": 8,
    "n_heads": 2,
    "n_layers": 2,
    "dropout_rate": 0.0,
    "lr": 0.01,
    "batch_size": 250,
    "device": "cpu",
}


def planted(seed, n_features=16, spread=0.3, noise=0.3):
    """Return values (2,000, 16) and classes of each modality."""
    rng = np.random.default_rng(seed)
    data = {}
    for name in MODALITIES:
        y = rng.integers(2**N_LATENTS, size=2 * N_SAMPLES)
        signs = 2.0 * ((y[:, None] >> np.arange(N_LATENTS)) & 1) - 1
        latents = signs + spread * rng.normal(size=signs.shape)
        values = latents @ rng.normal(size=(N_LATENTS, n_features))
        data[name] = (values + noise * rng.normal(size=values.shape), y)
    return data


def probe(embeddings, y):
    """Return the accuracy of a linear probe on the second half."""
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    return model.fit(embeddings[:N_SAMPLES], y[:N_SAMPLES]).score(embeddings[N_SAMPLES:], y[N_SAMPLES:])


def evaluate(task):
    """Return the accuracies on the first modality after each stage, by head."""
    import torch

    torch.set_num_threads(1)
    rehearsal, seed = task
    data = planted(seed)
    values, y = data[MODALITIES[0]]
    pretrainer = MultimodalPretrainer(["reconstruction"], rehearsal=rehearsal, random_state=seed, **NETWORK)
    found = {"fusion": [], MODALITIES[0]: []}
    for epochs, (name, (own, _)) in zip(EPOCHS, data.items()):
        pretrainer.set_params(max_epochs=epochs).partial_fit({name: own[:N_SAMPLES]})
        for head, scores in found.items():
            scores.append(probe(pretrainer.embed({MODALITIES[0]: values}, head), y))
    return found


def report(found, rehearsals):
    """Print the table."""
    print(
        "| rehearsal | embedding | after stage 1 | after stage 2 | after stage 3 | points lost, mean | least | most |"
    )
    print("| --- | --- |" + " ---: |" * 6)
    for rehearsal in rehearsals:
        runs = [scores for (share, _), scores in found.items() if share == rehearsal]
        for head, called in (("fusion", "fused"), (MODALITIES[0], "its own")):
            scores = np.array([run[head] for run in runs])  # (seeds, stages)
            lost = 100 * (scores[:, 0] - scores[:, -1])
            cells = [f"{mean:.3f}" for mean in scores.mean(axis=0)]
            cells += [f"{value:.1f}" for value in (lost.mean(), lost.min(), lost.max())]
            print(f"| {rehearsal:g} | {called} | " + " | ".join(cells) + " |")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--rehearsals", type=float, nargs="+", default=[0.0, 0.05])
    parser.add_argument("--n-jobs", type=int, default=2)
    arguments = parser.parse_args()
    tasks = [(rehearsal, seed) for seed in arguments.seeds for rehearsal in arguments.rehearsals]
    with ProcessPoolExecutor(arguments.n_jobs, mp_context=get_context("spawn")) as pool:
        found = dict(zip(tasks, pool.map(evaluate, tasks)))
    print(f"{machine()}; accuracy of a linear probe on the first modality, {len(arguments.seeds)} seeds\n")
    report(found, arguments.rehearsals)


if __name__ == "__main__":
    main()
