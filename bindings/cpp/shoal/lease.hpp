// SPDX-License-Identifier: MIT OR Apache-2.0
//
// Leases of devices: which program may use which. See the section "Lease" of shoal.h.

#ifndef SHOAL_LEASE_HPP
#define SHOAL_LEASE_HPP

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <locale>
#include <memory>
#include <optional>
#include <sstream>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "device.hpp"
#include "duration.hpp"
#include "error.hpp"
#include "object.hpp"

SHOAL_BEGIN

namespace device {

/// A device of this machine, or of a lease.
struct info {
    /// Its unique id or bus address.
    std::string id;
    /// Its family.
    std::string family;
    /// Its number in its family's runtime without a mask.
    std::uint32_t index = 0;
    /// The vendor's name for it; empty if unknown.
    std::string name;
    /// Its memory in bytes; nothing if unknown.
    std::optional<std::uint64_t> memory;
    /// How many bytes of its memory no process uses; nothing if unknown.
    std::optional<std::uint64_t> free;
    /// The percentage of the last second, or of a shorter time, in which it was busy; nothing if unknown.
    std::optional<std::uint64_t> utilisation;
    /// Its number in this process; only of a device of a lease.
    std::optional<std::uint64_t> logical;
    /// The part of it that the lease has: 1 is the whole. Only of a device of a lease.
    double share = 0;
};

namespace detail {

/// The parts between the separators.
inline std::vector<std::string> split(std::string_view text, char separator) {
    std::vector<std::string> parts;
    for (std::size_t at = 0; at <= text.size();) {
        const std::size_t end = std::min(text.find(separator, at), text.size());
        parts.emplace_back(text.substr(at, end - at));
        at = end + 1;
    }
    return parts;
}

/// The number in a field; nothing for "-".
inline std::optional<std::uint64_t> number(const std::string &field) {
    if (field == "-") return std::nullopt;
    return std::strtoull(field.c_str(), nullptr, 10);
}

/// The lines of `shoal_device_discover` and of `shoal_lease_devices`.
inline std::vector<info> devices(const std::string &text) {
    std::vector<info> found;
    for (const std::string &line : split(text, '\n')) {
        const std::vector<std::string> field = split(line, '\t');
        if (field.size() < 7) continue;
        info it;
        it.id = field[0];
        it.family = field[1];
        it.index = static_cast<std::uint32_t>(number(field[2]).value_or(0));
        if (field[3] != "-") it.name = field[3];
        it.memory = number(field[4]);
        it.free = number(field[5]);
        it.utilisation = number(field[6]);
        if (field.size() >= 9) {
            it.logical = number(field[7]);
            // Not by the locale of the program, which may have a decimal comma.
            std::istringstream share(field[8]);
            share.imbue(std::locale::classic());
            share >> it.share;
        }
        found.push_back(std::move(it));
    }
    return found;
}

}  // namespace detail

/// The devices of this machine, of one family or of all. The mask of this process has no effect. It waits for
/// a vendor's library, for 10 seconds at most. Fails as `shoal_device_discover`.
[[nodiscard]] inline std::vector<info> discover(std::optional<std::string_view> family = {}) {
    const std::string f = detail::c_text(family.value_or(""));
    const char *wanted = family ? f.c_str() : nullptr;
    return detail::devices(detail::text([&](char *to, std::size_t capacity, std::size_t *len) {
        return shoal_device_discover(wanted, to, capacity, len);
    }));
}

/// Which devices of a lease a worker sees.
enum class mode : std::uint32_t {
    /// Its own devices and no others.
    exclusive = SHOAL_LEASE_EXCLUSIVE,
    /// All devices of the lease, its own ones first.
    rotate = SHOAL_LEASE_ROTATE,
    /// The devices that this process sees. SHOAL_DEVICE_INDEX contains the numbers of the worker's own.
    index_only = SHOAL_LEASE_INDEX_ONLY,
};

/// The options of a lease; see `shoal_lease_options`.
struct lease_options {
    /// How many devices, at least 1.
    std::size_t count = 1;
    /// Their family, such as "cuda"; by default the only one that this machine has devices of.
    std::optional<std::string> family;
    /// Numbers or ids, separated by commas.
    std::optional<std::string> order;
    /// What others read as the command that has the lease; by default that of this process.
    std::optional<std::string> command;
    /// How many bytes of a device's memory must be free now.
    std::uint64_t min_free = 0;
    /// Leases so many bytes of each device instead of whole devices;
    std::uint64_t share_memory = 0;
    /// or so many slots
    std::uint32_t share_slots = 0;
    /// of this total: 1 of 4 is a quarter.
    std::uint32_t share_of = 0;
    /// Only devices that are idle for at least this percentage of the time.
    std::uint32_t min_idle = 0;
};

/// Devices that no other lease has, or a share of them. The destructor releases this process's hold; children
/// that were given the lease keep theirs.
///
///     shoal::device::lease_options two;
///     two.count = 2;
///     auto lease = shoal::device::lease::acquire(two);
///     shoal::spawn_options child("train");
///     auto process = shoal::process::spawn(child.lease(lease));
class lease {
public:
    /// Takes ownership of a handle of shoal.h.
    explicit lease(shoal_lease *handle) noexcept : handle_(handle) {}

    /// Waits for the devices and leases all of them at once. Requests are served in their order. Fails as
    /// `shoal_lease_acquire`.
    static lease acquire(const lease_options &options = {}, duration timeout = forever) {
        lease it(nullptr);
        detail::check(request(it, options, timeout));
        return it;
    }

    /// As `acquire`; nothing after the timeout.
    [[nodiscard]] static std::optional<lease> try_acquire(const lease_options &options = {},
                                                          duration timeout = nowait) {
        lease it(nullptr);
        const shoal_status status = request(it, options, timeout);
        if (!detail::done_unless(SHOAL_ERR_TIMEOUT, status)) return std::nullopt;
        return it;
    }

    /// The devices, with their numbers in this process.
    [[nodiscard]] std::vector<info> devices() const {
        return detail::devices(text<shoal_lease_devices>());
    }

    /// The numbers of the devices, as an argument of `spawn_options::devices`.
    [[nodiscard]] std::string mask() const { return text<shoal_lease_mask>(); }

    /// Its name among the leases of this machine.
    [[nodiscard]] std::string id() const { return text<shoal_lease_id>(); }

    /// The changes in the environment of worker `worker` of `workers`: "NAME=value" sets a variable, "NAME"
    /// removes it. `spawn_options::lease` applies them itself.
    [[nodiscard]] std::vector<std::string> environment(std::size_t worker = 0,
                                                       std::size_t workers = 1,
                                                       mode how = mode::exclusive) const {
        const std::string all = detail::text([&](char *to, std::size_t capacity, std::size_t *len) {
            const auto code = static_cast<std::uint32_t>(how);
            return shoal_lease_environment(handle(), code, worker, workers, to, capacity, len);
        });
        std::vector<std::string> changes;
        for (std::size_t at = 0; at < all.size(); at += changes.back().size() + 1)
            changes.emplace_back(all.c_str() + at);
        return changes;
    }

    /// Its descriptor. Every process that has a copy of it holds the lease. This object owns it.
    [[nodiscard]] int fd() const {
        int fd = -1;
        detail::check(shoal_lease_fd(handle(), &fd));
        return fd;
    }

    /// Sets whether the lease is kept when this process executes another program.
    void keep_on_exec(bool keep = true) { detail::check(shoal_lease_keep_on_exec(handle(), keep)); }

    /// The handle, for functions of shoal.h. This object owns it.
    [[nodiscard]] shoal_lease *handle() const noexcept { return handle_.get(); }

private:
    static shoal_status request(lease &it, const lease_options &options, duration timeout) {
        const auto c_str = [](const std::optional<std::string> &text) {
            return text ? text->c_str() : nullptr;
        };
        shoal::detail::require_positive(options.count, "number of devices");
        auto c = detail::sized<shoal_lease_options>();
        c.count = options.count;
        c.family = c_str(options.family);
        c.order = c_str(options.order);
        c.command = c_str(options.command);
        c.min_free = options.min_free;
        c.share_memory = options.share_memory;
        c.share_slots = options.share_slots;
        c.share_of = options.share_of;
        c.min_idle = options.min_idle;
        shoal_lease *handle = nullptr;
        const shoal_status status = shoal_lease_acquire(&c, timeout.nanoseconds(), &handle);
        it.handle_.reset(handle);
        return status;
    }

    template <auto Function>
    [[nodiscard]] std::string text() const {
        return detail::text([&](char *to, std::size_t capacity, std::size_t *len) {
            return Function(handle(), to, capacity, len);
        });
    }

    std::unique_ptr<shoal_lease, detail::freed_by<shoal_lease_free>> handle_;
};

/// Every lease of this machine and every request that waits, one line for each: see `shoal_lease_holders`.
[[nodiscard]] inline std::vector<std::string> holders() {
    std::vector<std::string> lines = detail::split(
        detail::text([](char *to, std::size_t capacity, std::size_t *len) {
            return shoal_lease_holders(to, capacity, len);
        }),
        '\n');
    lines.pop_back();
    return lines;
}

}  // namespace device

SHOAL_END

#endif
