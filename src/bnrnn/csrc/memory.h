// Memory of the operators: tensors for results, and the pool's pieces as what a call works in and keeps.
#pragma once

#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <cstdint>
#include <vector>

#include "pool.h"

// Torch has this from 2.11 on, whose headers first know the number of that version; in an older torch it is null.
#if defined(__linux__) && (!defined(TORCH_VERSION_2_11_0) || TORCH_FEATURE_VERSION < TORCH_VERSION_2_11_0)
extern "C" __attribute__((weak)) AOTITorchError
torch_from_blob(void* data, std::int64_t ndim, const std::int64_t* sizes, const std::int64_t* strides,
                std::int64_t storage_offset, std::int32_t dtype, std::int32_t device_type, std::int32_t device_index,
                AtenTensorHandle* result, std::int32_t layout, const std::uint8_t* opaque_metadata,
                std::int64_t opaque_metadata_size, void (*deleter)(void* data, void* context), void* context);
#endif

namespace bnrnn {

inline torch::stable::Tensor allocate(const torch::stable::Tensor& like, std::vector<std::int64_t> sizes) {
    torch::stable::Tensor t = torch::stable::new_empty(like, {sizes.data(), sizes.size()});
    want_huge_pages(t.mutable_data_ptr(), t.numel() * t.element_size());
    return t;
}

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
