// SPDX-License-Identifier: MIT OR Apache-2.0
//
// The base classes of all named objects.

#ifndef SHOAL_OBJECT_HPP
#define SHOAL_OBJECT_HPP

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "bytes.hpp"
#include "error.hpp"

SHOAL_BEGIN

namespace detail {

/// A deleter for std::unique_ptr that calls `Free`.
template <auto Free>
struct freed_by {
    /// Frees the handle.
    template <class Handle>
    void operator()(Handle *handle) const noexcept {
        Free(handle);
    }
};

/// The flags in the options of an object that may be created.
inline std::uint64_t creating(bool exclusive, bool persistent, std::uint64_t others = 0) noexcept {
    return SHOAL_CREATE | (exclusive ? SHOAL_EXCLUSIVE : 0u) |
           (persistent ? SHOAL_PERSISTENT : 0u) | others;
}

/// A zeroed struct of shoal.h whose first field is set to its size.
template <class Struct>
Struct sized() noexcept {
    Struct it{};
    it.size = sizeof it;
    return it;
}

/// The statistics that `Stat(handle, &stats)` fills in.
template <class Stats, auto Stat, class Handle>
Stats stats_of(Handle *handle) {
    Stats stats = sized<Stats>();
    check(Stat(handle, &stats));
    return stats;
}

/// The owner of a handle on a named object.
template <class Handle, auto Free, shoal_kind Kind>
class object {
public:
    /// Takes ownership of a handle of shoal.h.
    explicit object(Handle *handle, bool created = false) noexcept
        : handle_(handle), created_(created) {}

    /// Removes the name of an object of this kind; see `shoal_unlink`.
    static void unlink(std::string_view name) { check(shoal_unlink(c_text(name).c_str(), Kind)); }

    /// The name by which another process opens it.
    [[nodiscard]] std::string name() const {
        const char *name = shoal_name(handle());
        if (name == nullptr) fail(error(SHOAL_ERR_INVALID));
        return name;
    }

    /// Whether this C++ object created the shared object.
    [[nodiscard]] bool created() const noexcept { return created_; }

    /// Ends the waits of this process's threads through this object. Present and later waits fail with
    /// SHOAL_ERR_CLOSED; see `shoal_end_waits`.
    void end_waits() { check(shoal_end_waits(handle())); }

    /// The handle, for functions of shoal.h. This object owns it.
    [[nodiscard]] Handle *handle() const noexcept { return handle_.get(); }

private:
    std::unique_ptr<Handle, freed_by<Free>> handle_;
    bool created_;
};

/// The base class of `Self`, an object that is opened by a name and options.
template <class Self, class Options, class Handle, auto Open, auto Free, shoal_kind Kind>
class openable : public object<Handle, Free, Kind> {
public:
    using object<Handle, Free, Kind>::object;

    /// Opens an existing object. Fails with SHOAL_ERR_NOT_FOUND if there is none.
    [[nodiscard]] static Self open(std::string_view name) {
        return opened(c_text(name).c_str(), nullptr);
    }

    /// Opens an existing object, or creates one if there is none of that name.
    [[nodiscard]] static Self create(std::string_view name, const Options &options = {}) {
        const auto c = options.c_options();
        return opened(c_text(name).c_str(), &c);
    }

    /// Creates an object with a generated name.
    [[nodiscard]] static Self anonymous(const Options &options = {}) {
        const auto c = options.c_options();
        return opened(nullptr, &c);
    }

private:
    template <class COptions>
    static Self opened(const char *name, const COptions *options) {
        Handle *handle = nullptr;
        bool created = false;
        check(Open(name, options, &handle, &created));
        return Self(handle, created);
    }

    static Self opened(const char *name, std::nullptr_t) {
        Handle *handle = nullptr;
        check(Open(name, nullptr, &handle, nullptr));
        return Self(handle);
    }
};

}  // namespace detail

SHOAL_END

#endif
