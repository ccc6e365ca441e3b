// SPDX-License-Identifier: MIT OR Apache-2.0

#ifndef SHOAL_LIST_HPP
#define SHOAL_LIST_HPP

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "error.hpp"

namespace shoal {

/// A named sequence of byte strings that any number of processes read and change. Every call is
/// one operation, which a kill leaves whole or undone. Negative indices count from the end.
///
///     auto log = shoal::list::create("log");
///     log.append("began");
///     std::string last = *log.get(-1);
class list {
public:
    /// The end of a list, as an index.
    static constexpr std::int64_t end = INT64_MAX;

    /// Opens the list of this name, as `how` says.
    static list open(std::string_view name, const options &how = {}) {
        return list(std::string(name).c_str(), how);
    }

    /// Opens the list of this name, or creates it with the defaults.
    static list create(std::string_view name) {
        options how;
        how.create = true;
        return open(name, how);
    }

    /// Creates a list under a name of its own; `name()` tells which.
    static list anonymous(const options &how = {}) { return list(nullptr, how); }

    /// Removes the name; who has the list open keeps it.
    static void unlink(std::string_view name) {
        detail::check(shoal_list_unlink(std::string(name).c_str()));
    }

    /// The name to open this list by.
    std::string name() const {
        const char *name = shoal_list_name(get_handle());
        if (name == nullptr) throw error(SHOAL_ERR_INVALID);
        return name;
    }

    /// Adds an element at the end.
    void append(std::string_view element) {
        detail::check(shoal_list_append(get_handle(), element.data(), element.size()));
    }

    /// Adds an element before another one, or at either end if `index` is beyond it.
    void insert(std::int64_t index, std::string_view element) {
        detail::check(shoal_list_insert(get_handle(), index, element.data(), element.size()));
    }

    /// Replaces the elements from `start` up to, but not including, `stop` by others, all at once.
    template <class Strings>
    void splice(std::int64_t start, std::int64_t stop, const Strings &elements) {
        std::vector<shoal_slice> slices;
        for (const auto &element : elements) {
            const std::string_view bytes(element);
            slices.push_back({bytes.data(), bytes.size()});
        }
        detail::check(
            shoal_list_splice(get_handle(), start, stop, slices.data(), slices.size()));
    }

    /// Adds elements at the end, all at once.
    template <class Strings>
    void extend(const Strings &elements) {
        splice(end, end, elements);
    }

    /// Removes the elements from `start` up to, but not including, `stop`.
    void erase(std::int64_t start, std::int64_t stop) {
        detail::check(shoal_list_splice(get_handle(), start, stop, nullptr, 0));
    }

    /// An element, if there is one at `index`.
    [[nodiscard]] std::optional<std::string> get(std::int64_t index) const {
        return found([&](char *to, std::size_t room, std::size_t *len) {
            return shoal_list_get(get_handle(), index, to, room, len);
        });
    }

    /// Removes an element, the last one unless told otherwise; of several callers each gets
    /// another one.
    std::optional<std::string> pop(std::int64_t index = -1) {
        return found([&](char *to, std::size_t room, std::size_t *len) {
            return shoal_list_pop(get_handle(), index, to, room, len);
        });
    }

    /// Replaces an element. Throws with SHOAL_ERR_NOT_FOUND if there is none at `index`.
    void set(std::int64_t index, std::string_view element) {
        detail::check(shoal_list_set(get_handle(), index, element.data(), element.size()));
    }

    /// Replaces an element if it is `expected`, and says whether it was.
    bool compare_swap(std::int64_t index, std::string_view expected, std::string_view desired) {
        bool swapped = false;
        detail::check(shoal_list_compare_swap(get_handle(), index, detail::data_of(expected),
                                              expected.size(), detail::data_of(desired),
                                              desired.size(), &swapped));
        return swapped;
    }

    /// Exchanges two elements.
    void swap(std::int64_t a, std::int64_t b) {
        detail::check(shoal_list_swap(get_handle(), a, b));
    }

    /// Reverses the list.
    void reverse() { detail::check(shoal_list_reverse(get_handle())); }

    /// Sorts the list by its bytes. It is locked meanwhile.
    void sort() {
        const auto compare = [](const void *a, std::size_t a_len, const void *b,
                                std::size_t b_len, void *) {
            const auto view = [](const void *data, std::size_t len) {
                return std::string_view(static_cast<const char *>(data), len);
            };
            return view(a, a_len).compare(view(b, b_len));
        };
        detail::check(shoal_list_sort(get_handle(), compare, nullptr));
    }

    /// How many elements there are.
    [[nodiscard]] std::uint64_t size() const {
        std::uint64_t len = 0;
        detail::check(shoal_list_len(get_handle(), &len));
        return len;
    }

    /// Whether there is no element.
    [[nodiscard]] bool empty() const { return size() == 0; }

    /// Removes every element.
    void clear() { detail::check(shoal_list_clear(get_handle())); }

    /// The handle, for functions of shoal.h. It stays this object's.
    shoal_list *get_handle() const noexcept { return handle_.get(); }

private:
    struct deleter {
        void operator()(shoal_list *handle) const noexcept { shoal_list_free(handle); }
    };

    list(const char *name, const options &how) {
        detail::refuse_others(how, true);
        shoal_list_options c{};
        c.size = sizeof c;
        c.flags = how.flags();
        c.capacity = how.capacity;
        c.max_capacity = how.max_capacity;
        shoal_list *handle = nullptr;
        detail::check(shoal_list_open(name, &c, &handle));
        handle_.reset(handle);
    }

    template <class Fill>
    static std::optional<std::string> found(Fill fill) {
        std::string element;
        const shoal_status status = detail::fill_string(element, fill);
        if (status == SHOAL_ERR_NOT_FOUND) return std::nullopt;
        detail::check(status);
        return element;
    }

    std::unique_ptr<shoal_list, deleter> handle_;
};

}  // namespace shoal

#endif
