// The operator that takes a batch's statistics into a table of averages, the only one that changes its arguments.
#include "operators.h"
#include "team.h"

#include <cstring>

namespace bnrnn {
namespace {

// Rows that no batch has reached get the values of the nearest earlier one that has, or of the first.
template <typename T>
void fill(T* const tables[2], const std::int64_t* counts, std::int64_t rows, std::int64_t size) {
    std::int64_t source = 0;
    while (source < rows && counts[source] == 0) ++source;
    if (source == rows) return;
    for (std::int64_t r = 0; r < rows; ++r) {
        if (counts[r] > 0) {
            source = r;
            continue;
        }
        for (int i = 0; i < 2; ++i) std::memcpy(tables[i] + r * size, tables[i] + source * size, size * sizeof(T));
    }
}

// Rows of a table from `start` on move towards those of a batch, as far as torch.lerp would take them.
template <typename T>
void average_as(Tensor& mean, Tensor& var, Tensor& count, const Tensor& batch_mean, const Tensor& batch_var,
                std::int64_t start, double momentum) {
    Arguments args;
    const std::int64_t rows = batch_mean.size(0), size = batch_mean.size(1);
    auto* const counts = static_cast<std::int64_t*>(count.mutable_data_ptr());
    T* const tables[2] = {static_cast<T*>(mean.mutable_data_ptr()), static_cast<T*>(var.mutable_data_ptr())};
    const T* const batches[2] = {args.data<T>(batch_mean), args.data<T>(batch_var)};
    constexpr std::int64_t grain = 1 << 14;  // elements
    parallel_for(0, rows, (grain + size - 1) / size, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t r = begin; r < end; ++r) {
            const T least = static_cast<T>(momentum), equal = T(1) / static_cast<T>(++counts[start + r]);
            const T weight = equal < least ? least : equal;
            for (int i = 0; i < 2; ++i) {
                T* to = tables[i] + (start + r) * size;
                const T* from = batches[i] + r * size;
                if (weight < T(0.5))
                    for (std::int64_t k = 0; k < size; ++k) to[k] += weight * (from[k] - to[k]);
                else
                    for (std::int64_t k = 0; k < size; ++k) to[k] = from[k] - (from[k] - to[k]) * (1 - weight);
            }
        }
    });
    if (rows > 0 && rows < count.size(0)) fill(tables, counts, count.size(0), size);
}

}  // namespace

void average(Tensor mean, Tensor var, Tensor count, Tensor batch_mean, Tensor batch_var, std::int64_t start,
             double momentum) {
    const ScalarType dtype = expect_float(mean, "mean");
    expect_dim(mean, "mean", 2);
    expect_dim(batch_mean, "batch_mean", 2);
    const std::int64_t rows = mean.size(0), size = mean.size(1), steps = batch_mean.size(0);
    expect(mean, "mean", dtype, {rows, size});
    expect(var, "var", dtype, {rows, size});
    expect(count, "count", ScalarType::Long, {rows});
    expect(batch_mean, "batch_mean", dtype, {steps, size});
    expect(batch_var, "batch_var", dtype, {steps, size});
    for (const Tensor* t : {&mean, &var, &count})
        STD_TORCH_CHECK(t->is_contiguous(), "bnrnn: mean, var and count must be contiguous");
    STD_TORCH_CHECK(start >= 0 && start <= rows && steps <= rows - start, "bnrnn: start must leave room for ", steps,
                    " rows in a table of ", rows, ", got ", start);
    STD_TORCH_CHECK(momentum >= 0 && momentum <= 1, "bnrnn: momentum must be from 0 to 1, got ", momentum);
    if (steps == 0 || size == 0) return;
    if (dtype == ScalarType::Double)
        average_as<double>(mean, var, count, batch_mean, batch_var, start, momentum);
    else
        average_as<float>(mean, var, count, batch_mean, batch_var, start, momentum);
}

}  // namespace bnrnn
