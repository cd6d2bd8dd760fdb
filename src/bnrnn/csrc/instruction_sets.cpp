// The choice among the kernels that were compiled for several instruction sets.
#include "instruction_sets.h"

#include <torch/headeronly/util/Exception.h>

#include <vector>

namespace bnrnn {
namespace {

const Kernels& best_kernels() {
#ifdef BNRNN_X86
    static const Kernels& kernels = [&]() -> const Kernels& {
        __builtin_cpu_init();
        if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
            __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl"))
            return avx512_kernels;
        if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return avx2_kernels;
        return baseline_kernels;
    }();
    return kernels;
#else
    return baseline_kernels;
#endif
}

const Kernels* chosen_kernels = nullptr;

std::vector<const Kernels*> available_kernels() {
    std::vector<const Kernels*> list{&baseline_kernels};
#ifdef BNRNN_X86
    const Kernels* best = &best_kernels();
    if (best != &baseline_kernels) list.push_back(&avx2_kernels);
    if (best == &avx512_kernels) list.push_back(&avx512_kernels);
#endif
    return list;
}

}  // namespace

const Kernels& kernels() { return chosen_kernels ? *chosen_kernels : best_kernels(); }

std::int64_t vector_bytes() { return kernels().vector_bytes; }

std::string instruction_set() { return kernels().name; }

std::string instruction_sets() {
    std::string names;
    for (const Kernels* k : available_kernels()) names += (names.empty() ? "" : " ") + std::string(k->name);
    return names;
}

// For tests: the kernels of another instruction set than the best.
void use_instruction_set(std::string name) {
    for (const Kernels* k : available_kernels())
        if (name == k->name) {
            chosen_kernels = k;
            return;
        }
    STD_TORCH_CHECK(false, "instruction set ", name, " is not available; available are ", instruction_sets());
}

}  // namespace bnrnn
