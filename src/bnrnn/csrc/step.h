// One time step with known statistics: every normalization is a scale and a shift, a row of a table. Weights come
// packed by blocks of one vector of units, (block, input feature, gate, lane), so that a product runs through them
// once, in order, and a one-hot input's product is one line of them.

template <typename T, int G>
inline void packed_product(const T* weights, const T* v, std::int64_t n, Vec<T>* out) {
    constexpr int L = Lanes<T>::count;
    Vec<T> even[G] = {}, odd[G] = {};  // two chains of additions, to hide their latency
    std::int64_t k = 0;
    for (; k + 1 < n; k += 2, weights += 2 * G * L)
        for (int q = 0; q < G; ++q) {
            even[q] += v[k] * load(weights + q * L);
            odd[q] += v[k + 1] * load(weights + (G + q) * L);
        }
    if (k < n)
        for (int q = 0; q < G; ++q) even[q] += v[k] * load(weights + q * L);
    for (int q = 0; q < G; ++q) out[q] = even[q] + odd[q];
}

// The pre-activations of a block: b of the input and a of the state, scaled and shifted.
template <typename T, int G>
struct StepBlock {
    Vec<T> a[G], b[G];
    int lanes;

    StepBlock(const Step<T>& s, std::int64_t block, std::int64_t r) {
        constexpr int L = Lanes<T>::count;
        const std::int64_t left = s.units - block * L;
        lanes = left < L ? static_cast<int>(left) : L;
        if (s.index) {
            const T* line = s.weight_ih + (block * s.inputs + s.index[r]) * G * L;
            for (int q = 0; q < G; ++q) b[q] = load(line + q * L);
        } else {
            packed_product<T, G>(s.weight_ih + block * s.inputs * G * L, s.x + r * s.inputs, s.inputs, b);
        }
        packed_product<T, G>(s.weight_hh + block * s.outputs * G * L, s.h + r * s.outputs, s.outputs, a);
        for (int q = 0; q < G; ++q) {
            const T* row = s.row + q * s.units + block * L;
            b[q] = b[q] * load(row, lanes) + load(row + G * s.units, lanes);
            a[q] = a[q] * load(row + 2 * G * s.units, lanes) + load(row + 3 * G * s.units, lanes);
        }
    }
};

template <typename T>
void lstm_step(const Step<T>& s, std::int64_t block) {
    const std::int64_t first = block * Lanes<T>::count;
    const T* row = s.row + 16 * s.units + first;
    for (std::int64_t r = 0; r < s.batch; ++r) {
        const StepBlock<T, 4> pre(s, block, r);
        const std::int64_t at = r * s.units + first;
        const Vec<T> old_c = load(s.c + at, pre.lanes);
        const LstmGates<T> gates([&](int q) { return pre.a[q] + pre.b[q]; });
        const Vec<T> c = gates.new_cell_state(old_c);
        const Vec<T> h = lstm_output<T>(gates.o, tanh<T>(c * load(row, pre.lanes) + load(row + s.units, pre.lanes)));
        store(s.new_c + at, zoned_out<T>(c, old_c, splat(s.zoneout_c)), pre.lanes);
        if (s.weight_hr)
            store(s.inner + at, h, pre.lanes);
        else
            store(s.new_h + at, zoned_out<T>(h, load(s.h + at, pre.lanes), splat(s.zoneout_h)), pre.lanes);
    }
}

// The projection of what lstm_step left, when all its blocks are done: a block of outputs.
template <typename T>
void lstm_projection(const Step<T>& s, std::int64_t block) {
    constexpr int L = Lanes<T>::count;
    const std::int64_t first = block * L, left = s.outputs - first;
    const int lanes = left < L ? static_cast<int>(left) : L;
    for (std::int64_t r = 0; r < s.batch; ++r) {
        Vec<T> h;
        packed_product<T, 1>(s.weight_hr + block * s.units * L, s.inner + r * s.units, s.units, &h);
        const std::int64_t at = r * s.outputs + first;
        store(s.new_h + at, zoned_out<T>(h, load(s.h + at, lanes), splat(s.zoneout_h)), lanes);
    }
}

template <typename T>
void gru_step(const Step<T>& s, std::int64_t block) {
    for (std::int64_t r = 0; r < s.batch; ++r) {
        const StepBlock<T, 3> pre(s, block, r);
        const std::int64_t at = r * s.units + block * Lanes<T>::count;
        const Vec<T> old_h = load(s.h + at, pre.lanes);
        const Vec<T> n = tanh<T>(gru_candidate<T>(pre.b[2], sigmoid<T>(pre.a[0] + pre.b[0]), pre.a[2]));
        const Vec<T> h = gru_output<T>(n, sigmoid<T>(pre.a[1] + pre.b[1]), old_h);
        store(s.new_h + at, zoned_out<T>(h, old_h, splat(s.zoneout_h)), pre.lanes);
    }
}

template <typename T>
void rnn_step(const Step<T>& s, std::int64_t block) {
    for (std::int64_t r = 0; r < s.batch; ++r) {
        const StepBlock<T, 1> pre(s, block, r);
        const std::int64_t at = r * s.units + block * Lanes<T>::count;
        const Vec<T> h = rnn_output<T>(s.relu, pre.a[0] + pre.b[0]);
        store(s.new_h + at, zoned_out<T>(h, load(s.h + at, pre.lanes), splat(s.zoneout_h)), pre.lanes);
    }
}
