"""The Attentive Reader's attention and read-out, a question at a time: Cooijmans et al. 2017, 5.4 and released code.

Parameters carry the released code's names. A map that has ``gamma`` is batch-normalized; its statistics are over the
valid words of all passages, or over the questions.
"""

from __future__ import annotations

import numpy as np

from reference.normalization import moments


def _affine(rows: np.ndarray, name: str, p: dict[str, np.ndarray]) -> np.ndarray:
    """``W x (+ b)``, or ``gamma (W x - mean) / sqrt(var + eps) (+ beta)``, of rows ``(n, D)``."""
    wx = np.stack([p[f"{name}.linear.weight"] @ row for row in rows])
    if f"{name}.norm.gamma" in p:
        mean, var = moments(wx)
        wx = p[f"{name}.norm.gamma"] * (wx - mean) / np.sqrt(var + 1e-5)
        return wx + p.get(f"{name}.norm.beta", 0.0)
    return wx + p.get(f"{name}.linear.bias", 0.0)


def respond(
    d: np.ndarray, q: np.ndarray, lengths: list[int], p: dict[str, np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Logits ``(B, V)`` and attention ``(T, B)`` from states ``d (T, B, D)`` and ``q (B, D)``."""
    questions = range(len(lengths))
    words = [(t, b) for b in questions for t in range(lengths[b])]
    ctx = dict(zip(words, _affine(np.stack([d[at] for at in words]), "ff_att_ctx", p), strict=True))
    asked = _affine(q, "ff_att_q", p)
    attention = np.zeros(d.shape[:2], dtype=np.result_type(d, q, *p.values()))
    for b in questions:
        scores = []
        for t in range(lengths[b]):
            inner = ctx[t, b] + asked[b]
            if "ff_att_bi_dq.weight" in p:
                A = p["ff_att_bi_dq.weight"]
                inner = inner + np.dot(A @ d[t, b], A @ q[b])
            scores.append(np.sum(p["ff_att_proj"] * np.tanh(inner)))
        weights = np.exp(np.array(scores))
        attention[: lengths[b], b] = weights / weights.sum()
    read = np.stack([sum(attention[t, b] * d[t, b] for t in range(lengths[b])) for b in questions])
    g = _affine(read, "ff_out_ctx", p) + _affine(q, "ff_out_q", p)
    if "ff_out_mean_d.linear.weight" in p:
        g = g + _affine(np.stack([d[: lengths[b], b].sum(0) / lengths[b] for b in questions]), "ff_out_mean_d", p)
    return np.tanh(g) @ p["ff_logit.weight"].T + p["ff_logit.bias"], attention


def loss(logits: np.ndarray, answers: list[int]) -> np.ndarray:
    """``-log(p + 1e-8)`` of the answers, their mean."""
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    return -np.mean([np.log(p[b, a] + 1e-8) for b, a in enumerate(answers)])
