// Vectors of BNRNN_VECTOR_BYTES through the compiler's vector extension, and the functions that a recurrence needs
// of them. Included into an unnamed namespace of each instruction set, so that no two sets share a symbol.

template <typename T>
struct Lanes {
    typedef T Vec __attribute__((vector_size(BNRNN_VECTOR_BYTES)));
    typedef T Unaligned __attribute__((vector_size(BNRNN_VECTOR_BYTES), aligned(alignof(T))));
    static constexpr int count = BNRNN_VECTOR_BYTES / static_cast<int>(sizeof(T));
};

template <typename T>
using Vec = typename Lanes<T>::Vec;

template <typename T>
inline Vec<T> splat(T value) {
    return value - Vec<T>{};
}

template <typename T>
__attribute__((always_inline)) inline Vec<T> load(const T* p) {
    return *reinterpret_cast<const typename Lanes<T>::Unaligned*>(p);
}

template <typename T>
__attribute__((always_inline)) inline void store(T* p, Vec<T> v) {
    *reinterpret_cast<typename Lanes<T>::Unaligned*>(p) = v;
}

// The first `lanes` of a row of the caller's tensor, which need not fill a vector; the others are `fill`.
template <typename T>
inline Vec<T> load(const T* p, int lanes, T fill = 0) {
    if (lanes == Lanes<T>::count) return load(p);
    Vec<T> v = splat(fill);
    for (int i = 0; i < lanes; ++i) v[i] = p[i];
    return v;
}

template <typename T>
inline void store(T* p, Vec<T> v, int lanes) {
    if (lanes == Lanes<T>::count) {
        store(p, v);
    } else {
        for (int i = 0; i < lanes; ++i) p[i] = v[i];
    }
}

// Lane j of a for every j without bit S and lane j - S of b for the others; High: j + S of a, j of b.
template <typename T, std::size_t S, bool High, std::size_t... J>
__attribute__((always_inline)) inline Vec<T> interleave(Vec<T> a, Vec<T> b, std::index_sequence<J...>) {
#if defined(__clang__) || __GNUC__ >= 12
    constexpr std::size_t L = sizeof...(J);
    return __builtin_shufflevector(a, b, static_cast<int>(J & S ? L + J - (High ? 0 : S) : J + (High ? S : 0))...);
#else
    return Vec<T>{(J & S ? b[J - (High ? 0 : S)] : a[J + (High ? S : 0)])...};
#endif
}

template <typename T, std::size_t S = 1>
__attribute__((always_inline)) inline void transpose(Vec<T>* rows) {
    constexpr std::size_t L = Lanes<T>::count;
    if constexpr (S < L) {
#pragma GCC unroll 16
        for (std::size_t i = 0; i < L; ++i) {
            if (i & S) continue;
            const Vec<T> a = rows[i], b = rows[i + S];
            rows[i] = interleave<T, S, false>(a, b, std::make_index_sequence<L>());
            rows[i + S] = interleave<T, S, true>(a, b, std::make_index_sequence<L>());
        }
        transpose<T, 2 * S>(rows);
    }
}

inline float root(float v) { return __builtin_sqrtf(v); }
inline double root(double v) { return __builtin_sqrt(v); }

template <typename T>
inline Vec<T> inverse_root(Vec<T> v) {
    T lanes[Lanes<T>::count];  // a plain loop over memory becomes one instruction, one over v[i] does not
    store(lanes, v);
    for (int i = 0; i < Lanes<T>::count; ++i) lanes[i] = root(lanes[i]);
    return T(1) / load(lanes);
}

template <typename T>
struct ExpTraits;

template <>
struct ExpTraits<float> {
    using Bits = std::int32_t;
    static constexpr int mantissa = 23;
    static constexpr float round = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer
    static constexpr float log2e = 1.44269504f;
    static constexpr float ln2_high = 0.693359375f, ln2_low = -2.12194440e-4f;
    static constexpr float lowest = -87.0f, highest = 87.33f, tanh_end = 10.0f;
    static constexpr int terms = 7;
};

template <>
struct ExpTraits<double> {
    using Bits = std::int64_t;
    static constexpr int mantissa = 52;
    static constexpr double round = 6755399441055744.0;
    static constexpr double log2e = 1.4426950408889634;
    static constexpr double ln2_high = 6.93145751953125e-1, ln2_low = 1.42860682030941723212e-6;
    static constexpr double lowest = -708.0, highest = 708.39, tanh_end = 22.0;
    static constexpr int terms = 13;
};

template <typename T>
constexpr T inverse_factorial(int n) {
    double f = 1;
    for (int i = 2; i <= n; ++i) f *= i;
    return static_cast<T>(1 / f);
}

template <typename T, int N>
struct Series {  // sum of r^k / k! from N up to the last term, over r^N
    __attribute__((always_inline)) static Vec<T> at(Vec<T> r) {
        return r * Series<T, N + 1>::at(r) + inverse_factorial<T>(N);
    }
};
template <>
struct Series<float, ExpTraits<float>::terms> {
    static inline Vec<float> at(Vec<float>) { return splat(inverse_factorial<float>(ExpTraits<float>::terms)); }
};
template <>
struct Series<double, ExpTraits<double>::terms> {
    static inline Vec<double> at(Vec<double>) { return splat(inverse_factorial<double>(ExpTraits<double>::terms)); }
};

// exp(x) = scale * (1 + tail) with |x - log(scale)| <= log(2) / 2; the tail keeps full precision near 0.
template <typename T>
struct SplitExp {
    Vec<T> scale, tail;

    __attribute__((always_inline)) explicit SplitExp(Vec<T> x) {
        using E = ExpTraits<T>;
        typedef typename E::Bits Bits __attribute__((vector_size(BNRNN_VECTOR_BYTES)));
        const Vec<T> shifted = x * E::log2e + E::round;
        const Vec<T> n = shifted - E::round;
        const Vec<T> r = (x - n * E::ln2_high) - n * E::ln2_low;
        const Vec<T> one = splat(T(1));
        scale = (Vec<T>)(((Bits)shifted << E::mantissa) + (Bits)one);
        tail = r * Series<T, 1>::at(r);
    }
};

// Written so that NaN stays NaN.
template <typename T>
__attribute__((always_inline)) inline Vec<T> clamp(Vec<T> x, T low, T high) {
    x = x < low ? splat(low) : x;
    return x > high ? splat(high) : x;
}

// 0 where the value would be below the smallest normal number: arithmetic on such takes a hundred times as long.
template <typename T>
__attribute__((always_inline)) inline Vec<T> sigmoid(Vec<T> x) {
    using E = ExpTraits<T>;
    const SplitExp<T> e(clamp<T>(-x, E::lowest, E::highest));
    const Vec<T> y = T(1) / (e.scale * e.tail + (e.scale + T(1)));
    return x < -E::highest ? Vec<T>{} : y;
}

template <typename T>
__attribute__((always_inline)) inline Vec<T> tanh(Vec<T> x) {
    const SplitExp<T> e(clamp<T>(x + x, -2 * ExpTraits<T>::tanh_end, 2 * ExpTraits<T>::tanh_end));
    const Vec<T> expm1 = e.scale * e.tail + (e.scale - T(1));
    return expm1 / (expm1 + T(2));
}

// To bfloat16 and back, to nearest even.
inline Vec<float> round_to_bfloat16(Vec<float> v) {
    typedef std::uint32_t Bits __attribute__((vector_size(BNRNN_VECTOR_BYTES)));
    const Bits bits = (Bits)v;
    const Vec<float> rounded = (Vec<float>)((bits + 0x7fffu + ((bits >> 16) & 1u)) & 0xffff0000u);
    return v == v ? rounded : v;
}
inline Vec<double> round_to_bfloat16(Vec<double> v) { return v; }
