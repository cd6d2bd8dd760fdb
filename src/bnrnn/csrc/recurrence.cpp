// The operator of a recurrence and of its backward pass: tensors in, tensors out.
#include "instruction_sets.h"
#include "memory.h"
#include "operators.h"
#include "team.h"

#include <cstring>
#include <utility>

namespace bnrnn {
namespace {

template <typename T>
const Cell<T>& cell_of(Net net) {
    return net == Net::lstm ? cells<T>().lstm : net == Net::gru ? cells<T>().gru : cells<T>().rnn;
}

// Rows a thread must have to do before another one is woken.
constexpr double work_per_thread = 5e5;

template <typename T>
int team_size(const Problem<T>& p, Net net) {
    const std::int64_t lanes = bnrnn::lanes<T>();
    const double work = static_cast<double>(p.steps) * p.batch * p.units * gates(net) * (p.units + p.inputs + 50);
    double threads = torch::stable::get_num_threads();
    if (work / work_per_thread < threads) threads = work / work_per_thread;
    const double blocks = static_cast<double>((p.units + lanes - 1) / lanes);
    if (blocks < threads) threads = blocks;
    return threads < 1 ? 1 : static_cast<int>(threads);
}

// The arguments' description of a site: three numbers each for input, recurrent, summed and cell.
struct Layout {
    Kind kind;
    bool has_gamma, has_beta, has_population;
    std::int64_t min_rows, features, rows;

    Layout(const std::vector<std::int64_t>& numbers, int site, Net net, std::int64_t units, std::int64_t steps) {
        kind = static_cast<Kind>(numbers[3 * site]);
        has_gamma = numbers[3 * site + 1] & 1;
        has_beta = numbers[3 * site + 1] & 2;
        has_population = numbers[3 * site + 1] & 4;
        min_rows = numbers[3 * site + 2];
        features = site == 3 ? units : gates(net) * units;
        rows = kind == Kind::sequence ? 1 : steps;
    }

    bool is_batch() const { return kind == Kind::frame || kind == Kind::sequence; }
    bool own_statistics() const { return is_batch() && !has_population; }
    std::int64_t statistics_size() const { return own_statistics() ? 2 * rows * features : 0; }
};

struct Call {
    Net net;
    Tensor x;
    OptionalTensor h0, c0;  // forward only
    Tensor weight_ih, weight_hh;
    OptionalTensor bias, bias_hn, weight_hr;
    std::vector<Tensor> site_tensors;
    std::vector<std::int64_t> site_layout;
    std::vector<double> eps;
    OptionalTensor batch_sizes, mask, zoneout_h, zoneout_c;
    bool bfloat16;  // the state enters the recurrent product in bfloat16

    std::int64_t steps() const { return x.size(0); }
    std::int64_t batch() const { return x.size(1); }
    std::int64_t inputs() const { return weight_ih.size(1); }
    std::int64_t outputs() const { return weight_hh.size(1); }  // of h
    std::int64_t units() const { return weight_hr ? weight_ih.size(0) / gates(net) : outputs(); }
    Layout layout(int site) const { return {site_layout, site, net, units(), steps()}; }
    bool in_double() const { return weight_hh.scalar_type() == ScalarType::Double; }
};

// Valid rows at the first step and of all steps.
std::pair<std::int64_t, std::int64_t> check_batch_sizes(const Call& c) {
    if (!c.batch_sizes) return {c.batch(), c.steps() * c.batch()};
    expect(*c.batch_sizes, "batch_sizes", ScalarType::Long, {c.steps()});
    Arguments args;
    const auto* rows = args.data<std::int64_t>(*c.batch_sizes);
    std::int64_t total = 0;
    for (std::int64_t t = 0, before = c.batch(); t < c.steps(); before = rows[t++]) {
        STD_TORCH_CHECK(rows[t] >= 0 && rows[t] <= before,
                        "bnrnn: batch_sizes must not increase and lie between 0 and ", c.batch(), ", got ", rows[t],
                        " at step ", t);
        total += rows[t];
    }
    return {rows[0], total};
}

void check_sites(const Call& c, ScalarType dtype) {
    static constexpr const char* names[4] = {"input", "recurrent", "summed", "cell"};
    STD_TORCH_CHECK(c.site_layout.size() == 12 && c.eps.size() == 4,
                    "bnrnn: site_layout must have 12 numbers and eps 4, got ", c.site_layout.size(), " and ",
                    c.eps.size());
    const auto [first, total] = check_batch_sizes(c);
    std::size_t next = 0;
    const auto take = [&](const char* name, std::initializer_list<std::int64_t> sizes) {
        STD_TORCH_CHECK(next < c.site_tensors.size(), "bnrnn: site_tensors lacks ", name);
        expect(c.site_tensors[next++], name, dtype, sizes);
    };
    for (int i = 0; i < 4; ++i) {
        const std::int64_t kind = c.site_layout[3 * i], given = c.site_layout[3 * i + 1];
        STD_TORCH_CHECK(kind >= 0 && kind <= static_cast<std::int64_t>(Kind::shift) && given >= 0 && given < 8,
                        "bnrnn: site ", names[i], " has the unknown kind ", kind, " or flags ", given);
        const Layout layout = c.layout(i);
        const bool may = layout.kind == Kind::none    ? !given
                         : layout.kind == Kind::shift ? i == 3 && !layout.has_gamma && !layout.has_population
                                                      : layout.is_batch() || !layout.has_population;
        STD_TORCH_CHECK(may && (i == 3 || !layout.has_beta) &&
                            (i < 3 || c.net == Net::lstm || layout.kind == Kind::none) &&
                            (i == 0 || layout.kind != Kind::sequence || layout.has_population),
                        "bnrnn: site ", names[i], " of kind ", kind, " cannot have flags ", given);
        if (layout.own_statistics()) {
            const std::int64_t rows = layout.kind == Kind::frame ? first : total;
            STD_TORCH_CHECK(layout.min_rows >= 1 && rows >= layout.min_rows, "bnrnn: site ", names[i], " needs ",
                            layout.min_rows, " valid rows, at least 1, got ", rows);
        }
        if (layout.has_gamma) take("a site's gamma", {layout.features});
        if (layout.has_beta) take("a site's beta", {layout.features});
        if (layout.has_population) {
            take("a site's mean", {layout.rows, layout.features});
            take("a site's var", {layout.rows, layout.features});
        }
    }
    STD_TORCH_CHECK(next == c.site_tensors.size(), "bnrnn: site_tensors has ", c.site_tensors.size(), " tensors, ",
                    next, " are described");
}

void check_zoneout(const OptionalTensor& z, const char* name, ScalarType dtype, const Call& c, std::int64_t size) {
    if (!z) return;
    if (z->dim() == 0)
        expect(*z, name, dtype, {});
    else
        expect(*z, name, dtype, {c.steps(), c.batch(), size});
}

Net check_net(std::int64_t net) {
    STD_TORCH_CHECK(net >= 0 && net < nets, "bnrnn: cell must be a number from 0 to ", nets - 1, ", got ", net);
    return static_cast<Net>(net);
}

// All that the kernels trust. In the backward call there are no initial states.
void check(const Call& c, bool forward) {
    const std::int64_t g = gates(c.net);
    const ScalarType dtype = expect_float(c.weight_hh, "weight_hh");
    expect_dim(c.weight_hh, "weight_hh", 2);
    expect_dim(c.weight_ih, "weight_ih", 2);
    const std::int64_t units = c.units(), outputs = c.outputs(), inputs = c.inputs();
    STD_TORCH_CHECK(units > 0 && outputs > 0 && inputs > 0,
                    "bnrnn: at least one unit, one output and one input feature are needed");
    STD_TORCH_CHECK(!c.weight_hr || c.net == Net::lstm, "bnrnn: weight_hr is an LSTM's");
    expect(c.weight_hh, "weight_hh", dtype, {g * units, outputs});
    expect(c.weight_ih, "weight_ih", dtype, {g * units, inputs});
    expect(c.weight_hr, "weight_hr", dtype, {outputs, units});
    const bool is_index = c.x.scalar_type() == ScalarType::Long;
    expect_dim(c.x, "x", is_index ? 2 : 3);
    const std::int64_t steps = c.steps(), batch = c.batch();
    STD_TORCH_CHECK(steps > 0, "bnrnn: x must have at least one time step");
    if (is_index)
        expect(c.x, "x", ScalarType::Long, {steps, batch});
    else
        expect(c.x, "x", dtype, {steps, batch, inputs});
    if (forward) {
        expect(c.h0, "h0", dtype, {batch, outputs});
        expect(c.c0, "c0", dtype, {batch, units});
        STD_TORCH_CHECK(c.c0.has_value() == (c.net == Net::lstm), "bnrnn: c0 is an LSTM's, and it needs one");
    }
    expect(c.bias, "bias", dtype, {g * units});
    expect(c.bias_hn, "bias_hn", dtype, {units});
    STD_TORCH_CHECK(!c.bias_hn || c.net == Net::gru, "bnrnn: bias_hn is a GRU's");
    expect(c.mask, "recurrent_mask", dtype, {batch, outputs});
    check_zoneout(c.zoneout_h, "zoneout_h", dtype, c, outputs);
    check_zoneout(c.zoneout_c, "zoneout_c", dtype, c, units);
    STD_TORCH_CHECK(!c.zoneout_c || c.net == Net::lstm, "bnrnn: zoneout_c is an LSTM's");
    check_sites(c, dtype);
    if (is_index && forward) {
        Arguments args;
        const auto* index = args.data<std::int64_t>(c.x);
        for (std::int64_t i = 0; i < steps * batch; ++i) expect_index(index[i], inputs);
    }
}

template <typename T>
Site<T>& site_of(Problem<T>& p, int i) {
    return i == 0 ? p.input : i == 1 ? p.recurrent : i == 2 ? p.summed : p.cell;
}

// `statistics` is the forward call's own: it writes them, and the backward call reads them.
template <typename T>
Problem<T> problem_of(const Call& c, Arguments& args, T* statistics) {
    Problem<T> p;
    p.steps = c.steps(), p.batch = c.batch(), p.inputs = c.inputs(), p.units = c.units(), p.outputs = c.outputs();
    p.relu = c.net == Net::rnn_relu;
    p.round_to_bfloat16 = c.bfloat16;
    if (c.x.scalar_type() == ScalarType::Long) {
        p.index = args.data<std::int64_t>(c.x);
    } else {
        p.x = args.data<T>(c.x);
    }
    p.batch_sizes = args.data<std::int64_t>(c.batch_sizes);
    p.h0 = args.data<T>(c.h0), p.c0 = args.data<T>(c.c0);
    p.weight_ih = args.data<T>(c.weight_ih), p.weight_hh = args.data<T>(c.weight_hh);
    p.weight_hr = args.data<T>(c.weight_hr);
    p.bias = args.data<T>(c.bias), p.bias_hn = args.data<T>(c.bias_hn);
    p.mask = args.data<T>(c.mask);
    p.zoneout_h = args.data<T>(c.zoneout_h), p.zoneout_c = args.data<T>(c.zoneout_c);
    p.zoneout_h_varies = c.zoneout_h && c.zoneout_h->dim() > 0;
    p.zoneout_c_varies = c.zoneout_c && c.zoneout_c->dim() > 0;
    std::size_t next = 0;
    for (int i = 0; i < 4; ++i) {
        const Layout layout = c.layout(i);
        Site<T>& site = site_of(p, i);
        site.kind = layout.kind;
        site.own_statistics = layout.own_statistics();
        site.eps = static_cast<T>(c.eps[i]);
        site.min_rows = layout.min_rows;
        if (layout.has_gamma) site.gamma = args.data<T>(c.site_tensors.at(next++));
        if (layout.has_beta) site.beta = args.data<T>(c.site_tensors.at(next++));
        if (layout.has_population) {  // read only: the kernels write where statistics are the batch's own
            site.mean = const_cast<T*>(args.data<T>(c.site_tensors.at(next++)));
            site.var = const_cast<T*>(args.data<T>(c.site_tensors.at(next++)));
        } else if (site.own_statistics) {
            site.mean = statistics;
            site.var = statistics + layout.rows * layout.features;
            statistics += layout.statistics_size();
        }
    }
    return p;
}

std::int64_t statistics_size(const Call& c) {
    std::int64_t size = 0;
    for (int i = 0; i < 4; ++i) size += c.layout(i).statistics_size();
    return size;
}

using ForwardResult = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor>;

template <typename T>
ForwardResult forward_as(const Call& c, bool keep) {
    Arguments args;
    const Tensor& like = c.weight_hh;
    Tensor output = allocate(like, {c.steps(), c.batch(), c.outputs()});
    Tensor h_n = allocate(like, {c.batch(), c.outputs()});
    Tensor c_n = allocate(like, {c.net == Net::lstm ? c.batch() : 0, c.units()});
    Tensor statistics = allocate(like, {statistics_size(c)});
    if (c.batch() == 0) return {output, h_n, c_n, statistics, allocate(like, {0})};
    auto p = problem_of<T>(c, args, static_cast<T*>(statistics.mutable_data_ptr()));
    const Cell<T>& cell = cell_of<T>(c.net);
    Tensor saved = allocate_pooled(like, keep ? cell.saved_size(p) : 0);
    p.output = static_cast<T*>(output.mutable_data_ptr());
    p.h_n = static_cast<T*>(h_n.mutable_data_ptr());
    p.c_n = static_cast<T*>(c_n.mutable_data_ptr());
    p.saved = keep ? static_cast<T*>(saved.mutable_data_ptr()) : nullptr;
    const Scratch scratch(cell.forward_scratch(p));
    p.scratch = scratch.data();
    with_team(team_size(p, c.net), [&](int worker, Barrier& barrier) { cell.forward(p, worker, barrier); });
    return {output, h_n, c_n, statistics, saved};
}

// Of x, h0, c0, W_ih, W_hh, the biases together, the projection and the sites' tensors together.
using Gradients = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor>;

template <typename T>
Gradients backward_as(const Call& c, const OptionalTensor& grad_output, const OptionalTensor& grad_h_n,
                      const OptionalTensor& grad_c_n, const Tensor& statistics, const Tensor& saved, bool need_x) {
    Arguments args;
    const Tensor& like = c.weight_hh;
    const std::int64_t g = gates(c.net), units = c.units(), outputs = c.outputs();
    Tensor x = allocate(like, {need_x ? c.steps() : 0, c.batch(), c.inputs()});
    Tensor h0 = allocate(like, {c.batch(), outputs});
    Tensor c0 = allocate(like, {c.net == Net::lstm ? c.batch() : 0, units});
    Tensor weight_ih = allocate(like, {g * units, c.inputs()});
    Tensor weight_hh = allocate(like, {g * units, outputs});
    Tensor biases = allocate(like, {(g + (c.net == Net::gru)) * units});
    Tensor weight_hr = c.weight_hr ? allocate(like, {outputs, units}) : allocate(like, {0});
    Tensor sites = allocate(like, {(3 * g + 2) * units});
    expect(statistics, "statistics", like.scalar_type(), {statistics_size(c)});
    if (c.batch() == 0) {
        for (const Tensor* t : {&weight_ih, &weight_hh, &biases, &weight_hr, &sites})
            std::memset(t->mutable_data_ptr(), 0, t->numel() * sizeof(T));
        return {x, h0, c0, weight_ih, weight_hh, biases, weight_hr, sites};
    }
    auto p = problem_of<T>(c, args, const_cast<T*>(args.data<T>(statistics)));
    const Cell<T>& cell = cell_of<T>(c.net);
    expect(saved, "saved", like.scalar_type(), {cell.saved_size(p)});
    p.saved = const_cast<T*>(args.data<T>(saved));
    expect(grad_output, "grad_output", like.scalar_type(), {c.steps(), c.batch(), outputs});
    expect(grad_h_n, "grad_h_n", like.scalar_type(), {c.batch(), outputs});
    expect(grad_c_n, "grad_c_n", like.scalar_type(), {c.net == Net::lstm ? c.batch() : 0, units});
    p.grad_output = args.data<T>(grad_output);
    p.grad_h_n = args.data<T>(grad_h_n), p.grad_c_n = args.data<T>(grad_c_n);
    const auto data = [](const Tensor& t) { return static_cast<T*>(t.mutable_data_ptr()); };
    p.grad_x = need_x ? data(x) : nullptr;
    p.grad_h0 = data(h0), p.grad_c0 = data(c0);
    p.grad_weight_ih = data(weight_ih), p.grad_weight_hh = data(weight_hh), p.grad_weight_hr = data(weight_hr);
    p.grad_bias = data(biases);
    if (c.net == Net::gru) p.grad_bias_hn = data(biases) + g * units;
    T* of_sites = data(sites);
    for (int i = 0; i < 3; ++i) site_of(p, i).grad_gamma = of_sites + i * g * units;
    p.cell.grad_gamma = of_sites + 3 * g * units;
    p.cell.grad_beta = p.cell.grad_gamma + units;
    const Scratch scratch(cell.backward_scratch(p));
    p.scratch = scratch.data();
    with_team(team_size(p, c.net), [&](int worker, Barrier& barrier) { cell.backward(p, worker, barrier); });
    return {x, h0, c0, weight_ih, weight_hh, biases, weight_hr, sites};
}

}  // namespace

ForwardResult recurrence(std::int64_t net, Tensor x, Tensor h0, OptionalTensor c0, Tensor weight_ih, Tensor weight_hh,
                         OptionalTensor bias, OptionalTensor bias_hn, OptionalTensor weight_hr,
                         std::vector<Tensor> site_tensors, std::vector<std::int64_t> site_layout,
                         std::vector<double> eps, OptionalTensor batch_sizes, OptionalTensor recurrent_mask,
                         OptionalTensor zoneout_h, OptionalTensor zoneout_c, bool bfloat16, bool keep) {
    const Call c{check_net(net), x,         h0,           c0,          weight_ih, weight_hh,   bias,
                 bias_hn,        weight_hr, site_tensors, site_layout, eps,       batch_sizes, recurrent_mask,
                 zoneout_h,      zoneout_c, bfloat16};
    check(c, true);
    return c.in_double() ? forward_as<double>(c, keep) : forward_as<float>(c, keep);
}

Gradients recurrence_backward(OptionalTensor grad_output, OptionalTensor grad_h_n, OptionalTensor grad_c_n,
                              Tensor statistics, Tensor saved, std::int64_t net, Tensor x, Tensor h0, OptionalTensor c0,
                              Tensor weight_ih, Tensor weight_hh, OptionalTensor bias, OptionalTensor bias_hn,
                              OptionalTensor weight_hr, std::vector<Tensor> site_tensors,
                              std::vector<std::int64_t> site_layout, std::vector<double> eps,
                              OptionalTensor batch_sizes, OptionalTensor recurrent_mask, OptionalTensor zoneout_h,
                              OptionalTensor zoneout_c, bool bfloat16, bool need_x) {
    const Call c{check_net(net), x,         {},           {},          weight_ih, weight_hh,   bias,
                 bias_hn,        weight_hr, site_tensors, site_layout, eps,       batch_sizes, recurrent_mask,
                 zoneout_h,      zoneout_c, bfloat16};
    check(c, false);
    return c.in_double() ? backward_as<double>(c, grad_output, grad_h_n, grad_c_n, statistics, saved, need_x)
                         : backward_as<float>(c, grad_output, grad_h_n, grad_c_n, statistics, saved, need_x);
}

}  // namespace bnrnn
