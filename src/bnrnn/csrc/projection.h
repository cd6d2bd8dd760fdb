// h_t = W_hr u_t with u_t = o tanh(N(c_t)), and back. It crosses blocks: a worker computes its own blocks of outputs of
// all units, so that workers meet once more a step. Without a projection the blocks of outputs are those of the units.

template <typename T, int G>
struct ForwardProjection {
    static constexpr int L = Lanes<T>::count;
    const Plan<T, G>& m;
    const Problem<T>& p;
    T *panels, *results;

    ForwardProjection(const Plan<T, G>& plan, Arena& scratch) : m(plan), p(plan.p) {
        const std::int64_t blocks = m.projects ? m.output_blocks : 0;
        panels = scratch.take<T>(blocks * L * p.units);
        results = scratch.take<T>(blocks * L * p.batch);
    }

    T* panel(std::int64_t block) const { return panels + block * L * p.units; }
    T* result(std::int64_t block) const { return results + block * L * p.batch; }

    void pack(std::int64_t begin, std::int64_t end) const {
        over_panels(begin, end, [&](std::int64_t block, int vectors) {
            for (int v = 0; v < vectors; ++v)
                pack_lanes<T>(p.weight_hr + (block + v) * L * p.units, m.output_lanes(block + v), p.units,
                              panel(block) + v * L, vectors * L);
        });
    }

    void multiply(const T* unprojected, std::int64_t n, std::int64_t begin, std::int64_t end) const {
        const Operand<T> u{unprojected, m.unit_stride, 1, p.units};
        over_panels(begin, end, [&](std::int64_t block, int vectors) {
            product<T>(vectors, n, u, panel(block), {result(block), L, p.batch * L}, false);
        });
    }
};

template <typename T, int G>
struct BackwardProjection {
    static constexpr int L = Lanes<T>::count;
    const Plan<T, G>& m;
    const Problem<T>& p;
    std::int64_t depth;  // outputs with the lanes beyond them
    T *panels, *grads_h, *grads_u;

    BackwardProjection(const Plan<T, G>& plan, Arena& scratch) : m(plan), p(plan.p) {
        depth = m.projects ? m.output_blocks * L : 0;
        panels = scratch.take<T>(m.blocks * L * depth);
        grads_h = scratch.take<T>(depth * m.chunk * p.batch);
        grads_u = scratch.take<T>(m.projects ? m.blocks * p.batch * L : 0);
    }

    // The gradient of h, and of what is projected.
    T* grad_h(std::int64_t block, std::int64_t t) const {
        return grads_h + (block * m.chunk + t % m.chunk) * p.batch * L;
    }
    T* grad_u(std::int64_t block) const { return grads_u + block * p.batch * L; }

    void pack(std::int64_t begin, std::int64_t end) const {
        over_panels(begin, end, [&](std::int64_t block, int vectors) {
            T* panel = panels + block * L * depth;
            for (std::int64_t k = 0; k < depth; ++k)
                for (int v = 0; v < vectors; ++v, panel += L)
                    store(panel, k < m.outputs ? load(p.weight_hr + k * p.units + (block + v) * L, m.lanes(block + v))
                                               : Vec<T>{});
        });
    }

    void multiply(std::int64_t t, std::int64_t n, std::int64_t begin, std::int64_t end) const {
        const Operand<T> d{grad_h(0, t), L, 1, L, m.output_blocks, m.chunk * p.batch * L};
        over_panels(begin, end, [&](std::int64_t block, int vectors) {
            product<T>(vectors, n, d, panels + block * L * depth, {grad_u(block), L, p.batch * L}, false);
        });
    }
};
