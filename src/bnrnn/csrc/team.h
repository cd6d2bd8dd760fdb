// A team of torch's own threads for the length of one call.
#pragma once

#include <torch/csrc/stable/ops.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <thread>

#include "problem.h"

namespace bnrnn {

// Runs work(worker, barrier) on up to `wanted` threads at once and returns when all are done.
//
// Workers wait for each other at the barrier, so all of them must really run at the same time, which a thread pool
// does not promise: it may be busy, nested, or smaller than asked for. Hence threads sign in first, and the team is
// whoever has come when all are there or patience is at an end; a later one finds the work done.
template <typename Work>
void with_team(int wanted, const Work& work) {
    Barrier barrier;
    if (wanted <= 1) {
        work(0, barrier);
        return;
    }
    constexpr int closed = 1 << 20;
    std::atomic<int> signed_in{0}, size{0};
    torch::stable::parallel_for(0, wanted, 1, [&](std::int64_t begin, std::int64_t end) {
        const std::int64_t share = end - begin;
        const int expected = static_cast<int>((wanted + share - 1) / share);
        const int worker = signed_in.fetch_add(1);
        if (worker >= closed) return;
        if (worker == 0) {
            const auto patience = std::chrono::steady_clock::now() + std::chrono::milliseconds(20);
            while (signed_in.load() < expected && std::chrono::steady_clock::now() < patience) std::this_thread::yield();
            barrier.workers = signed_in.fetch_add(closed);
            size.store(barrier.workers, std::memory_order_release);
        } else {
            while (size.load(std::memory_order_acquire) == 0) std::this_thread::yield();
        }
        work(worker, barrier);
    });
}

}  // namespace bnrnn
