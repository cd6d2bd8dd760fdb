"""One layer in one direction, for sequences of any lengths in any order.

Shapes: ``x (T, B, I)``, states ``(B, ...)``, ``lengths (B,)``. A zoneout is None, a number (the expectation), or an
array ``(T, B, units)`` of zeros and ones, where 1 keeps the old value. Results beyond a sequence's length are zero.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from reference.normalization import Site, Taken, moments, normalize_step, scaled

Sites = dict[str, Site]
Zoneout = np.ndarray | float | None
Tables = dict[str, tuple[np.ndarray, np.ndarray]]


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def _input(
    x: np.ndarray, W: np.ndarray, site: Site | None, lengths: np.ndarray, groups: list[slice], taken: Taken
) -> Callable[[int, np.ndarray], np.ndarray]:
    """A function of a step and its valid rows: their normalized input products."""
    if site is not None and site.kind == "sequence" and site.mean is None:
        frames = np.stack([W @ x[t, b] for b in range(x.shape[1]) for t in range(lengths[b])])
        mean, var = moments(frames)
        taken.add("input", 0, mean, var)
        return lambda t, rows: scaled(x[t, rows] @ W.T, mean, var, site)
    if site is not None and site.kind == "sequence":
        return lambda t, rows: scaled(x[t, rows] @ W.T, site.mean[0], site.var[0], site)

    def at(t: int, rows: np.ndarray) -> np.ndarray:
        return _grouped(x[t, rows] @ W.T, site, "input", t, groups, taken)

    return at


def _grouped(rows: np.ndarray, site: Site | None, name: str, t: int, groups: list[slice], taken: Taken) -> np.ndarray:
    if site is None:
        return rows
    return np.concatenate(
        [normalize_step(rows[:, g], site.columns(g), name, t, taken, g.start) for g in groups], axis=1
    )


def _zoned(z: Zoneout, t: int, rows: np.ndarray, old: np.ndarray, new: np.ndarray) -> np.ndarray:
    if z is None:
        return new
    keep = z if np.isscalar(z) else z[t, rows]
    return keep * old + (1 - keep) * new


def lstm(
    x: np.ndarray,
    h0: np.ndarray,
    c0: np.ndarray,
    W_ih: np.ndarray,
    W_hh: np.ndarray,
    bias: np.ndarray | None = None,
    W_hr: np.ndarray | None = None,
    *,
    sites: Sites | None = None,
    lengths: np.ndarray | None = None,
    mask: np.ndarray | None = None,
    zoneout_h: Zoneout = None,
    zoneout_c: Zoneout = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, Tables]:
    """Cooijmans et al. 2017, eq. 6-8, gates in the order i, f, g, o."""
    sites = sites or {}
    T, B = x.shape[:2]
    H = c0.shape[1]
    lengths = np.full(B, T) if lengths is None else np.asarray(lengths)
    taken = Taken()
    everything = [slice(0, 4 * H)]
    b_of = _input(x, W_ih, sites.get("input"), lengths, everything, taken)
    kind = np.result_type(x, h0, c0, W_ih, W_hh, *(v for v in (bias, W_hr) if v is not None), *_site_arrays(sites))
    h, c = h0.astype(kind), c0.astype(kind)
    output = np.zeros((T, B, h0.shape[1]), kind)
    for t in range(T):
        rows = np.flatnonzero(lengths > t)
        if not len(rows):
            break
        hidden = h[rows] if mask is None else h[rows] * mask[rows]
        a = _grouped(hidden @ W_hh.T, sites.get("recurrent"), "recurrent", t, everything, taken)
        gates = _grouped(a + b_of(t, rows), sites.get("summed"), "summed", t, everything, taken)
        if bias is not None:
            gates = gates + bias
        i, f, g, o = (gates[:, k * H : (k + 1) * H] for k in range(4))
        new_c = sigmoid(f) * c[rows] + sigmoid(i) * np.tanh(g)
        new_h = sigmoid(o) * np.tanh(normalize_step(new_c, sites.get("cell"), "cell", t, taken))
        if W_hr is not None:
            new_h = new_h @ W_hr.T
        c[rows], h[rows] = (
            _zoned(zoneout_c, t, rows, c[rows], new_c),
            _zoned(zoneout_h, t, rows, h[rows], new_h),
        )
        output[t, rows] = h[rows]
    return output, h, c, taken.tables()


def gru(
    x: np.ndarray,
    h0: np.ndarray,
    W_ih: np.ndarray,
    W_hh: np.ndarray,
    b_ih: np.ndarray | None = None,
    b_hh: np.ndarray | None = None,
    *,
    sites: Sites | None = None,
    lengths: np.ndarray | None = None,
    mask: np.ndarray | None = None,
    zoneout_h: Zoneout = None,
) -> tuple[np.ndarray, np.ndarray, Tables]:
    """Gates in the order r, z, n; the reset gate scales the recurrent term with its bias."""
    sites = sites or {}
    T, B = x.shape[:2]
    H = h0.shape[1]
    lengths = np.full(B, T) if lengths is None else np.asarray(lengths)
    taken = Taken()
    groups = [slice(0, 2 * H), slice(2 * H, 3 * H)]
    b_of = _input(x, W_ih, sites.get("input"), lengths, groups, taken)
    b_ih, b_hh = (np.zeros(3 * H) if b is None else b for b in (b_ih, b_hh))
    kind = np.result_type(x, h0, W_ih, W_hh, b_ih, b_hh, *_site_arrays(sites))
    h = h0.astype(kind)
    output = np.zeros((T, B, H), kind)
    summed = sites.get("summed")
    for t in range(T):
        rows = np.flatnonzero(lengths > t)
        if not len(rows):
            break
        hidden = h[rows] if mask is None else h[rows] * mask[rows]
        a = _grouped(hidden @ W_hh.T, sites.get("recurrent"), "recurrent", t, groups, taken)
        b = b_of(t, rows)
        gates = a[:, : 2 * H] + b[:, : 2 * H]
        if summed is not None:
            gates = normalize_step(gates, summed.columns(groups[0]), "summed", t, taken, 0)
        r = sigmoid(gates[:, :H] + b_ih[:H] + b_hh[:H])
        z = sigmoid(gates[:, H:] + b_ih[H : 2 * H] + b_hh[H : 2 * H])
        candidate = b[:, 2 * H :] + r * (a[:, 2 * H :] + b_hh[2 * H :])
        if summed is not None:
            candidate = normalize_step(candidate, summed.columns(groups[1]), "summed", t, taken, 2 * H)
        n = np.tanh(candidate + b_ih[2 * H :])
        h[rows] = _zoned(zoneout_h, t, rows, h[rows], (1 - z) * n + z * h[rows])
        output[t, rows] = h[rows]
    return output, h, taken.tables()


def rnn(
    x: np.ndarray,
    h0: np.ndarray,
    W_ih: np.ndarray,
    W_hh: np.ndarray,
    bias: np.ndarray | None = None,
    *,
    nonlinearity: str = "tanh",
    sites: Sites | None = None,
    lengths: np.ndarray | None = None,
    mask: np.ndarray | None = None,
    zoneout_h: Zoneout = None,
) -> tuple[np.ndarray, np.ndarray, Tables]:
    """Laurent et al. 2015, eq. 9 (summed) and 10 (input)."""
    sites = sites or {}
    T, B = x.shape[:2]
    H = h0.shape[1]
    lengths = np.full(B, T) if lengths is None else np.asarray(lengths)
    taken = Taken()
    everything = [slice(0, H)]
    b_of = _input(x, W_ih, sites.get("input"), lengths, everything, taken)
    kind = np.result_type(x, h0, W_ih, W_hh, *(() if bias is None else (bias,)), *_site_arrays(sites))
    h = h0.astype(kind)
    output = np.zeros((T, B, H), kind)
    for t in range(T):
        rows = np.flatnonzero(lengths > t)
        if not len(rows):
            break
        hidden = h[rows] if mask is None else h[rows] * mask[rows]
        a = _grouped(hidden @ W_hh.T, sites.get("recurrent"), "recurrent", t, everything, taken)
        pre = _grouped(a + b_of(t, rows), sites.get("summed"), "summed", t, everything, taken)
        if bias is not None:
            pre = pre + bias
        new = np.tanh(pre) if nonlinearity == "tanh" else np.where(pre.real > 0, pre, 0)
        h[rows] = _zoned(zoneout_h, t, rows, h[rows], new)
        output[t, rows] = h[rows]
    return output, h, taken.tables()


def _site_arrays(sites: Sites) -> list[np.ndarray]:
    return [v for s in sites.values() for v in (s.gamma, s.beta, s.mean, s.var) if v is not None]
