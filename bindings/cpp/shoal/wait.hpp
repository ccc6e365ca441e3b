// SPDX-License-Identifier: MIT OR Apache-2.0

#ifndef SHOAL_WAIT_HPP
#define SHOAL_WAIT_HPP

#include <cstddef>
#include <optional>
#include <vector>

#include "error.hpp"
#include "process.hpp"
#include "queue.hpp"

namespace shoal {

/// A queue or a process to wait for. It must not outlive what it is made from.
struct waitable : shoal_waitable {
    /// Ready while there is something to take, and once it is closed or poisoned.
    waitable(const shoal::queue &one) noexcept : shoal_waitable{one.get_handle(), nullptr} {}
    /// Ready once it has ended.
    waitable(const shoal::process &one) noexcept : shoal_waitable{nullptr, one.get_handle()} {}
};

static_assert(sizeof(waitable) == sizeof(shoal_waitable), "an array of one is one of the other");

/// Waits until one of these is ready; its index, the lowest if there are several. Take with
/// `try_get` then: others may have been faster.
/// Throws with SHOAL_ERR_TIMEOUT, SHOAL_ERR_INTERRUPTED, or SHOAL_ERR_INVALID if there are none.
///
///     switch (shoal::wait_any({jobs, cancelled, child})) {
inline std::size_t wait_any(const std::vector<waitable> &things, timeout wait = forever) {
    std::size_t ready = 0;
    detail::check(shoal_wait_any(things.data(), things.size(), wait.nanoseconds(), &ready));
    return ready;
}

/// As `wait_any`; nothing if none was ready in time.
[[nodiscard]] inline std::optional<std::size_t> try_wait_any(const std::vector<waitable> &things,
                                                             timeout wait = nowait) {
    std::size_t ready = 0;
    const shoal_status status =
        shoal_wait_any(things.data(), things.size(), wait.nanoseconds(), &ready);
    if (status == SHOAL_ERR_TIMEOUT) return std::nullopt;
    detail::check(status);
    return ready;
}

}  // namespace shoal

#endif
