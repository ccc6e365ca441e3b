// SPDX-License-Identifier: MIT OR Apache-2.0

#ifndef SHOAL_ARRAY_HPP
#define SHOAL_ARRAY_HPP

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <type_traits>

#include "error.hpp"

namespace shoal {

/// Items of one type that any number of processes read and write where they are, and a lock that
/// its thread may take again, for std::lock_guard.
///
/// The items are plain memory, zeros at first. What several processes write without the lock they
/// write at the same time.
///
///     shoal::array<double> samples(1000, "samples");
///     std::lock_guard hold(samples);
///     samples[7] = 1.5;
template <class T>
class array {
    static_assert(std::is_trivially_copyable_v<T>, "shared memory holds plain bytes");

public:
    /// Creates an array of so many items, or opens that of this name, which has to be the same.
    /// Without a name it is always created.
    explicit array(std::uint64_t count, std::string_view name = {}, bool persistent = false) {
        shoal_array_options c{};
        c.size = sizeof c;
        c.flags = SHOAL_CREATE | (persistent ? SHOAL_PERSISTENT : 0);
        c.item_size = sizeof(T);
        c.count = count;
        make(name.empty() ? nullptr : std::string(name).c_str(), &c);
    }

    /// Opens what exists. Throws with SHOAL_ERR_INVALID if its items have another size.
    static array open(std::string_view name) {
        shoal_array_options c{};
        c.size = sizeof c;
        c.item_size = sizeof(T);
        array opened;
        opened.make(std::string(name).c_str(), &c);
        return opened;
    }

    /// Removes the name; who has the array open keeps it.
    static void unlink(std::string_view name) {
        detail::check(shoal_array_unlink(std::string(name).c_str()));
    }

    /// The name to open this array by.
    std::string name() const {
        const char *name = shoal_array_name(get_handle());
        if (name == nullptr) throw error(SHOAL_ERR_INVALID);
        return name;
    }

    T *data() const noexcept { return data_; }
    std::size_t size() const noexcept { return size_; }
    T *begin() const noexcept { return data_; }
    T *end() const noexcept { return data_ + size_; }
    /// Not checked, as that of std::vector.
    T &operator[](std::size_t index) const noexcept { return data_[index]; }

    void lock() { (void)try_lock_for(forever); }
    [[nodiscard]] bool try_lock() { return try_lock_for(nowait); }
    [[nodiscard]] bool try_lock_for(timeout wait) {
        const shoal_status status = shoal_array_lock(get_handle(), wait.nanoseconds());
        if (status == SHOAL_ERR_TIMEOUT) return false;
        owner_died_ = status == SHOAL_ERR_OWNER_DIED;
        if (!owner_died_) detail::check(status);
        return true;
    }
    void unlock() { detail::check(shoal_array_unlock(get_handle())); }

    /// Whether, when this object last took the lock, its holder had died with it.
    [[nodiscard]] bool owner_died() const noexcept { return owner_died_; }

    /// The handle, for functions of shoal.h. It stays this object's.
    shoal_array *get_handle() const noexcept { return handle_.get(); }

private:
    struct deleter {
        void operator()(shoal_array *handle) const noexcept { shoal_array_free(handle); }
    };

    array() = default;

    void make(const char *name, const shoal_array_options *options) {
        shoal_array *handle = nullptr;
        detail::check(shoal_array_open(name, options, &handle));
        handle_.reset(handle);
        void *data = nullptr;
        std::size_t bytes = 0;
        detail::check(shoal_array_data(handle, &data, &bytes));
        data_ = static_cast<T *>(data);
        size_ = bytes / sizeof(T);
    }

    std::unique_ptr<shoal_array, deleter> handle_;
    T *data_ = nullptr;
    std::size_t size_ = 0;
    bool owner_died_ = false;
};

}  // namespace shoal

#endif
