// c_t = sigmoid(f) c_{t-1} + sigmoid(i) tanh(g);  h_t = sigmoid(o) tanh(N(c_t)).
struct Lstm {
    static constexpr int gates = 4;
    static constexpr bool always_separate = false, needs_previous_state = false, has_cell = true;
    static constexpr int forward_work = 2 + gates, backward_work = 2 + 2 * gates;

    template <typename T>
    static void forward(const Forward<T, Lstm>& s, std::int64_t t, std::int64_t block, std::int64_t n) {
        constexpr int L = Lanes<T>::count;
        const auto& p = s.p;
        const auto& m = s.m;
        const int lanes = m.lanes(block);
        T* out_gate = s.work;
        T* fresh = p.zoneout_c ? s.work + p.batch * L : s.slabs.cells(block, t + 1);
        const T* old_c = s.slabs.cells(block, t);
        T* new_c = s.slabs.cells(block, t + 1);

        const Preactivation<T, 4> pre(m, s.slabs, t, block, n, s.work + 2 * p.batch * L, true);
        Vec<T> bias[4];
        for (int q = 0; q < 4; ++q) bias[q] = bias_of(m, block, q);
        for (std::int64_t r = 0; r < n; ++r) {
            const Vec<T> i = sigmoid<T>(pre.at(r, 0) + bias[0]), f = sigmoid<T>(pre.at(r, 1) + bias[1]);
            const Vec<T> g = tanh<T>(pre.at(r, 2) + bias[2]), o = sigmoid<T>(pre.at(r, 3) + bias[3]);
            store(fresh + r * L, f * load(old_c + r * L) + i * g);
            store(out_gate + r * L, o);
        }

        const auto site = m.template at<1>(p.cell, block);
        site.take(t, fresh, n);
        const Affine<T, 1> affine = site.affine(t);
        const Vec<T> beta = site.beta();
        T* out = p.output + t * p.batch * p.units + block * L;
        const T* old_h = s.slabs.raw_states(t) + block * L;
        for (std::int64_t r = 0; r < n; ++r) {
            const Vec<T> c = load(fresh + r * L);
            Vec<T> h = load(out_gate + r * L) * tanh<T>((c - affine.mean[0]) * affine.scale[0] + beta);
            if (p.zoneout_h)
                h += zoneout_at(m, p.zoneout_h, p.zoneout_h_varies, t, block, r) * (load(old_h + r * m.stride) - h);
            if (p.zoneout_c)
                store(new_c + r * L, c + zoneout_at(m, p.zoneout_c, p.zoneout_c_varies, t, block, r) *
                                             (load(old_c + r * L) - c));
            s.write_state(t + 1, block, r, h);
            store(out + r * p.units, h, lanes);
        }
    }

    template <typename T>
    static void backward(const Backward<T, Lstm>& s, std::int64_t t, std::int64_t block, std::int64_t n) {
        constexpr int L = Lanes<T>::count;
        const auto& p = s.p;
        const auto& m = s.m;
        T* activations = s.work;  // i, f, g, and in place of o its pre-activation's gradient
        T* grad_y = s.work + 4 * p.batch * L;
        T* fresh = p.zoneout_c ? s.work + 5 * p.batch * L : s.slabs.cells(block, t + 1);
        T* sum = s.work + 6 * p.batch * L;
        const T* old_c = s.slabs.cells(block, t);
        T* grad_h = s.grads_h(block);
        T* grad_c = s.grads_c(block);
        const Vec<T> one = splat(T(1));

        const Preactivation<T, 4> pre(m, s.slabs, t, block, n, sum, false);
        const auto site = m.template at<1>(p.cell, block);
        const Affine<T, 1> affine = site.affine(t);
        const Vec<T> beta = site.beta();
        Vec<T> bias[4], beta_sum{}, product_sum{};
        for (int q = 0; q < 4; ++q) bias[q] = bias_of(m, block, q);
        for (std::int64_t r = 0; r < n; ++r) {
            T* act = activations + 4 * r * L;
            const Vec<T> i = sigmoid<T>(pre.at(r, 0) + bias[0]), f = sigmoid<T>(pre.at(r, 1) + bias[1]);
            const Vec<T> g = tanh<T>(pre.at(r, 2) + bias[2]), o = sigmoid<T>(pre.at(r, 3) + bias[3]);
            if (p.zoneout_c) store(fresh + r * L, f * load(old_c + r * L) + i * g);
            const Vec<T> centred = load(fresh + r * L) - affine.mean[0];
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
            store(grad_y + r * L, dy);
            store(act, i);
            store(act + L, f);
            store(act + 2 * L, g);
            store(act + 3 * L, dh * y * o * (one - o));
        }
        store(s.cell_beta(block), load(s.cell_beta(block)) + beta_sum);

        Vec<T> k1 = one, k2{}, k3{};
        if (normalizes(p.cell)) {
            const SiteGradient<T, 1> g(site, t, &beta_sum, &product_sum, static_cast<T>(n),
                                       takes_statistics(p.cell, n), s.cell_gamma(block));
            k1 = g.k1[0], k2 = g.k2[0], k3 = g.k3[0];
        }
        T* d = s.grads_input(block, t);
        Vec<T> bias_sum[4] = {};
        for (std::int64_t r = 0; r < n; ++r) {
            const T* act = activations + 4 * r * L;
            const Vec<T> i = load(act), f = load(act + L), g = load(act + 2 * L);
            Vec<T> dc = load(grad_c + r * L), kept{};
            if (p.zoneout_c) {
                kept = dc * zoneout_at(m, p.zoneout_c, p.zoneout_c_varies, t, block, r);
                dc -= kept;
            }
            dc += k1 * load(grad_y + r * L) + (k2 * (load(fresh + r * L) - affine.mean[0]) + k3);
            store(grad_c + r * L, dc * f + kept);
            const Vec<T> grads[4] = {dc * g * i * (one - i), dc * load(old_c + r * L) * f * (one - f),
                                     dc * i * (one - g * g), load(act + 3 * L)};
            for (int q = 0; q < 4; ++q) {
                bias_sum[q] += grads[q];
                store(d + (4 * r + q) * L, grads[q]);
            }
        }
        for (int q = 0; q < 4; ++q) store(s.bias(block) + q * L, load(s.bias(block) + q * L) + bias_sum[q]);
        preactivation_backward(s, t, block, n, sum);
    }
};
