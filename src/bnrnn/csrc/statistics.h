// Normalization of one block of units over the rows of a batch. Rows are G vectors wide, one vector for each gate.

template <typename T, int G>
struct Affine {  // y = (x - mean) * scale
    Vec<T> mean[G], scale[G];

    Affine() {
        for (int q = 0; q < G; ++q) mean[q] = Vec<T>{}, scale[q] = splat(T(1));
    }
};

// Mean and biased variance over rows, in two passes: E[x^2] - E[x]^2 would cancel.
template <typename T, int G>
inline void moments(const T* x, std::int64_t rows, std::int64_t row_stride, Vec<T>* mean, Vec<T>* var) {
    constexpr int L = Lanes<T>::count;
    Vec<T> sum[2][G] = {};
    std::int64_t r = 0;
    for (; r + 2 <= rows; r += 2)
        for (int h = 0; h < 2; ++h)
            for (int q = 0; q < G; ++q) sum[h][q] += load(x + (r + h) * row_stride + q * L);
    if (r < rows)
        for (int q = 0; q < G; ++q) sum[0][q] += load(x + r * row_stride + q * L);
    const T share = T(1) / static_cast<T>(rows);
    for (int q = 0; q < G; ++q) mean[q] = (sum[0][q] + sum[1][q]) * share;

    Vec<T> square[2][G] = {};
    for (r = 0; r + 2 <= rows; r += 2)
        for (int h = 0; h < 2; ++h)
            for (int q = 0; q < G; ++q) {
                const Vec<T> d = load(x + (r + h) * row_stride + q * L) - mean[q];
                square[h][q] += d * d;
            }
    if (r < rows)
        for (int q = 0; q < G; ++q) {
            const Vec<T> d = load(x + r * row_stride + q * L) - mean[q];
            square[0][q] += d * d;
        }
    for (int q = 0; q < G; ++q) var[q] = (square[0][q] + square[1][q]) * share;
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
            moments<T, N>(x + from * L, rows, G * L, mean, var);
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

    Vec<T> gamma(int q) const {
        return site.gamma ? load(site.gamma + feature(q), lanes) : splat(T(1));
    }

    Vec<T> beta() const { return site.beta ? load(site.beta + feature(0), lanes) : Vec<T>{}; }

    Affine<T, G> affine(std::int64_t t) const {
        Affine<T, G> f;
        if (normalizes(site))
            for (int q = 0; q < G; ++q) f.mean[q] = mean(t, q), f.scale[q] = gamma(q) * inverse_deviation(t, q);
        return f;
    }
};

// Gradient of y = gamma (x - mean) / sqrt(var + eps) with respect to x, for N gates from gate `from` on of a block with
// G: k1 dy + k2 (x - mean) + k3.
template <typename T, int N>
struct SiteGradient {
    Vec<T> mean[N], k1[N], k2[N], k3[N];

    // sum: of dy over the rows; product: of dy (x - mean). grad_gamma: one vector for each of the G gates.
    template <int G>
    SiteGradient(const SiteBlock<T, G>& block, std::int64_t t, const Vec<T>* sum, const Vec<T>* product, T rows,
                 bool through_statistics, T* grad_gamma, int from = 0) {
        constexpr int L = Lanes<T>::count;
        const T share = through_statistics ? T(-1) / rows : T(0);
        for (int q = 0; q < N; ++q) {
            const Vec<T> r = block.inverse_deviation(t, from + q);
            T* gamma = grad_gamma + (from + q) * L;
            mean[q] = block.mean(t, from + q);
            k1[q] = block.gamma(from + q) * r;
            k2[q] = k1[q] * r * r * product[q] * share;
            k3[q] = k1[q] * sum[q] * share;
            store(gamma, load(gamma) + product[q] * r);
        }
    }

    Vec<T> at(int q, Vec<T> dy, Vec<T> x) const { return k1[q] * dy + (k2[q] * (x - mean[q]) + k3[q]); }
};

// Sums over rows, G gates apart, of dy and of dy (x - mean) for N gates.
template <typename T, int G, int N>
inline void gradient_sums(const T* dy, const T* x, const Vec<T>* mean, std::int64_t rows, Vec<T>* sum,
                          Vec<T>* product) {
    constexpr int L = Lanes<T>::count;
    for (std::int64_t r = 0; r < rows; ++r)
        for (int q = 0; q < N; ++q) {
            const Vec<T> d = load(dy + (r * G + q) * L);
            sum[q] += d;
            product[q] += d * (load(x + (r * G + q) * L) - mean[q]);
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
    Vec<T> mean[N], sum[N] = {}, product[N] = {};
    for (int q = 0; q < N; ++q) mean[q] = block.mean(t, from + q);
    gradient_sums<T, G, N>(dy, x, mean, rows, sum, product);
    const SiteGradient<T, N> g(block, t, sum, product, static_cast<T>(rows), takes_statistics(block.site, rows),
                               grad_gamma, from);
    apply_gradient<T, G, N>(g, dy, x, rows, dx);
}
