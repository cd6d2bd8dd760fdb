// The pass from the last step to the first.
//
// A worker first turns the gradient of its blocks' states into that of their pre-activations; after the meeting it
// multiplies those of all blocks with its own columns of the recurrent weights. The weights' gradients are summed over
// a chunk of steps at a time. With a projection, the gradient of its own blocks of outputs comes first, and a meeting.

template <typename T, typename C>
struct Backward {
    static constexpr bool is_forward = false;
    static constexpr int G = C::gates;
    static constexpr int L = Lanes<T>::count;

    const Problem<T>& p;
    Plan<T, G> m;
    Arena keep, scratch;
    Slabs<T, G> slabs;
    LayerNorm<T, C> layer_norm;
    BackwardProjection<T, G> projection;
    InputGradient<T, G> input;
    WeightGradients<T, G> weights;
    FeatureGradients<T, G> features;
    using Stages = typename C::template BackwardStages<T>;
    Stages* apart;  // of all blocks, where each stage is run over all of them
    T *panel_x = nullptr, *columns_h;
    T *grad_h, *grad_c = nullptr, *through_mask = nullptr;
    T *grad_recurrent, *grad_input;
    std::int64_t input_ring;
    T* work;

    explicit Backward(const Problem<T>& problem)
        : p(problem),
          m(problem, 512, C{}),
          keep(problem.saved, BNRNN_VECTOR_BYTES),
          scratch(problem.scratch),
          slabs(m, keep, scratch, true),
          layer_norm(m, keep, scratch),
          projection(m, scratch),
          input(m, scratch),
          weights(m, scratch),
          features(m, scratch) {
        apart = scratch.take<Stages>(m.crossing ? m.blocks : 0);
        const std::int64_t block_rows = m.blocks * p.batch;
        const std::int64_t output_rows = m.output_blocks * p.batch;
        columns_h = scratch.take<T>(m.blocks * m.width * m.output_blocks * L);
        if (m.separate && !m.keep_input) panel_x = scratch.take<T>(m.blocks * p.inputs * m.width);
        grad_h = scratch.take<T>(output_rows * L);
        if (C::has_cell_state) grad_c = scratch.take<T>(block_rows * L);
        if (p.mask) through_mask = scratch.take<T>(output_rows * L);
        grad_recurrent = scratch.take<T>(block_rows * m.chunk * m.width);
        input_ring = m.sequence ? p.steps : m.chunk;
        grad_input = m.separate ? scratch.take<T>(block_rows * input_ring * m.width) : grad_recurrent;
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
        return work + (m.crossing ? (block - layer_norm.begin) * C::backward_work * p.batch * L : 0);
    }

    // The state's gradient gets a part that does not pass the weights, so the product adds to it.
    bool adds_to_state() const { return C::needs_previous_state || p.zoneout_h; }

    void start(std::int64_t block) const {
        features.clear(block);
        weights.clear(block);
        if (panel_x) pack_rows<T, G>(m, p.weight_ih, p.inputs, block, panel_x + block * p.inputs * m.width);
        receive_cell_state(block, m.rows(0), p.batch);
    }

    // Rows whose last valid step is at hand take up the gradients of their final state.
    void receive_state(std::int64_t block, std::int64_t from, std::int64_t to) const {
        for (std::int64_t r = from; r < to; ++r) {
            const std::int64_t at = r * m.outputs + block * L;
            store(grads_h(block) + r * L, p.grad_h_n ? load(p.grad_h_n + at, m.output_lanes(block)) : Vec<T>{});
        }
    }

    void receive_cell_state(std::int64_t block, std::int64_t from, std::int64_t to) const {
        if (!C::has_cell_state) return;
        for (std::int64_t r = from; r < to; ++r) {
            const std::int64_t at = r * p.units + block * L;
            store(grads_c(block) + r * L, p.grad_c_n ? load(p.grad_c_n + at, m.lanes(block)) : Vec<T>{});
        }
    }

    Vec<T> output_gradient(std::int64_t t, std::int64_t block, std::int64_t r) const {
        Vec<T> d = load(grads_h(block) + r * L);
        if (p.grad_output) d += load(p.grad_output + (t * p.batch + r) * m.outputs + block * L, m.output_lanes(block));
        return d;
    }

    // Of what the cell gives, projected or not.
    Vec<T> state_gradient(std::int64_t t, std::int64_t block, std::int64_t r) const {
        return m.projects ? load(projection.grad_u(block) + r * L) : output_gradient(t, block, r);
    }

    // Gradients of own blocks of outputs at step t, through their zoneout.
    void through_zoneout(std::int64_t t, std::int64_t block, std::int64_t n) const {
        T *to = projection.grad_h(block, t), *grad_h = grads_h(block);
        for (std::int64_t r = 0; r < n; ++r) {
            Vec<T> d = output_gradient(t, block, r);
            if (p.zoneout_h) {
                const Vec<T> kept = d * zoneout_h_at(m, t, block, r);
                store(grad_h + r * L, kept);
                d -= kept;
            }
            store(to + r * L, d);
        }
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
                                 load(p.mask + r * m.outputs + block * L, m.output_lanes(block));
                T* to = grads_h(block) + r * L;
                store(to, adds_to_state() ? load(to) + d : d);
            }
    }

    void finish(std::int64_t block) const {
        weights.write(block);
        features.write(block);
        for (std::int64_t r = 0; C::has_cell_state && r < p.batch; ++r)
            store(p.grad_c0 + r * p.units + block * L, load(grads_c(block) + r * L), m.lanes(block));
    }

    void finish_output(std::int64_t block) const {
        if (m.projects) weights.write_projection(block);
        for (std::int64_t r = 0; r < p.batch; ++r)
            store(p.grad_h0 + r * m.outputs + block * L, load(grads_h(block) + r * L), m.output_lanes(block));
    }

    // Own blocks at step t, stage by stage.
    void stages_apart(std::int64_t t, std::int64_t n) {
        for (std::int64_t block = layer_norm.begin; block < layer_norm.end; ++block)
            (new (apart + block) Stages(*this, t, block, n))->state();
        Stages::after_state(*this, t);
        for (std::int64_t block = layer_norm.begin; block < layer_norm.end; ++block) apart[block].gates();
        Stages::after_gates(*this, t);
        for (std::int64_t block = layer_norm.begin; block < layer_norm.end; ++block) apart[block].sum();
        if (is_layer(p.recurrent))
            layer_norm.gradient(
                AllGates<C>{m.recurrent_slot}, t, t + 1, m.width,
                [&](std::int64_t block, std::int64_t s) { return grads_recurrent(block, s); },
                [&](std::int64_t block, std::int64_t s) { return slabs.recurrents(block, s); });
    }

    void run(int worker, Barrier& barrier) {
        const int workers = barrier.workers;
        const std::int64_t begin = m.first(worker, workers), end = m.first(worker + 1, workers);
        layer_norm.begin = begin, layer_norm.end = end, layer_norm.barrier = &barrier;
        work_at(begin);
        const std::int64_t first = m.first_output(worker, workers), last = m.first_output(worker + 1, workers);
        for (std::int64_t block = begin; block < end; ++block) start(block);
        for (std::int64_t block = first; block < last; ++block) receive_state(block, m.rows(0), p.batch);
        over_panels(first, last, [&](std::int64_t block, int vectors) {
            pack_columns<T, G>(m, p.weight_hh, m.outputs, block * L, vectors,
                               columns_h + block * L * m.blocks * m.width);
        });
        input.pack(worker, workers);
        if (m.projects) {
            projection.pack(begin, end);
            for (std::int64_t block = first; block < last; ++block) weights.clear_projection(block);
        }
        for (std::int64_t high = p.steps; high > 0;) {
            const std::int64_t low = (high - 1) / m.chunk * m.chunk;
            if (panel_x)
                for (std::int64_t block = begin; block < end; ++block)
                    input_product<T, G>(m, panel_x + block * p.inputs * m.width, low, high - low,
                                        slabs.inputs(block, low));
            for (std::int64_t t = high - 1; t >= low; --t) {
                const std::int64_t n = m.rows(t);
                for (std::int64_t block = first; block < last; ++block) {
                    receive_state(block, m.rows(t + 1), n);
                    if (m.projects) through_zoneout(t, block, n);
                }
                if (m.projects) {
                    meet(barrier);
                    projection.multiply(t, n, begin, end);
                }
                for (std::int64_t block = begin; block < end; ++block) {
                    receive_cell_state(block, m.rows(t + 1), n);
                    if (m.crossing) continue;
                    Stages own(*this, t, block, n);
                    own.state();
                    own.gates();
                    own.sum();
                }
                if (m.crossing) stages_apart(t, n);
                meet(barrier);
                state_product(t, n, first, last);
            }
            if (is_layer(p.input))
                layer_norm.gradient(
                    AllGates<C>{m.input_slot}, low, high, m.width,
                    [&](std::int64_t block, std::int64_t s) { return grads_input(block, s); },
                    [&](std::int64_t block, std::int64_t s) { return slabs.inputs(block, s); });
            const bool packed = weights.pack(slabs, low, high, worker, workers);
            if (packed || is_layer(p.input)) meet(barrier);
            for (std::int64_t block = begin; block < end; ++block) {
                weights.add_recurrent(block, slabs.state, grads_recurrent(block, low), low, high);
                if (!m.sequence) weights.add_input(block, grads_input(block, low), low, high);
            }
            for (std::int64_t block = first; m.projects && block < last; ++block)
                weights.add_projection(block, slabs.unprojected, projection.grad_h(block, low), low, high);
            weights.started |= m.rows(low) > 0;
            if (p.grad_x && !m.sequence) {
                input.write(grad_input, input_ring, low, high, worker, workers);
                meet(barrier);
            }
            high = low;
        }
        if (m.sequence) {
            weights.started = false;
            for (std::int64_t block = begin; block < end; ++block) {
                through_sequence_statistics<T, G>(m, block, slabs.inputs(block, 0), grads_input(block, 0),
                                                  features.input_gamma(block));
                weights.add_input(block, grads_input(block, 0), 0, p.steps);
            }
            meet(barrier);
            if (p.grad_x) input.write(grad_input, input_ring, 0, p.steps, worker, workers);
        }
        for (std::int64_t block = begin; block < end; ++block) finish(block);
        for (std::int64_t block = first; block < last; ++block) finish_output(block);
    }
};
