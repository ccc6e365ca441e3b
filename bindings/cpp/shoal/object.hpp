// SPDX-License-Identifier: MIT OR Apache-2.0
//
// What all named objects have in common.

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

template <auto Free>
struct freed_by {
    template <class Handle>
    void operator()(Handle *handle) const noexcept {
        Free(handle);
    }
};

/// The flags of a struct of options that creates.
inline std::uint64_t creating(bool exclusive, bool persistent, std::uint64_t others = 0) noexcept {
    return SHOAL_CREATE | (exclusive ? SHOAL_EXCLUSIVE : 0u) |
           (persistent ? SHOAL_PERSISTENT : 0u) | others;
}

/// A struct of shoal.h that begins with its size.
template <class Struct>
Struct sized() noexcept {
    Struct it{};
    it.size = sizeof it;
    return it;
}

/// What `Stat(handle, &stats)` fills in.
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
    /// Takes over a handle of shoal.h.
    explicit object(Handle *handle, bool created = false) noexcept
        : handle_(handle), created_(created) {}

    /// Removes the name of an object of this kind; see `shoal_unlink`.
    static void unlink(std::string_view name) { check(shoal_unlink(c_text(name).c_str(), Kind)); }

    /// The name to open it by in another process.
    [[nodiscard]] std::string name() const {
        const char *name = shoal_name(handle());
        if (name == nullptr) fail(error(SHOAL_ERR_INVALID));
        return name;
    }

    /// Whether this C++ object created the shared one.
    [[nodiscard]] bool created() const noexcept { return created_; }

    /// Ends the waits of this process's threads through it: they fail with SHOAL_ERR_CLOSED, now and from
    /// now on; see `shoal_end_waits`.
    void end_waits() { check(shoal_end_waits(handle())); }

    /// The handle, for functions of shoal.h. It stays this object's.
    [[nodiscard]] Handle *handle() const noexcept { return handle_.get(); }

private:
    std::unique_ptr<Handle, freed_by<Free>> handle_;
    bool created_;
};

/// An object of the class `Self` that needs nothing but a name and options to be opened.
template <class Self, class Options, class Handle, auto Open, auto Free, shoal_kind Kind>
class openable : public object<Handle, Free, Kind> {
public:
    using object<Handle, Free, Kind>::object;

    /// Opens what exists. Fails with SHOAL_ERR_NOT_FOUND if there is none.
    [[nodiscard]] static Self open(std::string_view name) {
        return opened(c_text(name).c_str(), nullptr);
    }

    /// Opens what exists, or creates it if there is none of that name.
    [[nodiscard]] static Self create(std::string_view name, const Options &options = {}) {
        const auto c = options.c_options();
        return opened(c_text(name).c_str(), &c);
    }

    /// Creates one under a name of its own.
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
