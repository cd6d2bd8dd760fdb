// The kernels in use, and what operators ask of them.
#pragma once

#include <cstdint>
#include <string>

#include "problem.h"

namespace bnrnn {

// The cells by the numbers of ops/cells.py.
enum class Net { lstm, gru, rnn_tanh, rnn_relu };
constexpr std::int64_t nets = 4;

constexpr int gates(Net net) { return net == Net::lstm ? 4 : net == Net::gru ? 3 : 1; }

// Those of the best instruction set here, or the ones chosen by a test.
const Kernels& kernels();

template <typename T>
const Cells<T>& cells();
template <>
inline const Cells<float>& cells() {
    return kernels().f32;
}
template <>
inline const Cells<double>& cells() {
    return kernels().f64;
}

template <typename T>
std::int64_t lanes() {
    return kernels().vector_bytes / static_cast<std::int64_t>(sizeof(T));
}

std::int64_t vector_bytes();
std::string instruction_set();
std::string instruction_sets();
void use_instruction_set(std::string name);

}  // namespace bnrnn
