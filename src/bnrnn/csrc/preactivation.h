// The pre-activations of one block at one step, as the normalized sum of its two products, and back through it.

// Where the rows lie that the site of the sum normalizes: in a slab, unless two products are added up into `total`.
template <typename Pass, typename T>
inline T* summed_rows(const Pass& s, std::int64_t t, std::int64_t block, T* total) {
    return s.m.separate ? total : s.slabs.recurrents(block, t);
}

// The pre-activations of one block at one step, as the sum of up to two normalized products.
template <typename T, int G>
struct Preactivation {
    const T* values[2];
    Affine<T, G> affine[2];
    int count = 0;

    __attribute__((always_inline)) Vec<T> at(std::int64_t r, int q) const {
        const std::int64_t i = (r * G + q) * Lanes<T>::count;
        Vec<T> v = (load(values[0] + i) - affine[0].mean[q]) * affine[0].scale[q];
        if (count == 2) v += (load(values[1] + i) - affine[1].mean[q]) * affine[1].scale[q];
        return v;
    }

    Preactivation() = default;

    // Adds a term. Forward takes its statistics where the site does that; backward reads them.
    void add(const SiteBlock<T, G>& site, const T* x, std::int64_t t, std::int64_t n, bool forward) {
        values[count] = x;
        if (forward) site.take(t, x, n);
        affine[count++] = site.affine(t);
    }

    // The terms' normalized sum. `total` has room for the rows of what the site of the sum is given, if it is not a
    // slab's already.
    template <typename Pass>
    Preactivation(const Pass& s, std::int64_t t, std::int64_t block, std::int64_t n, T* total) {
        const auto& m = s.m;
        const auto& p = s.p;
        const bool summed = normalizes(p.summed);
        constexpr bool forward = Pass::is_forward;
        if (m.separate || !summed)
            add(m.template at<G>(p.recurrent, block), s.slabs.recurrents(block, t), t, n, forward);
        if (m.separate) add(m.template at<G>(p.input, block), s.slabs.inputs(block, t), t, n, forward);
        if (!summed) return;
        if (m.separate) {
            for (std::int64_t r = 0; r < n; ++r)
                for (int q = 0; q < G; ++q) store(total + (r * G + q) * m.L, at(r, q));
            if (!forward && is_layer(p.summed))
                s.layer_norm.whiten_again(GateRange<0, G>{m.summed_slot}, t, block, 0, n, m.width, total, total);
        }
        count = 0;
        add(m.template at<G>(p.summed, block), summed_rows(s, t, block, total), t, n, forward);
    }
};

// Layer normalization of the sums of step t.
template <typename T, typename C>
inline void whiten_sum(const Forward<T, C>& s, std::int64_t t) {
    if (!is_layer(s.p.summed)) return;
    const auto at = [&](std::int64_t block, std::int64_t) { return summed_rows(s, t, block, s.apart[block].total); };
    s.layer_norm.whiten(AllGates<C>{s.m.summed_slot}, s.p.summed.eps, t, t + 1, s.m.width, at, at);
}

// Gradients of the pre-activations, in the place grads_input(block, t), to those of the sum and on to those of the two
// products; in between, where it is layer normalized, through the statistics of the sum.
template <typename T, typename C>
inline void sum_backward(const Backward<T, C>& s, std::int64_t t, std::int64_t block, std::int64_t n, T* total) {
    constexpr int G = C::gates;
    T* d = s.grads_input(block, t);
    site_backward<T, G>(s.m.template at<G>(s.p.summed, block), t, d, summed_rows(s, t, block, total), n, d,
                        s.features.summed_gamma(block));
}

template <typename T, typename C>
inline void through_sum(const Backward<T, C>& s, std::int64_t t) {
    if (!is_layer(s.p.summed)) return;
    s.layer_norm.gradient(
        AllGates<C>{s.m.summed_slot}, t, t + 1, s.m.width,
        [&](std::int64_t block, std::int64_t) { return s.grads_input(block, t); },
        [&](std::int64_t block, std::int64_t) { return summed_rows(s, t, block, s.apart[block].total); });
}

template <typename T, typename C>
inline void products_backward(const Backward<T, C>& s, std::int64_t t, std::int64_t block, std::int64_t n) {
    constexpr int G = C::gates;
    if (!s.m.separate) return;
    T* d = s.grads_input(block, t);
    site_backward<T, G>(s.m.template at<G>(s.p.recurrent, block), t, d, s.slabs.recurrents(block, t), n,
                        s.grads_recurrent(block, t), s.features.recurrent_gamma(block));
    if (!s.m.sequence)
        site_backward<T, G>(s.m.template at<G>(s.p.input, block), t, d, s.slabs.inputs(block, t), n, d,
                            s.features.input_gamma(block));
}

template <typename T, int G>
inline Vec<T> bias_of(const Plan<T, G>& m, std::int64_t block, int q) {
    return m.p.bias ? load(m.p.bias + q * m.p.units + block * m.L, m.lanes(block)) : Vec<T>{};
}
