// SPDX-License-Identifier: MIT OR Apache-2.0
//
// Device masks. For a child's use `spawn_options::devices`.

#ifndef SHOAL_DEVICE_HPP
#define SHOAL_DEVICE_HPP

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "error.hpp"

namespace shoal::device {

namespace detail {

template <class Fill>
std::string text(Fill fill) {
    std::string text;
    shoal::detail::check(shoal::detail::fill_string(text, fill));
    return text;
}

}  // namespace detail

/// The value of the family's variable for a child that is to see `logical`, counted in what
/// `inherited` shows; nothing stands for the environment of this process.
inline std::string resolve(std::string_view family, std::optional<std::string_view> inherited,
                           std::string_view logical) {
    const std::string f(family), l(logical), i(inherited.value_or(""));
    const char *from = inherited ? i.c_str() : nullptr;
    return detail::text([&](char *to, std::size_t room, std::size_t *len) {
        return shoal_device_resolve(f.c_str(), from, l.c_str(), to, room, len);
    });
}

/// The variable that the family's runtime reads.
inline std::string variable(std::string_view family) {
    const std::string f(family);
    return detail::text([&](char *to, std::size_t room, std::size_t *len) {
        return shoal_device_variable(f.c_str(), to, room, len);
    });
}

/// The devices that this process sees: "0,1", unique ids, "all" or "none".
inline std::string visible(std::string_view family) {
    const std::string f(family);
    return detail::text([&](char *to, std::size_t room, std::size_t *len) {
        return shoal_device_visible(f.c_str(), to, room, len);
    });
}

/// Makes this process itself see only `mask`; returns whether the family's runtime was loaded
/// already and will most likely not notice. Call it first thing in main: no other thread may
/// use the environment meanwhile.
[[nodiscard]] inline bool set_visible(std::string_view family, std::string_view mask) {
    bool too_late = false;
    shoal::detail::check(shoal_device_set_visible(std::string(family).c_str(),
                                                  std::string(mask).c_str(), &too_late));
    return too_late;
}

/// The names of all families that are known.
inline std::vector<std::string> families() {
    std::vector<std::string> names;
    for (;;) {
        std::string name;
        const shoal_status status = shoal::detail::fill_string(
            name, [&](char *to, std::size_t room, std::size_t *len) {
                return shoal_device_family_name(names.size(), to, room, len);
            });
        if (status == SHOAL_ERR_NOT_FOUND) return names;
        shoal::detail::check(status);
        names.push_back(name);
    }
}

}  // namespace shoal::device

#endif
