"""The Attentive Reader: Cooijmans et al. 2017, section 5.4 and appendix C, after Hermann et al. 2015."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import bnrnn
from bnrnn.data.cloze import Words
from bnrnn.data.corpus import Vocabulary
from bnrnn.experiments.config import Backend
from bnrnn.nn.norm import Normalization

Variant = Literal["lstm", "bn-lstm", "bn-everywhere", "bn-e-star", "bn-e-star-star"]
VARIANTS: tuple[Variant, ...] = ("lstm", "bn-lstm", "bn-everywhere", "bn-e-star", "bn-e-star-star")
SEQUENCE: tuple[Variant, ...] = ("bn-e-star", "bn-e-star-star")
"""Those whose input term has statistics over the whole sequences."""

FLOOR = 1e-8
"""Added to a probability before its logarithm (released code)."""


@dataclass(frozen=True)
class Architecture:
    """What a reader is made of.

    Args:
        variant: which maps are normalized.
        units: of each direction of the LSTMs, and features of words, attention and read-out.
        bidirectional: whether both LSTMs read backwards as well.
        similarity: the bilinear term in the attention (``use_dq_sims`` of the released code).
        mean_passage: the mean passage state in the read-out (``use_desc_skip_c_g``).
        dropout: on embedded words and on the read-out.
        gamma: what all gains start from.
        masked: whether padding is kept out of all statistics. If not, the LSTMs read it as words, and it enters the
            statistics of each step as in the released code of the paper's first version.
        equal_blocks: whether weights of equal shape start equal, as the released code's do.
        backend: implementation of the recurrence.
    """

    variant: Variant = "bn-e-star-star"
    units: int = 240
    bidirectional: bool = True
    similarity: bool = True
    mean_passage: bool = True
    dropout: float = 0.5
    gamma: float = 0.1
    masked: bool = True
    equal_blocks: bool = True
    backend: Backend = "auto"

    @property
    def norm(self) -> bnrnn.Norm | None:
        """Of the LSTMs; the epsilons are the released code's."""
        if self.variant == "lstm":
            return None
        step = bnrnn.BatchNorm("frame", gamma=self.gamma, eps=1e-5)
        whole = bnrnn.BatchNorm("sequence", gamma=self.gamma, eps=1e-6)
        return bnrnn.Norm(input=whole if self.variant in SEQUENCE else step, recurrent=step, cell=step)

    @property
    def everywhere(self) -> bool:
        """Whether the affine maps of attention and read-out are normalized."""
        return self.variant not in ("lstm", "bn-lstm")


class Affine(nn.Module):
    r"""An affine map :math:`W x + b`, or its normalization :math:`\mathrm{BN}(W x; \gamma, b)`.

    Args:
        inputs, outputs: features.
        bias: whether there is a b.
        gamma: of the batch normalization, None for none.
    """

    def __init__(self, inputs: int, outputs: int, bias: bool, gamma: float | None) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, outputs, bias=bias and gamma is None)
        self.norm = None if gamma is None else bnrnn.MaskedBatchNorm(outputs, gamma=gamma, bias=bias)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        x = self.linear(x)
        return x if self.norm is None else self.norm(x, mask)


class Answer(NamedTuple):
    """What a reader says.

    Args:
        logits: ``(B, V)`` over the whole vocabulary; None where they were not wanted.
        attention: ``(T, B)``, the weight of each word of the passage, 0 where there is none.
    """

    logits: Tensor | None
    attention: Tensor


class AttentiveReader(nn.Module):
    r"""Answers a question on a passage by attending to the passage's words.

    With :math:`d_t` the states of an LSTM over the passage, q the last state of another over the question:

    .. math::
        s_t &= w \cdot \tanh(W_d d_t + b + W_q q + [(A d_t) \cdot (A q)] \mathbf{1}), \qquad
        \alpha = \mathrm{softmax}(s) \\
        r &= \textstyle\sum_t \alpha_t d_t, \qquad
        g = \tanh(W_r r + W_u q + b_u + W_m \bar d) \\
        p(a) &= \mathrm{softmax}(W_a g + b_a)

    Words are embedded by one matrix for both. From BN-everywhere on, the five maps :math:`W_d, W_q, W_r, W_u, W_m`
    are batch-normalized, the bias in the place of beta; the bilinear term and the logits are not. The maps carry the
    names of the released code: ``ff_att_ctx``, ``ff_att_q``, ``ff_out_ctx``, ``ff_out_q``, ``ff_out_mean_d``.

    Args:
        architecture: sizes and variant.
        words: the vocabulary; it goes with the parameters, and parameters of another one are not loaded.
        seed: of the initial weights.
    """

    def __init__(self, architecture: Architecture, words: Words, seed: int = 0) -> None:
        super().__init__()
        self.architecture, self.words = architecture, words
        units, both = architecture.units, 2 if architecture.bidirectional else 1
        self.embedding = nn.Embedding(len(words.vocabulary), units)
        self.passage = self._lstm()
        self.question = self._lstm()
        self.passage_h0 = nn.Parameter(torch.zeros(both, units))
        self.question_h0 = nn.Parameter(torch.zeros(both, units))
        gamma = architecture.gamma if architecture.everywhere else None
        self.ff_att_ctx = Affine(both * units, units, True, gamma)
        self.ff_att_q = Affine(both * units, units, False, gamma)
        self.ff_att_bi_dq = nn.Linear(both * units, both * units, bias=False) if architecture.similarity else None
        self.ff_att_proj = nn.Parameter(torch.empty(units))
        self.ff_out_ctx = Affine(both * units, units, False, gamma)
        self.ff_out_q = Affine(both * units, units, True, gamma)
        self.ff_out_mean_d = Affine(both * units, units, False, gamma) if architecture.mean_passage else None
        self.ff_logit = nn.Linear(units, len(words.vocabulary))
        _initialize(self, seed, architecture.equal_blocks)

    def forward(
        self,
        passage: Tensor,
        passage_lengths: Tensor,
        question: Tensor,
        question_lengths: Tensor,
        logits: bool = True,
    ) -> Answer:
        """Reads passages and questions.

        Args:
            passage, question: words, int64 ``(T, B)`` and ``(S, B)``, padded with anything.
            passage_lengths, question_lengths: how many of each are there, int64 ``(B,)`` on any device.
            logits: whether to make the logits.
        """
        d, _ = self._read(self.passage, self.passage_h0, passage, passage_lengths)
        _, q = self._read(self.question, self.question_h0, question, question_lengths)
        return self.respond(d, q, passage_lengths, logits)

    def respond(self, d: Tensor, q: Tensor, lengths: Tensor, logits: bool = True) -> Answer:
        """Attention and read-out.

        Args:
            d: states of the passages, ``(T, B, D)``; what stands after a passage's end counts for nothing, unless
                padding is not masked.
            q: of the questions, ``(B, D)``.
            lengths: words of each passage, ``(B,)``.
            logits: whether to make the logits.
        """
        valid = torch.arange(d.shape[0], device=d.device).unsqueeze(1) < lengths.to(d.device)
        counted = valid if self.architecture.masked else None
        similarity = None
        if self.ff_att_bi_dq is not None:
            similarity = (self.ff_att_bi_dq(d) * self.ff_att_bi_dq(q)).sum(-1, keepdim=True)
        inner = self.ff_att_ctx(d, counted) + self.ff_att_q(q)
        if similarity is not None:
            inner = inner + similarity
        score = (torch.tanh(inner) * self.ff_att_proj).sum(-1)
        attention = score.masked_fill(~valid, -math.inf).softmax(0)
        d = d.masked_fill(~valid.unsqueeze(-1), 0)
        g = self.ff_out_ctx((attention.unsqueeze(-1) * d).sum(0)) + self.ff_out_q(q)
        if self.ff_out_mean_d is not None:
            g = g + self.ff_out_mean_d(d.sum(0) / valid.sum(0).unsqueeze(-1))
        g = F.dropout(torch.tanh(g), self.architecture.dropout, self.training)
        return Answer(self.ff_logit(g) if logits else None, attention)

    def _read(self, lstm: bnrnn.LSTM, h0: Tensor, words: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """The states at all words (T, B, D), and the last ones (B, D): of both directions each at its own end."""
        x = F.dropout(self.embedding(words), self.architecture.dropout, self.training)
        h = h0.unsqueeze(1).expand(-1, words.shape[1], -1).contiguous()
        if self.architecture.masked:
            output, (final, _) = lstm(x, (h, torch.zeros_like(h)), lengths)
            return output, final.transpose(0, 1).flatten(1)
        output, _ = lstm(x, (h, torch.zeros_like(h)))
        return output, output[lengths.to(output.device) - 1, torch.arange(words.shape[1], device=output.device)]

    def _lstm(self) -> bnrnn.LSTM:
        a = self.architecture
        return bnrnn.LSTM(a.units, a.units, bidirectional=a.bidirectional, norm=a.norm, backend=a.backend)

    def get_extra_state(self) -> Tensor:
        """The vocabulary as UTF-8 bytes of JSON, so that a checkpoint says what its indices mean."""
        content = json.dumps([self.words.vocabulary.symbols, self.words.vocabulary.unknown, self.words.answers])
        return torch.frombuffer(bytearray(content.encode()), dtype=torch.uint8)

    def set_extra_state(self, state: Tensor) -> None:
        found = words_of(state)
        if found != self.words:
            mine, other = self.words.vocabulary, found.vocabulary
            raise RuntimeError(
                f"its vocabulary of {len(other):,} words is not the data's of {len(mine):,}; the data have changed"
                " since, or were prepared from another source"
            )


WORDS_KEY = "_extra_state"


def words_of(state: Tensor) -> Words:
    """The words that :meth:`AttentiveReader.get_extra_state` wrote."""
    symbols, unknown, answers = json.loads(bytes(state.tolist()).decode())
    return Words(Vocabulary(tuple(symbols), unknown), tuple(answers))


def negative_log_likelihood(logits: Tensor, answers: Tensor) -> Tensor:
    """The mean of ``-log(p + 1e-8)``, p being the answers' probabilities."""
    wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
    found = wide.log_softmax(1).gather(1, answers.unsqueeze(1))
    return -torch.logaddexp(found, found.new_tensor(math.log(FLOOR))).mean()


def normalized_sites(model: nn.Module) -> dict[str, str]:
    """The batch-normalized maps of a model, and what their statistics are taken over."""
    return {
        name: module.spec.statistics
        for name, module in model.named_modules()
        if isinstance(module, Normalization) and isinstance(module.spec, bnrnn.BatchNorm)
    }


@torch.no_grad()
def _initialize(model: AttentiveReader, seed: int, equal: bool) -> None:
    r"""The released code's initial weights: 0.05 times an orthogonal matrix where it is square, else uniform within
    :math:`\pm\sqrt{6 / (n_{in} + n_{out} + 1)}`; the attention vector uniform within :math:`\pm 1/\sqrt n`; biases 0.

    That code starts its random numbers anew for every matrix. So with ``equal`` all matrices of one shape are equal,
    the gates' blocks among them.
    """
    random = torch.Generator().manual_seed(seed)

    def matrix(weight: Tensor) -> None:
        if equal:
            random.manual_seed(seed)
        if weight.shape[0] == weight.shape[1]:
            nn.init.orthogonal_(weight, 0.05, generator=random)
        else:
            bound = math.sqrt(6 / (weight.shape[0] + weight.shape[1] + 1))
            weight.uniform_(-bound, bound, generator=random)

    matrix(model.embedding.weight)
    for lstm in (model.passage, model.question):
        for name, parameter in lstm.named_parameters():
            if name.startswith("weight_"):
                for block in parameter.chunk(4):
                    matrix(block)
            elif name.startswith("bias_"):
                parameter.zero_()
    for module in model.modules():
        if isinstance(module, nn.Linear):
            matrix(module.weight)
            if module.bias is not None:
                module.bias.zero_()
    if equal:
        random.manual_seed(seed)
    bound = 1 / math.sqrt(len(model.ff_att_proj))
    model.ff_att_proj.uniform_(-bound, bound, generator=random)
