// The recurrence over time that all cells share.
//
// Units are cut into blocks as wide as a vector. One block and the whole batch is self-contained: its gates, their
// means and variances, the cell's normalization and its part of the new state need nothing of other blocks. So each
// worker owns a range of blocks and does, for every step, its part of the recurrent product and then that one pass;
// workers meet once a step. Slabs are [block][step][row][gate][lane].
//
// Layer normalization alone crosses blocks. Then the pass is taken apart where it does so: each stage runs over all own
// blocks before the next, and workers meet in between.
//
// Going back, a worker first turns the gradient of its blocks' states into that of their pre-activations; after the
// meeting it multiplies those of all blocks with its own columns of the weights. Weight gradients are summed over a
// chunk of steps at a time, each worker for the rows of its own blocks.

// Rows of a weight (G * units, depth) that belong to one block, as a panel [k][gate][lane].
template <typename T, int G>
inline void pack_rows(const Plan<T, G>& m, const T* weight, std::int64_t depth, std::int64_t block, T* panel) {
    const int lanes = m.lanes(block);
    for (std::int64_t k = 0; k < depth; k += m.L) {
        const int count = static_cast<int>(least(m.L, depth - k));
        for (int q = 0; q < G; ++q) {
            const T* from = weight + (q * m.p.units + block * m.L) * depth + k;
            Vec<T> tile[m.L];
            for (int l = 0; l < m.L; ++l) tile[l] = l < lanes ? load(from + l * depth, count) : Vec<T>{};
            transpose<T>(tile);
            for (int i = 0; i < count; ++i) store(panel + (k + i) * m.width + q * m.L, tile[i]);
        }
    }
}

template <typename T, int G>
inline void unpack_rows(const Plan<T, G>& m, const T* panel, std::int64_t depth, std::int64_t block, T* weight) {
    const int lanes = m.lanes(block);
    for (std::int64_t k = 0; k < depth; k += m.L) {
        const int count = static_cast<int>(least(m.L, depth - k));
        for (int q = 0; q < G; ++q) {
            T* to = weight + (q * m.p.units + block * m.L) * depth + k;
            Vec<T> tile[m.L];
            for (int i = 0; i < m.L; ++i)
                tile[i] = i < count ? load(panel + (k + i) * m.width + q * m.L) : Vec<T>{};
            transpose<T>(tile);
            for (int l = 0; l < lanes; ++l) store(to + l * depth, tile[l], count);
        }
    }
}

// Columns [column, column + vectors * L) of a weight (G * units, depth), as a panel [block][gate][lane][column].
template <typename T, int G>
inline void pack_columns(const Plan<T, G>& m, const T* weight, std::int64_t depth, std::int64_t column, int vectors,
                         T* panel) {
    for (std::int64_t block = 0; block < m.blocks; ++block)
        for (int q = 0; q < G; ++q)
            for (int l = 0; l < m.L; ++l)
                for (int v = 0; v < vectors; ++v, panel += m.L) {
                    const std::int64_t c = column + v * m.L;
                    const int lanes = static_cast<int>(least(m.L, depth - c));
                    const bool there = l < m.lanes(block) && lanes > 0;
                    store(panel,
                          there ? load(weight + (q * m.p.units + block * m.L + l) * depth + c, lanes) : Vec<T>{});
                }
}

// W_ih x of one block, for `count` steps.
template <typename T, int G>
inline void input_product(const Plan<T, G>& m, const T* panel, std::int64_t t, std::int64_t count, T* out) {
    const auto& p = m.p;
    const std::int64_t rows = count * p.batch;
    if (p.index) {
        const std::int64_t* index = p.index + t * p.batch;
        for (std::int64_t r = 0; r < rows; ++r)
            for (int q = 0; q < G; ++q)
                store(out + r * m.width + q * m.L, load(panel + index[r] * m.width + q * m.L));
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

template <typename T, typename C>
struct Forward {
    static constexpr bool is_forward = true;
    static constexpr int G = C::gates;
    static constexpr int L = Lanes<T>::count;

    const Problem<T>& p;
    Plan<T, G> m;
    Scratch keep, scratch;
    Slabs<T, G> slabs;
    Rows<T, C> rows;
    using Step = typename C::template ForwardStep<T>;
    Step* apart;  // the steps of all blocks, where stages are run apart
    T *panel_h, *panel_x, *work;

    explicit Forward(const Problem<T>& problem)
        : p(problem),
          m(problem, problem.inputs > 512 ? 512 : 128, C{}),
          keep(problem.saved, BNRNN_VECTOR_BYTES),
          scratch(problem.scratch),
          slabs(m, problem.saved ? keep : scratch, scratch, problem.saved != nullptr),
          rows(m, keep, scratch) {
        apart = scratch.take<Step>(m.crossing ? m.blocks : 0);
        panel_h = scratch.take<T>(m.blocks * p.units * m.width);
        panel_x = scratch.take<T>(m.blocks * p.inputs * m.width);
        work = scratch.take<T>(m.blocks * C::forward_work * p.batch * L);
    }

    T* panel_h_of(std::int64_t block) const { return panel_h + block * p.units * m.width; }
    T* panel_x_of(std::int64_t block) const { return panel_x + block * p.inputs * m.width; }
    void work_at(std::int64_t block) { work += block * C::forward_work * p.batch * L; }
    T* work_of(std::int64_t block) const {
        return work + (m.crossing ? (block - rows.begin) * C::forward_work * p.batch * L : 0);
    }

    void write_state(std::int64_t t, std::int64_t block, std::int64_t r, Vec<T> h) const {
        const std::int64_t at = r * m.stride + block * L;
        if (m.raw_state) store(slabs.raw_states(t) + at, h);
        if (p.mask) h *= load(p.mask + r * p.units + block * L, m.lanes(block));
        if (p.round_to_bfloat16) h = round_to_bfloat16(h);
        store(slabs.states(t) + at, h);
    }

    // Zeros beyond the valid rows, and final states of the rows that end here.
    void finish_step(std::int64_t t, std::int64_t block, std::int64_t n) const {
        const int lanes = m.lanes(block);
        T* out = p.output + t * p.batch * p.units + block * L;
        for (std::int64_t r = n; r < p.batch; ++r) store(out + r * p.units, Vec<T>{}, lanes);
        for (std::int64_t r = m.rows(t + 1); r < n; ++r) {
            store(p.h_n + r * p.units + block * L, load(out + r * p.units, lanes), lanes);
            if (C::has_cell)
                store(p.c_n + r * p.units + block * L, load(slabs.cells(block, t + 1) + r * L), lanes);
        }
    }

    void start(std::int64_t block) const {
        const int lanes = m.lanes(block);
        pack_rows<T, G>(m, p.weight_hh, p.units, block, panel_h_of(block));
        pack_rows<T, G>(m, p.weight_ih, p.inputs, block, panel_x_of(block));
        for (std::int64_t r = 0; r < p.batch; ++r) {
            const std::int64_t at = r * p.units + block * L;
            const Vec<T> h = load(p.h0 + at, lanes);
            write_state(0, block, r, h);
            if (C::has_cell) store(slabs.cells(block, 0) + r * L, load(p.c0 + at, lanes));
            if (r >= m.rows(0)) {
                store(p.h_n + at, h, lanes);
                if (C::has_cell) store(p.c_n + at, load(p.c0 + at, lanes), lanes);
            }
        }
        if (m.sequence) {
            input_product<T, G>(m, panel_x_of(block), 0, p.steps, slabs.inputs(block, 0));
            sequence_statistics<T, G>(m, block, slabs.inputs(block, 0));
        }
    }

    void run(int worker, Barrier& barrier) {
        const std::int64_t begin = m.first(worker, barrier.workers), end = m.first(worker + 1, barrier.workers);
        rows.begin = begin, rows.end = end, rows.barrier = &barrier;
        work_at(begin);
        for (std::int64_t block = begin; block < end; ++block) start(block);
        const auto inputs = [&](std::int64_t block, std::int64_t t) { return slabs.inputs(block, t); };
        const auto recurrents = [&](std::int64_t block, std::int64_t t) { return slabs.recurrents(block, t); };
        for (std::int64_t t = 0; t < p.steps; ++t) {
            const std::int64_t n = m.rows(t);
            if (t % m.chunk == 0 && !m.sequence) {
                const std::int64_t count = least(m.chunk, p.steps - t);
                for (std::int64_t block = begin; block < end; ++block)
                    input_product<T, G>(m, panel_x_of(block), t, count,
                                        m.separate ? slabs.inputs(block, t) : slabs.recurrents(block, t));
                if (is_layer(p.input))
                    rows.whiten(AllGates<C>{m.input_slot}, p.input.eps, t, t + count, m.width, inputs, inputs);
            }
            meet(barrier);
            const Operand<T> h{slabs.states(t), m.stride, 1, p.units};
            const auto state_product = [&](std::int64_t block) {
                product<T, G>(n, h, panel_h_of(block), {slabs.recurrents(block, t), m.width, L}, !m.separate);
            };
            if (!m.crossing) {
                for (std::int64_t block = begin; block < end; ++block) {
                    state_product(block);
                    Step step(*this, t, block, n);
                    step.sum();
                    step.gates();
                    step.state();
                    finish_step(t, block, n);
                }
                continue;
            }
            for (std::int64_t block = begin; block < end; ++block) state_product(block);
            if (is_layer(p.recurrent))
                rows.whiten(AllGates<C>{m.recurrent_slot}, p.recurrent.eps, t, t + 1, m.width, recurrents, recurrents);
            for (std::int64_t block = begin; block < end; ++block)
                (new (apart + block) Step(*this, t, block, n))->sum();
            Step::after_sum(*this, t);
            for (std::int64_t block = begin; block < end; ++block) apart[block].gates();
            Step::after_gates(*this, t);
            for (std::int64_t block = begin; block < end; ++block) {
                apart[block].state();
                finish_step(t, block, n);
            }
        }
    }
};

template <typename T, typename C>
struct Backward {
    static constexpr bool is_forward = false;
    static constexpr int G = C::gates;
    static constexpr int L = Lanes<T>::count;

    const Problem<T>& p;
    Plan<T, G> m;
    Scratch keep, scratch;
    Slabs<T, G> slabs;
    Rows<T, C> rows;
    using Step = typename C::template BackwardStep<T>;
    Step* apart;  // the steps of all blocks, where stages are run apart
    T *panel_x = nullptr, *columns_h, *columns_x = nullptr;
    T *grad_h, *grad_c = nullptr, *through_mask = nullptr;
    T *grad_recurrent, *grad_input;
    std::int64_t input_ring;
    T *sum_h, *sum_x, *sum_sites, *sum_bias, *work;
    T *packed_h = nullptr, *packed_x = nullptr;
    std::int64_t x_vectors, x_groups;
    bool started = false;  // whether the sums of the weights' gradients hold anything yet

    static constexpr int site_width = 3 * G + 2;  // gamma of the three sums, gamma and beta of the cell

    explicit Backward(const Problem<T>& problem)
        : p(problem),
          m(problem, 512, C{}),
          keep(problem.saved, BNRNN_VECTOR_BYTES),
          scratch(problem.scratch),
          slabs(m, keep, scratch, true),
          rows(m, keep, scratch) {
        apart = scratch.take<Step>(m.crossing ? m.blocks : 0);
        const std::int64_t block_rows = m.blocks * p.batch;
        columns_h = scratch.take<T>(m.blocks * m.width * m.blocks * L);
        if (m.separate && !m.keep_input) panel_x = scratch.take<T>(m.blocks * p.inputs * m.width);
        x_vectors = parts(p.inputs, L);
        x_groups = parts(x_vectors, max_vectors);
        if (p.grad_x) columns_x = scratch.take<T>(m.blocks * m.width * x_vectors * L);
        grad_h = scratch.take<T>(block_rows * L);
        if (C::has_cell) grad_c = scratch.take<T>(block_rows * L);
        if (p.mask) through_mask = scratch.take<T>(block_rows * L);
        grad_recurrent = scratch.take<T>(block_rows * m.chunk * m.width);
        input_ring = m.sequence ? p.steps : m.chunk;
        grad_input = m.separate ? scratch.take<T>(block_rows * input_ring * m.width) : grad_recurrent;
        sum_h = scratch.take<T>(m.blocks * p.units * m.width);
        sum_x = scratch.take<T>(m.blocks * p.inputs * m.width);
        constexpr std::int64_t wide = 256;
        const std::int64_t group = m.chunk * p.batch * max_rows;
        if (p.units >= wide) packed_h = scratch.take<T>(group * row_groups(p.units));
        if (p.inputs >= wide && !p.index && !m.sequence) packed_x = scratch.take<T>(group * row_groups(p.inputs));
        sum_sites = scratch.take<T>(m.blocks * site_width * L);
        sum_bias = scratch.take<T>(m.blocks * (G + 1) * L);
        work = scratch.take<T>(m.blocks * C::backward_work * p.batch * L);
    }

    T* grads_h(std::int64_t block) const { return grad_h + block * p.batch * L; }
    T* grads_c(std::int64_t block) const { return grad_c + block * p.batch * L; }
    T* grads_recurrent(std::int64_t block, std::int64_t t) const {
        return grad_recurrent + (block * m.chunk + t % m.chunk) * p.batch * m.width;
    }
    T* grads_input(std::int64_t block, std::int64_t t) const {
        return grad_input + (block * input_ring + t % input_ring) * p.batch * m.width;
    }
    void work_at(std::int64_t block) { work += block * C::backward_work * p.batch * L; }
    T* work_of(std::int64_t block) const {
        return work + (m.crossing ? (block - rows.begin) * C::backward_work * p.batch * L : 0);
    }
    T* site_sums(std::int64_t block) const { return sum_sites + block * site_width * L; }
    T* input_gamma(std::int64_t block) const { return site_sums(block); }
    T* recurrent_gamma(std::int64_t block) const { return site_sums(block) + G * L; }
    T* summed_gamma(std::int64_t block) const { return site_sums(block) + 2 * G * L; }
    T* cell_gamma(std::int64_t block) const { return site_sums(block) + 3 * G * L; }
    T* cell_beta(std::int64_t block) const { return site_sums(block) + (3 * G + 1) * L; }
    T* bias(std::int64_t block) const { return sum_bias + block * (G + 1) * L; }

    // The state's gradient gets a part that does not pass the weights, so the product adds to it.
    bool adds_to_state() const { return C::needs_previous_state || p.zoneout_h; }

    void start(std::int64_t block) const {
        zero(site_sums(block), site_width * L);
        zero(bias(block), (G + 1) * L);
        if (p.index || m.rows(0) == 0) zero(sum_x + block * p.inputs * m.width, p.inputs * m.width);
        if (m.rows(0) == 0) zero(sum_h + block * p.units * m.width, p.units * m.width);
        if (panel_x) pack_rows<T, G>(m, p.weight_ih, p.inputs, block, panel_x + block * p.inputs * m.width);
        receive_final(block, m.rows(0), p.batch);
    }

    static void zero(T* to, std::int64_t count) {
        for (std::int64_t i = 0; i < count; ++i) to[i] = 0;
    }

    // Rows whose last valid step is at hand take up the gradient of their final state.
    void receive_final(std::int64_t block, std::int64_t from, std::int64_t to) const {
        const int lanes = m.lanes(block);
        for (std::int64_t r = from; r < to; ++r) {
            const std::int64_t at = r * p.units + block * L;
            store(grads_h(block) + r * L, p.grad_h_n ? load(p.grad_h_n + at, lanes) : Vec<T>{});
            if (C::has_cell)
                store(grads_c(block) + r * L, p.grad_c_n ? load(p.grad_c_n + at, lanes) : Vec<T>{});
        }
    }

    Vec<T> state_gradient(std::int64_t t, std::int64_t block, std::int64_t r) const {
        Vec<T> d = load(grads_h(block) + r * L);
        if (p.grad_output)
            d += load(p.grad_output + (t * p.batch + r) * p.units + block * L, m.lanes(block));
        return d;
    }

    void state_product(std::int64_t t, std::int64_t n, std::int64_t begin, std::int64_t end) const {
        const Operand<T> a{grads_recurrent(0, t), m.width, 1, m.width, m.blocks, m.chunk * p.batch * m.width};
        over_panels(begin, end, [&](std::int64_t block, int vectors) {
            const T* panel = columns_h + block * L * m.blocks * m.width;
            T* target = (p.mask ? through_mask : grad_h) + block * p.batch * L;
            product<T>(vectors, n, a, panel, {target, L, p.batch * L}, !p.mask && adds_to_state());
        });
        if (!p.mask) return;
        for (std::int64_t block = begin; block < end; ++block)
            for (std::int64_t r = 0; r < n; ++r) {
                const Vec<T> d = load(through_mask + (block * p.batch + r) * L) *
                                 load(p.mask + r * p.units + block * L, m.lanes(block));
                T* to = grads_h(block) + r * L;
                store(to, adds_to_state() ? load(to) + d : d);
            }
    }

    // The valid rows of steps [t, end) as stretches without a gap: whole steps, or one step's first rows.
    template <typename Body>
    void over_stretches(std::int64_t t, std::int64_t end, const Body& body) const {
        while (t < end) {
            std::int64_t next = t + 1;
            if (m.rows(t) == p.batch)
                while (next < end && m.rows(next) == p.batch) ++next;
            if (m.rows(t) > 0) body(t, m.rows(t) * (next - t));
            t = next;
        }
    }

    // A chunk's operand of the weight gradient, transposed for its product: [stretch][group of rows][k][row]. Wide rows
    // lie far apart, so that reading them down their columns would wait for the memory. Workers share the work.
    void pack_operand(const T* x, std::int64_t x_stride, std::int64_t depth, std::int64_t t, std::int64_t end, T* to,
                      int worker, int workers) const {
        const std::int64_t groups = row_groups(depth);
        over_stretches(t, end, [&](std::int64_t start, std::int64_t rows) {
            const T* from = x + start * p.batch * x_stride;
            T* packed = to + (start - t) * p.batch * groups * max_rows;
            for (std::int64_t g = groups * worker / workers; g < groups * (worker + 1) / workers; ++g) {
                const std::int64_t first = group_start(g, depth), last = group_start(g + 1, depth);
                for (std::int64_t k = 0; k < rows; ++k)
                    for (std::int64_t i = first; i < last; ++i)
                        packed[(g * rows + k) * max_rows + i - first] = from[k * x_stride + i];
            }
        });
    }

    // Sums of products over the rows of steps [t, end) for one block: sum[k][gate][lane] += x[k] * grad, x being packed
    // or rows of all steps. The first stretch of all starts the sum.
    void weight_product(const T* x, std::int64_t x_stride, const T* packed, std::int64_t depth, const T* grad,
                        std::int64_t t, std::int64_t end, T* sum) const {
        const std::int64_t groups = row_groups(depth);
        over_stretches(t, end, [&](std::int64_t start, std::int64_t rows) {
            Operand<T> a{x + start * p.batch * x_stride, 1, x_stride, rows};
            if (packed) {
                a.data = packed + (start - t) * p.batch * groups * max_rows;
                a.stride = max_rows;
                a.group_stride = rows * max_rows;
            }
            product<T, G>(depth, a, grad + (start - t) * p.batch * m.width, {sum, m.width, L}, started || start != t);
        });
    }

    void input_weights(std::int64_t block, std::int64_t t, std::int64_t end) const {
        T* sum = sum_x + block * p.inputs * m.width;
        if (!p.index) {
            weight_product(p.x, p.inputs, packed_x, p.inputs, grads_input(block, t), t, end, sum);
            return;
        }
        for (; t < end; ++t)
            for (std::int64_t r = 0; r < m.rows(t); ++r) {
                T* row = sum + p.index[t * p.batch + r] * m.width;
                const T* d = grads_input(block, t) + r * m.width;
                for (int q = 0; q < G; ++q) store(row + q * L, load(row + q * L) + load(d + q * L));
            }
    }

    std::int64_t x_group(std::int64_t group) const { return part_start(group, x_vectors, max_vectors); }
    int x_group_size(std::int64_t group) const { return static_cast<int>(x_group(group + 1) - x_group(group)); }

    // Gradient of x for steps [t, end): (group of columns, step) pairs are shared out evenly.
    void input_gradient(std::int64_t t, std::int64_t end, int worker, int workers) const {
        const std::int64_t count = end - t, tasks = count * x_groups;
        for (std::int64_t task = tasks * worker / workers; task < tasks * (worker + 1) / workers; ++task) {
            const std::int64_t group = task / count, s = t + task % count, n = m.rows(s);
            const std::int64_t column = x_group(group) * L;
            const int vectors = x_group_size(group);
            const Operand<T> a{grads_input(0, s), m.width, 1, m.width, m.blocks, input_ring * p.batch * m.width};
            const T* panel = columns_x + column * m.blocks * m.width;
            T* out = p.grad_x + s * p.batch * p.inputs + column;
            const std::int64_t columns = least(p.inputs - column, vectors * L);
            if (columns == vectors * L) {
                product<T>(vectors, n, a, panel, {out, p.inputs, L}, false);
            } else {
                constexpr std::int64_t some = 4 * max_rows;
                T tail[some * max_vectors * L];
                for (std::int64_t from = 0; from < n; from += some) {
                    const std::int64_t count = least(some, n - from);
                    Operand<T> rows = a;
                    rows.data += from * m.width;
                    product<T>(vectors, count, rows, panel, {tail, vectors * L, L}, false);
                    for (std::int64_t r = 0; r < count; ++r)
                        for (std::int64_t c = 0; c < columns; c += L)
                            store(out + (from + r) * p.inputs + c, load(tail + r * vectors * L + c),
                                  static_cast<int>(least(L, columns - c)));
                }
            }
            for (std::int64_t r = n; r < p.batch; ++r)
                for (std::int64_t c = 0; c < columns; ++c) out[r * p.inputs + c] = 0;
        }
    }

    // Statistics over the whole sequence: their gradient needs the sums over all steps first.
    void through_sequence_statistics(std::int64_t block) const {
        const auto site = m.template at<G>(p.input, block);
        Vec<T> mean[G], sum[G], product[G], deviation[G];
        for (int q = 0; q < G; ++q) mean[q] = site.mean(0, q);
        CarryingSum<T> sums[G], products[G], deviations[G];
        std::int64_t count = 0;
        for (std::int64_t t = 0; t < p.steps; ++t) {
            for (int q = 0; q < G; ++q) sum[q] = product[q] = deviation[q] = Vec<T>{};
            gradient_sums<T, G, G>(grads_input(block, t), slabs.inputs(block, t), mean, m.rows(t), sum, product,
                                   deviation);
            for (int q = 0; q < G; ++q)
                sums[q].add(sum[q]), products[q].add(product[q]), deviations[q].add(deviation[q]);
            count += m.rows(t);
        }
        for (int q = 0; q < G; ++q)
            sum[q] = sums[q].sum, product[q] = products[q].sum, deviation[q] = deviations[q].sum;
        const SiteGradient<T, G> g(site, 0, sum, product, deviation, static_cast<T>(count), true, input_gamma(block));
        for (std::int64_t t = 0; t < p.steps; ++t)
            apply_gradient<T, G, G>(g, grads_input(block, t), slabs.inputs(block, t), m.rows(t), grads_input(block, t));
    }

    void write_features(T* out, const T* sums, std::int64_t block, int gates) const {
        if (!out) return;
        for (int q = 0; q < gates; ++q)
            store(out + q * p.units + block * L, load(sums + q * L), m.lanes(block));
    }

    void finish(std::int64_t block) const {
        const int lanes = m.lanes(block);
        unpack_rows<T, G>(m, sum_h + block * p.units * m.width, p.units, block, p.grad_weight_hh);
        unpack_rows<T, G>(m, sum_x + block * p.inputs * m.width, p.inputs, block, p.grad_weight_ih);
        write_features(p.grad_bias, bias(block), block, G);
        write_features(p.grad_bias_hn, bias(block) + G * L, block, 1);
        write_features(p.input.grad_gamma, input_gamma(block), block, G);
        write_features(p.recurrent.grad_gamma, recurrent_gamma(block), block, G);
        write_features(p.summed.grad_gamma, summed_gamma(block), block, G);
        write_features(p.cell.grad_gamma, cell_gamma(block), block, 1);
        write_features(p.cell.grad_beta, cell_beta(block), block, 1);
        for (std::int64_t r = 0; r < p.batch; ++r) {
            const std::int64_t at = r * p.units + block * L;
            store(p.grad_h0 + at, load(grads_h(block) + r * L), lanes);
            if (C::has_cell) store(p.grad_c0 + at, load(grads_c(block) + r * L), lanes);
        }
    }

    // Own blocks at step t, stage by stage.
    void stages_apart(std::int64_t t, std::int64_t n) {
        for (std::int64_t block = rows.begin; block < rows.end; ++block)
            (new (apart + block) Step(*this, t, block, n))->state();
        Step::after_state(*this, t);
        for (std::int64_t block = rows.begin; block < rows.end; ++block) apart[block].gates();
        Step::after_gates(*this, t);
        for (std::int64_t block = rows.begin; block < rows.end; ++block) apart[block].sum();
        if (is_layer(p.recurrent))
            rows.gradient(
                AllGates<C>{m.recurrent_slot}, t, t + 1, m.width,
                [&](std::int64_t block, std::int64_t s) { return grads_recurrent(block, s); },
                [&](std::int64_t block, std::int64_t s) { return slabs.recurrents(block, s); });
    }

    void run(int worker, Barrier& barrier) {
        const int workers = barrier.workers;
        const std::int64_t begin = m.first(worker, workers), end = m.first(worker + 1, workers);
        rows.begin = begin, rows.end = end, rows.barrier = &barrier;
        work_at(begin);
        for (std::int64_t block = begin; block < end; ++block) start(block);
        over_panels(begin, end, [&](std::int64_t block, int vectors) {
            pack_columns<T, G>(m, p.weight_hh, p.units, block * L, vectors, columns_h + block * L * m.blocks * m.width);
        });
        if (p.grad_x)
            for (std::int64_t group = x_groups * worker / workers; group < x_groups * (worker + 1) / workers; ++group)
                pack_columns<T, G>(m, p.weight_ih, p.inputs, x_group(group) * L, x_group_size(group),
                                   columns_x + x_group(group) * L * m.blocks * m.width);
        for (std::int64_t high = p.steps; high > 0;) {
            const std::int64_t low = (high - 1) / m.chunk * m.chunk;
            if (panel_x)
                for (std::int64_t block = begin; block < end; ++block)
                    input_product<T, G>(m, panel_x + block * p.inputs * m.width, low, high - low,
                                        slabs.inputs(block, low));
            for (std::int64_t t = high - 1; t >= low; --t) {
                const std::int64_t n = m.rows(t);
                for (std::int64_t block = begin; block < end; ++block) {
                    receive_final(block, m.rows(t + 1), n);
                    if (m.crossing) continue;
                    Step step(*this, t, block, n);
                    step.state();
                    step.gates();
                    step.sum();
                }
                if (m.crossing) stages_apart(t, n);
                meet(barrier);
                state_product(t, n, begin, end);
            }
            if (is_layer(p.input))
                rows.gradient(
                    AllGates<C>{m.input_slot}, low, high, m.width,
                    [&](std::int64_t block, std::int64_t s) { return grads_input(block, s); },
                    [&](std::int64_t block, std::int64_t s) { return slabs.inputs(block, s); });
            if (packed_h)
                pack_operand(slabs.state, m.stride, p.units, low, high, packed_h, worker, workers);
            if (packed_x) pack_operand(p.x, p.inputs, p.inputs, low, high, packed_x, worker, workers);
            if (packed_h || packed_x || is_layer(p.input)) meet(barrier);
            for (std::int64_t block = begin; block < end; ++block) {
                weight_product(slabs.state, m.stride, packed_h, p.units, grads_recurrent(block, low), low, high,
                               sum_h + block * p.units * m.width);
                if (!m.sequence) input_weights(block, low, high);
            }
            started |= m.rows(low) > 0;
            if (p.grad_x && !m.sequence) {
                input_gradient(low, high, worker, workers);
                meet(barrier);
            }
            high = low;
        }
        if (m.sequence) {
            started = false;
            for (std::int64_t block = begin; block < end; ++block) {
                through_sequence_statistics(block);
                input_weights(block, 0, p.steps);
            }
            meet(barrier);
            if (p.grad_x) input_gradient(0, p.steps, worker, workers);
        }
        for (std::int64_t block = begin; block < end; ++block) finish(block);
    }
};

template <typename T, typename C>
struct Entry {
    static std::int64_t saved_size(const Problem<T>& p) {
        Problem<T> measured = p;
        measured.saved = nullptr;
        Plan<T, C::gates> plan(measured, 512, C{});
        Scratch keep(nullptr, BNRNN_VECTOR_BYTES), scratch(nullptr);
        Slabs<T, C::gates> slabs(plan, keep, scratch, true);
        Rows<T, C> rows(plan, keep, scratch);
        return keep.used() / static_cast<std::int64_t>(sizeof(T));
    }
    static std::int64_t forward_scratch(const Problem<T>& p) { return Forward<T, C>(p).scratch.used(); }
    static std::int64_t backward_scratch(const Problem<T>& p) { return Backward<T, C>(p).scratch.used(); }
    static void forward(const Problem<T>& p, int worker, Barrier& barrier) {
        Forward<T, C>(p).run(worker, barrier);
    }
    static void backward(const Problem<T>& p, int worker, Barrier& barrier) {
        Backward<T, C>(p).run(worker, barrier);
    }
    static constexpr Cell<T> cell() {
        return {saved_size, forward_scratch, backward_scratch, forward, backward};
    }
};

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
                s.rows.whiten_again(GateRange<0, G>{m.summed_slot}, t, block, 0, n, m.width, total, total);
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
    s.rows.whiten(AllGates<C>{s.m.summed_slot}, s.p.summed.eps, t, t + 1, s.m.width, at, at);
}

// Gradients of the pre-activations, in the place grads_input(block, t), to those of the sum and on to those of the two
// products; in between, where it is layer normalized, through the statistics of the sum.
template <typename T, typename C>
inline void sum_backward(const Backward<T, C>& s, std::int64_t t, std::int64_t block, std::int64_t n, T* total) {
    constexpr int G = C::gates;
    T* d = s.grads_input(block, t);
    site_backward<T, G>(s.m.template at<G>(s.p.summed, block), t, d, summed_rows(s, t, block, total), n, d,
                        s.summed_gamma(block));
}

template <typename T, typename C>
inline void through_sum(const Backward<T, C>& s, std::int64_t t) {
    if (!is_layer(s.p.summed)) return;
    s.rows.gradient(
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
                        s.grads_recurrent(block, t), s.recurrent_gamma(block));
    if (!s.m.sequence)
        site_backward<T, G>(s.m.template at<G>(s.p.input, block), t, d, s.slabs.inputs(block, t), n, d,
                            s.input_gamma(block));
}

template <typename T, int G>
inline Vec<T> bias_of(const Plan<T, G>& m, std::int64_t block, int q) {
    return m.p.bias ? load(m.p.bias + q * m.p.units + block * m.L, m.lanes(block)) : Vec<T>{};
}

// The step's zoneout: a mask, or one number for all.
template <typename T, int G>
inline Vec<T> zoneout_at(const Plan<T, G>& m, const T* z, bool varies, std::int64_t t, std::int64_t block,
                         std::int64_t r) {
    return varies ? load(z + (t * m.p.batch + r) * m.p.units + block * m.L, m.lanes(block)) : splat(z[0]);
}
