"""The losses that TRL does not have, as functions of log-probabilities. Runs in the child only.

Everywhere log P(y) is the natural logarithm of the probability of a whole response y given its prompt, the
token that ends the turn included: the sum over its tokens.
"""

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid, relu


def soft_dpo(gains: Tensor, labels: Tensor, beta: float) -> Tensor:
    """-p·log σ(β·Δ) - (1 - p)·log σ(-β·Δ): DPO when chosen is the better one with probability p, only.

    `gains` [pairs] are Δ = (log P(chosen) - log P_ref(chosen)) - (log P(rejected) - log P_ref(rejected)),
    `labels` [pairs] are p. Returns [pairs]. With p = 1 it is DPO (arXiv 2305.18290); with the label of an AI
    judge cDPO; with p the consistency C of an iteration it is C·DPO + (1 - C)·reversed DPO, CREAM
    (2410.12735).
    """
    return -labels * logsigmoid(beta * gains) - (1 - labels) * logsigmoid(-beta * gains)


def slic(chosen: Tensor, rejected: Tensor, targets: Tensor, margin: float, regulariser: float) -> Tensor:
    """max(0, δ - log P(chosen) + log P(rejected)) - λ·log P(target), without a reference model.

    All [pairs], as is what is returned: SLiC-HF (arXiv 2305.10425, section 2.1) with δ = `margin` and
    λ = `regulariser`.
    """
    return relu(margin - chosen + rejected) - regulariser * targets


def rrhf(likelihoods: Tensor, lengths: Tensor, scores: Tensor, weight: float) -> Tensor:
    """weight·Σ_{r_i < r_j} max(0, p_i - p_j) - log P(y_best), with p_i = log P(y_i) / |y_i|.

    RRHF (arXiv 2304.05302). `likelihoods` log P(y_i), `lengths` |y_i| in tokens and `scores` r_i are those
    of one prompt's candidates, [candidates] each; returns a scalar. Candidates of one score are not ranked.
    The last term is the cross-entropy of the best one, summed over its tokens as in the paper; the first of
    several best.
    """
    rates = likelihoods / lengths
    worse = scores[:, None] < scores[None, :]
    ranking = relu(rates[:, None] - rates[None, :])[worse].sum()
    return weight * ranking - likelihoods[best(scores)]


def best(scores: Tensor) -> int:
    """Index of the first of the highest scores."""
    return int(torch.nonzero(scores == scores.max())[0])
