// SPDX-License-Identifier: MIT OR Apache-2.0
//
// What every part of shoal.hpp uses: errors, timeouts, and how to open an object.

#ifndef SHOAL_ERROR_HPP
#define SHOAL_ERROR_HPP

#include <chrono>
#include <cstdint>
#include <iterator>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "shoal.h"

namespace shoal {

/// A call of the library that failed. `what()` is the library's sentence about it.
class error : public std::runtime_error {
public:
    /// The error of the calling thread's last failing call, which returned `status`.
    explicit error(shoal_status status)
        : std::runtime_error(shoal_last_error()), status_(status) {}

    /// An error that was found before the library was called.
    error(shoal_status status, const std::string &what)
        : std::runtime_error(what), status_(status) {}

    /// What to act on: SHOAL_ERR_NOT_FOUND, SHOAL_ERR_CLOSED, ...
    shoal_status status() const noexcept { return status_; }

private:
    shoal_status status_;
};

/// How long a call may wait: any std::chrono duration, `forever` or `nowait`.
///
/// A duration below zero does not wait: it is a deadline that has passed.
class timeout {
public:
    template <class Rep, class Period>
    constexpr timeout(std::chrono::duration<Rep, Period> wait) : nanoseconds_(clamp(wait)) {}

    /// Waits without end.
    static constexpr timeout never() { return timeout(std::int64_t{SHOAL_FOREVER}); }

    /// As shoal.h takes it.
    constexpr std::int64_t nanoseconds() const noexcept { return nanoseconds_; }

    friend constexpr bool operator==(timeout a, timeout b) noexcept {
        return a.nanoseconds_ == b.nanoseconds_;
    }
    friend constexpr bool operator!=(timeout a, timeout b) noexcept { return !(a == b); }

private:
    explicit constexpr timeout(std::int64_t nanoseconds) : nanoseconds_(nanoseconds) {}

    template <class Rep, class Period>
    static constexpr std::int64_t clamp(std::chrono::duration<Rep, Period> wait) {
        using nanoseconds = std::chrono::duration<long double, std::nano>;
        const long double exact = nanoseconds(wait).count();
        if (!(exact > 0)) return 0;
        if (exact >= 9.2e18L) return INT64_MAX;
        return std::chrono::duration_cast<std::chrono::nanoseconds>(wait).count();
    }

    std::int64_t nanoseconds_;
};

/// Wait without end.
inline constexpr timeout forever = timeout::never();

/// Do not wait.
inline constexpr timeout nowait = timeout(std::chrono::nanoseconds(0));

/// How to open an object. The default opens what exists. Sizes and lifetime count for
/// whoever creates the object; the others get what is there.
struct options {
    /// Create the object if there is none of that name.
    bool create = false;
    /// Fail with SHOAL_ERR_EXISTS if there is one. Implies `create`.
    bool exclusive = false;
    /// The object stays until it is unlinked, whoever has it open.
    bool persistent = false;
    /// Bytes of data to start with; 0 for the default.
    std::uint64_t capacity = 0;
    /// Bytes of data it may grow to; 0 for the default. Address space, not memory.
    std::uint64_t max_capacity = 0;
    /// Of a queue: the most messages it holds at a time; 0 for as many as fit.
    std::uint64_t max_items = 0;
    /// Of a queue: how often a message is delivered before it is a dead letter, at most 255; 0
    /// for any number of times.
    std::uint64_t max_attempts = 0;
    /// Of a map: it is walked in the order in which its keys were inserted. Each entry takes 8
    /// bytes more, and a walk begins by copying all keys.
    bool ordered = false;

    /// As shoal.h takes it.
    std::uint64_t flags() const noexcept {
        return std::uint64_t{0} | (create ? SHOAL_CREATE : 0) | (exclusive ? SHOAL_EXCLUSIVE : 0) |
               (persistent ? SHOAL_PERSISTENT : 0) | (ordered ? SHOAL_ORDERED : 0);
    }
};

namespace detail {

inline void check(shoal_status status) {
    if (status != SHOAL_OK) throw error(status);
}

/// Throws SHOAL_ERR_INVALID for an option that no object but a queue has, and one for sizes unless
/// the object `grows`. In C they are not in its struct.
inline void refuse_others(const options &how, bool grows) {
    const auto refuse = [](const char *option, bool is_set) {
        if (!is_set) return;
        const std::string what = std::string("invalid ") + option;
        throw error(SHOAL_ERR_INVALID, what + ": not an option of this kind of object");
    };
    refuse("capacity", !grows && how.capacity != 0);
    refuse("max_capacity", !grows && how.max_capacity != 0);
    refuse("max_items", how.max_items != 0);
    refuse("max_attempts", how.max_attempts != 0);
}

/// A pointer that is not null, as the library tells an empty value from none by it.
inline const void *data_of(std::string_view bytes) noexcept {
    return bytes.data() != nullptr ? bytes.data() : "";
}

/// Refuses a range whose items are gone, or others, once the loop over it has moved on: the
/// library is told where their bytes are, and reads them after that.
template <class Range>
constexpr void refuse_passing() {
    using iterator = decltype(std::begin(std::declval<const Range &>()));
    using category = typename std::iterator_traits<iterator>::iterator_category;
    static_assert(std::is_base_of_v<std::forward_iterator_tag, category>,
                  "the items have to stay where they are during the call: copy them first");
}

inline shoal_slice slice_of(std::string_view bytes) noexcept {
    return {bytes.data(), bytes.size()};
}

/// Where the bytes of each of these strings are, as shoal.h takes them.
template <class Strings>
std::vector<shoal_slice> slices_of(const Strings &strings) {
    refuse_passing<Strings>();
    std::vector<shoal_slice> slices;
    for (const auto &string : strings) slices.push_back(slice_of(std::string_view(string)));
    return slices;
}

/// Calls `fill(buffer, capacity, &len)` with a larger buffer until what it gives fits.
/// Returns the status of the last call; on success `into` holds the bytes.
template <class Fill>
shoal_status fill_string(std::string &into, Fill fill) {
    into.resize(256);
    for (;;) {
        std::size_t len = 0;
        const shoal_status status = fill(into.data(), into.size(), &len);
        if (status == SHOAL_OK || status == SHOAL_ERR_BUFFER_TOO_SMALL) into.resize(len);
        if (status != SHOAL_ERR_BUFFER_TOO_SMALL) return status;
    }
}

}  // namespace detail

/// The version of the library at run time.
inline std::string version() { return shoal_version(); }

/// Removes what killed processes left, and returns how many objects that were.
inline std::size_t gc() {
    std::size_t removed = 0;
    detail::check(shoal_gc(&removed));
    return removed;
}

/// Ends the waits through an object, for this process's threads: they throw with
/// SHOAL_ERR_CLOSED, now and from now on. See `shoal_end_waits`.
template <class Object>
void end_waits(const Object &object) {
    detail::check(shoal_end_waits(object.get_handle()));
}

}  // namespace shoal

#endif
