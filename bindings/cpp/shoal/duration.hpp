// SPDX-License-Identifier: MIT OR Apache-2.0
//
// Timeouts and other durations.

#ifndef SHOAL_DURATION_HPP
#define SHOAL_DURATION_HPP

#include <chrono>
#include <cstdint>

#include "error.hpp"

SHOAL_BEGIN

/// A timeout or another duration: any std::chrono duration, `forever` or `nowait`.
///
/// A negative duration counts as zero: a deadline that has passed.
class duration {
public:
    /// Any std::chrono duration, in whole nanoseconds. More than 292 years count as 292 years.
    template <class Rep, class Period>
    constexpr duration(std::chrono::duration<Rep, Period> length) : nanoseconds_(clamp(length)) {}

    /// Without end.
    [[nodiscard]] static constexpr duration endless() { return duration(std::int64_t{SHOAL_FOREVER}); }

    /// As shoal.h represents it.
    [[nodiscard]] constexpr std::int64_t nanoseconds() const noexcept { return nanoseconds_; }

    /// Whether both are equally long, or both without end.
    friend constexpr bool operator==(duration a, duration b) noexcept {
        return a.nanoseconds_ == b.nanoseconds_;
    }
    /// Whether they differ.
    friend constexpr bool operator!=(duration a, duration b) noexcept { return !(a == b); }

private:
    explicit constexpr duration(std::int64_t nanoseconds) : nanoseconds_(nanoseconds) {}

    template <class Rep, class Period>
    static constexpr std::int64_t clamp(std::chrono::duration<Rep, Period> length) {
        using nanoseconds = std::chrono::duration<long double, std::nano>;
        const long double exact = nanoseconds(length).count();
        if (!(exact > 0)) return 0;
        if (exact >= 9.2e18L) return INT64_MAX;
        return std::chrono::duration_cast<std::chrono::nanoseconds>(length).count();
    }

    std::int64_t nanoseconds_;
};

/// Without end.
inline constexpr duration forever = duration::endless();

/// Without waiting.
inline constexpr duration nowait = duration(std::chrono::nanoseconds(0));

/// The time from now to a deadline.
template <class Clock, class Length>
[[nodiscard]] duration until(std::chrono::time_point<Clock, Length> deadline) {
    const auto now = Clock::now();
    return deadline > now ? duration(deadline - now) : nowait;
}

namespace detail {

/// Calls `call(timeout_ns)` until `again(status)` is false, with the time that is left.
template <class Call, class Again>
shoal_status repeat(duration timeout, Call call, Again again) {
    using clock = std::chrono::steady_clock;
    const std::int64_t total = timeout.nanoseconds();
    const auto began = total > 0 ? clock::now() : clock::time_point();
    for (std::int64_t left = total;;) {
        const shoal_status status = call(left);
        if (!again(status)) return status;
        if (total <= 0) continue;
        const std::int64_t passed = std::chrono::nanoseconds(clock::now() - began).count();
        left = passed < total ? total - passed : 0;
    }
}

/// Whether a signal handler ended the wait.
inline bool is_interrupted(shoal_status status) noexcept { return status == SHOAL_ERR_INTERRUPTED; }

/// Whether a wait continues after this status. Without exceptions it continues after a signal handler,
/// which could only be reported by aborting.
inline bool goes_on(shoal_status status) noexcept {
    return !SHOAL_EXCEPTIONS && is_interrupted(status);
}

/// Calls `call(timeout_ns)`, which waits, and again while `goes_on`.
template <class Call>
shoal_status wait(duration timeout, Call call) {
    return repeat(timeout, call, goes_on);
}

}  // namespace detail

SHOAL_END

#endif
