// SPDX-License-Identifier: MIT OR Apache-2.0

#ifndef SHOAL_LIST_HPP
#define SHOAL_LIST_HPP

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <initializer_list>
#include <iterator>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "bytes.hpp"
#include "error.hpp"
#include "object.hpp"
#include "shoal_bindings.h"

SHOAL_BEGIN

/// Options of a new list. Zeros are the defaults.
struct list_options {
    /// Fails with SHOAL_ERR_EXISTS if the name is taken.
    bool exclusive = false;
    /// Stays until it is unlinked, even when no process has it open.
    bool persistent = false;
    /// Bytes of data for which there is room from the start.
    std::uint64_t capacity = 0;
    /// Bytes of data to which it may grow. Address space, not memory.
    std::uint64_t max_capacity = 0;

    /// As shoal.h represents it.
    [[nodiscard]] shoal_list_options c_options() const noexcept {
        auto c = detail::sized<shoal_list_options>();
        c.flags = detail::creating(exclusive, persistent);
        c.capacity = capacity;
        c.max_capacity = max_capacity;
        return c;
    }
};

/// A sequence of byte strings that any number of processes read and write. Every call is atomic. An index
/// below 0 counts from the end. A call that adds data fails with SHOAL_ERR_TOO_LARGE if the data could never
/// fit, and with SHOAL_ERR_NO_SPACE if memory or the list is full; then the list is unchanged.
///
///     auto log = shoal::list::create("log");
///     log.append("began");
///     std::string last = *log.get(-1);
///     for (const std::string &line : log) std::cout << line << "\n";
class list : public detail::openable<list, list_options, shoal_list, shoal_list_open,
                                     shoal_list_free, SHOAL_KIND_LIST> {
public:
    using openable::openable;

    /// The index after the last element of every list.
    static constexpr std::int64_t npos = INT64_MAX;

    /// Adds an element at the end.
    void append(std::string_view element) {
        detail::check(shoal_list_append(handle(), element.data(), element.size()));
    }

    /// Adds an element before another one, or at either end if `index` is beyond it.
    void insert(std::int64_t index, std::string_view element) {
        detail::check(shoal_list_insert(handle(), index, element.data(), element.size()));
    }

    /// Replaces the elements from `start` up to, but not including, `stop` by others, as one operation.
    template <class Strings = std::initializer_list<std::string_view>>
    void splice(std::int64_t start, std::int64_t stop, const Strings &elements) {
        const std::vector<shoal_slice> slices = detail::slices_of(elements);
        detail::check(shoal_list_splice(handle(), start, stop, slices.data(), slices.size()));
    }

    /// As `splice`, if the list still has this version, from `version()` or `slice_versioned`. Returns
    /// whether it had.
    ///
    ///     const auto read = list.slice_versioned();
    ///     const auto at = place_for(job, read.elements);
    ///     if (!list.splice_if(read.version, at, at, {job})) try_again();
    template <class Strings = std::initializer_list<std::string_view>>
    bool splice_if(std::uint64_t version, std::int64_t start, std::int64_t stop,
                   const Strings &elements) {
        const std::vector<shoal_slice> slices = detail::slices_of(elements);
        bool done = false;
        detail::check(shoal_list_splice_if(handle(), version, start, stop, slices.data(),
                                           slices.size(), &done));
        return done;
    }

    /// Brings the elements into another order, given by indices from the front, and removes those that the
    /// order omits, as one operation, if the list still has this version. Returns whether it had. No element
    /// is copied. Fails with SHOAL_ERR_INVALID for a repeated index or one without an element.
    ///
    ///     list.rearrange_if(seen, {2, 0});  // the third, the first, and no others
    template <class Indices = std::initializer_list<std::uint64_t>>
    bool rearrange_if(std::uint64_t version, const Indices &order) {
        const std::vector<std::uint64_t> indices(std::begin(order), std::end(order));
        bool done = false;
        detail::check(shoal_list_rearrange_if(handle(), version, indices.data(),
                                              indices.size(), &done));
        return done;
    }

    /// Adds elements at the end, as one operation.
    template <class Strings = std::initializer_list<std::string_view>>
    void extend(const Strings &elements) {
        splice(npos, npos, elements);
    }

    /// Removes the elements from `start` up to, but not including, `stop`.
    void erase(std::int64_t start, std::int64_t stop) {
        detail::check(shoal_list_splice(handle(), start, stop, nullptr, 0));
    }

    /// An element, if there is one at `index`.
    [[nodiscard]] std::optional<std::string> get(std::int64_t index) const {
        return detail::found([&](char *to, std::size_t capacity, std::size_t *len) {
            return shoal_list_get(handle(), index, to, capacity, len);
        });
    }

    /// Elements of one moment, and the version of the list at that moment.
    struct versioned {
        /// Their bytes, in the order of the list.
        std::vector<std::string> elements;
        /// What `list::version` returned at that moment.
        std::uint64_t version;
    };

    /// The elements from `start` up to, but not including, `stop`, at one moment. If others change the list
    /// before all elements are copied, the call starts again, with larger steps.
    [[nodiscard]] std::vector<std::string> slice(std::int64_t start = 0,
                                                 std::int64_t stop = npos) const {
        return slice_versioned(start, stop).elements;
    }

    /// As `slice`, with the version of the list, for `splice_if` and `rearrange_if`.
    [[nodiscard]] versioned slice_versioned(std::int64_t start = 0,
                                            std::int64_t stop = npos) const {
        for (step_buffer to;;)
            if (auto read = slice_in_steps(start, stop, to)) return std::move(*read);
    }

    /// Up to `max` elements from `start` on: as many as one step copies, and at least one if there is one.
    /// All are of one moment. For reading a long list in parts.
    [[nodiscard]] std::vector<std::string> get_many(std::uint64_t start, std::size_t max) const {
        std::vector<std::string> elements;
        std::uint64_t version = 0;
        step_buffer to;
        (void)to.copy(handle(), start, max, elements, version);
        return elements;
    }

    /// A number that changes with every change of the list.
    [[nodiscard]] std::uint64_t version() const {
        std::size_t count = 0;
        std::uint64_t version = 0;
        detail::check(shoal_list_get_many(handle(), 0, nullptr, 0, nullptr, 0, &count, &version));
        return version;
    }

    /// Removes an element and returns it, if there is one at `index`. If callers race, each gets a different
    /// one.
    std::optional<std::string> pop(std::int64_t index = -1) {
        return detail::found([&](char *to, std::size_t capacity, std::size_t *len) {
            return shoal_list_pop(handle(), index, to, capacity, len);
        });
    }

    /// Replaces an element. Fails with SHOAL_ERR_NOT_FOUND if there is none at `index`.
    void set(std::int64_t index, std::string_view element) {
        detail::check(shoal_list_set(handle(), index, element.data(), element.size()));
    }

    /// Replaces an element if it is `expected`. Returns whether it was.
    bool compare_swap(std::int64_t index, std::string_view expected, std::string_view desired) {
        bool swapped = false;
        detail::check(shoal_list_compare_swap(handle(), index, detail::data_of(expected),
                                              expected.size(), detail::data_of(desired),
                                              desired.size(), &swapped));
        return swapped;
    }

    /// Exchanges two elements. Fails with SHOAL_ERR_NOT_FOUND if there is none at `a` or `b`.
    void swap(std::int64_t a, std::int64_t b) {
        detail::check(shoal_list_swap(handle(), a, b));
    }

    /// Reverses the list.
    void reverse() { detail::check(shoal_list_reverse(handle())); }

    /// Sorts the elements by their bytes. The list is locked meanwhile.
    void sort() { detail::check(shoal_list_sort(handle(), nullptr, nullptr)); }

    /// Sorts the list by `before(a, b)`, which returns whether `a` comes before `b`, both std::string_view.
    /// Equal elements keep their order. The list is locked meanwhile: `before` must not use it. If it throws,
    /// the exception is rethrown, and the elements are in any order; so they are if it contradicts itself.
    ///
    ///     list.sort([](auto a, auto b) { return a.size() < b.size(); });
    template <class Before>
    void sort(Before before) {
        sorting<Before> how{before, nullptr};
        const shoal_status status = shoal_list_sort(handle(), &sorting<Before>::compare, &how);
#if SHOAL_EXCEPTIONS
        if (how.thrown != nullptr) std::rethrow_exception(how.thrown);
#endif
        detail::check(status);
    }

    /// How many elements there are.
    [[nodiscard]] std::uint64_t size() const {
        std::uint64_t len = 0;
        detail::check(shoal_list_len(handle(), &len));
        return len;
    }

    /// Whether there are no elements.
    [[nodiscard]] bool empty() const { return size() == 0; }

    /// Statistics.
    [[nodiscard]] shoal_list_stats stat() const {
        return detail::stats_of<shoal_list_stats, shoal_list_stat>(handle());
    }

    /// Removes every element.
    void clear() { detail::check(shoal_list_clear(handle())); }

private:
    /// The buffer for the elements that one step copies.
    struct step_buffer {
        std::string bytes = std::string(64 * 1024, '\0');
        std::vector<std::size_t> lens = std::vector<std::size_t>(4096);

        /// Appends up to `max` elements from `start` on: as many as fit, and at least one. Sets `version`
        /// to the list's version. Returns whether more elements may follow.
        bool copy(shoal_list *list, std::uint64_t start, std::uint64_t max,
                  std::vector<std::string> &into, std::uint64_t &version) {
            const auto wanted = static_cast<std::size_t>(std::min<std::uint64_t>(max, lens.size()));
            if (wanted == 0) return false;
            std::size_t count = 0;
            for (;;) {
                const shoal_status status =
                    shoal_list_get_many(list, start, bytes.data(), bytes.size(), lens.data(),
                                        wanted, &count, &version);
                if (status != SHOAL_ERR_BUFFER_TOO_SMALL) {
                    detail::check(status);
                    break;
                }
                bytes.resize(lens[0]);
            }
            const char *at = bytes.data();
            for (std::size_t i = 0; i < count; at += lens[i++]) into.emplace_back(at, lens[i]);
            return count == wanted || lens[count] != SIZE_MAX;
        }

        void grow() {
            bytes.resize(2 * bytes.size());
            lens.resize(2 * lens.size());
        }
    };

public:
    /// Iterates over the elements while others may write. It copies some elements at a time, all of one
    /// moment, and continues at the next index. If others insert or remove elements before that index, it
    /// may yield an element twice or skip one; `slice` has all elements of one moment. One thread at a time
    /// may use it.
    class iterator {
    public:
        /// It goes through the elements once.
        using iterator_category = std::input_iterator_tag;
        /// An element.
        using value_type = std::string;
        /// Required by the standard; two iterators have no difference.
        using difference_type = std::ptrdiff_t;
        /// A pointer to an element.
        using pointer = const std::string *;
        /// A reference to an element.
        using reference = const std::string &;

        /// The end.
        iterator() = default;

        /// The element; valid until the next increment.
        const std::string &operator*() const noexcept { return walk_->elements[walk_->at]; }
        /// As `*it`.
        const std::string *operator->() const noexcept { return &**this; }

        /// Moves to the next element; after the last one it is the end.
        iterator &operator++() {
            if (++walk_->at == walk_->elements.size()) fill();
            return *this;
        }

        /// `*it++` is the element before the increment.
        class previous {
        public:
            /// The element.
            std::string operator*() const { return element_; }

        private:
            friend class iterator;
            explicit previous(std::string &&it) : element_(std::move(it)) {}
            std::string element_;
        };

        /// As `++it`. `*it++` is the element before.
        previous operator++(int) {
            previous before(std::move(walk_->elements[walk_->at]));
            ++*this;
            return before;
        }

        /// Whether both are the end, or share a position.
        friend bool operator==(const iterator &a, const iterator &b) noexcept {
            return a.walk_ == b.walk_;
        }
        /// Whether they differ.
        friend bool operator!=(const iterator &a, const iterator &b) noexcept { return !(a == b); }

    private:
        friend class list;

        struct walk {
            shoal_list *list;
            step_buffer to;
            std::vector<std::string> elements;
            std::size_t at;
            std::uint64_t next;
        };

        explicit iterator(shoal_list *list) : walk_(new walk{list, {}, {}, 0, 0}) { fill(); }

        void fill() {
            walk &on = *walk_;
            std::uint64_t version = 0;
            on.elements.clear();
            (void)on.to.copy(on.list, on.next, 256, on.elements, version);
            on.at = 0;
            on.next += on.elements.size();
            if (on.elements.empty()) walk_.reset();
        }

        // Shared, because copies of an input iterator share their position.
        std::shared_ptr<walk> walk_;
    };

    /// An iterator at the first element; the end if there is none.
    iterator begin() const { return iterator(handle()); }
    /// The iterator behind the last element.
    iterator end() const { return iterator(); }

private:
    template <class Before>
    struct sorting {
        Before &before;
        std::exception_ptr thrown;

        /// No exception may leave this function, which the library calls.
        static int compare(const void *a, std::size_t a_len, const void *b, std::size_t b_len,
                           void *arg) noexcept {
            auto *how = static_cast<sorting *>(arg);
            const std::string_view first(static_cast<const char *>(a), a_len);
            const std::string_view second(static_cast<const char *>(b), b_len);
#if SHOAL_EXCEPTIONS
            if (how->thrown != nullptr) return 0;
            try {
                return how->order(first, second);
            } catch (...) {
                how->thrown = std::current_exception();
                return 0;
            }
#else
            return how->order(first, second);
#endif
        }

        int order(std::string_view first, std::string_view second) {
            if (before(first, second)) return -1;
            return before(second, first) ? 1 : 0;
        }
    };

    /// Nothing if the list was changed meanwhile. If one step was not enough, later steps are larger.
    std::optional<versioned> slice_in_steps(std::int64_t start, std::int64_t stop,
                                            step_buffer &to) const {
        versioned read{{}, version()};
        const bool from_end = start < 0 || stop < 0;
        const auto len = from_end ? static_cast<std::int64_t>(size()) : 0;
        const std::int64_t first = start < 0 ? std::max(len + start, std::int64_t{0}) : start;
        const std::int64_t behind = stop < 0 ? std::max(len + stop, std::int64_t{0}) : stop;
        if (first >= behind)
            return !from_end || version() == read.version ? std::optional(read) : std::nullopt;

        bool more = true;
        for (auto at = static_cast<std::uint64_t>(first); more;) {
            const std::uint64_t seen = read.version;
            const auto left = static_cast<std::uint64_t>(behind) - at;
            const std::size_t before = read.elements.size();
            more = to.copy(handle(), at, left, read.elements, read.version);
            // A single step is of one moment by itself.
            const bool alone = before == 0 && !from_end;
            if (!alone && read.version != seen) {
                if (before != 0) to.grow();
                return std::nullopt;
            }
            at += read.elements.size() - before;
        }
        return read;
    }
};

SHOAL_END

#endif
