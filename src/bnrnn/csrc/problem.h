// What the framework side and the kernels have to agree on. Plain data: it crosses between translation units that
// are compiled for different instruction sets, so nothing here may have code of its own.
#pragma once

#include <cstddef>
#include <cstdint>

namespace bnrnn {

enum class Kind : int { none, frame, sequence, layer, shift };

// One normalized quantity of n features. Rows of mean and var are n apart; "sequence" has a single row.
template <typename T>
struct Site {
    Kind kind = Kind::none;
    bool own_statistics = false;  // taken from this batch: forward writes mean and var, backward differentiates them
    T eps = 0;
    std::int64_t min_rows = 0;
    const T* gamma = nullptr;
    const T* beta = nullptr;
    T* mean = nullptr;
    T* var = nullptr;
    T* grad_gamma = nullptr;
    T* grad_beta = nullptr;
};

// One layer in one direction. Matrices are row-major and contiguous; null stands for what is absent.
// Slabs keep what the backward pass needs; their layout is private to the kernels.
template <typename T>
struct Problem {
    std::int64_t steps = 0, batch = 0, inputs = 0, units = 0;
    std::int64_t outputs = 0;        // of the projection; h and what belongs to it have as many columns
    bool relu = false;               // RNN: relu in place of tanh
    bool round_to_bfloat16 = false;  // the state enters the recurrent product in bfloat16

    const T* x = nullptr;                 // (steps, batch, inputs)
    const std::int64_t* index = nullptr;  // (steps, batch): one-hot rows in place of x
    const std::int64_t* batch_sizes = nullptr;
    const T* h0 = nullptr;
    const T* c0 = nullptr;
    const T* weight_ih = nullptr;
    const T* weight_hh = nullptr;
    const T* weight_hr = nullptr;  // (outputs, units): h_t = weight_hr (o tanh(c)); null: h_t = o tanh(c)
    const T* bias = nullptr;
    const T* bias_hn = nullptr;
    const T* mask = nullptr;       // (batch, units) on the state before the recurrent product
    const T* zoneout_h = nullptr;  // (steps, batch, units), or one number
    const T* zoneout_c = nullptr;
    bool zoneout_h_varies = false, zoneout_c_varies = false;
    Site<T> input, recurrent, summed, cell;

    T* output = nullptr;
    T* h_n = nullptr;
    T* c_n = nullptr;
    T* saved = nullptr;  // null: nothing is kept

    const T* grad_output = nullptr;
    const T* grad_h_n = nullptr;
    const T* grad_c_n = nullptr;
    T* grad_x = nullptr;  // null: not wanted
    T* grad_h0 = nullptr;
    T* grad_c0 = nullptr;
    T* grad_weight_ih = nullptr;
    T* grad_weight_hh = nullptr;
    T* grad_weight_hr = nullptr;
    T* grad_bias = nullptr;
    T* grad_bias_hn = nullptr;

    void* scratch = nullptr;
};

// One time step of one layer with known statistics; see step.h for the layout of weights and row.
template <typename T>
struct Step {
    std::int64_t batch = 0, inputs = 0, units = 0;
    std::int64_t outputs = 0;  // fewer than units with a projection
    bool relu = false;
    const T* x = nullptr;                 // (batch, inputs)
    const std::int64_t* index = nullptr;  // (batch): one-hot rows in place of x
    const T* h = nullptr;
    const T* c = nullptr;
    const T* weight_ih = nullptr;
    const T* weight_hh = nullptr;
    const T* row = nullptr;  // scale and shift of input and of state, (gates * units) each; of the cell, (units) each
    T zoneout_h = 0, zoneout_c = 0;
    const T* weight_hr = nullptr;  // an LSTM's projection
    T* inner = nullptr;            // (batch, units): what it projects
    T* new_h = nullptr;
    T* new_c = nullptr;
};

// Workers of one call meet here. Each waits until all have arrived.
struct Barrier {
    int workers = 1;
    int arrived = 0;
    int phase = 0;
};

template <typename T>
struct Cell {
    std::int64_t (*saved_size)(const Problem<T>&);       // elements
    std::int64_t (*forward_scratch)(const Problem<T>&);  // bytes
    std::int64_t (*backward_scratch)(const Problem<T>&);
    void (*forward)(const Problem<T>&, int worker, Barrier&);
    void (*backward)(const Problem<T>&, int worker, Barrier&);
};

template <typename T>
struct Cells {
    Cell<T> lstm, gru, rnn;
    void (*lstm_step)(const Step<T>&, std::int64_t block);
    void (*gru_step)(const Step<T>&, std::int64_t block);
    void (*rnn_step)(const Step<T>&, std::int64_t block);
    void (*lstm_projection)(const Step<T>&, std::int64_t block);
};

// The kernels of one instruction set.
struct Kernels {
    const char* name;
    std::int64_t vector_bytes;
    Cells<float> f32;
    Cells<double> f64;
};

extern const Kernels baseline_kernels;
#ifdef BNRNN_X86
extern const Kernels avx2_kernels;
extern const Kernels avx512_kernels;
#endif

}  // namespace bnrnn
