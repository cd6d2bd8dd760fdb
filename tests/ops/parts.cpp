// The team and the pool by themselves, beside a parallel_for that hands out its work as OpenMP may: see
// test_cpu_parts.py.
#include <chrono>
#include <cstdio>
#include <cstring>

#include "pool.h"
#include "team.h"

using bnrnn::Pool;
using Clock = std::chrono::steady_clock;

namespace {

constexpr std::int64_t MiB = 1 << 20, GiB = 1 << 30;

// Three shares for two threads, the smaller one first. On a busy machine a thread may come late, so one good time of
// many will do: a team that waits for a third thread has none below its patience, 20 ms.
bool a_team_is_complete_when_its_whole_range_is() {
    for (int i = 0; i < 200; ++i) {
        std::atomic<int> workers{0};
        const auto start = Clock::now();
        bnrnn::with_team(3, [&](int, bnrnn::Barrier& barrier) { workers += barrier.workers; });
        const bool both = workers == 4;  // two, as each of the two sees it
        if (both && Clock::now() - start < std::chrono::milliseconds(20)) return true;
    }
    return false;
}

bool own_threads_are_all_there() {
    std::atomic<int> sum{0};
    bnrnn::with_own_threads(3, [&](int worker, bnrnn::Barrier& barrier) { sum += 10 * worker + barrier.workers; });
    return sum == 10 * (0 + 1 + 2) + 3 * 3;
}

bool a_piece_above_the_limit_leaves_the_others() {
    Pool& pool = Pool::instance();
    pool.release();
    const Pool::Piece small = pool.take(3 * MiB), large = pool.take(GiB + MiB);
    pool.give_back(small);
    pool.give_back(large);
    return pool.take(3 * MiB).data == small.data && pool.release() == 0;
}

bool pieces_are_kept_up_to_the_limit() {
    Pool& pool = Pool::instance();
    pool.release();
    Pool::Piece pieces[3];
    for (auto& piece : pieces) piece = pool.take(400 * MiB);
    for (auto& piece : pieces) pool.give_back(piece);
    return pool.release() == 800 * MiB && pool.release() == 0;
}

bool poison_is_in_new_and_in_kept_pieces() {
    Pool& pool = Pool::instance();
    pool.release();
    pool.poisons = true;
    const Pool::Piece fresh = pool.take(2 * MiB);
    float value;
    std::memcpy(&value, fresh.data, sizeof(value));
    bool good = value != value;
    std::memset(fresh.data, 0, fresh.bytes);
    pool.give_back(fresh);
    const Pool::Piece again = pool.take(2 * MiB);
    std::memcpy(&value, static_cast<char*>(again.data) + again.bytes - sizeof(value), sizeof(value));
    good = good && again.data == fresh.data && value != value;
    pool.poisons = false;
    return good;
}

}  // namespace

int main() {
    int failed = 0;
    const auto check = [&](const char* name, bool (*holds)()) {
        if (holds()) return;
        std::printf("%s\n", name);
        ++failed;
    };
#define CHECK(name) check(#name, name)
    CHECK(a_team_is_complete_when_its_whole_range_is);
    CHECK(own_threads_are_all_there);
    CHECK(a_piece_above_the_limit_leaves_the_others);
    CHECK(pieces_are_kept_up_to_the_limit);
    CHECK(poison_is_in_new_and_in_kept_pieces);
    return failed;
}
