// c_t = sigmoid(f) c_{t-1} + sigmoid(i) tanh(g);  h_t = sigmoid(o) tanh(N(c_t)).

// The gates of one row, from their pre-activations in the weights' order.
template <typename T>
struct LstmGates {
    Vec<T> i, f, g, o;

    template <typename At>
    __attribute__((always_inline)) explicit LstmGates(const At& at)
        : i(sigmoid<T>(at(0))), f(sigmoid<T>(at(1))), g(tanh<T>(at(2))), o(sigmoid<T>(at(3))) {}

    __attribute__((always_inline)) Vec<T> new_cell_state(Vec<T> old) const { return f * old + i * g; }
};

// `y` is the tanh of the cell's site.
template <typename T>
__attribute__((always_inline)) inline Vec<T> lstm_output(Vec<T> o, Vec<T> y) {
    return o * y;
}

// Gradients of the pre-activations of i, f and g, given that of c_t.
template <typename T>
__attribute__((always_inline)) inline void lstm_gate_gradients(Vec<T> dc, Vec<T> i, Vec<T> f, Vec<T> g, Vec<T> old,
                                                               Vec<T>* grads) {
    const Vec<T> one = splat(T(1));
    grads[0] = dc * g * i * (one - i);
    grads[1] = dc * old * f * (one - f);
    grads[2] = dc * i * (one - g * g);
}

struct Lstm {
    static constexpr int gates = 4, together = 4;
    static constexpr bool always_separate = false, needs_previous_state = false, has_cell_state = true;
    static constexpr int forward_work = 3 + gates, backward_work = 3 + 2 * gates;

    template <typename T>
    struct ForwardStages {
        static constexpr int L = Lanes<T>::count;
        using Pass = Forward<T, Lstm>;
        const Pass& s;
        std::int64_t t, block, n;
        T *out_gate, *fresh, *white, *total;
        Preactivation<T, 4> pre;

        ForwardStages(const Pass& pass, std::int64_t step, std::int64_t block_, std::int64_t rows)
            : s(pass), t(step), block(block_), n(rows) {
            const std::int64_t size = s.p.batch * L;
            out_gate = s.work_of(block);
            fresh = s.p.zoneout_c ? out_gate + size : s.slabs.cell_states(block, t + 1);
            white = is_layer(s.p.cell) ? out_gate + 2 * size : fresh;
            total = out_gate + 3 * size;
        }

        void sum() { pre = Preactivation<T, 4>(s, t, block, n, total); }

        static void after_sum(const Pass& s, std::int64_t t) { whiten_sum(s, t); }

        void gates() const {
            const Preactivation<T, 4> x = pre;
            const T* old_c = s.slabs.cell_states(block, t);
            Vec<T> bias[4];
            for (int q = 0; q < 4; ++q) bias[q] = bias_of(s.m, block, q);
            for (std::int64_t r = 0; r < n; ++r) {
                const LstmGates<T> gates([&](int q) { return x.at(r, q) + bias[q]; });
                store(fresh + r * L, gates.new_cell_state(load(old_c + r * L)));
                store(out_gate + r * L, gates.o);
            }
        }

        static void after_gates(const Pass& s, std::int64_t t) {
            if (!is_layer(s.p.cell)) return;
            s.layer_norm.whiten(
                GateRange<0, 1>{s.m.cell_slot}, s.p.cell.eps, t, t + 1, L,
                [&](std::int64_t block, std::int64_t) { return s.apart[block].fresh; },
                [&](std::int64_t block, std::int64_t) { return s.apart[block].white; });
        }

        void state() const {
            const auto& p = s.p;
            const auto& m = s.m;
            const int lanes = m.lanes(block);
            const auto site = m.template at<1>(p.cell, block);
            site.take(t, fresh, n);
            const Affine<T, 1> affine = site.affine(t);
            const Vec<T> beta = site.beta();
            const T* old_c = s.slabs.cell_states(block, t);
            T* new_c = s.slabs.cell_states(block, t + 1);
            T* out = p.output + t * p.batch * p.units + block * L;
            const T* old_h = s.slabs.raw_states(t) + block * L;
            T* unprojected = s.slabs.unprojected_states(t) + block * L;
            for (std::int64_t r = 0; r < n; ++r) {
                const Vec<T> c = load(fresh + r * L);
                const Vec<T> y = tanh<T>((load(white + r * L) - affine.mean[0]) * affine.scale[0] + beta);
                Vec<T> h = lstm_output<T>(load(out_gate + r * L), y);
                if (p.zoneout_h && !m.projects)
                    h = zoned_out<T>(h, load(old_h + r * m.stride), zoneout_h_at(m, t, block, r));
                if (p.zoneout_c)
                    store(new_c + r * L, zoned_out<T>(c, load(old_c + r * L), zoneout_c_at(m, t, block, r)));
                if (m.projects) {
                    store(unprojected + r * m.unit_stride, p.round_to_bfloat16 ? round_to_bfloat16(h) : h);
                } else {
                    s.write_state(t + 1, block, r, h);
                    store(out + r * p.units, h, lanes);
                }
            }
        }
    };

    template <typename T>
    struct BackwardStages {
        static constexpr int L = Lanes<T>::count;
        using Pass = Backward<T, Lstm>;
        const Pass& s;
        std::int64_t t, block, n;
        T* activations;  // i, f, g, and in place of o its pre-activation's gradient
        T *grad_y, *fresh, *white, *total;
        Vec<T> mean{}, k1 = splat(T(1)), k2{}, k3{};  // of the cell's site, as in SiteGradient

        BackwardStages(const Pass& pass, std::int64_t step, std::int64_t block_, std::int64_t rows)
            : s(pass), t(step), block(block_), n(rows) {
            const std::int64_t size = s.p.batch * L;
            activations = s.work_of(block);
            grad_y = activations + 4 * size;
            fresh = s.p.zoneout_c ? activations + 5 * size : s.slabs.cell_states(block, t + 1);
            white = is_layer(s.p.cell) ? activations + 6 * size : fresh;
            total = activations + 7 * size;
        }

        void state() {
            const auto& p = s.p;
            const auto& m = s.m;
            const T* old_c = s.slabs.cell_states(block, t);
            T* grad_h = s.grads_h(block);
            const Vec<T> one = splat(T(1));
            const Preactivation<T, 4> pre(s, t, block, n, total);
            const auto site = m.template at<1>(p.cell, block);
            const Affine<T, 1> affine = site.affine(t);
            const Vec<T> beta = site.beta();
            Vec<T> bias[4], beta_sum{}, product_sum{}, deviation_sum{};
            for (int q = 0; q < 4; ++q) bias[q] = bias_of(m, block, q);
            for (std::int64_t r = 0; r < n; ++r) {
                T* act = activations + 4 * r * L;
                const LstmGates<T> gates([&](int q) { return pre.at(r, q) + bias[q]; });
                if (p.zoneout_c) store(fresh + r * L, gates.new_cell_state(load(old_c + r * L)));
                if (is_layer(p.cell))
                    s.layer_norm.whiten_again(GateRange<0, 1>{m.cell_slot}, t, block, r, r + 1, L, fresh, white);
                const Vec<T> centred = load(white + r * L) - affine.mean[0];
                const Vec<T> y = tanh<T>(centred * affine.scale[0] + beta);
                Vec<T> dh = s.state_gradient(t, block, r);
                if (p.zoneout_h && !m.projects) {
                    const Vec<T> kept = dh * zoneout_h_at(m, t, block, r);
                    store(grad_h + r * L, kept);
                    dh -= kept;
                }
                const Vec<T> dy = dh * gates.o * (one - y * y);
                beta_sum += dy;
                product_sum += dy * centred;
                deviation_sum += centred;
                store(grad_y + r * L, dy);
                store(act, gates.i);
                store(act + L, gates.f);
                store(act + 2 * L, gates.g);
                store(act + 3 * L, dh * y * gates.o * (one - gates.o));
            }
            store(s.features.cell_beta(block), load(s.features.cell_beta(block)) + beta_sum);
            mean = affine.mean[0];
            if (!normalizes(p.cell)) return;
            const SiteGradient<T, 1> g(site, t, &beta_sum, &product_sum, &deviation_sum, static_cast<T>(n),
                                       takes_statistics(p.cell, n), s.features.cell_gamma(block));
            k1 = g.k1[0], k2 = g.k2[0], k3 = g.k3[0];
            if (!is_layer(p.cell)) return;
            for (std::int64_t r = 0; r < n; ++r) store(grad_y + r * L, k1 * load(grad_y + r * L));
            k1 = one;
        }

        static void after_state(const Pass& s, std::int64_t t) {
            if (!is_layer(s.p.cell)) return;
            s.layer_norm.gradient(
                GateRange<0, 1>{s.m.cell_slot}, t, t + 1, L,
                [&](std::int64_t block, std::int64_t) { return s.apart[block].grad_y; },
                [&](std::int64_t block, std::int64_t) { return s.apart[block].white; });
        }

        void gates() const {
            const auto& p = s.p;
            const T* old_c = s.slabs.cell_states(block, t);
            T* grad_c = s.grads_c(block);
            T* d = s.grads_input(block, t);
            const Vec<T> mean_c = mean, k[3] = {k1, k2, k3};
            Vec<T> bias_sum[4] = {};
            for (std::int64_t r = 0; r < n; ++r) {
                const T* act = activations + 4 * r * L;
                const Vec<T> i = load(act), f = load(act + L), g = load(act + 2 * L);
                Vec<T> dc = load(grad_c + r * L), kept{};
                if (p.zoneout_c) {
                    kept = dc * zoneout_c_at(s.m, t, block, r);
                    dc -= kept;
                }
                dc += k[0] * load(grad_y + r * L) + (k[1] * (load(fresh + r * L) - mean_c) + k[2]);
                store(grad_c + r * L, dc * f + kept);
                Vec<T> grads[4];
                lstm_gate_gradients<T>(dc, i, f, g, load(old_c + r * L), grads);
                grads[3] = load(act + 3 * L);
                for (int q = 0; q < 4; ++q) {
                    bias_sum[q] += grads[q];
                    store(d + (4 * r + q) * L, grads[q]);
                }
            }
            for (int q = 0; q < 4; ++q) s.features.add_to_bias(block, q, bias_sum[q]);
            sum_backward(s, t, block, n, total);
        }

        static void after_gates(const Pass& s, std::int64_t t) { through_sum(s, t); }

        void sum() const { products_backward(s, t, block, n); }
    };
};
