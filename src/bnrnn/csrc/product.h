// Matrix products over packed panels.
//
// A panel holds NV vectors of columns for each k, one k after the other. Its product with rows of an operand is
// built from tiles of up to max_rows rows x NV vectors that stay in registers. The sum over k runs in the same order
// whatever the tile, so results do not depend on how rows or panels are shared out among threads.

#if BNRNN_VECTOR_REGISTERS == 32
constexpr int max_rows = 6;
#else
constexpr int max_rows = 3;
#endif

// Element (row, k) lies at data[row * row_stride + (k / inner) * outer_stride + (k % inner) * stride]; or, if groups of
// rows are packed, at data[group * group_stride + (row - first of group) * row_stride + k * stride].
template <typename T>
struct Operand {
    const T* data;
    std::int64_t row_stride, stride;
    std::int64_t inner, outer = 1, outer_stride = 0, group_stride = 0;
};

// The fewest parts of at most `most` that something can be cut into, and where one starts: they are nearly equal.
inline std::int64_t parts(std::int64_t count, std::int64_t most) { return (count + most - 1) / most; }
inline std::int64_t part_start(std::int64_t part, std::int64_t count, std::int64_t most) {
    return part * count / parts(count, most);
}

inline std::int64_t row_groups(std::int64_t rows) { return parts(rows, max_rows); }
inline std::int64_t group_start(std::int64_t group, std::int64_t rows) { return part_start(group, rows, max_rows); }

constexpr int max_vectors = 4;  // of columns in a panel

// A range of vectors as panels: body(first vector, vectors).
template <typename Body>
inline void over_panels(std::int64_t begin, std::int64_t end, const Body& body) {
    const std::int64_t count = end - begin;
    for (std::int64_t i = 0; i < parts(count, max_vectors); ++i) {
        const std::int64_t first = part_start(i, count, max_vectors);
        body(begin + first, static_cast<int>(part_start(i + 1, count, max_vectors) - first));
    }
}

// Vector v of a row lies at data[row * row_stride + v * vector_stride].
template <typename T>
struct Target {
    T* data;
    std::int64_t row_stride, vector_stride;
};

template <typename T, int NV, int MR>
inline void tile(const T* a, const Operand<T>& op, std::int64_t inner, std::int64_t outer, const T* panel,
                 std::int64_t panel_outer, const char* ahead, const Target<T>& target, std::int64_t row,
                 bool accumulate) {
    constexpr int L = Lanes<T>::count;
    Vec<T> sum[MR][NV];
    T* c = target.data + row * target.row_stride;
#pragma GCC unroll 8
    for (int r = 0; r < MR; ++r)
#pragma GCC unroll 8
        for (int v = 0; v < NV; ++v)
            sum[r][v] = accumulate ? load(c + r * target.row_stride + v * target.vector_stride) : Vec<T>{};
    for (std::int64_t o = 0; o < outer; ++o, a += op.outer_stride, panel += panel_outer) {
        const T* ak = a;
        const T* bk = panel;
        for (std::int64_t k = 0; k < inner; ++k, ak += op.stride, bk += NV * L, ahead += NV * BNRNN_VECTOR_BYTES) {
            __builtin_prefetch(ahead, 0, 2);
            Vec<T> b[NV];
#pragma GCC unroll 8
            for (int v = 0; v < NV; ++v) b[v] = load(bk + v * L);
#pragma GCC unroll 8
            for (int r = 0; r < MR; ++r) {
                const Vec<T> x = splat(ak[r * op.row_stride]);
#pragma GCC unroll 8
                for (int v = 0; v < NV; ++v) sum[r][v] += x * b[v];
            }
        }
    }
#pragma GCC unroll 8
    for (int r = 0; r < MR; ++r)
#pragma GCC unroll 8
        for (int v = 0; v < NV; ++v) store(c + r * target.row_stride + v * target.vector_stride, sum[r][v]);
}

template <typename T, int NV>
inline void tile_rows(int rows, const T* a, const Operand<T>& op, std::int64_t inner, std::int64_t outer,
                      const T* panel, std::int64_t panel_outer, const char* ahead, const Target<T>& target,
                      std::int64_t row, bool accumulate) {
#define BNRNN_TILE(MR) tile<T, NV, MR>(a, op, inner, outer, panel, panel_outer, ahead, target, row, accumulate)
    switch (rows) {
#if BNRNN_VECTOR_REGISTERS == 32
        case 6: return BNRNN_TILE(6);
        case 5: return BNRNN_TILE(5);
        case 4: return BNRNN_TILE(4);
#endif
        case 3: return BNRNN_TILE(3);
        case 2: return BNRNN_TILE(2);
        case 1: return BNRNN_TILE(1);
    }
#undef BNRNN_TILE
}

// target (+)= operand x panel, over all rows. The part of the panel that is in use stays within the L1 cache.
template <typename T, int NV>
__attribute__((noinline)) void product(std::int64_t rows, const Operand<T>& op, const T* panel, const Target<T>& target,
                                       bool accumulate) {
    constexpr std::int64_t width = NV * Lanes<T>::count;
    constexpr std::int64_t depth = 32768 / (width * static_cast<int>(sizeof(T)));
    constexpr std::int64_t lines = (width * static_cast<int>(sizeof(T)) + 63) / 64;  // of cache, for each k
    if (rows == 0) return;
    const std::int64_t groups = row_groups(rows);
    const auto over_rows = [&](const T* a, std::int64_t inner, std::int64_t outer, const T* b) {
        // What follows in the panel is brought near meanwhile: each group of rows asks for one line for every k.
        const char* ahead = reinterpret_cast<const char*>(b + inner * outer * width);
        for (std::int64_t g = 0; g < groups; ++g) {
            const std::int64_t row = group_start(g, rows), next = group_start(g + 1, rows);
            tile_rows<T, NV>(static_cast<int>(next - row),
                             a + (op.group_stride ? g * op.group_stride : row * op.row_stride), op, inner, outer, b,
                             op.inner * width, ahead + (g < lines ? g : 0) * 64, target, row, accumulate);
        }
        accumulate = true;
    };
    if (op.inner * 2 > depth) {
        const std::int64_t pieces = (op.inner + depth - 1) / depth;
        for (std::int64_t o = 0; o < op.outer; ++o)
            for (std::int64_t i = 0, k = 0; i < pieces; ++i) {
                const std::int64_t next = (i + 1) * op.inner / pieces;
                over_rows(op.data + o * op.outer_stride + k * op.stride, next - k, 1,
                          panel + (o * op.inner + k) * width);
                k = next;
            }
    } else {
        const std::int64_t at_once = op.inner > 0 ? depth / op.inner : op.outer;
        for (std::int64_t o = 0; o < op.outer; o += at_once) {
            const std::int64_t outer = op.outer - o < at_once ? op.outer - o : at_once;
            over_rows(op.data + o * op.outer_stride, op.inner, outer, panel + o * op.inner * width);
        }
    }
}

// The same with a number of vectors known only at run time.
template <typename T>
inline void product(int vectors, std::int64_t rows, const Operand<T>& op, const T* panel, const Target<T>& target,
                    bool accumulate) {
    switch (vectors) {
        case 4: return product<T, 4>(rows, op, panel, target, accumulate);
        case 3: return product<T, 3>(rows, op, panel, target, accumulate);
        case 2: return product<T, 2>(rows, op, panel, target, accumulate);
        case 1: return product<T, 1>(rows, op, panel, target, accumulate);
    }
}
