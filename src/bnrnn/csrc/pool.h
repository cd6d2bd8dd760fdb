// Memory that is kept from call to call.
#pragma once

#include <torch/headeronly/util/Exception.h>

#include <pthread.h>
#include <sys/mman.h>

#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <vector>

namespace bnrnn {

// The first touch of fresh memory costs as much as the arithmetic on it when it comes in pages of 4 KiB.
inline void want_huge_pages([[maybe_unused]] void* data, [[maybe_unused]] std::int64_t bytes) {
#ifdef __linux__
    constexpr std::uintptr_t huge = 2 << 20;
    const auto begin = (reinterpret_cast<std::uintptr_t>(data) + huge - 1) / huge * huge;
    const auto end = (reinterpret_cast<std::uintptr_t>(data) + bytes) / huge * huge;
    if (begin < end) madvise(reinterpret_cast<void*>(begin), end - begin, MADV_HUGEPAGE);  // advice: may be refused
#endif
}

// Pieces of memory that outlive their use, up to a limit: getting memory anew from the system for each call, page by
// page, would cost more than many a call. (Leaving it to the system to take back, MADV_FREE, costs as much again.)
class Pool {
public:
    struct Piece {
        void* data;
        std::int64_t bytes;
    };

    static Pool& instance() {
        static Pool* const pool = make();  // never destroyed: tensors may be freed later
        return *pool;
    }

    Piece take(std::int64_t bytes) {
        const Piece piece = kept_or_new((bytes + granule - 1) / granule * granule);
        if (poisons) std::memset(piece.data, 0xff, piece.bytes);
        return piece;
    }

    void give_back(Piece piece) {
        if (piece.bytes > limit) {
            std::free(piece.data);
            return;
        }
        const std::lock_guard<std::mutex> lock(mutex_);
        kept_.push_back(piece);
        kept_bytes_ += piece.bytes;
        while (kept_bytes_ > limit) drop_oldest();
    }

    // Gives what is kept back to the system; how many bytes that was.
    std::int64_t release() {
        const std::lock_guard<std::mutex> lock(mutex_);
        const std::int64_t bytes = kept_bytes_;
        while (!kept_.empty()) drop_oldest();
        return bytes;
    }

    std::atomic<bool> poisons{false};  // for tests: pieces come full of NaN

private:
    static constexpr std::int64_t granule = 2 << 20;
    static constexpr std::int64_t limit = std::int64_t{1} << 30;

    // A process forked while another thread has the lock would never get it.
    static Pool* make() {
        pthread_atfork([] { instance().mutex_.lock(); }, [] { instance().mutex_.unlock(); },
                       [] { instance().mutex_.unlock(); });
        return new Pool;
    }

    // The smallest kept piece that does without wasting more than half of it, or a new one.
    Piece kept_or_new(std::int64_t bytes) {
        {
            const std::lock_guard<std::mutex> lock(mutex_);
            auto best = kept_.end();
            for (auto it = kept_.begin(); it != kept_.end(); ++it)
                if (it->bytes >= bytes && it->bytes <= 2 * bytes && (best == kept_.end() || it->bytes < best->bytes))
                    best = it;
            if (best != kept_.end()) {
                const Piece piece = *best;
                kept_.erase(best);
                kept_bytes_ -= piece.bytes;
                return piece;
            }
        }
        void* data = nullptr;
        STD_TORCH_CHECK(posix_memalign(&data, granule, bytes) == 0, "out of memory: ", bytes, " bytes were asked for");
        want_huge_pages(data, bytes);
        return {data, bytes};
    }

    void drop_oldest() {
        kept_bytes_ -= kept_.front().bytes;
        std::free(kept_.front().data);
        kept_.erase(kept_.begin());
    }

    std::mutex mutex_;
    std::vector<Piece> kept_;
    std::int64_t kept_bytes_ = 0;
};

}  // namespace bnrnn
