"""A call's way through a recurrent layer: its layers, directions and lengths, and the statistics that it leaves."""

from __future__ import annotations

import warnings
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from bnrnn.nn import plain, sequences
from bnrnn.nn.arguments import check_input, check_rows, check_start_step, check_state, check_tokens
from bnrnn.nn.norm.site import Normalization, warn_if_unset
from bnrnn.nn.parameters import RecurrentParameters
from bnrnn.nn.sequences import Lengths, State, Valid
from bnrnn.nn.stream import Stream
from bnrnn.nn.values import is_transformed
from bnrnn.ops import Sites
from bnrnn.ops.autograd import is_training
from bnrnn.ops.dispatch import Backend
from bnrnn.ops.processes import Processes, meet
from bnrnn.ops.recurrence import Recurrence, kernel, recur
from bnrnn.ops.sites import Statistics


class RecurrentLayer(RecurrentParameters):
    """Base of :class:`bnrnn.LSTM`, :class:`bnrnn.GRU` and :class:`bnrnn.RNN`."""

    def stream(self, hx: Any = None, start_step: int = 0) -> Stream:
        """Read a sequence one time step a call, in ``eval()``: see :class:`bnrnn.nn.stream.Stream`."""
        return Stream(self, hx, start_step)

    def _forward(
        self, input: Tensor | PackedSequence, hx: Any, lengths: Lengths | None, start_step: int
    ) -> tuple[Tensor | PackedSequence, State]:
        start_step = check_start_step(start_step, self.bidirectional)
        if isinstance(input, PackedSequence):
            if lengths is not None:
                raise ValueError("lengths: a PackedSequence has its own; got lengths beside one")
            return self._forward_packed(input, hx, start_step)
        check_input(self, input, dims=None)
        batched = input.dim() == (3 if input.is_floating_point() else 2)
        x = input if batched else input.unsqueeze(1)
        if batched and self.batch_first:
            x = x.transpose(0, 1)
        if x.shape[0] == 0 or (x.shape[1] == 0 and self.norm is not None and not self._shares_rows):
            raise ValueError(f"input: at least one time step and one sequence are needed, got {tuple(input.shape)}")
        own_lengths = sequences.check_lengths(lengths, x, batched)
        state = check_state(self, x, hx, x.shape[1], batched)
        valid = back = None
        if own_lengths is not None:
            x, state, valid, back = sequences.sort(x, state, own_lengths)
        check_tokens(x, self.input_size)
        if self._runs_on_torch(x, state, few=valid is None and x.shape[0] < plain.FEW_STEPS):
            output, state = plain.run(self, x, state, valid)
        else:
            output, state = self._layers(x, state, valid, start_step)
        if back is not None:
            output, state = output.index_select(1, back), sequences.permute(state, back)
        if not batched:
            return output.squeeze(1), tuple(s.squeeze(1) for s in state)
        return output.transpose(0, 1) if self.batch_first else output, state

    def _forward_packed(self, packed: PackedSequence, hx: Any, start_step: int) -> tuple[PackedSequence, State]:
        check_input(self, packed.data, dims=2)
        check_tokens(packed.data, self.input_size)
        state = check_state(self, packed.data, hx, int(packed.batch_sizes[0]))
        if self._runs_on_torch(packed.data, state, few=False):
            return plain.run_packed(self, packed, state)
        x, lengths = sequences.unpack(packed)
        state = sequences.permute(state, packed.sorted_indices)
        shorter = int(lengths[-1]) < x.shape[0]
        valid = Valid(lengths.to(x.device), packed.batch_sizes) if shorter else None
        output, state = self._layers(x, state, valid, start_step)
        return sequences.pack(output, lengths, packed), sequences.permute(state, packed.unsorted_indices)

    def _runs_on_torch(self, x: Tensor, state: State, few: bool) -> bool:
        """Whether torch's own functions do the work: if asked for, in few steps, or where only the reference could."""
        if self.backend == "torch":
            return True
        if not self._is_plain or self.backend != "auto":
            return False
        if x.numel() == 0:
            return True
        if torch.compiler.is_compiling() or is_transformed():
            return False  # torch's own have no rules for that
        if few:
            return True
        names = ("weight_hh", "bias_ih", "weight_hr")
        weight_hh, bias, weight_hr = (self._parameter(name, "_l0") for name in names)
        assert weight_hh is not None
        call = Recurrence(x, tuple(s[0] for s in state), self.weight_ih_l0, weight_hh, bias, weight_hr=weight_hr)
        taken = kernel(self._cell, call)
        return taken is None or taken.name == "triton"  # where torch has the vendor's own layer

    @property
    def _shares_rows(self) -> bool:
        """Whether the processes of a group take statistics together, so that this one may have no rows."""
        return any(site.process_group is not None for site in self._all_sites)

    def _meet(
        self, sites: list[Normalization], x: Tensor, state: State, batch_sizes: Tensor | None, start_step: int
    ) -> dict[Any, Processes]:
        """The processes that take statistics together in this call, by their group."""
        groups = dict.fromkeys(group for site in sites if (group := site.process_group) is not None)
        if not groups:
            return {}
        rows = [x.shape[1]] * x.shape[0] if batch_sizes is None else batch_sizes.tolist()
        names = ("num_layers", "bidirectional", "input_size", "hidden_size")
        alike = {"start_step": start_step, "cell": self._cell.number, **{name: getattr(self, name) for name in names}}
        differentiated = is_training(x, *state, *self.parameters())
        return {group: meet(group, rows, alike, x.device, differentiated) for group in groups}

    def _recurrence(
        self,
        index: int,
        suffix: str,
        x: Tensor,
        state: State,
        batch_sizes: Tensor | None,
        start_step: int,
        processes: dict[Any, Processes],
    ) -> Recurrence:
        """One layer in one direction: its own state, the ``index``-th, its weights, sites and masks."""
        bias, bias_hn = self._biases(suffix)
        weight_ih, weight_hh = self._parameter("weight_ih", suffix), self._parameter("weight_hh", suffix)
        assert weight_ih is not None
        assert weight_hh is not None
        sites = {name: site.site(start_step, x.shape[0], processes) for name, site in self._sites(suffix).items()}
        mask, zoneout = self._masks(x)
        return Recurrence(
            x,
            tuple(s[index] for s in state),
            weight_ih,
            weight_hh,
            bias,
            bias_hn,
            self._parameter("weight_hr", suffix),
            Sites(**sites),
            batch_sizes,
            mask,
            zoneout,
        )

    def _layers(self, x: Tensor, state: State, valid: Valid | None, start_step: int) -> tuple[Tensor, State]:
        """All layers and directions; then, all having run, the statistics that they took enter the tables."""
        all_sites = self._all_sites
        batch_sizes = None if valid is None else valid.batch_sizes
        processes = self._meet(all_sites, x, state, batch_sizes, start_step)
        check_rows(x, valid, all_sites, processes)
        warn_if_unset(all_sites)
        backend: Backend = "reference" if x.shape[1] == 0 or self.backend == "torch" else self.backend
        finals: list[State] = []
        updates: list[tuple[dict[str, Normalization], Statistics]] = []
        for layer in range(self.num_layers):
            outputs = []
            for reverse, suffix in enumerate(self._suffixes(layer)):
                own = sequences.reverse(x, valid) if reverse else x
                call = self._recurrence(len(finals), suffix, own, state, batch_sizes, start_step, processes)
                output, final, statistics = recur(self._cell, call, backend)
                outputs.append(sequences.reverse(output, valid) if reverse else output)
                finals.append(final)
                updates.append((self._sites(suffix), statistics))
            x = outputs[0] if len(outputs) == 1 else torch.cat(outputs, -1)
            if self.dropout and layer < self.num_layers - 1:
                x = F.dropout(x, self.dropout, self.training)
        self._update(updates, batch_sizes, start_step, processes)
        results = (x, *(torch.stack(s) for s in zip(*finals, strict=True)))
        for group in processes.values():
            results = group.leave(*results)
        return results[0], results[1:]

    def _update(
        self,
        updates: list[tuple[dict[str, Normalization], Statistics]],
        batch_sizes: Tensor | None,
        start_step: int,
        processes: dict[Any, Processes],
    ) -> None:
        unseen = False
        for sites, statistics in updates:
            for name, (mean, var) in statistics.items():
                site = sites[name]
                together = processes.get(site.process_group) if processes else None
                rows = batch_sizes if together is None else torch.tensor(together.rows)
                if rows is not None and len(mean) > 1:
                    own = int((rows >= site.min_rows).sum())
                    mean, var = mean[:own], var[:own]
                unseen |= site.update(start_step, mean, var)
        if unseen:
            warnings.warn(
                "population statistics have grown to longer tables, which reach neither the other processes of "
                "DistributedDataParallel nor those that share this layer's memory: give BatchNorm(max_steps=...)",
                UserWarning,
                stacklevel=4,
            )

    def _masks(self, x: Tensor) -> tuple[Tensor | None, tuple[Tensor | None, ...]]:
        """The recurrent dropout's mask and the zoneouts', drawn here so that every backend gets the same."""
        steps, batch = x.shape[:2]
        weight = self.weight_ih_l0

        def ones(p: float, *shape: int) -> Tensor:
            return torch.empty(shape, device=weight.device, dtype=weight.dtype).bernoulli_(p)

        keep = 1 - self.recurrent_dropout
        mask = ones(keep, batch, self._output_size) / keep if keep < 1 and self.training else None
        zoneout = tuple(
            (ones(p, steps, batch, size) if self.training else weight.new_tensor(p)) if p else None
            for p, size in zip(self._zoneout, self._state_sizes, strict=True)
        )
        return mask, zoneout
