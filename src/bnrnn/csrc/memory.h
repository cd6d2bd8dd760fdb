// Memory of the operators: tensors for results, and pieces that are kept from call to call.
#pragma once

#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <sys/mman.h>

#include <cstdint>
#include <cstdlib>
#include <mutex>
#include <optional>
#include <vector>

// Torch has this from 2.11 on, whose headers first know the number of that version; in an older torch it is null.
#if defined(__linux__) && (!defined(TORCH_VERSION_2_11_0) || TORCH_FEATURE_VERSION < TORCH_VERSION_2_11_0)
extern "C" __attribute__((weak)) AOTITorchError torch_from_blob(
    void* data, std::int64_t ndim, const std::int64_t* sizes, const std::int64_t* strides, std::int64_t storage_offset,
    std::int32_t dtype, std::int32_t device_type, std::int32_t device_index, AtenTensorHandle* result,
    std::int32_t layout, const std::uint8_t* opaque_metadata, std::int64_t opaque_metadata_size,
    void (*deleter)(void* data, void* context), void* context);
#endif

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

inline torch::stable::Tensor allocate(const torch::stable::Tensor& like, std::vector<std::int64_t> sizes) {
    torch::stable::Tensor t = torch::stable::new_empty(like, {sizes.data(), sizes.size()});
    want_huge_pages(t.mutable_data_ptr(), t.numel() * t.element_size());
    return t;
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
        static Pool* const pool = new Pool;  // never destroyed: tensors may be freed later
        return *pool;
    }

    // The smallest kept piece that does without wasting more than half of it, or a new one.
    Piece take(std::int64_t bytes) {
        bytes = (bytes + granule - 1) / granule * granule;
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

    void give_back(Piece piece) {
        const std::lock_guard<std::mutex> lock(mutex_);
        kept_.push_back(piece);
        kept_bytes_ += piece.bytes;
        while (kept_bytes_ > limit) {  // the one unused longest goes first
            kept_bytes_ -= kept_.front().bytes;
            std::free(kept_.front().data);
            kept_.erase(kept_.begin());
        }
    }

private:
    static constexpr std::int64_t granule = 2 << 20;
    static constexpr std::int64_t limit = std::int64_t{1} << 30;

    std::mutex mutex_;
    std::vector<Piece> kept_;
    std::int64_t kept_bytes_ = 0;
};

// A piece for the length of a call.
class Scratch {
public:
    explicit Scratch(std::int64_t bytes) : piece_(Pool::instance().take(bytes)) {}
    ~Scratch() { Pool::instance().give_back(piece_); }
    Scratch(const Scratch&) = delete;
    Scratch& operator=(const Scratch&) = delete;
    void* data() const { return piece_.data; }

private:
    Pool::Piece piece_;
};

// A vector that stays within the library, from one call to the next; its memory comes from the pool.
inline torch::stable::Tensor allocate_pooled(const torch::stable::Tensor& like, std::int64_t size) {
#ifdef __linux__
    constexpr std::int64_t worthwhile = 1 << 20;
    const std::int64_t bytes = size * like.element_size(), stride = 1;
    if (torch_from_blob && bytes >= worthwhile) {
        const Pool::Piece piece = Pool::instance().take(bytes);
        AtenTensorHandle handle = nullptr;
        std::int32_t dtype = 0;
        TORCH_ERROR_CODE_CHECK(aoti_torch_get_dtype(like.get(), &dtype));
        const auto give_back = [](void* data, void* held) {
            Pool::instance().give_back({data, static_cast<std::int64_t>(reinterpret_cast<std::intptr_t>(held))});
        };
        TORCH_ERROR_CODE_CHECK(torch_from_blob(piece.data, 1, &size, &stride, 0, dtype, aoti_torch_device_type_cpu(),
                                               -1, &handle, aoti_torch_layout_strided(), nullptr, 0, give_back,
                                               reinterpret_cast<void*>(static_cast<std::intptr_t>(piece.bytes))));
        return torch::stable::Tensor(handle);
    }
#endif
    return allocate(like, {size});
}

}  // namespace bnrnn
