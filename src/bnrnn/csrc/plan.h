// The meeting of workers, the sizes that follow from a problem, and the slabs that a recurrence works in.

inline void pause() {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ __volatile__("yield");
#endif
}

inline void meet(Barrier& barrier) {
    if (barrier.workers == 1) return;
    const int phase = __atomic_load_n(&barrier.phase, __ATOMIC_ACQUIRE);
    if (__atomic_add_fetch(&barrier.arrived, 1, __ATOMIC_ACQ_REL) == barrier.workers) {
        __atomic_store_n(&barrier.arrived, 0, __ATOMIC_RELAXED);
        __atomic_store_n(&barrier.phase, phase + 1, __ATOMIC_RELEASE);
        return;
    }
    for (int spins = 0; __atomic_load_n(&barrier.phase, __ATOMIC_ACQUIRE) == phase; ++spins) {
        if (spins < 4096)
            pause();
        else
            sched_yield();  // another worker may be waiting for this core
    }
}

template <typename T>
inline void zero(T* to, std::int64_t count) {
    for (std::int64_t i = 0; i < count; ++i) to[i] = 0;
}

inline std::int64_t least(std::int64_t a, std::int64_t b) { return a < b ? a : b; }

// Hands out pieces of one allocation; without one it only measures.
class Arena {
public:
    explicit Arena(void* base, std::int64_t alignment = 64) : base_(static_cast<char*>(base)), alignment_(alignment) {}

    template <typename T>
    T* take(std::int64_t count) {
        used_ = (used_ + alignment_ - 1) / alignment_ * alignment_;
        char* p = base_ ? base_ + used_ : nullptr;
        used_ += count * static_cast<std::int64_t>(sizeof(T));
        return reinterpret_cast<T*>(p);
    }

    std::int64_t used() const { return used_; }

private:
    char* base_;
    std::int64_t alignment_, used_ = 0;
};

// Sizes that follow from a problem, and its slabs.
template <typename T, int G>
struct Plan {
    static constexpr int L = Lanes<T>::count;
    static constexpr std::int64_t width = G * L;

    const Problem<T>& p;
    std::int64_t blocks, chunk;
    std::int64_t outputs, output_blocks;  // of h: other than the units where it is projected
    std::int64_t stride, unit_stride;     // of rows of h, and of units
    bool projects;
    bool separate;    // W_hh h and W_ih x are kept apart
    bool keep_input;  // W_ih x is kept for the backward pass, not computed again
    bool raw_state;   // the state is also kept as it is before the recurrent mask and rounding
    bool sequence;    // statistics of the input product are taken over all steps
    bool has_cell_state;
    bool crossing;  // within a step something is taken over all blocks
    int input_slot, recurrent_slot, summed_slot, cell_slot, slots = 0;  // of layer normalization's statistics

    template <typename C>
    Plan(const Problem<T>& problem, std::int64_t rows_at_once, const C&)
        : p(problem), has_cell_state(C::has_cell_state) {
        blocks = (p.units + L - 1) / L;
        projects = p.weight_hr;
        outputs = projects ? p.outputs : p.units;
        output_blocks = (outputs + L - 1) / L;
        const auto stride_of = [](std::int64_t count) {
            const bool aliases = count * L * sizeof(T) % 2048 == 0;  // rows 4 KiB apart would share few cache sets
            return (count + aliases) * L;
        };
        stride = stride_of(output_blocks);
        unit_stride = stride_of(blocks);
        chunk = p.batch * 2 > rows_at_once ? 2 : rows_at_once / p.batch;
        chunk = least(chunk, p.steps < 2 ? 2 : p.steps);
        separate = C::always_separate || normalizes(p.input) || normalizes(p.recurrent);
        sequence = p.input.kind == Kind::sequence && p.input.own_statistics;
        keep_input = separate && ((!p.index && p.inputs > 32) || sequence || is_layer(p.input));
        raw_state = (p.mask || p.round_to_bfloat16) && (C::needs_previous_state || p.zoneout_h);
        crossing = is_layer(p.recurrent) || is_layer(p.summed) || is_layer(p.cell);
        constexpr int ranges = C::together < C::gates ? 2 : 1;
        const auto slot = [&](const Site<T>& site, int count) {
            const int first = slots;
            if (is_layer(site)) slots += count;
            return first;
        };
        input_slot = slot(p.input, ranges);
        recurrent_slot = slot(p.recurrent, ranges);
        summed_slot = slot(p.summed, ranges);
        cell_slot = slot(p.cell, 1);
    }

    std::int64_t rows(std::int64_t t) const {
        if (t >= p.steps) return 0;
        return p.batch_sizes ? p.batch_sizes[t] : p.batch;
    }
    std::int64_t first(int worker, int workers) const { return blocks * worker / workers; }
    int lanes(std::int64_t block) const { return static_cast<int>(least(L, p.units - block * L)); }
    std::int64_t first_output(int worker, int workers) const { return output_blocks * worker / workers; }
    int output_lanes(std::int64_t block) const { return static_cast<int>(least(L, outputs - block * L)); }

    template <int N>
    SiteBlock<T, N> at(const Site<T>& site, std::int64_t block) const {
        return {site, block * L, p.units, lanes(block)};
    }
};

template <typename T, int G>
struct Slabs {
    const Plan<T, G>& m;
    T *state, *raw, *unprojected, *cell = nullptr, *recurrent, *input = nullptr;
    std::int64_t state_ring, unit_ring, step_ring, input_ring;

    // With `keep`, room for all steps; without, for those in use.
    Slabs(const Plan<T, G>& plan, Arena& keep, Arena& scratch, bool kept) : m(plan) {
        const auto& p = m.p;
        state_ring = kept ? p.steps + 1 : 2;
        unit_ring = kept ? p.steps : 1;
        step_ring = kept ? p.steps : m.separate ? 1 : m.chunk;
        input_ring = (kept && m.keep_input) || m.sequence ? p.steps : m.chunk;
        state = keep.template take<T>(state_ring * p.batch * m.stride);
        raw = m.raw_state ? keep.template take<T>(state_ring * p.batch * m.stride) : state;
        unprojected = keep.template take<T>(m.projects ? unit_ring * p.batch * m.unit_stride : 0);
        if (m.has_cell_state) cell = keep.template take<T>(m.blocks * state_ring * p.batch * m.L);
        recurrent = keep.template take<T>(m.blocks * step_ring * p.batch * m.width);
        if (m.separate) {
            auto& place = kept && m.keep_input ? keep : scratch;
            input = place.template take<T>(m.blocks * input_ring * p.batch * m.width);
        }
    }

    T* states(std::int64_t t) const { return state + t % state_ring * m.p.batch * m.stride; }
    T* raw_states(std::int64_t t) const { return raw + t % state_ring * m.p.batch * m.stride; }
    T* unprojected_states(std::int64_t t) const { return unprojected + t % unit_ring * m.p.batch * m.unit_stride; }
    T* cell_states(std::int64_t block, std::int64_t t) const {
        return cell + (block * state_ring + t % state_ring) * m.p.batch * m.L;
    }
    T* recurrents(std::int64_t block, std::int64_t t) const {
        return recurrent + (block * step_ring + t % step_ring) * m.p.batch * m.width;
    }
    T* inputs(std::int64_t block, std::int64_t t) const {
        return input + (block * input_ring + t % input_ring) * m.p.batch * m.width;
    }
};
