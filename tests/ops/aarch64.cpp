// The baseline kernels behind one function of plain arrays, so that aarch64.py can call them in an emulator.
#include <initializer_list>
#include <type_traits>

#include "problem.h"

namespace bnrnn {
namespace {

template <typename T>
std::int64_t call(const std::int64_t* n, const double* eps, void* const* pointers, const Cells<T>& cells) {
    auto next = [&](auto*& field) { field = static_cast<std::remove_reference_t<decltype(field)>>(*pointers++); };
    const std::int64_t operation = *n++, net = *n++;
    const Cell<T>& cell = net == 0 ? cells.lstm : net == 1 ? cells.gru : cells.rnn;
    if (operation == 5) {
        Step<T> s;
        s.batch = *n++, s.inputs = *n++, s.units = *n++, s.outputs = *n++, s.relu = net == 3;
        next(s.x), next(s.index), next(s.h), next(s.c), next(s.weight_ih), next(s.weight_hh), next(s.weight_hr);
        next(s.row), next(s.inner), next(s.new_h), next(s.new_c);
        s.zoneout_h = static_cast<T>(eps[0]), s.zoneout_c = static_cast<T>(eps[1]);
        constexpr std::int64_t lanes = 16 / sizeof(T);
        for (std::int64_t block = 0; block < (s.units + lanes - 1) / lanes; ++block)
            (net == 0 ? cells.lstm_step : net == 1 ? cells.gru_step : cells.rnn_step)(s, block);
        for (std::int64_t block = 0; s.weight_hr && block < (s.outputs + lanes - 1) / lanes; ++block)
            cells.lstm_projection(s, block);
        return 0;
    }
    Problem<T> p;
    p.relu = net == 3;
    p.steps = *n++, p.batch = *n++, p.inputs = *n++, p.units = *n++, p.outputs = *n++;
    p.round_to_bfloat16 = *n++, p.zoneout_h_varies = *n++, p.zoneout_c_varies = *n++;
    next(p.x), next(p.index), next(p.batch_sizes), next(p.h0), next(p.c0), next(p.weight_ih), next(p.weight_hh);
    next(p.weight_hr), next(p.bias), next(p.bias_hn), next(p.mask), next(p.zoneout_h), next(p.zoneout_c);
    for (Site<T>* site : {&p.input, &p.recurrent, &p.summed, &p.cell}) {
        site->kind = static_cast<Kind>(*n++), site->own_statistics = *n++, site->min_rows = *n++;
        site->eps = static_cast<T>(*eps++);
        next(site->gamma), next(site->beta), next(site->mean), next(site->var);
        next(site->grad_gamma), next(site->grad_beta);
    }
    next(p.output), next(p.h_n), next(p.c_n), next(p.saved);
    next(p.grad_output), next(p.grad_h_n), next(p.grad_c_n), next(p.grad_x), next(p.grad_h0), next(p.grad_c0);
    next(p.grad_weight_ih), next(p.grad_weight_hh), next(p.grad_weight_hr), next(p.grad_bias), next(p.grad_bias_hn);
    next(p.scratch);
    Barrier barrier;
    switch (operation) {
        case 0: return cell.saved_size(p);
        case 1: return cell.forward_scratch(p);
        case 2: return cell.backward_scratch(p);
        case 3: cell.forward(p, 0, barrier); return 0;
        default: cell.backward(p, 0, barrier); return 0;
    }
}

}  // namespace
}  // namespace bnrnn

extern "C" __attribute__((visibility("default"))) std::int64_t bnrnn_call(std::int64_t in_double,
                                                                          const std::int64_t* numbers,
                                                                          const double* eps, void* const* pointers) {
    const auto& kernels = bnrnn::baseline_kernels;
    return in_double ? bnrnn::call<double>(numbers, eps, pointers, kernels.f64)
                     : bnrnn::call<float>(numbers, eps, pointers, kernels.f32);
}
