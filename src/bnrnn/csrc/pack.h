// Weights as panels for their products, and gradients of weights back from panels.

// Rows of a matrix of `depth` columns, as many as there are lanes, as one vector for each column, `width` apart.
template <typename T>
inline void pack_lanes(const T* rows, int lanes, std::int64_t depth, T* panel, std::int64_t width) {
    constexpr int L = Lanes<T>::count;
    for (std::int64_t k = 0; k < depth; k += L) {
        const int count = static_cast<int>(least(L, depth - k));
        Vec<T> tile[L];
        for (int l = 0; l < L; ++l) tile[l] = l < lanes ? load(rows + l * depth + k, count) : Vec<T>{};
        transpose<T>(tile);
        for (int i = 0; i < count; ++i) store(panel + (k + i) * width, tile[i]);
    }
}

template <typename T>
inline void unpack_lanes(const T* panel, std::int64_t width, int lanes, std::int64_t depth, T* rows) {
    constexpr int L = Lanes<T>::count;
    for (std::int64_t k = 0; k < depth; k += L) {
        const int count = static_cast<int>(least(L, depth - k));
        Vec<T> tile[L];
        for (int i = 0; i < L; ++i) tile[i] = i < count ? load(panel + (k + i) * width) : Vec<T>{};
        transpose<T>(tile);
        for (int l = 0; l < lanes; ++l) store(rows + l * depth + k, tile[l], count);
    }
}

// Rows of a weight (G * units, depth) that belong to one block, as a panel [k][gate][lane].
template <typename T, int G>
inline void pack_rows(const Plan<T, G>& m, const T* weight, std::int64_t depth, std::int64_t block, T* panel) {
    for (int q = 0; q < G; ++q)
        pack_lanes<T>(weight + (q * m.p.units + block * m.L) * depth, m.lanes(block), depth, panel + q * m.L, m.width);
}

template <typename T, int G>
inline void unpack_rows(const Plan<T, G>& m, const T* panel, std::int64_t depth, std::int64_t block, T* weight) {
    for (int q = 0; q < G; ++q)
        unpack_lanes<T>(panel + q * m.L, m.width, m.lanes(block), depth,
                        weight + (q * m.p.units + block * m.L) * depth);
}

// Columns [column, column + vectors * L) of a weight (G * units, depth), as a panel [block][gate][lane][column].
template <typename T, int G>
inline void pack_columns(const Plan<T, G>& m, const T* weight, std::int64_t depth, std::int64_t column, int vectors,
                         T* panel) {
    for (std::int64_t block = 0; block < m.blocks; ++block)
        for (int q = 0; q < G; ++q)
            for (int l = 0; l < m.L; ++l)
                for (int v = 0; v < vectors; ++v, panel += m.L) {
                    const std::int64_t c = column + v * m.L;
                    const int lanes = static_cast<int>(least(m.L, depth - c));
                    const bool there = l < m.lanes(block) && lanes > 0;
                    store(panel,
                          there ? load(weight + (q * m.p.units + block * m.L + l) * depth + c, lanes) : Vec<T>{});
                }
}
