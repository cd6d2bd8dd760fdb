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
#include "layer.h"
#include "recurrence.h"
#include "lstm.h"
#include "gru.h"
#include "rnn.h"
#include "step.h"

template <typename T>
constexpr Cells<T> cells() {
    return {Entry<T, Lstm>::cell(), Entry<T, Gru>::cell(), Entry<T, Rnn>::cell(),
            lstm_step<T>, gru_step<T>, rnn_step<T>};
}
}  // namespace

#define BNRNN_JOIN(a, b) a##b
#define BNRNN_NAME(isa) BNRNN_JOIN(isa, _kernels)
#define BNRNN_QUOTE(isa) BNRNN_QUOTED(isa)
#define BNRNN_QUOTED(isa) #isa
const Kernels BNRNN_NAME(BNRNN_ISA) = {BNRNN_QUOTE(BNRNN_ISA), BNRNN_VECTOR_BYTES, cells<float>(), cells<double>()};
}  // namespace bnrnn
