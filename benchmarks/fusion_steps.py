"""Time per step (forward, backward) of each attention fusion against the same computation written by hand.

By hand is one function a fusion, over the parameters of the fusion itself and with F.scaled_dot_product_attention, for
the case that everyone has every modality and that nothing is padded: there are no masks but Zorro's. It gives the fused
embedding, and those of the heads that the fusion predicts from, or embeds besides. A step clears the gradients, runs
forward, and goes backward from the sum of squares of the fused embedding, to parameters and tokens.

Prints the largest difference between the two, over evaluation and training; then for 2 modalities of 50 tokens and for
6 of one token the milliseconds of a step (medians of interleaved rounds) and the median of the ratios of a round. Last
come `everything_at_once` against a loop that calls its block once a subset, where the loss is of every subset, and
`zorro` against a transformer in which every token sees every other. All on one thread.
"""

import argparse
from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from _timing import interleave, machine, median_ratio

from skfusion._build import build_fusion
from skfusion.encoders.batch import Tokens

BATCH, WIDTH, HEADS, LAYERS = 64, 64, 4, 2
SETTINGS = ((2, 50, 4), (6, 1, 25))  # modalities, tokens of each, steps a round


def norm(x, p):
    return F.layer_norm(x, p.normalized_shape, p.weight, p.bias, p.eps)


def linear(x, p):
    return F.linear(x, p.weight, p.bias)


def heads(x):
    """(B, T, D) -> (B, H, T, D / H)."""
    return x.unflatten(-1, (HEADS, -1)).transpose(1, 2)


def side_by_side(x):
    """(B, H, T, D / H) -> (B, T, D)."""
    return x.transpose(1, 2).flatten(2)


def project(x, p):
    """Queries, keys and values (B, H, T, D / H)."""
    return [heads(part) for part in linear(x, p.qkv).chunk(3, dim=-1)]


def feed_forward(x, p):
    up, _, _, down = p.layers
    return linear(F.gelu(linear(x, up)), down)


def block(x, p, mask=None):
    query, key, value = project(norm(x, p.attention_norm), p.attention)
    attended = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    x = x + linear(side_by_side(attended), p.attention.out)
    return x + feed_forward(norm(x, p.feed_forward_norm), p.feed_forward)


def transformer(x, p, mask=None):
    for layer in p.blocks:
        x = block(x, layer, mask)
    return norm(x, p.norm)


def refine(x, p):
    _, map_, norm_, _ = p.layers
    return F.gelu(norm(linear(x, map_), norm_))


def gated(x, p):
    y = linear(x, p.linear)
    return y * linear(y, p.gate).sigmoid()


def stacked(module, tokens):
    """All tokens, each with the embedding of its modality: (B, M, T, D)."""
    return torch.stack([t.values for t in tokens.values()], 1) + module.modality.unsqueeze(1)


def pooled(x, module):
    """(B, T, D) -> (B, D)."""
    return refine(x.mean(1), module.refine)


def ask_partners(projected, self_too, scale=None):
    """Average over partners of what each says to a modality's queries, M x (B, T, D).

    One attention a partner for the queries of all who ask it: faster than one a pair, and than one for all.
    """
    answers = [[] for _ in projected]
    for k, (_, key, value) in enumerate(projected):
        asking = [m for m in range(len(projected)) if self_too or m != k]
        query = torch.cat([projected[m][0] for m in asking], 2)
        told = F.scaled_dot_product_attention(query, key, value, scale=scale)
        for m, answer in zip(asking, told.chunk(len(asking), dim=2)):
            answers[m].append(answer)
    return [side_by_side(sum(own) / len(own)) for own in answers]


def attention(module, tokens, present):
    x = torch.stack([t.values.mean(1) for t in tokens.values()], 1)  # (B, M, D)
    p = module.pooling
    key, value = linear(norm(x, p.norm) + p.modality, p.keys_values).chunk(2, dim=-1)
    query = p.query.expand(len(x), 1, -1)
    fused = F.scaled_dot_product_attention(heads(query), heads(key), heads(value))
    return {"fusion": refine(fused.flatten(1), module.refine)}


def early_sum(module, tokens, present):
    x = (stacked(module, tokens) * module.weights.view(-1, 1, 1)).sum(1)
    return {"fusion": pooled(transformer(x, module.mixer), module)}


def early_concat(module, tokens, present):
    x = stacked(module, tokens).flatten(1, 2)
    return {"fusion": pooled(transformer(x, module.mixer), module)}


def hierarchical(module, tokens, present):
    own = [transformer(x, p) for x, p in zip(stacked(module, tokens).unbind(1), module.own)]
    return {"fusion": pooled(transformer(torch.cat(own, 1), module.mixer), module)}


def hierarchical_split(module, tokens, present):
    x = transformer(stacked(module, tokens).flatten(1, 2), module.mixer)
    own = [transformer(part, p) for part, p in zip(x.chunk(len(tokens), dim=1), module.own)]
    return {"fusion": pooled(torch.cat(own, 1), module)}


def crossed(module, tokens):
    x = stacked(module, tokens).unbind(1)
    projected = [project(norm(t, n), p) for t, n, p in zip(x, module.norms, module.attentions)]
    answers = ask_partners(projected, self_too=False)
    return torch.cat([linear(a, p.out) for a, p in zip(answers, module.attentions)], 1)


def cross_attention(module, tokens, present):
    return {"fusion": pooled(crossed(module, tokens), module)}


def cross_attention_concat(module, tokens, present):
    return {"fusion": pooled(transformer(crossed(module, tokens), module.mixer), module)}


def protst(module, tokens, present):
    x = stacked(module, tokens).unbind(1)
    answers = ask_partners([project(t, p) for t, p in zip(x, module.attentions)], self_too=True, scale=1.0)
    out = []
    for answer, p in zip(answers, module.norms):
        flat, running = answer.flatten(0, 1), (p.mean, p.variance)
        normed = F.batch_norm(flat, *running, p.weight, p.bias, module.training, p.momentum, p.eps)
        out.append(normed.view_as(answer).relu())
    return {"fusion": pooled(torch.cat(out, 1), module)}


def irene(module, tokens, present):
    x = stacked(module, tokens).unbind(1)
    for p in module.bidirectional:
        projected = [project(norm(t, n), a) for t, n, a in zip(x, p.attention_norms, p.attentions)]
        x = [t + linear(a, p.out) for t, a in zip(x, ask_partners(projected, self_too=True))]
        x = [t + feed_forward(norm(t, n), f) for t, n, f in zip(x, p.feed_forward_norms, p.feed_forwards)]
    mixed = transformer(torch.cat(x, 1), module.mixer)
    own = pooled(mixed.unflatten(1, (len(tokens), -1)).flatten(0, 1), module).unflatten(0, (-1, len(tokens)))
    return {"fusion": pooled(mixed, module), **dict(zip(tokens, own.unbind(1)))}


def bottleneck(module, tokens, present):
    x = list(stacked(module, tokens).unbind(1))
    length, fusion = x[0].shape[1], module.fusion_tokens.expand(len(present), -1, -1)
    for depth, layer in enumerate(module.layers):
        if depth < module.fusion_from:
            x = [block(t, p) for t, p in zip(x, layer)]
            continue
        both = [block(torch.cat([t, fusion], 1), p) for t, p in zip(x, layer)]
        x = [b[:, :length] for b in both]
        fusion = sum(b[:, length:] for b in both) / len(both)
    mixed = norm(torch.cat([*x, fusion], 1), module.norm)
    own = mixed[:, : length * len(x)].unflatten(1, (len(x), length)).flatten(0, 1)
    own = pooled(own, module).unflatten(0, (-1, len(x)))
    return {"fusion": pooled(mixed, module), **dict(zip(tokens, own.unbind(1)))}


@cache
def zorro_masks(n_modalities, length, n_fusion):
    """Who sees whom among the tokens, and what the queries of the heads see: 0 or -inf."""
    owner = torch.cat([torch.arange(n_modalities).repeat_interleave(length), torch.full((n_fusion,), n_modalities)])
    seen = (owner.unsqueeze(1) == owner) | (owner == n_modalities).unsqueeze(1)
    asked = torch.arange(n_modalities + 2)  # the fusion tokens, and all tokens, come last
    read = (asked.unsqueeze(1) == owner) | (asked == n_modalities + 1).unsqueeze(1)
    return [torch.zeros(mask.shape).masked_fill(~mask, -torch.inf) for mask in (seen, read)]


def zorro(module, tokens, present):
    x = stacked(module, tokens)
    fusion = module.fusion_tokens.expand(len(x), -1, -1)
    seen, read = zorro_masks(*x.shape[1:3], fusion.shape[1])
    x = transformer(torch.cat([x.flatten(1, 2), fusion], 1), module.mixer, seen)
    asked, p = module.queries.expand(len(x), -1, -1), module.readout
    query = heads(F.linear(asked, p.qkv.weight[:WIDTH], p.qkv.bias[:WIDTH]))
    key, value = F.linear(x, p.qkv.weight[WIDTH:], p.qkv.bias[WIDTH:]).chunk(2, dim=-1)
    told = F.scaled_dot_product_attention(query, heads(key), heads(value), attn_mask=read)
    embeddings = refine(asked + linear(side_by_side(told), p.out), module.refine)
    return dict(zip([*tokens, "fusion", "global"], embeddings.unbind(1)))


def everything_at_once(module, tokens, present):
    """Of subsets of one and of two, each size in one batch: nothing is padded."""
    x = [norm(gated(t.values, unit), norm_) for t, (unit, norm_) in zip(tokens.values(), module.projections)]
    n, pairs = len(x), [subset for subset in module.subsets if len(subset) == 2]
    alone = block(torch.cat(x), module.block).mean(1).unflatten(0, (n, -1))  # (M, B, D)
    both = block(torch.cat([torch.cat([x[a], x[b]], 1) for a, b in pairs]), module.block)  # (P B, 2 T, D)
    both = both.unflatten(1, (2, -1)).mean(2).view(len(pairs), -1, 2, WIDTH)  # (P, B, 2, D)
    own, paired = {}, 0.0
    for m, (name, p) in enumerate(zip(tokens, module.outs)):
        means = [alone[m], *(both[i, :, pair.index(m)] for i, pair in enumerate(pairs) if m in pair)]
        parts = F.normalize(gated(torch.stack(means), p), dim=-1)  # (M, B, D)
        own[name], paired = parts[0], paired + parts[1:].sum(0)
    return {"fusion": refine(paired / (2 * len(pairs)), module.refine), **own}


def unseen(module, tokens, present):
    aligned, own = module.places.expand(len(present), -1, -1), {}
    for (name, (x, _)), spread, (before, map_, after) in zip(tokens.items(), module.spreads, module.projections):
        first, enter, last = spread.enter
        entered = norm(linear(norm(x, first), enter), last)
        shares = linear(transformer(entered, spread.transformer), spread.head).softmax(-1)  # (B, T, K)
        laid_out = norm(linear(norm(shares.mT @ x, before), map_), after)  # (B, K, D)
        aligned, own[name] = aligned + laid_out, laid_out.mean(1)
    halves = aligned.unflatten(1, (2, -1)).flatten(0, 1)
    readers = module.readers.expand(len(present), 2, 1, -1).flatten(0, 1)
    read = refine(transformer(torch.cat([readers, halves], 1), module.branch)[:, 0], module.refine)
    first, second = read.unflatten(0, (-1, 2)).unbind(1)
    return {"fusion": first, "global": (first + second) / 2, **own}


def optimal_transport(module, tokens, present):
    x = stacked(module, tokens)
    first, others, length = x[:, :1], x[:, 1:], x.shape[2]
    with torch.no_grad():
        unit = F.normalize(x, dim=-1)
        logits = (unit[:, :1] @ unit[:, 1:].mT - 1) / module.epsilon  # (B, M - 1, T, T), all others at once
        f, g, log_share = torch.zeros_like(logits[..., :1]), -logits, -np.log(length)
        for _ in range(module.n_iter if length > 1 else 0):  # the plan of a single token is 1
            g = log_share - (logits + f).logsumexp(2, keepdim=True)
            f = log_share - (logits + g).logsumexp(3, keepdim=True)
        plan = (logits + f + g).exp() * length
    aligned = torch.cat([first, plan @ others], 1).flatten(1, 2)
    return {"fusion": pooled(transformer(aligned, module.mixer), module)}


BY_HAND = {
    f.__name__: f
    for f in (
        *(early_sum, early_concat, hierarchical, hierarchical_split, cross_attention, cross_attention_concat, protst),
        *(irene, bottleneck, zorro, everything_at_once, unseen, optimal_transport, attention),
    )
}


def subset_by_subset(module, tokens, present):
    """What `everything_at_once` does, for one subset after the other."""
    x = [projection(t.values) for t, projection in zip(tokens.values(), module.projections)]
    largest, found = [], {}
    for subset in module.subsets:
        means = module.block(torch.cat([x[m] for m in subset], 1)).unflatten(1, (len(subset), -1)).mean(2)
        parts = [F.normalize(module.outs[m](mean), dim=-1) for m, mean in zip(subset, means.unbind(1))]
        embedding = sum(parts) / len(subset)
        found[tuple(list(tokens)[m] for m in subset)] = embedding
        if len(subset) == 2:
            largest.append(embedding)
    return {"fusion": module.refine(sum(largest) / len(largest)), **found}


def dense(module, tokens, present):
    """The transformer of `zorro` over the same tokens, without a mask or a readout."""
    fusion = module.fusion_tokens.expand(len(present), -1, -1)
    x = torch.cat([stacked(module, tokens).flatten(1, 2), fusion], 1)
    return {"fusion": module.refine(module.mixer(x).mean(1))}


def setup(name, n_modalities, length):
    """Return a fusion, tokens that ask for gradients, and presence."""
    torch.manual_seed(0)
    names = [f"m{m}" for m in range(n_modalities)]
    module = build_fusion(name, dict.fromkeys(names, WIDTH), WIDTH, n_heads=HEADS, n_fusion_layers=LAYERS)
    there = torch.ones(BATCH, length, dtype=torch.bool)
    tokens = {m: Tokens(torch.randn(BATCH, length, WIDTH).requires_grad_(), there) for m in names}
    return module.train(), tokens, torch.ones(BATCH, n_modalities, dtype=torch.bool)


def ours(module, tokens, present):
    output = module(tokens, present)
    return {**output.heads, **output.subsets, "fusion": output.fused}


def largest_difference(f, arguments):
    """Between what `f` gives and what the fusion gives under the same names, in evaluation and in training."""
    module, worst = arguments[0], 0.0
    for training in (False, True):
        module.train(training)
        with torch.no_grad():
            due, got = ours(*arguments), f(*arguments)
        worst = max(worst, *((due[name] - value).abs().max().item() for name, value in got.items()))
    return worst


def compare(a, b, arguments, steps, rounds, heads=("fusion",)):
    """Return milliseconds a step of `a` and of `b`, and the ratio a / b, as text; the loss is that of `heads`."""
    module, tokens, _ = arguments
    leaves = [*module.parameters(), *(t.values for t in tokens.values())]

    def run(f):
        for _ in range(steps):
            for leaf in leaves:
                leaf.grad = None
            given = f(*arguments)
            sum(given[head].square().sum() for head in heads).backward()

    seconds = interleave({"a": lambda: run(a), "b": lambda: run(b)}, rounds)
    first, second = (1000 * np.median(seconds[key]) / steps for key in "ab")
    return f"{first:>10.2f}{second:>12.2f}{median_ratio(seconds['a'], seconds['b']):>8.2f}"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--fusions", nargs="+", choices=list(BY_HAND), default=list(BY_HAND))
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(f"fusion steps: batch {BATCH}, width {WIDTH}, {HEADS} heads, {LAYERS} layers, {machine()}, one thread")
    for n_modalities, length, steps in SETTINGS:
        cases = {name: setup(name, n_modalities, length) for name in options.fusions}
        worst = {name: largest_difference(BY_HAND[name], case) for name, case in cases.items()}
        name = max(worst, key=worst.get)
        assert worst[name] < 1e-4, f"{name} differs by {worst[name]:.1e}"
        print(f"\n{n_modalities} modalities x {length}; they differ by at most {worst[name]:.1e} ({name})")
        print(f"{'':<24}{'ours, ms':>10}{'by hand, ms':>12}{'ratio':>8}")
        for name, case in cases.items():
            print(f"  {name:<22}{compare(ours, BY_HAND[name], case, steps, options.rounds)}", flush=True)
    if "everything_at_once" in options.fusions:
        case = setup("everything_at_once", 6, 8)
        worst = largest_difference(subset_by_subset, case)
        assert worst < 1e-5, f"subset by subset differs by {worst:.1e}"
        print(f"\neverything_at_once, 6 modalities x 8; one pass and one a subset differ by at most {worst:.1e}")
        print(f"{'':<24}{'one pass':>10}{'by subset':>12}{'ratio':>8}")
        every = list(subset_by_subset(*case))  # a loss of "fusion" alone would spare the loop single modalities
        print(f"{'':<24}{compare(ours, subset_by_subset, case, 4, options.rounds, every)}", flush=True)
    if "zorro" in options.fusions:
        print(f"\nzorro, modalities x 50\n{'':<24}{'zorro':>10}{'dense':>12}{'ratio':>8}")
        for n_modalities in (2, 3, 6):
            case = setup("zorro", n_modalities, 50)
            print(f"  {n_modalities:<22}{compare(ours, dense, case, 2, options.rounds)}", flush=True)


if __name__ == "__main__":
    main()
