// r, z = sigmoid(N(a + b) + bias);  n = tanh(N(b_n + r (a_n + bias_hn)) + bias_n);  h_t = (1 - z) n + z h_{t-1}.
struct Gru {
    static constexpr int gates = 3;
    static constexpr bool always_separate = true, needs_previous_state = true, has_cell = false;
    static constexpr int forward_work = 3 + gates, backward_work = 3 + gates;

    // What both directions compute of one block at one step, row by row.
    template <typename T>
    struct Step {
        static constexpr int L = Lanes<T>::count;
        const Plan<T, 3>& m;
        const T *a, *b;
        std::int64_t t, n;
        bool forward, summed;
        SiteBlock<T, 3> sum_site;
        Affine<T, 3> fa, fb, fs;
        Vec<T> bias[3], bias_hn;
        T* sum;  // a + b of r and z, and what the candidate's tanh gets, where their sum is normalized

        Step(const Plan<T, 3>& plan, const Slabs<T, 3>& slabs, std::int64_t step, std::int64_t block,
             std::int64_t rows, T* sum_rows, bool is_forward)
            : m(plan),
              a(slabs.recurrents(block, step)),
              b(slabs.inputs(block, step)),
              t(step),
              n(rows),
              forward(is_forward),
              summed(normalizes(plan.p.summed)),
              sum_site(plan.template at<3>(plan.p.summed, block)),
              sum(sum_rows) {
            const auto recurrent = m.template at<3>(m.p.recurrent, block);
            const auto input = m.template at<3>(m.p.input, block);
            if (forward) recurrent.take(t, a, n), input.take(t, b, n);
            fa = recurrent.affine(t), fb = input.affine(t);
            for (int q = 0; q < 3; ++q) bias[q] = bias_of(m, block, q);
            bias_hn = m.p.bias_hn ? load(m.p.bias_hn + block * L, m.lanes(block)) : Vec<T>{};
        }

        Vec<T> recurrent(std::int64_t r, int q) const {
            return (load(a + (3 * r + q) * L) - fa.mean[q]) * fa.scale[q];
        }
        Vec<T> input(std::int64_t r, int q) const {
            return (load(b + (3 * r + q) * L) - fb.mean[q]) * fb.scale[q];
        }
        Vec<T> inner(std::int64_t r) const { return recurrent(r, 2) + bias_hn; }  // what the reset gate scales
        Vec<T> normalized(std::int64_t r, int q) const {
            return (load(sum + (3 * r + q) * L) - fs.mean[q]) * fs.scale[q];
        }

        // r and z of all rows, then the candidate.
        void run(T* reset, T* update, T* candidate) {
            if (summed) {
                for (std::int64_t r = 0; r < n; ++r)
                    for (int q = 0; q < 2; ++q) store(sum + (3 * r + q) * L, recurrent(r, q) + input(r, q));
                if (forward) sum_site.template take<2>(t, sum, n);
                fs = sum_site.affine(t);  // the candidate's part is read again below
            }
            for (std::int64_t r = 0; r < n; ++r) {
                const Vec<T> gate_r = summed ? normalized(r, 0) : recurrent(r, 0) + input(r, 0);
                const Vec<T> gate_z = summed ? normalized(r, 1) : recurrent(r, 1) + input(r, 1);
                const Vec<T> reset_r = sigmoid<T>(gate_r + bias[0]);
                store(reset + r * L, reset_r);
                store(update + r * L, sigmoid<T>(gate_z + bias[1]));
                const Vec<T> c = input(r, 2) + reset_r * inner(r);
                if (summed)
                    store(sum + (3 * r + 2) * L, c);
                else
                    store(candidate + r * L, tanh<T>(c + bias[2]));
            }
            if (!summed) return;
            if (forward) sum_site.template take<1>(t, sum, n, 2);
            fs = sum_site.affine(t);
            for (std::int64_t r = 0; r < n; ++r) store(candidate + r * L, tanh<T>(normalized(r, 2) + bias[2]));
        }
    };

    template <typename T>
    static void forward(const Forward<T, Gru>& s, std::int64_t t, std::int64_t block, std::int64_t n) {
        constexpr int L = Lanes<T>::count;
        const auto& p = s.p;
        const auto& m = s.m;
        const int lanes = m.lanes(block);
        T* reset = s.work;
        T* update = s.work + p.batch * L;
        T* candidate = s.work + 2 * p.batch * L;
        T* sum = s.work + 3 * p.batch * L;
        Step<T>(m, s.slabs, t, block, n, sum, true).run(reset, update, candidate);
        T* out = p.output + t * p.batch * p.units + block * L;
        const T* old_h = s.slabs.raw_states(t) + block * L;
        for (std::int64_t r = 0; r < n; ++r) {
            const Vec<T> old = load(old_h + r * m.stride), c = load(candidate + r * L);
            Vec<T> h = c + load(update + r * L) * (old - c);
            if (p.zoneout_h) h += zoneout_at(m, p.zoneout_h, p.zoneout_h_varies, t, block, r) * (old - h);
            s.write_state(t + 1, block, r, h);
            store(out + r * p.units, h, lanes);
        }
    }

    template <typename T>
    static void backward(const Backward<T, Gru>& s, std::int64_t t, std::int64_t block, std::int64_t n) {
        constexpr int L = Lanes<T>::count;
        const auto& p = s.p;
        const auto& m = s.m;
        T* reset = s.work;
        T* update = s.work + p.batch * L;
        T* candidate = s.work + 2 * p.batch * L;
        T* sum = s.work + 3 * p.batch * L;
        T* d = s.grads_input(block, t);           // of r, z and the candidate
        T* d_inner = s.grads_recurrent(block, t);  // of r, z and what the reset gate scales
        T* grad_h = s.grads_h(block);
        T* bias = s.bias(block);
        const T* old_h = s.slabs.raw_states(t) + block * L;
        const Vec<T> one = splat(T(1));

        Step<T> step(m, s.slabs, t, block, n, sum, false);
        step.run(reset, update, candidate);
        Vec<T> bias_sum[4] = {};
        for (std::int64_t r = 0; r < n; ++r) {
            const Vec<T> z = load(update + r * L), c = load(candidate + r * L);
            Vec<T> dh = s.state_gradient(t, block, r), kept{};
            if (p.zoneout_h) {
                kept = dh * zoneout_at(m, p.zoneout_h, p.zoneout_h_varies, t, block, r);
                dh -= kept;
            }
            store(grad_h + r * L, dh * z + kept);
            const Vec<T> dz = dh * (load(old_h + r * m.stride) - c) * z * (one - z);
            const Vec<T> dc = dh * (one - z) * (one - c * c);
            bias_sum[1] += dz;
            bias_sum[2] += dc;
            store(d + (3 * r + 1) * L, dz);
            store(d + (3 * r + 2) * L, dc);
        }
        if (step.summed)
            site_backward<T, 3, 1>(step.sum_site, t, d, sum, n, d, s.summed_gamma(block), 2);
        for (std::int64_t r = 0; r < n; ++r) {
            const Vec<T> gate = load(reset + r * L), dc = load(d + (3 * r + 2) * L);
            const Vec<T> dr = dc * step.inner(r) * gate * (one - gate);
            bias_sum[0] += dr;
            bias_sum[3] += dc * gate;
            store(d + 3 * r * L, dr);
            store(d_inner + (3 * r + 2) * L, dc * gate);
        }
        if (step.summed) site_backward<T, 3, 2>(step.sum_site, t, d, sum, n, d, s.summed_gamma(block));
        for (std::int64_t r = 0; r < n; ++r)
            for (int q = 0; q < 2; ++q) store(d_inner + (3 * r + q) * L, load(d + (3 * r + q) * L));
        for (int q = 0; q < 4; ++q) store(bias + q * L, load(bias + q * L) + bias_sum[q]);

        site_backward<T, 3>(m.template at<3>(p.recurrent, block), t, d_inner, step.a, n, d_inner,
                            s.recurrent_gamma(block));
        if (!m.sequence)
            site_backward<T, 3>(m.template at<3>(p.input, block), t, d, step.b, n, d, s.input_gamma(block));
    }
};
