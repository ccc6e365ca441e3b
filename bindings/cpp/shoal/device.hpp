// SPDX-License-Identifier: MIT OR Apache-2.0
//
// Device masks. To start a child use `spawn_options::devices`. No other thread may change the environment
// while one of these functions runs.

#ifndef SHOAL_DEVICE_HPP
#define SHOAL_DEVICE_HPP

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "bytes.hpp"
#include "error.hpp"

SHOAL_BEGIN

namespace device {

namespace detail {

using namespace shoal::detail;

/// The result of `call(buf, capacity, &len)`.
template <class Call>
std::string text(Call call) {
    std::string text;
    check(fill(text, nowait,
               [&](std::int64_t, char *to, std::size_t capacity, std::size_t *len) {
                   return call(to, capacity, len);
               }));
    return text;
}

}  // namespace detail

/// The value of the family's variable for a child that is to see the devices `logical`, counted among
/// those of the mask `inherited`; without `inherited`, the environment of this process counts. Fails as
/// `shoal_device_resolve`.
[[nodiscard]] inline std::string resolve(std::string_view family,
                                         std::optional<std::string_view> inherited,
                                         std::string_view logical) {
    const std::string f = detail::c_text(family), l = detail::c_text(logical);
    const std::string i = detail::c_text(inherited.value_or(""));
    const char *from = inherited ? i.c_str() : nullptr;
    return detail::text([&](char *to, std::size_t capacity, std::size_t *len) {
        return shoal_device_resolve(f.c_str(), from, l.c_str(), to, capacity, len);
    });
}

/// All changes of the environment for a child that is to see the devices `logical`: "NAME=value" sets a
/// variable, "NAME" removes it. Fails as `resolve`.
[[nodiscard]] inline std::vector<std::string> environment(std::string_view family,
                                                          std::string_view logical) {
    const std::string f = detail::c_text(family), l = detail::c_text(logical);
    const std::string all = detail::text([&](char *to, std::size_t capacity, std::size_t *len) {
        return shoal_device_environment(f.c_str(), l.c_str(), to, capacity, len);
    });
    std::vector<std::string> changes;
    for (std::size_t at = 0; at < all.size(); at += changes.back().size() + 1)
        changes.emplace_back(all.c_str() + at);
    return changes;
}

/// The devices that this process sees: "0,1", unique ids, "all" or "none". Fails with
/// SHOAL_ERR_NOT_FOUND (family) or SHOAL_ERR_INVALID (the variable is invalid).
[[nodiscard]] inline std::string visible(std::string_view family) {
    const std::string f = detail::c_text(family);
    return detail::text([&](char *to, std::size_t capacity, std::size_t *len) {
        return shoal_device_visible(f.c_str(), to, capacity, len);
    });
}

/// Makes this process itself see only `mask`. Returns whether the family's runtime was loaded already, so
/// that it may ignore the mask. Call it at the start of main: no other thread may use the environment
/// meanwhile. Fails as `resolve`; then nothing is changed.
[[nodiscard]] inline bool set_visible(std::string_view family, std::string_view mask) {
    bool too_late = false;
    detail::check(shoal_device_set_visible(detail::c_text(family).c_str(),
                                           detail::c_text(mask).c_str(), &too_late));
    return too_late;
}

/// The variable that the family's runtime reads. Fails with SHOAL_ERR_NOT_FOUND (family).
[[nodiscard]] inline std::string variable(std::string_view family) {
    const char *name = shoal_device_variable(detail::c_text(family).c_str());
    if (name == nullptr) detail::fail(error(SHOAL_ERR_NOT_FOUND));
    return name;
}

/// The names of all families.
[[nodiscard]] inline std::vector<std::string> families() {
    std::vector<std::string> names;
    while (const char *name = shoal_device_family(names.size())) names.emplace_back(name);
    return names;
}

}  // namespace device

SHOAL_END

#endif
