// r, z = sigmoid(N(a + b) + bias);  n = tanh(N(b_n + r (a_n + bias_hn)) + bias_n);  h_t = (1 - z) n + z h_{t-1}.

// What the candidate's tanh gets, before its bias and normalization.
template <typename T>
__attribute__((always_inline)) inline Vec<T> gru_candidate(Vec<T> input, Vec<T> reset, Vec<T> inner) {
    return input + reset * inner;
}

template <typename T>
__attribute__((always_inline)) inline Vec<T> gru_output(Vec<T> candidate, Vec<T> update, Vec<T> old) {
    return candidate + update * (old - candidate);
}

struct Gru {
    static constexpr int gates = 3, together = 2;
    static constexpr bool always_separate = true, needs_previous_state = true, has_cell_state = false;
    static constexpr int forward_work = 3 + gates, backward_work = 3 + gates;

    // What both directions compute of one block at one step, row by row.
    template <typename T, typename Pass>
    struct Stages {
        static constexpr int L = Lanes<T>::count;
        const Pass& s;
        std::int64_t t, block, n;
        bool summed;
        const T *a, *b;
        T *reset, *update, *candidate;
        T* total;  // a + b of r and z, and what the candidate's tanh gets, where their sum is normalized
        Affine<T, 3> fa, fb;
        Vec<T> bias[3], bias_hn;

        Stages(const Pass& pass, std::int64_t step, std::int64_t block_, std::int64_t rows)
            : s(pass),
              t(step),
              block(block_),
              n(rows),
              summed(normalizes(s.p.summed)),
              a(s.slabs.recurrents(block, t)),
              b(s.slabs.inputs(block, t)) {
            const std::int64_t size = s.p.batch * L;
            reset = s.work_of(block), update = reset + size, candidate = reset + 2 * size, total = reset + 3 * size;
            const auto recurrent = s.m.template at<3>(s.p.recurrent, block);
            const auto input = s.m.template at<3>(s.p.input, block);
            if (Pass::is_forward) recurrent.take(t, a, n), input.take(t, b, n);
            fa = recurrent.affine(t), fb = input.affine(t);
            for (int q = 0; q < 3; ++q) bias[q] = bias_of(s.m, block, q);
            bias_hn = s.p.bias_hn ? load(s.p.bias_hn + block * L, s.m.lanes(block)) : Vec<T>{};
        }

        // The two gates' features are normalized together, and the candidate's.
        static GateRange<0, 2> of_gates(int slot) { return {slot}; }
        static GateRange<2, 1> of_candidate(int slot) { return {slot + 1}; }

        SiteBlock<T, 3> sum_site() const { return s.m.template at<3>(s.p.summed, block); }
        Vec<T> recurrent(std::int64_t r, int q) const { return (load(a + (3 * r + q) * L) - fa.mean[q]) * fa.scale[q]; }
        Vec<T> input(std::int64_t r, int q) const { return (load(b + (3 * r + q) * L) - fb.mean[q]) * fb.scale[q]; }
        Vec<T> inner(std::int64_t r) const { return recurrent(r, 2) + bias_hn; }  // what the reset gate scales
        Vec<T> normalized(const Affine<T, 3>& f, std::int64_t r, int q) const {
            return (load(total + (3 * r + q) * L) - f.mean[q]) * f.scale[q];
        }

        void sum_gates() const {
            if (!summed) return;
            for (std::int64_t r = 0; r < n; ++r)
                for (int q = 0; q < 2; ++q) store(total + (3 * r + q) * L, recurrent(r, q) + input(r, q));
            if (Pass::is_forward) sum_site().template take<2>(t, total, n);
        }

        // r and z; what the candidate's tanh gets, or where that is not normalized the candidate.
        void activate_gates() const {
            Affine<T, 3> f;
            if (summed) f = sum_site().affine(t);  // the candidate's part is read again in activate_candidate
            for (std::int64_t r = 0; r < n; ++r) {
                const Vec<T> gate_r = summed ? normalized(f, r, 0) : recurrent(r, 0) + input(r, 0);
                const Vec<T> gate_z = summed ? normalized(f, r, 1) : recurrent(r, 1) + input(r, 1);
                const Vec<T> reset_r = sigmoid<T>(gate_r + bias[0]);
                store(reset + r * L, reset_r);
                store(update + r * L, sigmoid<T>(gate_z + bias[1]));
                const Vec<T> c = gru_candidate<T>(input(r, 2), reset_r, inner(r));
                if (summed)
                    store(total + (3 * r + 2) * L, c);
                else
                    store(candidate + r * L, tanh<T>(c + bias[2]));
            }
            if (summed && Pass::is_forward) sum_site().template take<1>(t, total, n, 2);
        }

        void activate_candidate() const {
            if (!summed) return;
            const Affine<T, 3> f = sum_site().affine(t);
            for (std::int64_t r = 0; r < n; ++r) store(candidate + r * L, tanh<T>(normalized(f, r, 2) + bias[2]));
        }
    };

    template <typename T>
    struct ForwardStages : Stages<T, Forward<T, Gru>> {
        using Pass = Forward<T, Gru>;
        using Base = Stages<T, Pass>;
        using Base::Base, Base::L, Base::s, Base::t, Base::block, Base::n;

        void sum() const { this->sum_gates(); }
        static void after_sum(const Pass& s, std::int64_t t) { whiten(s, t, Base::of_gates(s.m.summed_slot)); }
        void gates() const { this->activate_gates(); }
        static void after_gates(const Pass& s, std::int64_t t) { whiten(s, t, Base::of_candidate(s.m.summed_slot)); }

        template <typename Range>
        static void whiten(const Pass& s, std::int64_t t, Range range) {
            if (!is_layer(s.p.summed)) return;
            const auto at = [&](std::int64_t block, std::int64_t) { return s.apart[block].total; };
            s.layer_norm.whiten(range, s.p.summed.eps, t, t + 1, s.m.width, at, at);
        }

        void state() const {
            this->activate_candidate();
            const auto& p = s.p;
            const auto& m = s.m;
            const int lanes = m.lanes(block);
            const T *update = this->update, *candidate = this->candidate;
            T* out = p.output + t * p.batch * p.units + block * L;
            const T* old_h = s.slabs.raw_states(t) + block * L;
            for (std::int64_t r = 0; r < n; ++r) {
                const Vec<T> old = load(old_h + r * m.stride), c = load(candidate + r * L);
                Vec<T> h = gru_output<T>(c, load(update + r * L), old);
                if (p.zoneout_h) h = zoned_out<T>(h, old, zoneout_h_at(m, t, block, r));
                s.write_state(t + 1, block, r, h);
                store(out + r * p.units, h, lanes);
            }
        }
    };

    template <typename T>
    struct BackwardStages : Stages<T, Backward<T, Gru>> {
        using Pass = Backward<T, Gru>;
        using Base = Stages<T, Pass>;
        using Base::Base, Base::L, Base::s, Base::t, Base::block, Base::n, Base::total;

        T* grads() const { return s.grads_input(block, t); }            // of r, z and the candidate
        T* grads_inner() const { return s.grads_recurrent(block, t); }  // of r, z and what the reset gate scales

        template <typename Range>
        void whiten_again(Range range) const {
            if (is_layer(s.p.summed)) s.layer_norm.whiten_again(range, t, block, 0, n, s.m.width, total, total);
        }

        void state() const {
            this->sum_gates();
            whiten_again(Base::of_gates(s.m.summed_slot));
            this->activate_gates();
            whiten_again(Base::of_candidate(s.m.summed_slot));
            this->activate_candidate();

            const auto& p = s.p;
            const auto& m = s.m;
            const T *update = this->update, *candidate = this->candidate;
            T* d = grads();
            T* grad_h = s.grads_h(block);
            const T* old_h = s.slabs.raw_states(t) + block * L;
            const Vec<T> one = splat(T(1));
            Vec<T> bias_sum[2] = {};
            for (std::int64_t r = 0; r < n; ++r) {
                const Vec<T> z = load(update + r * L), c = load(candidate + r * L);
                Vec<T> dh = s.state_gradient(t, block, r), kept{};
                if (p.zoneout_h) {
                    kept = dh * zoneout_h_at(m, t, block, r);
                    dh -= kept;
                }
                store(grad_h + r * L, dh * z + kept);
                const Vec<T> dz = dh * (load(old_h + r * m.stride) - c) * z * (one - z);
                const Vec<T> dc = dh * (one - z) * (one - c * c);
                bias_sum[0] += dz;
                bias_sum[1] += dc;
                store(d + (3 * r + 1) * L, dz);
                store(d + (3 * r + 2) * L, dc);
            }
            for (int q = 0; q < 2; ++q) s.features.add_to_bias(block, q + 1, bias_sum[q]);
            if (this->summed)
                site_backward<T, 3, 1>(this->sum_site(), t, d, total, n, d, s.features.summed_gamma(block), 2);
        }

        static void after_state(const Pass& s, std::int64_t t) {
            through_sum(s, t, Base::of_candidate(s.m.summed_slot));
        }

        void gates() const {
            const T* reset = this->reset;
            T *d = grads(), *d_inner = grads_inner();
            const Vec<T> one = splat(T(1));
            Vec<T> bias_sum[2] = {};
            for (std::int64_t r = 0; r < n; ++r) {
                const Vec<T> gate = load(reset + r * L), dc = load(d + (3 * r + 2) * L);
                const Vec<T> dr = dc * this->inner(r) * gate * (one - gate);
                bias_sum[0] += dr;
                bias_sum[1] += dc * gate;
                store(d + 3 * r * L, dr);
                store(d_inner + (3 * r + 2) * L, dc * gate);
            }
            for (int q = 0; q < 2; ++q) s.features.add_to_bias(block, 3 * q, bias_sum[q]);
            if (this->summed)
                site_backward<T, 3, 2>(this->sum_site(), t, d, total, n, d, s.features.summed_gamma(block));
        }

        static void after_gates(const Pass& s, std::int64_t t) { through_sum(s, t, Base::of_gates(s.m.summed_slot)); }

        template <typename Range>
        static void through_sum(const Pass& s, std::int64_t t, Range range) {
            if (!is_layer(s.p.summed)) return;
            s.layer_norm.gradient(
                range, t, t + 1, s.m.width, [&](std::int64_t block, std::int64_t) { return s.grads_input(block, t); },
                [&](std::int64_t block, std::int64_t) { return s.apart[block].total; });
        }

        void sum() const {
            T *d = grads(), *d_inner = grads_inner();
            for (std::int64_t r = 0; r < n; ++r)
                for (int q = 0; q < 2; ++q) store(d_inner + (3 * r + q) * L, load(d + (3 * r + q) * L));
            site_backward<T, 3>(s.m.template at<3>(s.p.recurrent, block), t, d_inner, this->a, n, d_inner,
                                s.features.recurrent_gamma(block));
            if (!s.m.sequence)
                site_backward<T, 3>(s.m.template at<3>(s.p.input, block), t, d, this->b, n, d,
                                    s.features.input_gamma(block));
        }
    };
};
