// What an operator is given: its data, and checks that it is what a kernel reads and writes.
#pragma once

#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string>
#include <vector>

namespace bnrnn {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;
using OptionalTensor = std::optional<Tensor>;

inline std::string text(std::initializer_list<std::int64_t> sizes) {
    std::string s = "(";
    for (const std::int64_t n : sizes) s += (s.size() > 1 ? ", " : "") + std::to_string(n);
    return s + ")";
}

inline std::string text_of_shape(const Tensor& t) {
    std::string s = "(";
    for (std::int64_t i = 0; i < t.dim(); ++i) s += (i ? ", " : "") + std::to_string(t.size(i));
    return s + ")";
}

inline void expect_place(const Tensor& t, const char* name, ScalarType dtype) {
    STD_TORCH_CHECK(t.is_cpu(), "bnrnn: ", name, " must be on the CPU");
    STD_TORCH_CHECK(t.scalar_type() == dtype, "bnrnn: ", name, " has another dtype than the kernel needs");
}

// A kernel trusts these: each operator checks each of its tensors once.
inline void expect(const Tensor& t, const char* name, ScalarType dtype, std::initializer_list<std::int64_t> sizes) {
    expect_place(t, name, dtype);
    bool same = t.dim() == static_cast<std::int64_t>(sizes.size());
    std::int64_t i = 0;
    if (same)
        for (const std::int64_t n : sizes) same = same && t.size(i++) == n;
    STD_TORCH_CHECK(same, "bnrnn: ", name, " must have shape ", text(sizes), ", got ", text_of_shape(t));
}

inline void expect(const OptionalTensor& t, const char* name, ScalarType dtype,
                   std::initializer_list<std::int64_t> sizes) {
    if (t) expect(*t, name, dtype, sizes);
}

inline void expect_dim(const Tensor& t, const char* name, std::int64_t dim) {
    STD_TORCH_CHECK(t.dim() == dim, "bnrnn: ", name, " must have ", dim, " dimensions, got shape ", text_of_shape(t));
}

// float or double: what the kernels compute in.
inline ScalarType expect_float(const Tensor& t, const char* name) {
    const ScalarType dtype = t.scalar_type();
    STD_TORCH_CHECK(dtype == ScalarType::Float || dtype == ScalarType::Double, "bnrnn: ", name,
                    " must be float32 or float64");
    return dtype;
}

inline void expect_index(std::int64_t index, std::int64_t inputs) {
    STD_TORCH_CHECK(index >= 0 && index < inputs, "x: index ", index, " is not a row of the input; allowed are 0 to ",
                    inputs - 1);
}

// Contiguous data of the caller's tensors, kept alive for the length of a call.
class Arguments {
public:
    template <typename T>
    const T* data(const Tensor& t) {
        held_.push_back(t.is_contiguous() ? t : torch::stable::contiguous(t));
        return static_cast<const T*>(held_.back().const_data_ptr());
    }
    template <typename T>
    const T* data(const OptionalTensor& t) {
        return t ? data<T>(*t) : nullptr;
    }

private:
    std::vector<Tensor> held_;
};

}  // namespace bnrnn
