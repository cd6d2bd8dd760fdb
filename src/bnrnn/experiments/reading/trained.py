"""A reader without its questions."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bnrnn.data.cloze import Text, sentence_ends
from bnrnn.experiments.reading.batches import collate, cut
from bnrnn.experiments.reading.config import ReadingConfig
from bnrnn.experiments.reading.model import WORDS_KEY, AttentiveReader, words_of
from bnrnn.experiments.trained import Trained


class ReaderProgram(nn.Module):
    """Logits ``(B, V)`` and attention ``(T, B)`` of passages ``(T, B)`` and questions ``(S, B)`` with their lengths."""

    def __init__(self, model: AttentiveReader) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, passage: Tensor, passage_lengths: Tensor, question: Tensor, question_lengths: Tensor
    ) -> tuple[Tensor | None, Tensor]:
        answer = self.model(passage, passage_lengths, question, question_lengths)
        return answer.logits, answer.attention


def trained(config: ReadingConfig, parameters: dict[str, Tensor]) -> Trained:
    """The reader that a run's parameters fit."""
    words = words_of(parameters[WORDS_KEY])
    model = AttentiveReader(config.architecture, words)

    def encode(passage: str, question: str) -> tuple[Tensor, ...]:
        """Words with spaces between them, markers for names, and ``@placeholder`` in the question."""
        lines = [line.lower().split() for line in passage.splitlines() if line.strip()]
        read, asked = [word for line in lines for word in line], question.lower().split()
        if not read or not asked:
            raise ValueError("passage and question must have words")
        ends = sentence_ends(read)
        if config.BY_LINE:
            ends = [sum(map(len, lines[: count + 1])) for count in range(len(lines))]
        item = words.item(Text(read, ends, asked, read[:1], read[0]))
        return tuple(collate([cut(item, config.sentences, config.longest)], "zeros")[:4])

    def example(rows: int) -> tuple[Tensor, ...]:
        given: list[Tensor] = []
        for steps in (rows + 9, rows + 3):
            lengths = torch.randint(1, steps + 1, (rows,))
            lengths[0] = steps
            given += [torch.randint(len(words.vocabulary), (steps, rows)), lengths]
        return tuple(given)

    inputs = {
        "passage": {0: "passage_steps", 1: "batch"},
        "passage_lengths": {0: "batch"},
        "question": {0: "question_steps", 1: "batch"},
        "question_lengths": {0: "batch"},
    }
    return Trained(model, ReaderProgram(model), encode, inputs, ("logits", "attention"), example, words.vocabulary)
