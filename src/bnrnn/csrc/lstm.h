// c_t = sigmoid(f) c_{t-1} + sigmoid(i) tanh(g);  h_t = sigmoid(o) tanh(N(c_t)).
struct Lstm {
    static constexpr int gates = 4, together = 4;
    static constexpr bool always_separate = false, needs_previous_state = false, has_cell = true;
    static constexpr int forward_work = 3 + gates, backward_work = 3 + 2 * gates;

    template <typename T>
    struct ForwardStep {
        static constexpr int L = Lanes<T>::count;
        using Pass = Forward<T, Lstm>;
        const Pass& s;
        std::int64_t t, block, n;
        T *out_gate, *fresh, *white, *total;
        Preactivation<T, 4> pre;

        ForwardStep(const Pass& pass, std::int64_t step, std::int64_t block_, std::int64_t rows)
            : s(pass), t(step), block(block_), n(rows) {
            const std::int64_t size = s.p.batch * L;
            out_gate = s.work_of(block);
            fresh = s.p.zoneout_c ? out_gate + size : s.slabs.cells(block, t + 1);
            white = is_layer(s.p.cell) ? out_gate + 2 * size : fresh;
            total = out_gate + 3 * size;
        }

        void sum() { pre = Preactivation<T, 4>(s, t, block, n, total); }

        static void after_sum(const Pass& s, std::int64_t t) { whiten_sum(s, t); }

        void gates() const {
            const Preactivation<T, 4> x = pre;
            const T* old_c = s.slabs.cells(block, t);
            Vec<T> bias[4];
            for (int q = 0; q < 4; ++q) bias[q] = bias_of(s.m, block, q);
            for (std::int64_t r = 0; r < n; ++r) {
                const Vec<T> i = sigmoid<T>(x.at(r, 0) + bias[0]), f = sigmoid<T>(x.at(r, 1) + bias[1]);
                const Vec<T> g = tanh<T>(x.at(r, 2) + bias[2]), o = sigmoid<T>(x.at(r, 3) + bias[3]);
                store(fresh + r * L, f * load(old_c + r * L) + i * g);
                store(out_gate + r * L, o);
            }
        }

        static void after_gates(const Pass& s, std::int64_t t) {
            if (!is_layer(s.p.cell)) return;
            s.rows.whiten(
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
            const T* old_c = s.slabs.cells(block, t);
            T* new_c = s.slabs.cells(block, t + 1);
            T* out = p.output + t * p.batch * p.units + block * L;
            const T* old_h = s.slabs.raw_states(t) + block * L;
            for (std::int64_t r = 0; r < n; ++r) {
                const Vec<T> c = load(fresh + r * L);
                Vec<T> h = load(out_gate + r * L) *
                           tanh<T>((load(white + r * L) - affine.mean[0]) * affine.scale[0] + beta);
                if (p.zoneout_h)
                    h += zoneout_at(m, p.zoneout_h, p.zoneout_h_varies, t, block, r) * (load(old_h + r * m.stride) - h);
                if (p.zoneout_c)
                    store(new_c + r * L, c + zoneout_at(m, p.zoneout_c, p.zoneout_c_varies, t, block, r) *
                                                 (load(old_c + r * L) - c));
                s.write_state(t + 1, block, r, h);
                store(out + r * p.units, h, lanes);
            }
        }
    };

    template <typename T>
    struct BackwardStep {
        static constexpr int L = Lanes<T>::count;
        using Pass = Backward<T, Lstm>;
        const Pass& s;
        std::int64_t t, block, n;
        T* activations;  // i, f, g, and in place of o its pre-activation's gradient
        T *grad_y, *fresh, *white, *total;
        Vec<T> mean{}, k1 = splat(T(1)), k2{}, k3{};  // of the cell's site, as in SiteGradient

        BackwardStep(const Pass& pass, std::int64_t step, std::int64_t block_, std::int64_t rows)
            : s(pass), t(step), block(block_), n(rows) {
            const std::int64_t size = s.p.batch * L;
            activations = s.work_of(block);
            grad_y = activations + 4 * size;
            fresh = s.p.zoneout_c ? activations + 5 * size : s.slabs.cells(block, t + 1);
            white = is_layer(s.p.cell) ? activations + 6 * size : fresh;
            total = activations + 7 * size;
        }

        void state() {
            const auto& p = s.p;
            const auto& m = s.m;
            const T* old_c = s.slabs.cells(block, t);
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
                const Vec<T> i = sigmoid<T>(pre.at(r, 0) + bias[0]), f = sigmoid<T>(pre.at(r, 1) + bias[1]);
                const Vec<T> g = tanh<T>(pre.at(r, 2) + bias[2]), o = sigmoid<T>(pre.at(r, 3) + bias[3]);
                if (p.zoneout_c) store(fresh + r * L, f * load(old_c + r * L) + i * g);
                if (is_layer(p.cell))
                    s.rows.whiten_again(GateRange<0, 1>{m.cell_slot}, t, block, r, r + 1, L, fresh, white);
                const Vec<T> centred = load(white + r * L) - affine.mean[0];
                const Vec<T> y = tanh<T>(centred * affine.scale[0] + beta);
                Vec<T> dh = s.state_gradient(t, block, r);
                if (p.zoneout_h) {
                    const Vec<T> kept = dh * zoneout_at(m, p.zoneout_h, p.zoneout_h_varies, t, block, r);
                    store(grad_h + r * L, kept);
                    dh -= kept;
                }
                const Vec<T> dy = dh * o * (one - y * y);
                beta_sum += dy;
                product_sum += dy * centred;
                deviation_sum += centred;
                store(grad_y + r * L, dy);
                store(act, i);
                store(act + L, f);
                store(act + 2 * L, g);
                store(act + 3 * L, dh * y * o * (one - o));
            }
            store(s.cell_beta(block), load(s.cell_beta(block)) + beta_sum);
            mean = affine.mean[0];
            if (!normalizes(p.cell)) return;
            const SiteGradient<T, 1> g(site, t, &beta_sum, &product_sum, &deviation_sum, static_cast<T>(n),
                                       takes_statistics(p.cell, n), s.cell_gamma(block));
            k1 = g.k1[0], k2 = g.k2[0], k3 = g.k3[0];
            if (!is_layer(p.cell)) return;
            for (std::int64_t r = 0; r < n; ++r) store(grad_y + r * L, k1 * load(grad_y + r * L));
            k1 = one;
        }

        static void after_state(const Pass& s, std::int64_t t) {
            if (!is_layer(s.p.cell)) return;
            s.rows.gradient(
                GateRange<0, 1>{s.m.cell_slot}, t, t + 1, L,
                [&](std::int64_t block, std::int64_t) { return s.apart[block].grad_y; },
                [&](std::int64_t block, std::int64_t) { return s.apart[block].white; });
        }

        void gates() const {
            const auto& p = s.p;
            const T* old_c = s.slabs.cells(block, t);
            T* grad_c = s.grads_c(block);
            T* d = s.grads_input(block, t);
            const Vec<T> one = splat(T(1)), mean_c = mean, k[3] = {k1, k2, k3};
            Vec<T> bias_sum[4] = {};
            for (std::int64_t r = 0; r < n; ++r) {
                const T* act = activations + 4 * r * L;
                const Vec<T> i = load(act), f = load(act + L), g = load(act + 2 * L);
                Vec<T> dc = load(grad_c + r * L), kept{};
                if (p.zoneout_c) {
                    kept = dc * zoneout_at(s.m, p.zoneout_c, p.zoneout_c_varies, t, block, r);
                    dc -= kept;
                }
                dc += k[0] * load(grad_y + r * L) + (k[1] * (load(fresh + r * L) - mean_c) + k[2]);
                store(grad_c + r * L, dc * f + kept);
                const Vec<T> grads[4] = {dc * g * i * (one - i), dc * load(old_c + r * L) * f * (one - f),
                                         dc * i * (one - g * g), load(act + 3 * L)};
                for (int q = 0; q < 4; ++q) {
                    bias_sum[q] += grads[q];
                    store(d + (4 * r + q) * L, grads[q]);
                }
            }
            T* bias = s.bias(block);
            for (int q = 0; q < 4; ++q) store(bias + q * L, load(bias + q * L) + bias_sum[q]);
            sum_backward(s, t, block, n, total);
        }

        static void after_gates(const Pass& s, std::int64_t t) { through_sum(s, t); }

        void sum() const { products_backward(s, t, block, n); }
    };
};
