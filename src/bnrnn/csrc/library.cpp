// The operators' registration. They are defined in ops/operators.py; here are the CPU's implementations, and facts.
#include <torch/csrc/stable/library.h>

#include "instruction_sets.h"
#include "operators.h"
#include "pool.h"

// The digest of the sources that this was built from, to be found in the file's bytes before it is loaded: an object of
// other sources may define what is defined already, which ends the process.
extern "C" __attribute__((visibility("default"), used)) const char bnrnn_sources[] = "bnrnn sources " BNRNN_SOURCES;

namespace bnrnn {
namespace {

std::int64_t release_memory() { return Pool::instance().release(); }

// For tests: what is read before it was written is NaN.
void poison_memory(bool on) { Pool::instance().poisons = on; }

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(bnrnn, m) {
    m.def("vector_bytes() -> int");
    m.def("instruction_set() -> str");
    m.def("instruction_sets() -> str");
    m.def("release_memory() -> int");
    m.def("poison_memory(bool on) -> ()");
    m.def("use_instruction_set(str name) -> ()");
}

STABLE_TORCH_LIBRARY_IMPL(bnrnn, CPU, m) {
    m.impl("recurrence", TORCH_BOX(&recurrence));
    m.impl("recurrence_backward", TORCH_BOX(&recurrence_backward));
    m.impl("step", TORCH_BOX(&step));
    m.impl("average_", TORCH_BOX(&average));
}

STABLE_TORCH_LIBRARY_IMPL(bnrnn, CompositeExplicitAutograd, m) {
    m.impl("vector_bytes", TORCH_BOX(&vector_bytes));
    m.impl("instruction_set", TORCH_BOX(&instruction_set));
    m.impl("instruction_sets", TORCH_BOX(&instruction_sets));
    m.impl("release_memory", TORCH_BOX(&release_memory));
    m.impl("poison_memory", TORCH_BOX(&poison_memory));
    m.impl("use_instruction_set", TORCH_BOX(&use_instruction_set));
}

}  // namespace bnrnn
