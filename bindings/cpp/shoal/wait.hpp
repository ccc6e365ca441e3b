// SPDX-License-Identifier: MIT OR Apache-2.0

#ifndef SHOAL_WAIT_HPP
#define SHOAL_WAIT_HPP

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "duration.hpp"
#include "error.hpp"
#include "pipe.hpp"
#include "process.hpp"
#include "queue.hpp"

SHOAL_BEGIN

/// Something to wait for. It must not outlive the object from which it is made.
class waitable {
public:
    /// Ready while the queue has a message, and once it is closed or poisoned.
    waitable(const queue &one) noexcept : thing_{one.handle(), nullptr, nullptr, -1} {}
    /// Ready while there is a message to receive, and once the connection is closed.
    waitable(const pipe &one) noexcept : thing_{nullptr, one.handle(), nullptr, -1} {}
    /// Ready once it has ended.
    waitable(const process &one) noexcept : thing_{nullptr, nullptr, one.handle(), -1} {}
    /// A descriptor: ready while it is readable, or at its end.
    explicit waitable(int fd) noexcept : thing_{nullptr, nullptr, nullptr, fd} {}

    /// As shoal.h represents it.
    [[nodiscard]] const shoal_waitable &c_waitable() const noexcept { return thing_; }

private:
    shoal_waitable thing_;
};

namespace detail {

/// Calls `shoal_wait_any`, which sets `ready` to the index.
inline shoal_status wait_status(const std::vector<waitable> &things, duration timeout,
                                std::size_t &ready) {
    std::vector<shoal_waitable> each;
    for (const waitable &thing : things) each.push_back(thing.c_waitable());
    return wait(timeout, [&](std::int64_t timeout_ns) {
        return shoal_wait_any(each.data(), each.size(), timeout_ns, &ready);
    });
}

}  // namespace detail

/// Waits until one of several things is ready. Returns its index, the lowest if several are ready. Another
/// consumer may take the message first, so take it by `try_get`. See `shoal_wait_any` about fairness. Fails
/// with SHOAL_ERR_INVALID if there is nothing to wait for.
///
///     switch (shoal::wait_any({jobs, control, child, shoal::waitable(socket)})) {
///     case 0: work(jobs.try_get()); break;
///     case 1: obey(control.try_recv()); break;
///     default: return;
///     }
inline std::size_t wait_any(const std::vector<waitable> &things, duration timeout = forever) {
    std::size_t ready = 0;
    detail::check(detail::wait_status(things, timeout, ready));
    return ready;
}

/// As `wait_any`; nothing if none was ready in time.
[[nodiscard]] inline std::optional<std::size_t> try_wait_any(const std::vector<waitable> &things,
                                                             duration timeout = nowait) {
    std::size_t ready = 0;
    const shoal_status status = detail::wait_status(things, timeout, ready);
    if (!detail::done_unless(SHOAL_ERR_TIMEOUT, status)) return std::nullopt;
    return ready;
}

SHOAL_END

#endif
