// A team of torch's own threads for the length of one call.
#pragma once

#include <torch/csrc/stable/ops.h>

#include <pthread.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <system_error>
#include <thread>
#include <vector>

#include "problem.h"

namespace bnrnn {

// Whether this process was forked from one that had the kernels. Of torch's threads only the one that forked is left in
// it, but OpenMP waits for the others for ever.
inline std::atomic<bool> is_forked{false};
inline const int watches_forks = pthread_atfork(nullptr, nullptr, [] { is_forked = true; });

// work(first, end) on parts of a range.
template <typename Work>
void parallel_for(std::int64_t begin, std::int64_t end, std::int64_t grain, const Work& work) {
    if (is_forked)
        work(begin, end);
    else
        torch::stable::parallel_for(begin, end, grain, work);
}

// A team of new threads.
template <typename Work>
void with_own_threads(int wanted, const Work& work) {
    Barrier barrier;
    std::atomic<bool> ready{false};
    std::vector<std::thread> threads;
    try {
        while (static_cast<int>(threads.size()) < wanted - 1) {
            const int worker = static_cast<int>(threads.size()) + 1;
            threads.emplace_back([&, worker] {
                while (!ready.load(std::memory_order_acquire)) std::this_thread::yield();
                work(worker, barrier);
            });
        }
    } catch (const std::system_error&) {  // as many as the system gives
    }
    barrier.workers = static_cast<int>(threads.size()) + 1;
    ready.store(true, std::memory_order_release);
    work(0, barrier);
    for (std::thread& thread : threads) thread.join();
}

// Runs work(worker, barrier) on up to `wanted` threads at once and returns when all are done.
//
// Workers wait for each other at the barrier, so all of them must really run at the same time, which a thread pool
// does not promise: it may be busy, nested, or smaller than asked for. Hence threads sign in first, each for the part
// of the range that it was given; the team is whoever has come when the whole range is signed for or patience is at an
// end, and a later one finds the work done.
template <typename Work>
void with_team(int wanted, const Work& work) {
    if (wanted <= 1) {
        Barrier barrier;
        work(0, barrier);
        return;
    }
    if (is_forked) {
        with_own_threads(wanted, work);
        return;
    }
    Barrier barrier;
    constexpr std::int64_t one = std::int64_t{1} << 20, closed = std::int64_t{1} << 40;  // how often `one`; how much
    std::atomic<std::int64_t> signed_in{0};
    std::atomic<int> size{0};
    torch::stable::parallel_for(0, wanted, 1, [&](std::int64_t begin, std::int64_t end) {
        const std::int64_t before = signed_in.fetch_add(one + (end - begin));
        if (before >= closed) return;
        const int worker = static_cast<int>(before / one);
        if (worker == 0) {
            const auto patience = std::chrono::steady_clock::now() + std::chrono::milliseconds(20);
            while (signed_in.load() % one < wanted && std::chrono::steady_clock::now() < patience)
                std::this_thread::yield();
            barrier.workers = static_cast<int>(signed_in.fetch_add(closed) / one);
            size.store(barrier.workers, std::memory_order_release);
        } else {
            while (size.load(std::memory_order_acquire) == 0) std::this_thread::yield();
        }
        work(worker, barrier);
    });
}

}  // namespace bnrnn
