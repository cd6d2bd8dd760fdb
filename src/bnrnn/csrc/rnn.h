// h_t = phi(N(a_t + b_t) + bias), phi = tanh or relu.
struct Rnn {
    static constexpr int gates = 1;
    static constexpr bool always_separate = false, needs_previous_state = false, has_cell = false;
    static constexpr int forward_work = 1, backward_work = 1;

    template <typename T>
    static Vec<T> activation(bool relu, Vec<T> v) {
        return relu ? (v < T(0) ? Vec<T>{} : v) : tanh<T>(v);
    }

    template <typename T>
    static void forward(const Forward<T, Rnn>& s, std::int64_t t, std::int64_t block, std::int64_t n) {
        constexpr int L = Lanes<T>::count;
        const auto& p = s.p;
        const auto& m = s.m;
        const int lanes = m.lanes(block);
        const Preactivation<T, 1> pre(m, s.slabs, t, block, n, s.work, true);
        const Vec<T> bias = bias_of(m, block, 0);
        T* out = p.output + t * p.batch * p.units + block * L;
        const T* old_h = s.slabs.raw_states(t) + block * L;
        for (std::int64_t r = 0; r < n; ++r) {
            Vec<T> h = activation<T>(p.relu, pre.at(r, 0) + bias);
            if (p.zoneout_h)
                h += zoneout_at(m, p.zoneout_h, p.zoneout_h_varies, t, block, r) * (load(old_h + r * m.stride) - h);
            s.write_state(t + 1, block, r, h);
            store(out + r * p.units, h, lanes);
        }
    }

    template <typename T>
    static void backward(const Backward<T, Rnn>& s, std::int64_t t, std::int64_t block, std::int64_t n) {
        constexpr int L = Lanes<T>::count;
        const auto& p = s.p;
        const auto& m = s.m;
        const Preactivation<T, 1> pre(m, s.slabs, t, block, n, s.work, false);
        const Vec<T> bias = bias_of(m, block, 0), one = splat(T(1));
        T* d = s.grads_input(block, t);
        T* grad_h = s.grads_h(block);
        Vec<T> bias_sum{};
        for (std::int64_t r = 0; r < n; ++r) {
            Vec<T> dh = s.state_gradient(t, block, r);
            if (p.zoneout_h) {
                const Vec<T> kept = dh * zoneout_at(m, p.zoneout_h, p.zoneout_h_varies, t, block, r);
                store(grad_h + r * L, kept);
                dh -= kept;
            }
            const Vec<T> h = activation<T>(p.relu, pre.at(r, 0) + bias);
            dh = p.relu ? (h > T(0) ? dh : Vec<T>{}) : dh * (one - h * h);
            bias_sum += dh;
            store(d + r * L, dh);
        }
        store(s.bias(block), load(s.bias(block)) + bias_sum);
        preactivation_backward(s, t, block, n, s.work);
    }
};
