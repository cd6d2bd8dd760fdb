// One instruction set's kernels. The including file says which:
//   BNRNN_ISA               a name
//   BNRNN_VECTOR_BYTES      width of a vector
//   BNRNN_VECTOR_REGISTERS  how many there are
// All code sits in an unnamed namespace. Were it shared, the linker might keep one instruction set's copy of a
// function for all; for the same reason no code of the standard library's templates is used here.
#include <sched.h>

#include <cstdint>
#include <new>
#include <utility>

#include "problem.h"

namespace bnrnn {
namespace {
#include "simd.h"
#include "product.h"
#include "statistics.h"
#include "plan.h"
#include "layer_norm.h"
#include "pack.h"
#include "input.h"
#include "weights.h"
#include "projection.h"
#include "zoneout.h"
#include "forward.h"
#include "backward.h"
#include "preactivation.h"
#include "lstm.h"
#include "gru.h"
#include "rnn.h"
#include "step.h"

// A cell by the functions that the operators call.
template <typename T, typename C>
struct Entry {
    static std::int64_t saved_size(const Problem<T>& p) {
        Problem<T> measured = p;
        measured.saved = nullptr;
        Plan<T, C::gates> plan(measured, 512, C{});
        Arena keep(nullptr, BNRNN_VECTOR_BYTES), scratch(nullptr);
        Slabs<T, C::gates> slabs(plan, keep, scratch, true);
        LayerNorm<T, C> rows(plan, keep, scratch);
        return keep.used() / static_cast<std::int64_t>(sizeof(T));
    }
    static std::int64_t forward_scratch(const Problem<T>& p) { return Forward<T, C>(p).scratch.used(); }
    static std::int64_t backward_scratch(const Problem<T>& p) { return Backward<T, C>(p).scratch.used(); }
    static void forward(const Problem<T>& p, int worker, Barrier& barrier) { Forward<T, C>(p).run(worker, barrier); }
    static void backward(const Problem<T>& p, int worker, Barrier& barrier) { Backward<T, C>(p).run(worker, barrier); }
    static constexpr Cell<T> cell() { return {saved_size, forward_scratch, backward_scratch, forward, backward}; }
};

template <typename T>
constexpr Cells<T> cells() {
    return {Entry<T, Lstm>::cell(), Entry<T, Gru>::cell(), Entry<T, Rnn>::cell(),
            lstm_step<T>,           gru_step<T>,           rnn_step<T>,
            lstm_projection<T>};
}
}  // namespace

#define BNRNN_JOIN(a, b) a##b
#define BNRNN_NAME(isa) BNRNN_JOIN(isa, _kernels)
#define BNRNN_QUOTE(isa) BNRNN_QUOTED(isa)
#define BNRNN_QUOTED(isa) #isa
const Kernels BNRNN_NAME(BNRNN_ISA) = {BNRNN_QUOTE(BNRNN_ISA), BNRNN_VECTOR_BYTES, cells<float>(), cells<double>()};
}  // namespace bnrnn
