// The operator of one time step with known statistics.
#include "instruction_sets.h"
#include "memory.h"
#include "operators.h"
#include "team.h"

namespace bnrnn {
namespace {

// Multiply-adds in one step that pay for waking a thread.
constexpr std::int64_t step_work_per_thread = 1 << 18;

template <typename T>
std::tuple<Tensor, Tensor> step_as(Net net, const Tensor& x, const Tensor& h, const OptionalTensor& c,
                                   const Tensor& weight_ih, const Tensor& weight_hh, const OptionalTensor& weight_hr,
                                   const Tensor& table, std::int64_t row, double zoneout_h, double zoneout_c) {
    Arguments args;
    const std::int64_t lanes = bnrnn::lanes<T>();
    Step<T> s;
    s.batch = h.size(0), s.outputs = h.size(1), s.units = c ? c->size(1) : h.size(1), s.inputs = weight_ih.size(1);
    s.relu = net == Net::rnn_relu;
    if (x.scalar_type() == ScalarType::Long) {
        s.index = args.data<std::int64_t>(x);
        for (std::int64_t r = 0; r < s.batch; ++r) expect_index(s.index[r], s.inputs);
    } else {
        s.x = args.data<T>(x);
    }
    s.h = args.data<T>(h), s.c = args.data<T>(c);
    s.weight_ih = args.data<T>(weight_ih), s.weight_hh = args.data<T>(weight_hh);
    s.row = args.data<T>(table) + row * table.size(1);
    s.zoneout_h = static_cast<T>(zoneout_h), s.zoneout_c = static_cast<T>(zoneout_c);
    Tensor new_h = allocate(h, {s.batch, s.outputs});
    Tensor new_c = allocate(h, {net == Net::lstm ? s.batch : 0, s.units});
    s.new_h = static_cast<T*>(new_h.mutable_data_ptr());
    s.new_c = static_cast<T*>(new_c.mutable_data_ptr());
    if (s.batch == 0) return {new_h, new_c};
    const Cells<T>& all = cells<T>();
    const auto blocks_of = [&](std::int64_t units, std::int64_t products, const auto& run) {
        const std::int64_t blocks = (units + lanes - 1) / lanes, block_work = s.batch * lanes * products;
        const std::int64_t grain = (step_work_per_thread + block_work - 1) / block_work;
        const auto work = [&](std::int64_t begin, std::int64_t end) {
            for (std::int64_t block = begin; block < end; ++block) run(s, block);
        };
        if (grain >= blocks)
            work(0, blocks);
        else
            parallel_for(0, blocks, grain, work);
    };
    std::optional<Scratch> inner;
    if (weight_hr) {
        inner.emplace(s.batch * s.units * static_cast<std::int64_t>(sizeof(T)));
        s.weight_hr = args.data<T>(*weight_hr), s.inner = static_cast<T*>(inner->data());
    }
    const auto run = net == Net::lstm ? all.lstm_step : net == Net::gru ? all.gru_step : all.rnn_step;
    blocks_of(s.units, gates(net) * (s.outputs + s.inputs), run);
    if (weight_hr) blocks_of(s.outputs, s.units, all.lstm_projection);
    return {new_h, new_c};
}

}  // namespace

std::tuple<Tensor, Tensor> step(std::int64_t net, Tensor x, Tensor h, OptionalTensor c, Tensor weight_ih,
                                Tensor weight_hh, OptionalTensor weight_hr, Tensor table, std::int64_t row,
                                double zoneout_h, double zoneout_c) {
    STD_TORCH_CHECK(net >= 0 && net < nets, "bnrnn: cell must be a number from 0 to ", nets - 1, ", got ", net);
    const Net which = static_cast<Net>(net);
    const ScalarType dtype = expect_float(h, "h");
    const bool in_double = dtype == ScalarType::Double, is_index = x.scalar_type() == ScalarType::Long;
    expect_dim(h, "h", 2);
    expect_dim(weight_ih, "weight_ih", 4);
    STD_TORCH_CHECK(c.has_value() == (which == Net::lstm), "bnrnn: c is an LSTM's, and it needs one");
    STD_TORCH_CHECK(!weight_hr || c, "bnrnn: weight_hr is an LSTM's");
    if (c) expect_dim(*c, "c", 2);
    const std::int64_t batch = h.size(0), outputs = h.size(1), units = weight_hr ? c->size(1) : outputs;
    const std::int64_t inputs = weight_ih.size(1), g = gates(which);
    const std::int64_t width = in_double ? lanes<double>() : lanes<float>();
    const std::int64_t blocks = (units + width - 1) / width;
    STD_TORCH_CHECK(units > 0 && inputs > 0 && outputs > 0,
                    "bnrnn: at least one unit, output and input feature are needed");
    expect(h, "h", dtype, {batch, outputs});
    expect(c, "c", dtype, {batch, units});
    expect(weight_ih, "weight_ih", dtype, {blocks, inputs, g, width});
    expect(weight_hh, "weight_hh", dtype, {blocks, outputs, g, width});
    expect(weight_hr, "weight_hr", dtype, {(outputs + width - 1) / width, units, 1, width});
    expect_dim(table, "table", 2);
    expect(table, "table", dtype, {table.size(0), (4 * g + 2) * units});
    STD_TORCH_CHECK(row >= 0 && row < table.size(0), "bnrnn: row must be from 0 to ", table.size(0) - 1, ", got ", row);
    if (is_index)
        expect(x, "x", ScalarType::Long, {batch});
    else
        expect(x, "x", dtype, {batch, inputs});
    return in_double
               ? step_as<double>(which, x, h, c, weight_ih, weight_hh, weight_hr, table, row, zoneout_h, zoneout_c)
               : step_as<float>(which, x, h, c, weight_ih, weight_hh, weight_hr, table, row, zoneout_h, zoneout_c);
}

}  // namespace bnrnn
