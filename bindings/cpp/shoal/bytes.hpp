// SPDX-License-Identifier: MIT OR Apache-2.0
//
// Conversions between strings of C++ and those of shoal.h.

#ifndef SHOAL_BYTES_HPP
#define SHOAL_BYTES_HPP

#include <cstddef>
#include <cstdint>
#include <iterator>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "duration.hpp"
#include "error.hpp"

SHOAL_BEGIN

namespace detail {

/// A text that ends with NUL. One that contains a NUL fails, because C would end it there.
inline std::string c_text(std::string_view text) {
    if (text.find('\0') != std::string_view::npos)
        fail(error(SHOAL_ERR_INVALID, "invalid text: it contains a NUL"));
    return std::string(text);
}

/// A pointer that is not null, where the library distinguishes an empty value from none by it.
inline const void *data_of(std::string_view bytes) noexcept {
    return bytes.data() != nullptr ? bytes.data() : "";
}

/// The same for an optional value: null if there is none.
inline const void *data_of(std::optional<std::string_view> bytes) noexcept {
    return bytes ? data_of(*bytes) : nullptr;
}

/// The length of the bytes; 0 if there are none.
inline std::size_t size_of(std::optional<std::string_view> bytes) noexcept {
    return bytes ? bytes->size() : 0;
}

/// Refuses a range whose items do not stay in memory after the loop over it: the library gets their
/// addresses and reads them later.
template <class Range>
constexpr void require_lasting_items() {
    using iterator = decltype(std::begin(std::declval<const Range &>()));
    using category = typename std::iterator_traits<iterator>::iterator_category;
    static_assert(std::is_base_of_v<std::forward_iterator_tag, category>,
                  "the items must stay in memory during the call: copy them first");
}

/// The slice of a string, which points into the string.
inline shoal_slice slice_of(std::string_view bytes) noexcept {
    return {bytes.data(), bytes.size()};
}

/// The slices of strings, which point into the strings.
template <class Strings>
std::vector<shoal_slice> slices_of(const Strings &strings) {
    require_lasting_items<Strings>();
    std::vector<shoal_slice> slices;
    for (const auto &string : strings) slices.push_back(slice_of(std::string_view(string)));
    return slices;
}

/// As `goes_on`, and also true for the status for which the buffer is enlarged.
inline bool goes_on_or_grows(shoal_status status) noexcept {
    return status == SHOAL_ERR_BUFFER_TOO_SMALL || goes_on(status);
}

/// Calls `call(timeout_ns, buf, capacity, &len)` until the result fits. `into` is empty at first, and on
/// success contains the result.
template <class Call>
shoal_status fill(std::string &into, duration timeout, Call call) {
    char small[512];
    const auto attempt = [&](std::int64_t timeout_ns) {
        const bool is_small = into.empty();
        char *to = is_small ? small : into.data();
        std::size_t len = 0;
        const shoal_status status =
            call(timeout_ns, to, is_small ? sizeof small : into.size(), &len);
        if (status == SHOAL_OK && is_small)
            into.assign(small, len);
        else if (status == SHOAL_OK || status == SHOAL_ERR_BUFFER_TOO_SMALL)
            into.resize(len);
        return status;
    };
    return repeat(timeout, attempt, goes_on_or_grows);
}

/// The result of `call(buf, capacity, &len)`, which does not wait; nothing for SHOAL_ERR_NOT_FOUND.
template <class Call>
std::optional<std::string> found(Call call) {
    std::string bytes;
    const auto now = [&](std::int64_t, char *to, std::size_t capacity, std::size_t *len) {
        return call(to, capacity, len);
    };
    if (!done_unless(SHOAL_ERR_NOT_FOUND, fill(bytes, nowait, now))) return std::nullopt;
    return bytes;
}

}  // namespace detail

SHOAL_END

#endif
