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
    const T n = static_cast<T>(rows);
    for (int q = 0; q < G; ++q) mean[q] = (sum[0][q] + sum[1][q]) / n;

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
    for (int q = 0; q < G; ++q) var[q] = (square[0][q] + square[1][q]) / n;
}

template <typename T>
inline bool normalizes(const Site<T>& site) {
    return site.kind == Kind::frame || site.kind == Kind::sequence;
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

    void write(std::int64_t t, const Vec<T>* mean, const Vec<T>* var) const {
        for (int q = 0; q < G; ++q) {
            store(site.mean + row(t) + feature(q), mean[q], lanes);
            store(site.var + row(t) + feature(q), var[q], lanes);
        }
    }

    void repeat_last(std::int64_t t) const {
        for (int q = 0; q < G; ++q) {
            store(site.mean + row(t) + feature(q), load(site.mean + row(t - 1) + feature(q), lanes), lanes);
            store(site.var + row(t) + feature(q), load(site.var + row(t - 1) + feature(q), lanes), lanes);
        }
    }

    // Lanes beyond the units have variance 1, so that nothing there divides by zero.
    Vec<T> inverse_deviation(std::int64_t t, int q) const {
        return inverse_root<T>(load(site.var + row(t) + feature(q), lanes, T(1)) + site.eps);
    }

    Vec<T> mean(std::int64_t t, int q) const { return load(site.mean + row(t) + feature(q), lanes); }

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

    // Forward: take the step's statistics from its rows where the site does that.
    Affine<T, G> affine(std::int64_t t, const T* x, std::int64_t rows) const {
        if (site.own_statistics && site.kind == Kind::frame) {
            if (rows >= site.min_rows) {
                Vec<T> mean[G], var[G];
                moments<T, G>(x, rows, G * Lanes<T>::count, mean, var);
                write(t, mean, var);
            } else {
                repeat_last(t);
            }
        }
        return affine(t);
    }
};

// Gradient of y = gamma (x - mean) / sqrt(var + eps) with respect to x: k1 dy + k2 (x - mean) + k3.
template <typename T, int G>
struct SiteGradient {
    Vec<T> mean[G], k1[G], k2[G], k3[G];

    // sum: of dy over the rows; product: of dy (x - mean).
    SiteGradient(const SiteBlock<T, G>& block, std::int64_t t, const Vec<T>* sum, const Vec<T>* product, T rows,
                 bool through_statistics, T* grad_gamma) {
        constexpr int L = Lanes<T>::count;
        for (int q = 0; q < G; ++q) {
            const Vec<T> r = block.inverse_deviation(t, q);
            mean[q] = block.mean(t, q);
            k1[q] = block.gamma(q) * r;
            k2[q] = through_statistics ? -k1[q] * r * r * product[q] / rows : Vec<T>{};
            k3[q] = through_statistics ? -k1[q] * sum[q] / rows : Vec<T>{};
            store(grad_gamma + q * L, load(grad_gamma + q * L) + product[q] * r);
        }
    }
};

template <typename T, int G>
inline void gradient_sums(const T* dy, const T* x, const Vec<T>* mean, std::int64_t rows, Vec<T>* sum,
                          Vec<T>* product) {
    constexpr int L = Lanes<T>::count;
    for (std::int64_t r = 0; r < rows; ++r)
        for (int q = 0; q < G; ++q) {
            const Vec<T> d = load(dy + (r * G + q) * L);
            sum[q] += d;
            product[q] += d * (load(x + (r * G + q) * L) - mean[q]);
        }
}

template <typename T, int G>
inline void apply_gradient(const SiteGradient<T, G>& g, const T* dy, const T* x, std::int64_t rows, T* dx) {
    constexpr int L = Lanes<T>::count;
    for (std::int64_t r = 0; r < rows; ++r)
        for (int q = 0; q < G; ++q) {
            const std::int64_t at = (r * G + q) * L;
            store(dx + at, g.k1[q] * load(dy + at) + (g.k2[q] * (load(x + at) - g.mean[q]) + g.k3[q]));
        }
}

// dy to dx through a site at one step; dx may be dy.
template <typename T, int G>
inline void site_backward(const SiteBlock<T, G>& block, std::int64_t t, const T* dy, const T* x, std::int64_t rows,
                          T* dx, T* grad_gamma) {
    constexpr int L = Lanes<T>::count;
    if (!normalizes(block.site)) {
        if (dx != dy)
            for (std::int64_t i = 0; i < rows * G * L; i += L) store(dx + i, load(dy + i));
        return;
    }
    Vec<T> mean[G], sum[G] = {}, product[G] = {};
    for (int q = 0; q < G; ++q) mean[q] = block.mean(t, q);
    gradient_sums<T, G>(dy, x, mean, rows, sum, product);
    const SiteGradient<T, G> g(block, t, sum, product, static_cast<T>(rows), takes_statistics(block.site, rows),
                               grad_gamma);
    apply_gradient<T, G>(g, dy, x, rows, dx);
}
