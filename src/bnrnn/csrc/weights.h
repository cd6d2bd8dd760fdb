// Gradients of what is trained, as sums over all rows: of the weights, and of biases and normalizations.

// Of the weights, summed over a chunk of steps at a time, each worker for the rows of its own blocks.
template <typename T, int G>
struct WeightGradients {
    static constexpr int L = Lanes<T>::count;
    const Plan<T, G>& m;
    const Problem<T>& p;
    T *sum_h, *sum_x, *sum_r;
    T *packed_h = nullptr, *packed_x = nullptr, *packed_r = nullptr;
    bool started = false;  // whether the sums hold anything yet

    WeightGradients(const Plan<T, G>& plan, Arena& scratch) : m(plan), p(plan.p) {
        constexpr std::int64_t wide = 256;
        sum_h = scratch.take<T>(m.blocks * m.outputs * m.width);
        sum_x = scratch.take<T>(m.blocks * p.inputs * m.width);
        sum_r = scratch.take<T>(m.projects ? m.output_blocks * p.units * L : 0);
        const std::int64_t group = m.chunk * p.batch * max_rows;
        if (m.outputs >= wide) packed_h = scratch.take<T>(group * row_groups(m.outputs));
        if (m.projects && p.units >= wide) packed_r = scratch.take<T>(group * row_groups(p.units));
        if (p.inputs >= wide && !p.index && !m.sequence) packed_x = scratch.take<T>(group * row_groups(p.inputs));
    }

    T* sum_h_of(std::int64_t block) const { return sum_h + block * m.outputs * m.width; }
    T* sum_x_of(std::int64_t block) const { return sum_x + block * p.inputs * m.width; }
    T* sum_r_of(std::int64_t block) const { return sum_r + block * p.units * L; }

    // Zeros where no product will start the sum.
    void clear(std::int64_t block) const {
        if (p.index || m.rows(0) == 0) zero(sum_x_of(block), p.inputs * m.width);
        if (m.rows(0) == 0) zero(sum_h_of(block), m.outputs * m.width);
    }

    void clear_projection(std::int64_t block) const {
        if (m.rows(0) == 0) zero(sum_r_of(block), p.units * L);
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

    // The operands of steps [t, end); whether workers have to meet before they read them.
    bool pack(const Slabs<T, G>& slabs, std::int64_t t, std::int64_t end, int worker, int workers) const {
        if (packed_h) pack_operand(slabs.state, m.stride, m.outputs, t, end, packed_h, worker, workers);
        if (packed_x) pack_operand(p.x, p.inputs, p.inputs, t, end, packed_x, worker, workers);
        if (packed_r) pack_operand(slabs.unprojected, m.unit_stride, p.units, t, end, packed_r, worker, workers);
        return packed_h || packed_x || packed_r;
    }

    // Sums of products over the rows of steps [t, end) for one block: sum[k][gate][lane] += x[k] * grad, x being packed
    // or rows of all steps, and grad as many vectors wide as there are gates. The first stretch of all starts the sum.
    template <int gates>
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
            constexpr std::int64_t width = gates * L;
            product<T, gates>(depth, a, grad + (start - t) * p.batch * width, {sum, width, L}, started || start != t);
        });
    }

    // `grads` are those of the block's products at steps [t, end).
    void add_recurrent(std::int64_t block, const T* states, const T* grads, std::int64_t t, std::int64_t end) const {
        weight_product<G>(states, m.stride, packed_h, m.outputs, grads, t, end, sum_h_of(block));
    }

    void add_projection(std::int64_t block, const T* unprojected, const T* grads, std::int64_t t,
                        std::int64_t end) const {
        weight_product<1>(unprojected, m.unit_stride, packed_r, p.units, grads, t, end, sum_r_of(block));
    }

    void add_input(std::int64_t block, const T* grads, std::int64_t t, std::int64_t end) const {
        T* sum = sum_x_of(block);
        if (!p.index) {
            weight_product<G>(p.x, p.inputs, packed_x, p.inputs, grads, t, end, sum);
            return;
        }
        for (; t < end; ++t, grads += p.batch * m.width)
            for (std::int64_t r = 0; r < m.rows(t); ++r) {
                T* row = sum + p.index[t * p.batch + r] * m.width;
                const T* d = grads + r * m.width;
                for (int q = 0; q < G; ++q) store(row + q * L, load(row + q * L) + load(d + q * L));
            }
    }

    void write(std::int64_t block) const {
        unpack_rows<T, G>(m, sum_h_of(block), m.outputs, block, p.grad_weight_hh);
        unpack_rows<T, G>(m, sum_x_of(block), p.inputs, block, p.grad_weight_ih);
    }

    void write_projection(std::int64_t block) const {
        unpack_lanes<T>(sum_r_of(block), L, m.output_lanes(block), p.units, p.grad_weight_hr + block * L * p.units);
    }
};

// Of what belongs to single features, each block's beside each other: gamma of the three sums, gamma and beta of the
// cell's site, the biases, and the candidate's inner one.
template <typename T, int G>
struct FeatureGradients {
    static constexpr int L = Lanes<T>::count;
    static constexpr int site_width = 3 * G + 2, bias_width = G + 1;
    const Plan<T, G>& m;
    T *sites, *biases;

    FeatureGradients(const Plan<T, G>& plan, Arena& scratch) : m(plan) {
        sites = scratch.take<T>(m.blocks * site_width * L);
        biases = scratch.take<T>(m.blocks * bias_width * L);
    }

    T* input_gamma(std::int64_t block) const { return sites + block * site_width * L; }
    T* recurrent_gamma(std::int64_t block) const { return input_gamma(block) + G * L; }
    T* summed_gamma(std::int64_t block) const { return input_gamma(block) + 2 * G * L; }
    T* cell_gamma(std::int64_t block) const { return input_gamma(block) + 3 * G * L; }
    T* cell_beta(std::int64_t block) const { return input_gamma(block) + (3 * G + 1) * L; }
    T* bias(std::int64_t block) const { return biases + block * bias_width * L; }

    void add_to_bias(std::int64_t block, int q, Vec<T> sum) const {
        T* to = bias(block) + q * L;
        store(to, load(to) + sum);
    }

    void clear(std::int64_t block) const {
        zero(input_gamma(block), site_width * L);
        zero(bias(block), bias_width * L);
    }

    void write(std::int64_t block) const {
        const auto& p = m.p;
        const auto to = [&](T* out, const T* sums, int gates) {
            if (!out) return;
            for (int q = 0; q < gates; ++q) store(out + q * p.units + block * L, load(sums + q * L), m.lanes(block));
        };
        to(p.grad_bias, bias(block), G);
        to(p.grad_bias_hn, bias(block) + G * L, 1);
        to(p.input.grad_gamma, input_gamma(block), G);
        to(p.recurrent.grad_gamma, recurrent_gamma(block), G);
        to(p.summed.grad_gamma, summed_gamma(block), G);
        to(p.cell.grad_gamma, cell_gamma(block), 1);
        to(p.cell.grad_beta, cell_beta(block), 1);
    }
};
