// Normalization of one block of units over the rows of a batch. Rows are G vectors wide, one vector for each gate.

template <typename T, int G>
struct Affine {  // y = (x - mean) * scale
    Vec<T> mean[G], scale[G];

    Affine() {
        for (int q = 0; q < G; ++q) mean[q] = Vec<T>{}, scale[q] = splat(T(1));
    }
};

// A sum that carries on what each addition has rounded off (Kahan).
template <typename T>
struct CarryingSum {
    Vec<T> sum{}, lost{};

    void add(Vec<T> v) {
        const Vec<T> corrected = v - lost, next = sum + corrected;
        lost = (next - sum) - corrected;
        sum = next;
    }
};

// Rows as pieces of at most this many: a plain float32 sum over more would lose digits.
constexpr std::int64_t rows_in_piece = 512;

template <typename T, typename Body>
inline void over_pieces(const T* x, std::int64_t rows, std::int64_t row_stride, const Body& body) {
    for (; rows > rows_in_piece; rows -= rows_in_piece, x += rows_in_piece * row_stride) body(x, rows_in_piece);
    if (rows > 0) body(x, rows);
}

// Sums over the rows of a piece, for G gates: of values(row's pointer to the gate, gate), N for each gate.
template <typename T, int G, int N, typename Values>
inline void piece_sums(const T* x, std::int64_t rows, std::int64_t row_stride, const Values& values,
                       Vec<T> (*sums)[N]) {
    constexpr int L = Lanes<T>::count;
    Vec<T> chains[2][G][N] = {};  // two chains of additions, to hide their latency
    const auto add = [&](int h, std::int64_t r) {
        for (int q = 0; q < G; ++q) values(load(x + r * row_stride + q * L), q, chains[h][q]);
    };
    std::int64_t r = 0;
    for (; r + 2 <= rows; r += 2) add(0, r), add(1, r + 1);
    if (r < rows) add(0, r);
    for (int q = 0; q < G; ++q)
        for (int i = 0; i < N; ++i) sums[q][i] = chains[0][q][i] + chains[1][q][i];
}

// Mean and biased variance of `count` rows that over_all(body) gives in pieces, in two passes: E[x^2] - E[x]^2 would
// cancel. The second pass also sums the deviations from the mean: that is what rounding has left in it.
template <typename T, int G, typename Pieces>
inline void moments(const Pieces& over_all, std::int64_t count, std::int64_t row_stride, Vec<T>* mean, Vec<T>* var) {
    const T share = T(1) / static_cast<T>(count);
    CarryingSum<T> total[G];
    over_all([&](const T* x, std::int64_t rows) {
        Vec<T> sums[G][1];
        piece_sums<T, G, 1>(x, rows, row_stride, [](Vec<T> v, int, Vec<T>* sum) { sum[0] += v; }, sums);
        for (int q = 0; q < G; ++q) total[q].add(sums[q][0]);
    });
    for (int q = 0; q < G; ++q) mean[q] = total[q].sum * share;

    CarryingSum<T> deviations[G], squares[G];
    over_all([&](const T* x, std::int64_t rows) {
        Vec<T> sums[G][2];
        piece_sums<T, G, 2>(
            x, rows, row_stride,
            [&](Vec<T> v, int q, Vec<T>* sum) {
                const Vec<T> d = v - mean[q];
                sum[0] += d;
                sum[1] += d * d;
            },
            sums);
        for (int q = 0; q < G; ++q) deviations[q].add(sums[q][0]), squares[q].add(sums[q][1]);
    });
    for (int q = 0; q < G; ++q) {
        const Vec<T> rest = deviations[q].sum * share;
        mean[q] += rest;
        const Vec<T> rounded = squares[q].sum * share - rest * rest;
        var[q] = rounded < Vec<T>{} ? Vec<T>{} : rounded;  // of equal rows; what is not a number stays so
    }
}

template <typename T>
inline bool is_layer(const Site<T>& site) {
    return site.kind == Kind::layer;
}

template <typename T>
inline bool normalizes(const Site<T>& site) {
    return site.kind == Kind::frame || site.kind == Kind::sequence || is_layer(site);
}

// Whether the gradient flows through the statistics of a step with this many valid rows.
template <typename T>
inline bool takes_statistics(const Site<T>& site, std::int64_t rows) {
    return site.own_statistics && site.kind == Kind::frame && rows >= site.min_rows;
}

// A block of a site: units [first, first + lanes) of each of G gates with `units` units.
template <typename T, int G>
struct SiteBlock {
    const Site<T>& site;
    std::int64_t first, units;
    int lanes;

    std::int64_t feature(int q) const { return q * units + first; }
    std::int64_t row(std::int64_t t) const { return site.kind == Kind::sequence ? 0 : t * G * units; }

    void write(std::int64_t t, int q, Vec<T> mean, Vec<T> var) const {
        store(site.mean + row(t) + feature(q), mean, lanes);
        store(site.var + row(t) + feature(q), var, lanes);
    }

    // Forward: the statistics of N gates from gate `from` on, taken of the step's rows where the site does that. A
    // step with too few rows borrows those of the step before.
    template <int N = G>
    void take(std::int64_t t, const T* x, std::int64_t rows, int from = 0) const {
        constexpr int L = Lanes<T>::count;
        if (!site.own_statistics || site.kind != Kind::frame) return;
        Vec<T> mean[N], var[N];
        if (rows >= site.min_rows) {
            const auto all = [&](const auto& body) { over_pieces(x + from * L, rows, G * L, body); };
            moments<T, N>(all, rows, G * L, mean, var);
        } else {
            for (int q = 0; q < N; ++q) {
                mean[q] = load(site.mean + row(t - 1) + feature(from + q), lanes);
                var[q] = load(site.var + row(t - 1) + feature(from + q), lanes);
            }
        }
        for (int q = 0; q < N; ++q) write(t, from + q, mean[q], var[q]);
    }

    // Lanes beyond the units have variance 1, so that nothing there divides by zero. What layer normalization has left
    // to a block is normalized already: mean 0, deviation 1.
    Vec<T> inverse_deviation(std::int64_t t, int q) const {
        if (is_layer(site)) return splat(T(1));
        return inverse_root<T>(load(site.var + row(t) + feature(q), lanes, T(1)) + site.eps);
    }

    Vec<T> mean(std::int64_t t, int q) const {
        return is_layer(site) ? Vec<T>{} : load(site.mean + row(t) + feature(q), lanes);
    }

    Vec<T> gamma(int q) const { return site.gamma ? load(site.gamma + feature(q), lanes) : splat(T(1)); }

    Vec<T> beta() const { return site.beta ? load(site.beta + feature(0), lanes) : Vec<T>{}; }

    Affine<T, G> affine(std::int64_t t) const {
        Affine<T, G> f;
        if (normalizes(site))
            for (int q = 0; q < G; ++q) f.mean[q] = mean(t, q), f.scale[q] = gamma(q) * inverse_deviation(t, q);
        return f;
    }
};

// Gradient of y = gamma (x - mean) / sqrt(var + eps) with respect to x, for N gates from gate `from` on of a block with
// G: k1 dy + k2 (x - mean) + k3. The constant part makes the gradient's sum over the rows 0 with the deviations' own
// sum, which is 0 only up to the rounding of the mean; the gradient meets inputs of any mean in that of their weights.
template <typename T, int N>
struct SiteGradient {
    Vec<T> mean[N], k1[N], k2[N], k3[N];

    // Sums over the rows, of dy, of dy (x - mean), and of x - mean. grad_gamma: one vector for each of the G gates.
    template <int G>
    SiteGradient(const SiteBlock<T, G>& block, std::int64_t t, const Vec<T>* sum, const Vec<T>* product,
                 const Vec<T>* deviation, T rows, bool through_statistics, T* grad_gamma, int from = 0) {
        constexpr int L = Lanes<T>::count;
        const T share = through_statistics ? T(-1) / rows : T(0);
        for (int q = 0; q < N; ++q) {
            const Vec<T> r = block.inverse_deviation(t, from + q);
            T* gamma = grad_gamma + (from + q) * L;
            mean[q] = block.mean(t, from + q);
            k1[q] = block.gamma(from + q) * r;
            k2[q] = k1[q] * r * r * product[q] * share;
            k3[q] = (k1[q] * sum[q] + k2[q] * deviation[q]) * share;
            store(gamma, load(gamma) + product[q] * r);
        }
    }

    Vec<T> at(int q, Vec<T> dy, Vec<T> x) const { return k1[q] * dy + (k2[q] * (x - mean[q]) + k3[q]); }
};

// Sums over rows, G gates apart, of dy, of dy (x - mean) and of x - mean for N gates.
template <typename T, int G, int N>
inline void gradient_sums(const T* dy, const T* x, const Vec<T>* mean, std::int64_t rows, Vec<T>* sum, Vec<T>* product,
                          Vec<T>* deviation) {
    constexpr int L = Lanes<T>::count;
    for (std::int64_t r = 0; r < rows; ++r)
        for (int q = 0; q < N; ++q) {
            const Vec<T> d = load(dy + (r * G + q) * L), centred = load(x + (r * G + q) * L) - mean[q];
            sum[q] += d;
            product[q] += d * centred;
            deviation[q] += centred;
        }
}

template <typename T, int G, int N>
inline void apply_gradient(const SiteGradient<T, N>& g, const T* dy, const T* x, std::int64_t rows, T* dx) {
    constexpr int L = Lanes<T>::count;
    for (std::int64_t r = 0; r < rows; ++r)
        for (int q = 0; q < N; ++q) {
            const std::int64_t at = (r * G + q) * L;
            store(dx + at, g.at(q, load(dy + at), load(x + at)));
        }
}

// dy to dx through N gates of a site at one step; dx may be dy.
template <typename T, int G, int N = G>
inline void site_backward(const SiteBlock<T, G>& block, std::int64_t t, const T* dy, const T* x, std::int64_t rows,
                          T* dx, T* grad_gamma, int from = 0) {
    constexpr int L = Lanes<T>::count;
    dy += from * L, x += from * L, dx += from * L;
    if (!normalizes(block.site)) {
        if (dx != dy)
            for (std::int64_t r = 0; r < rows; ++r)
                for (int q = 0; q < N; ++q) store(dx + (r * G + q) * L, load(dy + (r * G + q) * L));
        return;
    }
    Vec<T> mean[N], sum[N] = {}, product[N] = {}, deviation[N] = {};
    for (int q = 0; q < N; ++q) mean[q] = block.mean(t, from + q);
    gradient_sums<T, G, N>(dy, x, mean, rows, sum, product, deviation);
    const SiteGradient<T, N> g(block, t, sum, product, deviation, static_cast<T>(rows),
                               takes_statistics(block.site, rows), grad_gamma, from);
    apply_gradient<T, G, N>(g, dy, x, rows, dx);
}
