// The input's site: its product with the weights, statistics over a whole sequence, and the way back to the input.

// W_ih x of one block, for `count` steps.
template <typename T, int G>
inline void input_product(const Plan<T, G>& m, const T* panel, std::int64_t t, std::int64_t count, T* out) {
    const auto& p = m.p;
    const std::int64_t rows = count * p.batch;
    if (p.index) {
        const std::int64_t* index = p.index + t * p.batch;
        for (std::int64_t r = 0; r < rows; ++r)
            for (int q = 0; q < G; ++q) store(out + r * m.width + q * m.L, load(panel + index[r] * m.width + q * m.L));
        return;
    }
    const Operand<T> x{p.x + t * p.batch * p.inputs, p.inputs, 1, p.inputs};
    product<T, G>(rows, x, panel, {out, m.width, m.L}, false);
}

template <typename T, int G>
inline void sequence_statistics(const Plan<T, G>& m, std::int64_t block, const T* x) {
    const auto& p = m.p;
    std::int64_t count = 0;
    for (std::int64_t t = 0; t < p.steps; ++t) count += m.rows(t);
    const auto all = [&](const auto& body) {
        for (std::int64_t t = 0; t < p.steps; ++t) over_pieces(x + t * p.batch * m.width, m.rows(t), m.width, body);
    };
    Vec<T> mean[G], var[G];
    moments<T, G>(all, count, m.width, mean, var);
    for (int q = 0; q < G; ++q) m.template at<G>(p.input, block).write(0, q, mean[q], var[q]);
}

// Gradients of a block's normalized products in `grads` to those of the products, in place. All steps lie one after the
// other, as statistics over the whole sequence need the sums over all of them first.
template <typename T, int G>
inline void through_sequence_statistics(const Plan<T, G>& m, std::int64_t block, const T* x, T* grads, T* grad_gamma) {
    const auto& p = m.p;
    const auto site = m.template at<G>(p.input, block);
    const std::int64_t step = p.batch * m.width;
    Vec<T> mean[G], sum[G], product[G], deviation[G];
    for (int q = 0; q < G; ++q) mean[q] = site.mean(0, q);
    CarryingSum<T> sums[G], products[G], deviations[G];
    std::int64_t count = 0;
    for (std::int64_t t = 0; t < p.steps; ++t) {
        for (int q = 0; q < G; ++q) sum[q] = product[q] = deviation[q] = Vec<T>{};
        gradient_sums<T, G, G>(grads + t * step, x + t * step, mean, m.rows(t), sum, product, deviation);
        for (int q = 0; q < G; ++q) sums[q].add(sum[q]), products[q].add(product[q]), deviations[q].add(deviation[q]);
        count += m.rows(t);
    }
    for (int q = 0; q < G; ++q) sum[q] = sums[q].sum, product[q] = products[q].sum, deviation[q] = deviations[q].sum;
    const SiteGradient<T, G> g(site, 0, sum, product, deviation, static_cast<T>(count), true, grad_gamma);
    for (std::int64_t t = 0; t < p.steps; ++t)
        apply_gradient<T, G, G>(g, grads + t * step, x + t * step, m.rows(t), grads + t * step);
}

// Gradient of x, from those of the products of all blocks. (Group of columns, step) pairs are shared out evenly.
template <typename T, int G>
struct InputGradient {
    static constexpr int L = Lanes<T>::count;
    const Plan<T, G>& m;
    const Problem<T>& p;
    std::int64_t vectors_of_x, groups;
    T* panels = nullptr;

    InputGradient(const Plan<T, G>& plan, Arena& scratch)
        : m(plan), p(plan.p), vectors_of_x(parts(p.inputs, L)), groups(parts(vectors_of_x, max_vectors)) {
        if (p.grad_x) panels = scratch.take<T>(m.blocks * m.width * vectors_of_x * L);
    }

    std::int64_t first_column(std::int64_t group) const { return part_start(group, vectors_of_x, max_vectors) * L; }
    int vectors(std::int64_t group) const {
        return static_cast<int>((first_column(group + 1) - first_column(group)) / L);
    }
    T* panel(std::int64_t group) const { return panels + first_column(group) * m.blocks * m.width; }

    void pack(int worker, int workers) const {
        if (!p.grad_x) return;
        for (std::int64_t group = groups * worker / workers; group < groups * (worker + 1) / workers; ++group)
            pack_columns<T, G>(m, p.weight_ih, p.inputs, first_column(group), vectors(group), panel(group));
    }

    // Of steps [t, end). `grads` holds `ring` steps for each block.
    void write(const T* grads, std::int64_t ring, std::int64_t t, std::int64_t end, int worker, int workers) const {
        const std::int64_t count = end - t, tasks = count * groups;
        for (std::int64_t task = tasks * worker / workers; task < tasks * (worker + 1) / workers; ++task) {
            const std::int64_t group = task / count, s = t + task % count;
            write_columns(group, s, grads + s % ring * p.batch * m.width, ring);
        }
    }

    void write_columns(std::int64_t group, std::int64_t t, const T* grads, std::int64_t ring) const {
        const std::int64_t n = m.rows(t), first = first_column(group);
        const int count = vectors(group);
        const std::int64_t columns = least(p.inputs - first, count * L);
        const Operand<T> a{grads, m.width, 1, m.width, m.blocks, ring * p.batch * m.width};
        T* out = p.grad_x + t * p.batch * p.inputs + first;
        if (columns == count * L) {
            product<T>(count, n, a, panel(group), {out, p.inputs, L}, false);
        } else {
            constexpr std::int64_t some = 4 * max_rows;
            T tail[some * max_vectors * L];
            for (std::int64_t from = 0; from < n; from += some) {
                const std::int64_t rows = least(some, n - from);
                Operand<T> part = a;
                part.data += from * m.width;
                product<T>(count, rows, part, panel(group), {tail, count * L, L}, false);
                for (std::int64_t r = 0; r < rows; ++r)
                    for (std::int64_t c = 0; c < columns; c += L)
                        store(out + (from + r) * p.inputs + c, load(tail + r * count * L + c),
                              static_cast<int>(least(L, columns - c)));
            }
        }
        for (std::int64_t r = n; r < p.batch; ++r) zero(out + r * p.inputs, columns);
    }
};
