// Layer normalization: mean and variance of one row over its features.
//
// Features are spread over all blocks, so over all workers. Each worker writes what its blocks contribute to a row;
// after a meeting it adds up the contributions of all blocks, in the blocks' order whatever the number of workers. A
// row becomes xhat = (x - mean) / sqrt(var + eps). What is left of the site, the scale by gamma, is a block's own
// affair. Backward it is the same with gradients: first through gamma, then through the row's mean and variance.

template <typename T, int N>
struct LaneSum {  // of N lanes
    typedef T Whole __attribute__((vector_size(N * sizeof(T))));
    typedef T Half __attribute__((vector_size(N / 2 * sizeof(T))));

    __attribute__((always_inline)) static T of(Whole v) {
        Half low, high;
        __builtin_memcpy(&low, &v, sizeof(Half));
        __builtin_memcpy(&high, reinterpret_cast<const char*>(&v) + sizeof(Half), sizeof(Half));
        return LaneSum<T, N / 2>::of(low + high);
    }
};
template <typename T>
struct LaneSum<T, 2> {
    typedef T Whole __attribute__((vector_size(2 * sizeof(T))));
    __attribute__((always_inline)) static T of(Whole v) { return v[0] + v[1]; }
};

template <typename T>
inline T lane_sum(Vec<T> v) {
    return LaneSum<T, Lanes<T>::count>::of(v);
}

// Rows of a block, `stride` apart, of which N vectors count. Lanes beyond the units are 0 in `valid`, 1 elsewhere; they
// enter no sum and come out as 0.
template <typename T, int N>
struct BlockRows {
    static constexpr int L = Lanes<T>::count;
    std::int64_t rows, stride;
    int lanes;
    Vec<T> valid;

    BlockRows(std::int64_t rows_, std::int64_t stride_, int lanes_)
        : rows(rows_), stride(stride_), lanes(lanes_), valid(splat(T(1))) {
        for (int l = lanes; l < L; ++l) valid[l] = 0;
    }

    // Mean of each row, and the sum of squares around it: E[x^2] - E[x]^2 would cancel.
    void moments(const T* x, T* mean, T* squares) const {
        const T count = static_cast<T>(N * lanes);
        for (std::int64_t r = 0; r < rows; ++r, x += stride) {
            Vec<T> sum{}, square{};
            for (int q = 0; q < N; ++q) sum += load(x + q * L);
            mean[r] = lane_sum<T>(sum * valid) / count;
            for (int q = 0; q < N; ++q) {
                const Vec<T> d = (load(x + q * L) - mean[r]) * valid;
                square += d * d;
            }
            squares[r] = lane_sum<T>(square);
        }
    }

    void whiten(const T* x, const T* mean, const T* rstd, T* y) const {
        for (std::int64_t r = 0; r < rows; ++r, x += stride, y += stride) {
            const Vec<T> scale = rstd[r] * valid;
            for (int q = 0; q < N; ++q) store(y + q * L, (load(x + q * L) - mean[r]) * scale);
        }
    }

    // Sums over each row of the gradient and of its product with xhat.
    void gradient_sums(const T* d, const T* xhat, T* sum, T* product) const {
        for (std::int64_t r = 0; r < rows; ++r, d += stride, xhat += stride) {
            Vec<T> sums{}, products{};
            for (int q = 0; q < N; ++q) {
                const Vec<T> v = load(d + q * L) * valid;
                sums += v;
                products += v * load(xhat + q * L);
            }
            sum[r] = lane_sum<T>(sums);
            product[r] = lane_sum<T>(products);
        }
    }

    // Gradient of xhat to that of x, given the means over the row of the two sums above.
    void gradient(T* d, const T* xhat, const T* rstd, const T* mean, const T* product) const {
        for (std::int64_t r = 0; r < rows; ++r, d += stride, xhat += stride) {
            const Vec<T> scale = rstd[r] * valid;
            for (int q = 0; q < N; ++q)
                store(d + q * L, (load(d + q * L) - mean[r] - load(xhat + q * L) * product[r]) * scale);
        }
    }
};

// Consecutive gates whose features are normalized together: their place in a row, and where their statistics are kept.
template <int From, int Count>
struct GateRange {
    static constexpr int from = From, count = Count;
    int slot;

    template <typename Body>
    void each(const Body& body) const {
        body(*this);
    }
};

// All gates of a cell: those that are normalized together, and the others, if any, together.
template <typename C>
struct AllGates {
    int slot;

    template <typename Body>
    void each(const Body& body) const {
        body(GateRange<0, C::together>{slot});
        if constexpr (C::together < C::gates) body(GateRange<C::together, C::gates - C::together>{slot + 1});
    }
};

// One worker's part in layer normalization. A range's contributions are written again only a step later, when all
// workers have met once more in between.
template <typename T, typename C>
struct LayerNorm {
    static constexpr int L = Lanes<T>::count;
    const Plan<T, C::gates>& m;
    T *statistics, *shared;
    std::int64_t capacity;
    std::int64_t begin = 0, end = 0;
    Barrier* barrier = nullptr;

    // `keep` is where statistics stay for the backward pass.
    LayerNorm(const Plan<T, C::gates>& plan, Arena& keep, Arena& scratch)
        : m(plan), capacity(plan.chunk * plan.p.batch + L) {  // a vector of rows may reach beyond the last
        statistics = keep.template take<T>(2 * m.slots * m.p.steps * m.p.batch);
        shared = scratch.template take<T>(2 * m.slots * m.blocks * capacity);
    }

    T* kept(int slot, int which, std::int64_t t) const {
        return statistics + ((2 * slot + which) * m.p.steps + t) * m.p.batch;
    }
    T* mean(int slot, std::int64_t t) const { return kept(slot, 0, t); }
    T* rstd(int slot, std::int64_t t) const { return kept(slot, 1, t); }
    T* contribution(int slot, int which, std::int64_t block, std::int64_t row) const {
        return shared + ((2 * slot + which) * m.blocks + block) * capacity + row;
    }

    // body(block, step, its rows) for the own blocks and steps [t, stop).
    template <int N, typename Body>
    void over_own(std::int64_t t, std::int64_t stop, std::int64_t stride, const Body& body) const {
        for (std::int64_t block = begin; block < end; ++block)
            for (std::int64_t s = t; s < stop; ++s) body(block, s, BlockRows<T, N>(m.rows(s), stride, m.lanes(block)));
    }

    // body(step, first row, first contribution, rows) for steps [t, stop), a vector of rows at a time.
    template <typename Body>
    void over_tiles(std::int64_t t, std::int64_t stop, const Body& body) const {
        for (std::int64_t s = t; s < stop; ++s)
            for (std::int64_t r = 0; r < m.rows(s); r += L)
                body(s, r, (s - t) * m.p.batch + r, least(L, m.rows(s) - r));
    }

    // Rows of at(block, step) of steps [t, stop), whitened, to to(block, step).
    template <typename Gates, typename At, typename To>
    void whiten(const Gates& gates, T eps, std::int64_t t, std::int64_t stop, std::int64_t stride, const At& at,
                const To& to) const {
        gates.each([&](auto range) {
            over_own<range.count>(t, stop, stride, [&](std::int64_t block, std::int64_t s, const auto& rows) {
                const std::int64_t first = (s - t) * m.p.batch;
                rows.moments(at(block, s) + range.from * L, contribution(range.slot, 0, block, first),
                             contribution(range.slot, 1, block, first));
            });
        });
        meet(*barrier);
        gates.each([&](auto range) { whiten_own(range, eps, t, stop, stride, at, to); });
    }

    template <typename Range, typename At, typename To>
    void whiten_own(const Range& range, T eps, std::int64_t t, std::int64_t stop, std::int64_t stride, const At& at,
                    const To& to) const {
        constexpr int N = Range::count;
        const T count = static_cast<T>(N * m.p.units);
        over_tiles(t, stop, [&](std::int64_t s, std::int64_t r, std::int64_t first, std::int64_t some) {
            Vec<T> mean_all{}, squares{};
            for (std::int64_t block = 0; block < m.blocks; ++block)
                mean_all += load(contribution(range.slot, 0, block, first)) * static_cast<T>(N * m.lanes(block));
            mean_all /= count;
            for (std::int64_t block = 0; block < m.blocks; ++block) {
                const Vec<T> d = load(contribution(range.slot, 0, block, first)) - mean_all;
                squares += load(contribution(range.slot, 1, block, first)) + d * d * static_cast<T>(N * m.lanes(block));
            }
            T means[L], rstds[L];
            store(means, mean_all);
            store(rstds, inverse_root<T>(squares / count + eps));
            if (statistics && begin == 0)
                for (std::int64_t i = 0; i < some; ++i) {
                    mean(range.slot, s)[r + i] = means[i];
                    rstd(range.slot, s)[r + i] = rstds[i];
                }
            const std::int64_t offset = r * stride + range.from * L;
            for (std::int64_t block = begin; block < end; ++block)
                BlockRows<T, N>(some, stride, m.lanes(block))
                    .whiten(at(block, s) + offset, means, rstds, to(block, s) + offset);
        });
    }

    // One block's rows [from, to) of one step once more, with the statistics that were kept.
    template <typename Range>
    void whiten_again(const Range& range, std::int64_t t, std::int64_t block, std::int64_t from, std::int64_t to,
                      std::int64_t stride, const T* x, T* y) const {
        const std::int64_t offset = from * stride + range.from * L;
        BlockRows<T, Range::count>(to - from, stride, m.lanes(block))
            .whiten(x + offset, mean(range.slot, t) + from, rstd(range.slot, t) + from, y + offset);
    }

    // Gradients of xhat in d(block, step) to those of x, in place.
    template <typename Gates, typename D, typename At>
    void gradient(const Gates& gates, std::int64_t t, std::int64_t stop, std::int64_t stride, const D& d,
                  const At& xhat) const {
        gates.each([&](auto range) {
            over_own<range.count>(t, stop, stride, [&](std::int64_t block, std::int64_t s, const auto& rows) {
                const std::int64_t first = (s - t) * m.p.batch, offset = range.from * L;
                rows.gradient_sums(d(block, s) + offset, xhat(block, s) + offset,
                                   contribution(range.slot, 0, block, first),
                                   contribution(range.slot, 1, block, first));
            });
        });
        meet(*barrier);
        gates.each([&](auto range) { gradient_own(range, t, stop, stride, d, xhat); });
    }

    template <typename Range, typename D, typename At>
    void gradient_own(const Range& range, std::int64_t t, std::int64_t stop, std::int64_t stride, const D& d,
                      const At& xhat) const {
        constexpr int N = Range::count;
        const T count = static_cast<T>(N * m.p.units);
        over_tiles(t, stop, [&](std::int64_t s, std::int64_t r, std::int64_t first, std::int64_t some) {
            T means[2][L];
            for (int which = 0; which < 2; ++which) {
                Vec<T> sum{};
                for (std::int64_t block = 0; block < m.blocks; ++block)
                    sum += load(contribution(range.slot, which, block, first));
                store(means[which], sum / count);
            }
            const std::int64_t offset = r * stride + range.from * L;
            for (std::int64_t block = begin; block < end; ++block)
                BlockRows<T, N>(some, stride, m.lanes(block))
                    .gradient(d(block, s) + offset, xhat(block, s) + offset, rstd(range.slot, s) + r, means[0],
                              means[1]);
        });
    }
};
