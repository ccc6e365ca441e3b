// SPDX-License-Identifier: MIT OR Apache-2.0

#ifndef SHOAL_ARRAY_HPP
#define SHOAL_ARRAY_HPP

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

#include "bytes.hpp"
#include "error.hpp"
#include "mutex.hpp"
#include "object.hpp"

SHOAL_BEGIN

/// Options of a new array.
struct array_options {
    /// Fails with SHOAL_ERR_EXISTS if the name is taken.
    bool exclusive = false;
    /// Stays until it is unlinked, even when no process has it open.
    bool persistent = false;
    /// A description of an item, such as a type code, in up to 16 bytes; "" for none.
    std::string format = {};
};

/// Items of one type in plain shared memory, zeros at first, and a recursive lock for them.
///
/// Without the lock, processes may write an item at the same time.
///
///     auto samples = shoal::array<double>::create("samples", 1000);
///     std::lock_guard hold(samples);
///     samples[7] = 1.5;
template <class T>
class array : public detail::object<shoal_array, shoal_array_free, SHOAL_KIND_ARRAY>,
              public detail::timed_lockable<array<T>, shoal_array_lock, shoal_array_unlock> {
    static_assert(std::is_trivially_copyable_v<T>, "shared memory holds plain bytes");
    static_assert(alignof(T) <= 128, "items are aligned to 128 bytes at most");
    using lockable = detail::timed_lockable<array, shoal_array_lock, shoal_array_unlock>;

public:
    /// Takes ownership of a handle of shoal.h, of an array whose items are `T`.
    explicit array(shoal_array *handle, bool created = false) : object(handle, created) {
        void *data = nullptr;
        std::size_t bytes = 0;
        detail::check(shoal_array_data(handle, &data, &bytes));
        data_ = static_cast<T *>(data);
        size_ = bytes / sizeof(T);
    }

    /// Takes over the array; `other` has no items then, and no handle.
    array(array &&other) noexcept
        : object(std::move(other)),
          lockable(other),
          data_(std::exchange(other.data_, nullptr)),
          size_(std::exchange(other.size_, 0)) {}
    /// As the constructor. Frees the handle that this object had.
    array &operator=(array &&other) noexcept {
        object::operator=(std::move(other));
        lockable::operator=(other);
        data_ = std::exchange(other.data_, nullptr);
        size_ = std::exchange(other.size_, 0);
        return *this;
    }

    /// Opens an existing array. Fails with SHOAL_ERR_NOT_FOUND if there is none, and with SHOAL_ERR_INVALID
    /// if its items have another size.
    [[nodiscard]] static array open(std::string_view name) {
        auto c = detail::sized<shoal_array_options>();
        c.item_size = sizeof(T);
        return opened(detail::c_text(name).c_str(), c);
    }

    /// Opens an existing array, which must have `count` items of this size, or creates it.
    [[nodiscard]] static array create(std::string_view name, std::uint64_t count,
                                      const array_options &options = {}) {
        return created_as(detail::c_text(name).c_str(), count, options);
    }

    /// Creates an array with a generated name.
    [[nodiscard]] static array anonymous(std::uint64_t count, const array_options &options = {}) {
        return created_as(nullptr, count, options);
    }

    /// A moved-from array has no items.
    [[nodiscard]] T *data() const noexcept { return data_; }
    /// How many items there are.
    [[nodiscard]] std::size_t size() const noexcept { return size_; }
    /// The first item.
    [[nodiscard]] T *begin() const noexcept { return data_; }
    /// Behind the last item.
    [[nodiscard]] T *end() const noexcept { return data_ + size_; }
    /// Does not check the index, as std::vector's.
    [[nodiscard]] T &operator[](std::size_t index) const noexcept { return data_[index]; }

    /// Statistics.
    [[nodiscard]] shoal_array_stats stat() const {
        return detail::stats_of<shoal_array_stats, shoal_array_stat>(handle());
    }

private:
    static array created_as(const char *name, std::uint64_t count, const array_options &options) {
        const std::string format = detail::c_text(options.format);
        auto c = detail::sized<shoal_array_options>();
        c.flags = detail::creating(options.exclusive, options.persistent);
        c.item_size = sizeof(T);
        c.count = count;
        c.format = format.empty() ? nullptr : format.c_str();
        return opened(name, c);
    }

    static array opened(const char *name, const shoal_array_options &options) {
        shoal_array *handle = nullptr;
        bool created = false;
        detail::check(shoal_array_open(name, &options, &handle, &created));
        return array(handle, created);
    }

    T *data_ = nullptr;
    std::size_t size_ = 0;
};

SHOAL_END

#endif
