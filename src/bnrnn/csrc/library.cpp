// The operators: tensors in, tensors out. Nothing is changed in place but the averages of statistics.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <cstdint>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "memory.h"
#include "problem.h"
#include "team.h"

namespace bnrnn {
namespace {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;
using OptionalTensor = std::optional<Tensor>;

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

const Kernels& kernels() { return chosen_kernels ? *chosen_kernels : best_kernels(); }

template <typename T>
const Cells<T>& cells_of(const Kernels& k);
template <>
const Cells<float>& cells_of(const Kernels& k) { return k.f32; }
template <>
const Cells<double>& cells_of(const Kernels& k) { return k.f64; }

enum class Net { lstm, gru, rnn_tanh, rnn_relu };

int gates(Net net) { return net == Net::lstm ? 4 : net == Net::gru ? 3 : 1; }

template <typename T>
const Cell<T>& cell_of(Net net) {
    const Cells<T>& cells = cells_of<T>(kernels());
    return net == Net::lstm ? cells.lstm : net == Net::gru ? cells.gru : cells.rnn;
}

// Rows a thread must have to do before another one is woken.
constexpr double work_per_thread = 5e5;

template <typename T>
int team_size(const Problem<T>& p, Net net) {
    const std::int64_t lanes = kernels().vector_bytes / static_cast<std::int64_t>(sizeof(T));
    const double work = static_cast<double>(p.steps) * p.batch * p.units * gates(net) * (p.units + p.inputs + 50);
    double threads = torch::stable::get_num_threads();
    if (work / work_per_thread < threads) threads = work / work_per_thread;
    const double blocks = static_cast<double>((p.units + lanes - 1) / lanes);
    if (blocks < threads) threads = blocks;
    return threads < 1 ? 1 : static_cast<int>(threads);
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

// The schema's description of a site: four numbers each for input, recurrent, summed and cell.
struct Layout {
    Kind kind;
    bool has_gamma, has_beta, has_population;
    std::int64_t min_rows, features, rows;

    Layout(const std::vector<std::int64_t>& numbers, int site, Net net, std::int64_t units, std::int64_t steps) {
        kind = static_cast<Kind>(numbers[4 * site]);
        has_gamma = numbers[4 * site + 1] & 1;
        has_beta = numbers[4 * site + 1] & 2;
        has_population = numbers[4 * site + 1] & 4;
        min_rows = numbers[4 * site + 2];
        features = site == 3 ? units : gates(net) * units;
        rows = kind == Kind::sequence ? 1 : steps;
    }

    bool own_statistics() const { return (kind == Kind::frame || kind == Kind::sequence) && !has_population; }
    std::int64_t statistics_size() const { return own_statistics() ? 2 * rows * features : 0; }
};

struct Call {
    Net net;
    Tensor x;
    OptionalTensor h0, c0;  // forward only
    Tensor weight_ih, weight_hh;
    OptionalTensor bias, bias_hn;
    std::vector<Tensor> site_tensors;
    std::vector<std::int64_t> site_layout;
    std::vector<double> eps;
    OptionalTensor batch_sizes, mask, zoneout_h, zoneout_c;
    bool bfloat16;  // the state enters the recurrent product in bfloat16

    std::int64_t steps() const { return x.size(0); }
    std::int64_t batch() const { return x.size(1); }
    std::int64_t inputs() const { return weight_ih.size(1); }
    std::int64_t units() const { return weight_hh.size(1); }
    Layout layout(int site) const { return {site_layout, site, net, units(), steps()}; }
    bool in_double() const { return weight_hh.scalar_type() == ScalarType::Double; }
};

template <typename T>
Site<T>& site_of(Problem<T>& p, int i) {
    return i == 0 ? p.input : i == 1 ? p.recurrent : i == 2 ? p.summed : p.cell;
}

// `statistics` is the forward call's own: it writes them, and the backward call reads them.
template <typename T>
Problem<T> problem_of(const Call& c, Arguments& args, T* statistics) {
    Problem<T> p;
    p.steps = c.steps(), p.batch = c.batch(), p.inputs = c.inputs(), p.units = c.units();
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

void check_index(std::int64_t index, std::int64_t inputs) {
    STD_TORCH_CHECK(index >= 0 && index < inputs, "x: index ", index, " is not a row of the input; allowed are 0 to ",
                    inputs - 1);
}

void check_index(const Call& c) {
    if (c.x.scalar_type() != ScalarType::Long) return;
    Arguments args;
    const auto* index = args.data<std::int64_t>(c.x);
    for (std::int64_t i = 0; i < c.steps() * c.batch(); ++i) check_index(index[i], c.inputs());
}

using ForwardResult = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor>;

template <typename T>
ForwardResult forward_as(const Call& c, bool keep) {
    Arguments args;
    const Tensor& like = c.weight_hh;
    Tensor output = allocate(like, {c.steps(), c.batch(), c.units()});
    Tensor h_n = allocate(like, {c.batch(), c.units()});
    Tensor c_n = allocate(like, {c.net == Net::lstm ? c.batch() : 0, c.units()});
    Tensor statistics = allocate(like, {statistics_size(c)});
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

ForwardResult forward(const Call& c, bool keep) {
    check_index(c);
    return c.in_double() ? forward_as<double>(c, keep) : forward_as<float>(c, keep);
}

struct Gradients {
    Tensor x, h0, c0, weight_ih, weight_hh, bias, sites;
};

template <typename T>
Gradients backward_as(const Call& c, const OptionalTensor& grad_output, const OptionalTensor& grad_h_n,
                      const OptionalTensor& grad_c_n, const Tensor& statistics, const Tensor& saved, bool need_x) {
    Arguments args;
    const Tensor& like = c.weight_hh;
    const std::int64_t g = gates(c.net), units = c.units();
    Gradients out{allocate(like, {need_x ? c.steps() : 0, c.batch(), c.inputs()}),
                  allocate(like, {c.batch(), units}),
                  allocate(like, {c.net == Net::lstm ? c.batch() : 0, units}),
                  allocate(like, {g * units, c.inputs()}),
                  allocate(like, {g * units, units}),
                  allocate(like, {(g + (c.net == Net::gru)) * units}),
                  allocate(like, {(3 * g + 2) * units})};
    auto p = problem_of<T>(c, args, const_cast<T*>(static_cast<const T*>(statistics.const_data_ptr())));
    p.saved = const_cast<T*>(static_cast<const T*>(saved.const_data_ptr()));
    p.grad_output = args.data<T>(grad_output);
    p.grad_h_n = args.data<T>(grad_h_n), p.grad_c_n = args.data<T>(grad_c_n);
    const auto data = [](const Tensor& t) { return static_cast<T*>(t.mutable_data_ptr()); };
    p.grad_x = need_x ? data(out.x) : nullptr;
    p.grad_h0 = data(out.h0), p.grad_c0 = data(out.c0);
    p.grad_weight_ih = data(out.weight_ih), p.grad_weight_hh = data(out.weight_hh);
    p.grad_bias = data(out.bias);
    if (c.net == Net::gru) p.grad_bias_hn = data(out.bias) + g * units;
    T* sites = data(out.sites);
    for (int i = 0; i < 3; ++i) site_of(p, i).grad_gamma = sites + i * g * units;
    p.cell.grad_gamma = sites + 3 * g * units;
    p.cell.grad_beta = p.cell.grad_gamma + units;
    const Cell<T>& cell = cell_of<T>(c.net);
    const Scratch scratch(cell.backward_scratch(p));
    p.scratch = scratch.data();
    with_team(team_size(p, c.net), [&](int worker, Barrier& barrier) { cell.backward(p, worker, barrier); });
    return out;
}

Gradients backward(const Call& c, const OptionalTensor& grad_output, const OptionalTensor& grad_h_n,
                   const OptionalTensor& grad_c_n, const Tensor& statistics, const Tensor& saved, bool need_x) {
    return c.in_double() ? backward_as<double>(c, grad_output, grad_h_n, grad_c_n, statistics, saved, need_x)
                         : backward_as<float>(c, grad_output, grad_h_n, grad_c_n, statistics, saved, need_x);
}

ForwardResult lstm(Tensor x, Tensor h0, Tensor c0, Tensor weight_ih, Tensor weight_hh, OptionalTensor bias,
                   std::vector<Tensor> site_tensors, std::vector<std::int64_t> site_layout, std::vector<double> eps,
                   OptionalTensor batch_sizes, OptionalTensor recurrent_mask, OptionalTensor zoneout_h,
                   OptionalTensor zoneout_c, bool bfloat16, bool keep) {
    return forward({Net::lstm, x, h0, c0, weight_ih, weight_hh, bias, {}, site_tensors, site_layout, eps, batch_sizes,
                    recurrent_mask, zoneout_h, zoneout_c, bfloat16},
                   keep);
}

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor> lstm_backward(
    OptionalTensor grad_output, OptionalTensor grad_h_n, OptionalTensor grad_c_n, Tensor statistics, Tensor saved,
    Tensor x, Tensor weight_ih, Tensor weight_hh, OptionalTensor bias, std::vector<Tensor> site_tensors,
    std::vector<std::int64_t> site_layout, std::vector<double> eps, OptionalTensor batch_sizes,
    OptionalTensor recurrent_mask, OptionalTensor zoneout_h, OptionalTensor zoneout_c, bool bfloat16,
    bool need_x) {
    const Gradients g = backward({Net::lstm, x, {}, {}, weight_ih, weight_hh, bias, {}, site_tensors, site_layout, eps,
                                  batch_sizes, recurrent_mask, zoneout_h, zoneout_c, bfloat16},
                                 grad_output, grad_h_n, grad_c_n, statistics, saved, need_x);
    return {g.x, g.h0, g.c0, g.weight_ih, g.weight_hh, g.bias, g.sites};
}

std::tuple<Tensor, Tensor, Tensor, Tensor> gru(
    Tensor x, Tensor h0, Tensor weight_ih, Tensor weight_hh, OptionalTensor bias, OptionalTensor bias_hn,
    std::vector<Tensor> site_tensors, std::vector<std::int64_t> site_layout, std::vector<double> eps,
    OptionalTensor batch_sizes, OptionalTensor recurrent_mask, OptionalTensor zoneout_h, bool bfloat16,
    bool keep) {
    const auto [output, h_n, c_n, statistics, saved] =
        forward({Net::gru, x, h0, {}, weight_ih, weight_hh, bias, bias_hn, site_tensors, site_layout, eps, batch_sizes,
                 recurrent_mask, zoneout_h, {}, bfloat16},
                keep);
    return {output, h_n, statistics, saved};
}

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor> gru_backward(
    OptionalTensor grad_output, OptionalTensor grad_h_n, Tensor statistics, Tensor saved, Tensor x, Tensor weight_ih,
    Tensor weight_hh, OptionalTensor bias, OptionalTensor bias_hn, std::vector<Tensor> site_tensors,
    std::vector<std::int64_t> site_layout, std::vector<double> eps, OptionalTensor batch_sizes,
    OptionalTensor recurrent_mask, OptionalTensor zoneout_h, bool bfloat16, bool need_x) {
    const Gradients g = backward({Net::gru, x, {}, {}, weight_ih, weight_hh, bias, bias_hn, site_tensors, site_layout,
                                  eps, batch_sizes, recurrent_mask, zoneout_h, {}, bfloat16},
                                 grad_output, grad_h_n, {}, statistics, saved, need_x);
    return {g.x, g.h0, g.weight_ih, g.weight_hh, g.bias, g.sites};
}

std::tuple<Tensor, Tensor, Tensor, Tensor> rnn(Tensor x, Tensor h0, Tensor weight_ih, Tensor weight_hh,
                                               OptionalTensor bias, bool relu, std::vector<Tensor> site_tensors,
                                               std::vector<std::int64_t> site_layout, std::vector<double> eps,
                                               OptionalTensor batch_sizes, OptionalTensor recurrent_mask,
                                               OptionalTensor zoneout_h, bool bfloat16, bool keep) {
    const auto [output, h_n, c_n, statistics, saved] =
        forward({relu ? Net::rnn_relu : Net::rnn_tanh, x, h0, {}, weight_ih, weight_hh, bias, {}, site_tensors,
                 site_layout, eps, batch_sizes, recurrent_mask, zoneout_h, {}, bfloat16},
                keep);
    return {output, h_n, statistics, saved};
}

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor> rnn_backward(
    OptionalTensor grad_output, OptionalTensor grad_h_n, Tensor statistics, Tensor saved, Tensor x, Tensor weight_ih,
    Tensor weight_hh, OptionalTensor bias, bool relu, std::vector<Tensor> site_tensors,
    std::vector<std::int64_t> site_layout, std::vector<double> eps, OptionalTensor batch_sizes,
    OptionalTensor recurrent_mask, OptionalTensor zoneout_h, bool bfloat16, bool need_x) {
    const Gradients g = backward({relu ? Net::rnn_relu : Net::rnn_tanh, x, {}, {}, weight_ih, weight_hh, bias, {},
                                  site_tensors, site_layout, eps, batch_sizes, recurrent_mask, zoneout_h, {}, bfloat16},
                                 grad_output, grad_h_n, {}, statistics, saved, need_x);
    return {g.x, g.h0, g.weight_ih, g.weight_hh, g.bias, g.sites};
}

// Multiply-adds in one step that pay for waking a thread.
constexpr std::int64_t step_work_per_thread = 1 << 18;

template <typename T>
std::tuple<Tensor, Tensor> step_as(Net net, const Tensor& x, const Tensor& h, const OptionalTensor& c,
                                   const Tensor& weight_ih, const Tensor& weight_hh, const Tensor& table,
                                   std::int64_t row, double zoneout_h, double zoneout_c) {
    Arguments args;
    const std::int64_t lanes = kernels().vector_bytes / static_cast<std::int64_t>(sizeof(T));
    Step<T> s;
    s.batch = h.size(0), s.units = h.size(1), s.inputs = weight_ih.size(1);
    s.relu = net == Net::rnn_relu;
    if (x.scalar_type() == ScalarType::Long) {
        s.index = args.data<std::int64_t>(x);
        for (std::int64_t r = 0; r < s.batch; ++r) check_index(s.index[r], s.inputs);
    } else {
        s.x = args.data<T>(x);
    }
    s.h = args.data<T>(h), s.c = args.data<T>(c);
    s.weight_ih = args.data<T>(weight_ih), s.weight_hh = args.data<T>(weight_hh);
    s.row = args.data<T>(table) + row * table.size(1);
    s.zoneout_h = static_cast<T>(zoneout_h), s.zoneout_c = static_cast<T>(zoneout_c);
    Tensor new_h = allocate(h, {s.batch, s.units});
    Tensor new_c = allocate(h, {net == Net::lstm ? s.batch : 0, s.units});
    s.new_h = static_cast<T*>(new_h.mutable_data_ptr());
    s.new_c = static_cast<T*>(new_c.mutable_data_ptr());
    const Cells<T>& cells = cells_of<T>(kernels());
    const auto run = net == Net::lstm ? cells.lstm_step : net == Net::gru ? cells.gru_step : cells.rnn_step;
    const std::int64_t blocks = (s.units + lanes - 1) / lanes;
    const std::int64_t block_work = s.batch * lanes * gates(net) * (s.units + s.inputs);
    const std::int64_t grain = (step_work_per_thread + block_work - 1) / block_work;
    const auto work = [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t block = begin; block < end; ++block) run(s, block);
    };
    if (grain >= blocks) {
        work(0, blocks);
    } else {
        parallel_for(0, blocks, grain, work);
    }
    return {new_h, new_c};
}

std::tuple<Tensor, Tensor> step(std::int64_t net, Tensor x, Tensor h, OptionalTensor c, Tensor weight_ih,
                                Tensor weight_hh, Tensor table, std::int64_t row, double zoneout_h, double zoneout_c) {
    const Net which = static_cast<Net>(net);
    return h.scalar_type() == ScalarType::Double
               ? step_as<double>(which, x, h, c, weight_ih, weight_hh, table, row, zoneout_h, zoneout_c)
               : step_as<float>(which, x, h, c, weight_ih, weight_hh, table, row, zoneout_h, zoneout_c);
}

// Rows of a table from `start` on move towards those of a batch, as far as torch.lerp would take them.
template <typename T>
void average_as(Tensor& mean, Tensor& var, Tensor& count, const Tensor& batch_mean, const Tensor& batch_var,
                std::int64_t start, double momentum) {
    Arguments args;
    const std::int64_t rows = batch_mean.size(0), size = batch_mean.size(1);
    auto* counts = static_cast<std::int64_t*>(count.mutable_data_ptr()) + start;
    T* const tables[2] = {static_cast<T*>(mean.mutable_data_ptr()) + start * size,
                          static_cast<T*>(var.mutable_data_ptr()) + start * size};
    const T* const batches[2] = {args.data<T>(batch_mean), args.data<T>(batch_var)};
    constexpr std::int64_t grain = 1 << 14;  // elements
    parallel_for(0, rows, (grain + size - 1) / size, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t r = begin; r < end; ++r) {
            const T least = static_cast<T>(momentum), equal = T(1) / static_cast<T>(++counts[r]);
            const T weight = equal < least ? least : equal;
            for (int i = 0; i < 2; ++i) {
                T* to = tables[i] + r * size;
                const T* from = batches[i] + r * size;
                if (weight < T(0.5))
                    for (std::int64_t k = 0; k < size; ++k) to[k] += weight * (from[k] - to[k]);
                else
                    for (std::int64_t k = 0; k < size; ++k) to[k] = from[k] - (from[k] - to[k]) * (1 - weight);
            }
        }
    });
}

void average(Tensor mean, Tensor var, Tensor count, Tensor batch_mean, Tensor batch_var, std::int64_t start,
             double momentum) {
    if (mean.scalar_type() == ScalarType::Double)
        average_as<double>(mean, var, count, batch_mean, batch_var, start, momentum);
    else
        average_as<float>(mean, var, count, batch_mean, batch_var, start, momentum);
}

std::int64_t vector_bytes() { return kernels().vector_bytes; }

std::vector<const Kernels*> available_kernels() {
    std::vector<const Kernels*> list{&baseline_kernels};
#ifdef BNRNN_X86
    const Kernels* best = &best_kernels();
    if (best != &baseline_kernels) list.push_back(&avx2_kernels);
    if (best == &avx512_kernels) list.push_back(&avx512_kernels);
#endif
    return list;
}

std::string instruction_set() { return kernels().name; }

std::string instruction_sets() {
    std::string names;
    for (const Kernels* k : available_kernels()) names += (names.empty() ? "" : " ") + std::string(k->name);
    return names;
}

// The digest of the sources that this was built from.
std::string sources() { return BNRNN_SOURCES; }

std::int64_t release_memory() { return Pool::instance().release(); }

// For tests: what is read before it was written is NaN.
void poison_memory(bool on) { Pool::instance().poisons = on; }

// For tests: the kernels of another instruction set than the best.
void use_instruction_set(std::string name) {
    for (const Kernels* k : available_kernels())
        if (name == k->name) {
            chosen_kernels = k;
            return;
        }
    STD_TORCH_CHECK(false, "instruction set ", name, " is not available; available are ", instruction_sets());
}

}  // namespace

#define SITES "Tensor[] site_tensors, int[] site_layout, float[] eps, Tensor? batch_sizes, Tensor? recurrent_mask, "
#define WEIGHTS "Tensor weight_ih, Tensor weight_hh, Tensor? bias, "
#define GRADIENTS "(Tensor grad_x, Tensor grad_h0, Tensor grad_weight_ih, Tensor grad_weight_hh, Tensor grad_bias, Tensor grad_sites)"

STABLE_TORCH_LIBRARY(bnrnn, m) {
    m.def("lstm(Tensor x, Tensor h0, Tensor c0, " WEIGHTS SITES
          "Tensor? zoneout_h, Tensor? zoneout_c, bool bfloat16, bool keep) -> "
          "(Tensor output, Tensor h_n, Tensor c_n, Tensor statistics, Tensor saved)");
    m.def("lstm_backward(Tensor? grad_output, Tensor? grad_h_n, Tensor? grad_c_n, Tensor statistics, Tensor saved, "
          "Tensor x, " WEIGHTS SITES "Tensor? zoneout_h, Tensor? zoneout_c, bool bfloat16, bool need_x) -> "
          "(Tensor grad_x, Tensor grad_h0, Tensor grad_c0, Tensor grad_weight_ih, Tensor grad_weight_hh, "
          "Tensor grad_bias, Tensor grad_sites)");
    m.def("gru(Tensor x, Tensor h0, " WEIGHTS "Tensor? bias_hn, " SITES
          "Tensor? zoneout_h, bool bfloat16, bool keep) -> (Tensor output, Tensor h_n, Tensor statistics, Tensor saved)");
    m.def("gru_backward(Tensor? grad_output, Tensor? grad_h_n, Tensor statistics, Tensor saved, Tensor x, " WEIGHTS
          "Tensor? bias_hn, " SITES "Tensor? zoneout_h, bool bfloat16, bool need_x) -> " GRADIENTS);
    m.def("rnn(Tensor x, Tensor h0, " WEIGHTS "bool relu, " SITES
          "Tensor? zoneout_h, bool bfloat16, bool keep) -> (Tensor output, Tensor h_n, Tensor statistics, Tensor saved)");
    m.def("rnn_backward(Tensor? grad_output, Tensor? grad_h_n, Tensor statistics, Tensor saved, Tensor x, " WEIGHTS
          "bool relu, " SITES "Tensor? zoneout_h, bool bfloat16, bool need_x) -> " GRADIENTS);
    m.def("step(int net, Tensor x, Tensor h, Tensor? c, Tensor weight_ih, Tensor weight_hh, Tensor table, int row, "
          "float zoneout_h, float zoneout_c) -> (Tensor new_h, Tensor new_c)");
    m.def("average_(Tensor(a!) mean, Tensor(b!) var, Tensor(c!) count, Tensor batch_mean, Tensor batch_var, int start, "
          "float momentum) -> ()");
    m.def("vector_bytes() -> int");
    m.def("instruction_set() -> str");
    m.def("instruction_sets() -> str");
    m.def("sources() -> str");
    m.def("release_memory() -> int");
    m.def("poison_memory(bool on) -> ()");
    m.def("use_instruction_set(str name) -> ()");
}

STABLE_TORCH_LIBRARY_IMPL(bnrnn, CPU, m) {
    m.impl("lstm", TORCH_BOX(&lstm));
    m.impl("lstm_backward", TORCH_BOX(&lstm_backward));
    m.impl("gru", TORCH_BOX(&gru));
    m.impl("gru_backward", TORCH_BOX(&gru_backward));
    m.impl("rnn", TORCH_BOX(&rnn));
    m.impl("rnn_backward", TORCH_BOX(&rnn_backward));
    m.impl("step", TORCH_BOX(&step));
    m.impl("average_", TORCH_BOX(&average));
}

STABLE_TORCH_LIBRARY_IMPL(bnrnn, CompositeExplicitAutograd, m) {
    m.impl("vector_bytes", TORCH_BOX(&vector_bytes));
    m.impl("instruction_set", TORCH_BOX(&instruction_set));
    m.impl("instruction_sets", TORCH_BOX(&instruction_sets));
    m.impl("sources", TORCH_BOX(&sources));
    m.impl("release_memory", TORCH_BOX(&release_memory));
    m.impl("poison_memory", TORCH_BOX(&poison_memory));
    m.impl("use_instruction_set", TORCH_BOX(&use_instruction_set));
}

}  // namespace bnrnn
