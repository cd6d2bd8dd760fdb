// The operators' implementations, for their registration. The schemas are ops/operators.py's.
#pragma once

#include <tuple>

#include "arguments.h"

namespace bnrnn {

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor> recurrence(
    std::int64_t net, Tensor x, Tensor h0, OptionalTensor c0, Tensor weight_ih, Tensor weight_hh, OptionalTensor bias,
    OptionalTensor bias_hn, OptionalTensor weight_hr, std::vector<Tensor> site_tensors,
    std::vector<std::int64_t> site_layout, std::vector<double> eps, OptionalTensor batch_sizes,
    OptionalTensor recurrent_mask, OptionalTensor zoneout_h, OptionalTensor zoneout_c, bool bfloat16, bool keep);

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor> recurrence_backward(
    OptionalTensor grad_output, OptionalTensor grad_h_n, OptionalTensor grad_c_n, Tensor statistics, Tensor saved,
    std::int64_t net, Tensor x, Tensor h0, OptionalTensor c0, Tensor weight_ih, Tensor weight_hh, OptionalTensor bias,
    OptionalTensor bias_hn, OptionalTensor weight_hr, std::vector<Tensor> site_tensors,
    std::vector<std::int64_t> site_layout, std::vector<double> eps, OptionalTensor batch_sizes,
    OptionalTensor recurrent_mask, OptionalTensor zoneout_h, OptionalTensor zoneout_c, bool bfloat16, bool need_x);

std::tuple<Tensor, Tensor> step(std::int64_t net, Tensor x, Tensor h, OptionalTensor c, Tensor weight_ih,
                                Tensor weight_hh, OptionalTensor weight_hr, Tensor table, std::int64_t row,
                                double zoneout_h, double zoneout_c);

void average(Tensor mean, Tensor var, Tensor count, Tensor batch_mean, Tensor batch_var, std::int64_t start,
             double momentum);

}  // namespace bnrnn
