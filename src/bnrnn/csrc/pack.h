// Weights as panels for their products, and gradients of weights back from panels.

// Rows of a weight (G * units, depth) that belong to one block, as a panel [k][gate][lane].
template <typename T, int G>
inline void pack_rows(const Plan<T, G>& m, const T* weight, std::int64_t depth, std::int64_t block, T* panel) {
    const int lanes = m.lanes(block);
    for (std::int64_t k = 0; k < depth; k += m.L) {
        const int count = static_cast<int>(least(m.L, depth - k));
        for (int q = 0; q < G; ++q) {
            const T* from = weight + (q * m.p.units + block * m.L) * depth + k;
            Vec<T> tile[m.L];
            for (int l = 0; l < m.L; ++l) tile[l] = l < lanes ? load(from + l * depth, count) : Vec<T>{};
            transpose<T>(tile);
            for (int i = 0; i < count; ++i) store(panel + (k + i) * m.width + q * m.L, tile[i]);
        }
    }
}

template <typename T, int G>
inline void unpack_rows(const Plan<T, G>& m, const T* panel, std::int64_t depth, std::int64_t block, T* weight) {
    const int lanes = m.lanes(block);
    for (std::int64_t k = 0; k < depth; k += m.L) {
        const int count = static_cast<int>(least(m.L, depth - k));
        for (int q = 0; q < G; ++q) {
            T* to = weight + (q * m.p.units + block * m.L) * depth + k;
            Vec<T> tile[m.L];
            for (int i = 0; i < m.L; ++i) tile[i] = i < count ? load(panel + (k + i) * m.width + q * m.L) : Vec<T>{};
            transpose<T>(tile);
            for (int l = 0; l < lanes; ++l) store(to + l * depth, tile[l], count);
        }
    }
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
