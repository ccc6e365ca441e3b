// SPDX-License-Identifier: MIT OR Apache-2.0
//
// Versions, names, and the removal of what killed processes left.

#ifndef SHOAL_GENERAL_HPP
#define SHOAL_GENERAL_HPP

#include <cstddef>
#include <string_view>

#include "bytes.hpp"
#include "error.hpp"

SHOAL_BEGIN

/// The version of the library at run time. SHOAL_VERSION is that of the header.
[[nodiscard]] inline std::string_view version() noexcept { return shoal_version(); }

/// Removes the objects that killed processes left. Returns how many; see `shoal_gc`.
inline std::size_t gc() {
    std::size_t removed = 0;
    detail::check(shoal_gc(&removed));
    return removed;
}

/// Detaches this process from all objects, before `_exit`; see `shoal_leave`.
inline void leave() { detail::check(shoal_leave()); }

/// Removes the name of an object, whatever kind it is; see `shoal_unlink`.
inline void unlink(std::string_view name) {
    detail::check(shoal_unlink(detail::c_text(name).c_str(), SHOAL_KIND_ANY));
}

SHOAL_END

#endif
