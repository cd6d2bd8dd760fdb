// A new state of which the old one keeps a share.
template <typename T>
__attribute__((always_inline)) inline Vec<T> zoned_out(Vec<T> fresh, Vec<T> old, Vec<T> share) {
    return fresh + share * (old - fresh);
}

// The step's zoneout of h and of c: a mask, or one number for all.
template <typename T, int G>
inline Vec<T> zoneout_h_at(const Plan<T, G>& m, std::int64_t t, std::int64_t block, std::int64_t r) {
    const auto& p = m.p;
    if (!p.zoneout_h_varies) return splat(p.zoneout_h[0]);
    return load(p.zoneout_h + (t * p.batch + r) * m.outputs + block * m.L, m.output_lanes(block));
}

template <typename T, int G>
inline Vec<T> zoneout_c_at(const Plan<T, G>& m, std::int64_t t, std::int64_t block, std::int64_t r) {
    const auto& p = m.p;
    if (!p.zoneout_c_varies) return splat(p.zoneout_c[0]);
    return load(p.zoneout_c + (t * p.batch + r) * p.units + block * m.L, m.lanes(block));
}
