"""Continual pretraining: what is lost of the first modality when others follow, with and without rehearsal.

Three planted modalities come one after another through one shared encoder. Each is a linear map of four latents to 16
features, whose signs are its class, one of 16, with noise on latents and features; maps are drawn anew. Two linear
probes read the fused embedding of 600 new samples of the first modality: one that was fitted after the first stage and
is kept, as a model that has been deployed is, and one that is fitted again after each stage. A third reads the newest
modality: what rehearsal costs those that come later.
``python benchmarks/continual.py``
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
N_SAMPLES = 600
N_LATENTS = 4
EPOCHS = (30, 40, 40)
NETWORK = {
    "encoders": "shared",
    "n_latent": 8,
    "n_heads": 2,
    "n_layers": 1,
    "n_fusion_layers": 1,
    "dropout_rate": 0.0,
    "lr": 0.01,
    "batch_size": 100,
    "device": "cpu",
}


def planted(seed, n_features=16, spread=0.3, noise=0.3):
    """Return values (1,200, 16) and classes of each modality."""
    rng = np.random.default_rng(seed)
    data = {}
    for name in MODALITIES:
        y = rng.integers(2**N_LATENTS, size=2 * N_SAMPLES)
        signs = 2.0 * ((y[:, None] >> np.arange(N_LATENTS)) & 1) - 1
        latents = signs + spread * rng.normal(size=signs.shape)
        values = latents @ rng.normal(size=(N_LATENTS, n_features))
        data[name] = (values + noise * rng.normal(size=values.shape), y)
    return data


def fitted_probe(embeddings, y):
    """Return a linear probe of the first half."""
    return make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(embeddings[:N_SAMPLES], y[:N_SAMPLES])


def evaluate(task):
    """Return the accuracies of both probes on the first modality after each stage."""
    import torch

    torch.set_num_threads(1)
    (rehearsal, weight), seed = task
    data = planted(seed)
    values, y = data[MODALITIES[0]]
    pretrainer = MultimodalPretrainer(
        ["reconstruction"], rehearsal=rehearsal, weights={"rehearsal": weight}, random_state=seed, **NETWORK
    )
    kept, found = None, {"first, kept": [], "first, fitted again": [], "newest": []}
    for epochs, (name, (own, _)) in zip(EPOCHS, data.items()):
        pretrainer.set_params(max_epochs=epochs).partial_fit({name: own[:N_SAMPLES]})
        embeddings = pretrainer.transform({MODALITIES[0]: values})
        again = fitted_probe(embeddings, y)
        kept = again if kept is None else kept
        for called, model in (("first, kept", kept), ("first, fitted again", again)):
            found[called].append(model.score(embeddings[N_SAMPLES:], y[N_SAMPLES:]))
        own_embeddings, own_y = pretrainer.transform({name: own}), data[name][1]
        found["newest"].append(fitted_probe(own_embeddings, own_y).score(own_embeddings[N_SAMPLES:], own_y[N_SAMPLES:]))
    return found


def report(found):
    """Print the table."""
    print("| rehearsal | weight | probe | after stage 1 | stage 2 | stage 3 | points lost, mean | least | most |")
    print("| ---: | ---: | --- |" + " ---: |" * 6)
    for way in dict.fromkeys(way for way, _ in found):
        runs = [scores for (other, _), scores in found.items() if other == way]
        for called in runs[0]:
            scores = np.array([run[called] for run in runs])  # (seeds, stages)
            lost = 100 * (scores[:, 0] - scores[:, -1])
            cells = [f"{mean:.3f}" for mean in scores.mean(axis=0)]
            cells += ["", "", ""] if called == "newest" else [f"{x:.1f}" for x in (lost.mean(), lost.min(), lost.max())]
            print(f"| {way[0]:g} | {way[1]:g} | {called} | " + " | ".join(cells) + " |")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--rehearsal", type=float, default=0.05, help="share of samples that are kept")
    parser.add_argument("--weights", type=float, nargs="+", default=[1.0, 20.0, 200.0], help="of the rehearsal's loss")
    parser.add_argument("--n-jobs", type=int, default=2)
    arguments = parser.parse_args()
    ways = [(0.0, 1.0), *((arguments.rehearsal, weight) for weight in arguments.weights)]
    tasks = [(way, seed) for seed in arguments.seeds for way in ways]
    with ProcessPoolExecutor(arguments.n_jobs, mp_context=get_context("spawn")) as pool:
        found = dict(zip(tasks, pool.map(evaluate, tasks)))
    print(f"{machine()}; accuracy of linear probes, {len(arguments.seeds)} seeds\n")
    report(found)


if __name__ == "__main__":
    main()
