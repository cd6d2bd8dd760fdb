// The pass from the first step to the last.
//
// A worker owns a range of blocks. For every step it does its part of the recurrent product and then, block by block,
// one pass through gates, statistics, cell and state, all of them in the cache; workers meet once a step. Where layer
// normalization crosses blocks, each stage runs over all own blocks before the next, and workers meet in between. They
// meet once more for a projection, which a worker computes for its own blocks of outputs.

template <typename T, typename C>
struct Forward {
    static constexpr bool is_forward = true;
    static constexpr int G = C::gates;
    static constexpr int L = Lanes<T>::count;

    const Problem<T>& p;
    Plan<T, G> m;
    Arena keep, scratch;
    Slabs<T, G> slabs;
    LayerNorm<T, C> layer_norm;
    ForwardProjection<T, G> projection;
    using Stages = typename C::template ForwardStages<T>;
    Stages* apart;  // of all blocks, where each stage is run over all of them
    T *panel_h, *panel_x, *work;

    explicit Forward(const Problem<T>& problem)
        : p(problem),
          m(problem, problem.inputs > 512 ? 512 : 128, C{}),
          keep(problem.saved, BNRNN_VECTOR_BYTES),
          scratch(problem.scratch),
          slabs(m, problem.saved ? keep : scratch, scratch, problem.saved != nullptr),
          layer_norm(m, keep, scratch),
          projection(m, scratch) {
        apart = scratch.take<Stages>(m.crossing ? m.blocks : 0);
        panel_h = scratch.take<T>(m.blocks * m.outputs * m.width);
        panel_x = scratch.take<T>(m.blocks * p.inputs * m.width);
        work = scratch.take<T>(m.blocks * C::forward_work * p.batch * L);
    }

    T* panel_h_of(std::int64_t block) const { return panel_h + block * m.outputs * m.width; }
    T* panel_x_of(std::int64_t block) const { return panel_x + block * p.inputs * m.width; }
    void work_at(std::int64_t block) { work += block * C::forward_work * p.batch * L; }
    T* work_of(std::int64_t block) const {
        return work + (m.crossing ? (block - layer_norm.begin) * C::forward_work * p.batch * L : 0);
    }

    void write_state(std::int64_t t, std::int64_t block, std::int64_t r, Vec<T> h) const {
        const std::int64_t at = r * m.stride + block * L;
        if (m.raw_state) store(slabs.raw_states(t) + at, h);
        if (p.mask) h *= load(p.mask + r * m.outputs + block * L, m.output_lanes(block));
        if (p.round_to_bfloat16) h = round_to_bfloat16(h);
        store(slabs.states(t) + at, h);
    }

    // Zeros beyond the valid rows, and final states of the rows that end here.
    void finish_output(std::int64_t t, std::int64_t block, std::int64_t n) const {
        const int lanes = m.output_lanes(block);
        T* out = p.output + t * p.batch * m.outputs + block * L;
        for (std::int64_t r = n; r < p.batch; ++r) store(out + r * m.outputs, Vec<T>{}, lanes);
        for (std::int64_t r = m.rows(t + 1); r < n; ++r)
            store(p.h_n + r * m.outputs + block * L, load(out + r * m.outputs, lanes), lanes);
    }

    void finish_step(std::int64_t t, std::int64_t block, std::int64_t n) const {
        if (!m.projects) finish_output(t, block, n);
        if (!C::has_cell_state) return;
        const T* c = slabs.cell_states(block, t + 1);
        for (std::int64_t r = m.rows(t + 1); r < n; ++r)
            store(p.c_n + r * p.units + block * L, load(c + r * L), m.lanes(block));
    }

    // Own blocks of outputs at step t, of all units.
    void project(std::int64_t t, std::int64_t n, std::int64_t begin, std::int64_t end) const {
        projection.multiply(slabs.unprojected_states(t), n, begin, end);
        for (std::int64_t block = begin; block < end; ++block) {
            T* out = p.output + t * p.batch * m.outputs + block * L;
            const T* old_h = slabs.raw_states(t) + block * L;
            for (std::int64_t r = 0; r < n; ++r) {
                Vec<T> h = load(projection.result(block) + r * L);
                if (p.zoneout_h) h = zoned_out<T>(h, load(old_h + r * m.stride), zoneout_h_at(m, t, block, r));
                write_state(t + 1, block, r, h);
                store(out + r * m.outputs, h, m.output_lanes(block));
            }
            finish_output(t, block, n);
        }
    }

    void start_output(std::int64_t block) const {
        const int lanes = m.output_lanes(block);
        for (std::int64_t r = 0; r < p.batch; ++r) {
            const std::int64_t at = r * m.outputs + block * L;
            const Vec<T> h = load(p.h0 + at, lanes);
            write_state(0, block, r, h);
            if (r >= m.rows(0)) store(p.h_n + at, h, lanes);
        }
    }

    void start(std::int64_t block) const {
        const int lanes = m.lanes(block);
        pack_rows<T, G>(m, p.weight_hh, m.outputs, block, panel_h_of(block));
        pack_rows<T, G>(m, p.weight_ih, p.inputs, block, panel_x_of(block));
        for (std::int64_t r = 0; C::has_cell_state && r < p.batch; ++r) {
            const std::int64_t at = r * p.units + block * L;
            const Vec<T> c = load(p.c0 + at, lanes);
            store(slabs.cell_states(block, 0) + r * L, c);
            if (r >= m.rows(0)) store(p.c_n + at, c, lanes);
        }
        if (m.sequence) {
            input_product<T, G>(m, panel_x_of(block), 0, p.steps, slabs.inputs(block, 0));
            sequence_statistics<T, G>(m, block, slabs.inputs(block, 0));
        }
    }

    // Own blocks at step t, stage by stage.
    void stages_apart(std::int64_t t, std::int64_t n) {
        const std::int64_t begin = layer_norm.begin, end = layer_norm.end;
        const auto recurrents = [&](std::int64_t block, std::int64_t s) { return slabs.recurrents(block, s); };
        if (is_layer(p.recurrent))
            layer_norm.whiten(AllGates<C>{m.recurrent_slot}, p.recurrent.eps, t, t + 1, m.width, recurrents,
                              recurrents);
        for (std::int64_t block = begin; block < end; ++block) (new (apart + block) Stages(*this, t, block, n))->sum();
        Stages::after_sum(*this, t);
        for (std::int64_t block = begin; block < end; ++block) apart[block].gates();
        Stages::after_gates(*this, t);
        for (std::int64_t block = begin; block < end; ++block) {
            apart[block].state();
            finish_step(t, block, n);
        }
    }

    void run(int worker, Barrier& barrier) {
        const std::int64_t begin = m.first(worker, barrier.workers), end = m.first(worker + 1, barrier.workers);
        layer_norm.begin = begin, layer_norm.end = end, layer_norm.barrier = &barrier;
        work_at(begin);
        const std::int64_t first = m.first_output(worker, barrier.workers);
        const std::int64_t last = m.first_output(worker + 1, barrier.workers);
        for (std::int64_t block = begin; block < end; ++block) start(block);
        for (std::int64_t block = first; block < last; ++block) start_output(block);
        if (m.projects) projection.pack(first, last);
        const auto inputs = [&](std::int64_t block, std::int64_t t) { return slabs.inputs(block, t); };
        for (std::int64_t t = 0; t < p.steps; ++t) {
            const std::int64_t n = m.rows(t);
            if (t % m.chunk == 0 && !m.sequence) {
                const std::int64_t count = least(m.chunk, p.steps - t);
                for (std::int64_t block = begin; block < end; ++block)
                    input_product<T, G>(m, panel_x_of(block), t, count,
                                        m.separate ? slabs.inputs(block, t) : slabs.recurrents(block, t));
                if (is_layer(p.input))
                    layer_norm.whiten(AllGates<C>{m.input_slot}, p.input.eps, t, t + count, m.width, inputs, inputs);
            }
            meet(barrier);
            const Operand<T> h{slabs.states(t), m.stride, 1, m.outputs};
            const auto state_product = [&](std::int64_t block) {
                product<T, G>(n, h, panel_h_of(block), {slabs.recurrents(block, t), m.width, L}, !m.separate);
            };
            for (std::int64_t block = begin; block < end; ++block) {
                state_product(block);
                if (m.crossing) continue;
                Stages own(*this, t, block, n);
                own.sum();
                own.gates();
                own.state();
                finish_step(t, block, n);
            }
            if (m.crossing) stages_apart(t, n);
            if (!m.projects) continue;
            meet(barrier);
            project(t, n, first, last);
        }
    }
};
