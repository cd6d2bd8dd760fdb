// h_t = phi(N(a_t + b_t) + bias), phi = tanh or relu.

template <typename T>
__attribute__((always_inline)) inline Vec<T> rnn_output(bool relu, Vec<T> v) {
    return relu ? (v < T(0) ? Vec<T>{} : v) : tanh<T>(v);
}

struct Rnn {
    static constexpr int gates = 1, together = 1;
    static constexpr bool always_separate = false, needs_previous_state = false, has_cell_state = false;
    static constexpr int forward_work = 1, backward_work = 1;

    template <typename T>
    struct ForwardStages {
        static constexpr int L = Lanes<T>::count;
        using Pass = Forward<T, Rnn>;
        const Pass& s;
        std::int64_t t, block, n;
        T* total;
        Preactivation<T, 1> pre;

        ForwardStages(const Pass& pass, std::int64_t step, std::int64_t block_, std::int64_t rows)
            : s(pass), t(step), block(block_), n(rows), total(s.work_of(block)) {}

        void sum() { pre = Preactivation<T, 1>(s, t, block, n, total); }
        static void after_sum(const Pass& s, std::int64_t t) { whiten_sum(s, t); }
        void gates() const {}
        static void after_gates(const Pass&, std::int64_t) {}

        void state() const {
            const auto& p = s.p;
            const auto& m = s.m;
            const int lanes = m.lanes(block);
            const Preactivation<T, 1> x = pre;
            const Vec<T> bias = bias_of(m, block, 0);
            T* out = p.output + t * p.batch * p.units + block * L;
            const T* old_h = s.slabs.raw_states(t) + block * L;
            for (std::int64_t r = 0; r < n; ++r) {
                Vec<T> h = rnn_output<T>(p.relu, x.at(r, 0) + bias);
                if (p.zoneout_h) h = zoned_out<T>(h, load(old_h + r * m.stride), zoneout_h_at(m, t, block, r));
                s.write_state(t + 1, block, r, h);
                store(out + r * p.units, h, lanes);
            }
        }
    };

    template <typename T>
    struct BackwardStages {
        static constexpr int L = Lanes<T>::count;
        using Pass = Backward<T, Rnn>;
        const Pass& s;
        std::int64_t t, block, n;
        T* total;

        BackwardStages(const Pass& pass, std::int64_t step, std::int64_t block_, std::int64_t rows)
            : s(pass), t(step), block(block_), n(rows), total(s.work_of(block)) {}

        void state() const {
            const auto& p = s.p;
            const auto& m = s.m;
            const Preactivation<T, 1> pre(s, t, block, n, total);
            const Vec<T> bias = bias_of(m, block, 0), one = splat(T(1));
            T* d = s.grads_input(block, t);
            T* grad_h = s.grads_h(block);
            Vec<T> bias_sum{};
            for (std::int64_t r = 0; r < n; ++r) {
                Vec<T> dh = s.state_gradient(t, block, r);
                if (p.zoneout_h) {
                    const Vec<T> kept = dh * zoneout_h_at(m, t, block, r);
                    store(grad_h + r * L, kept);
                    dh -= kept;
                }
                const Vec<T> h = rnn_output<T>(p.relu, pre.at(r, 0) + bias);
                dh = p.relu ? (h > T(0) ? dh : Vec<T>{}) : dh * (one - h * h);
                bias_sum += dh;
                store(d + r * L, dh);
            }
            s.features.add_to_bias(block, 0, bias_sum);
        }

        static void after_state(const Pass&, std::int64_t) {}
        void gates() const { sum_backward(s, t, block, n, total); }
        static void after_gates(const Pass& s, std::int64_t t) { through_sum(s, t); }
        void sum() const { products_backward(s, t, block, n); }
    };
};
