// SPDX-License-Identifier: MIT OR Apache-2.0

#ifndef SHOAL_MAP_HPP
#define SHOAL_MAP_HPP

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <iterator>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "bytes.hpp"
#include "duration.hpp"
#include "error.hpp"
#include "object.hpp"
#include "shoal_bindings.h"

SHOAL_BEGIN

/// Options of a new map. Zeros are the defaults.
struct map_options {
    /// Fails with SHOAL_ERR_EXISTS if the name is taken.
    bool exclusive = false;
    /// Stays until it is unlinked, even when no process has it open.
    bool persistent = false;
    /// Iteration follows the order in which keys were inserted. Each entry takes 8 bytes more, and an
    /// iteration begins by copying all keys.
    bool ordered = false;
    /// It has 4 parts with a lock each instead of 64: empty it takes 12 KiB of memory instead of 48, and at
    /// most 4 processes change it at the same time. For programs with many maps of a few keys each.
    bool compact = false;
    /// Bytes of data for which memory is reserved at creation; 0 for none.
    std::uint64_t capacity = 0;
    /// Bytes of data to which it may grow; 0 for 64 GiB, or less where address space or files are limited.
    /// Address space, not memory.
    std::uint64_t max_capacity = 0;

    /// As shoal.h represents it.
    [[nodiscard]] shoal_map_options c_options() const noexcept {
        auto c = detail::sized<shoal_map_options>();
        c.flags = detail::creating(exclusive, persistent,
                                   (ordered ? SHOAL_ORDERED : 0) | (compact ? SHOAL_COMPACT : 0));
        c.capacity = capacity;
        c.max_capacity = max_capacity;
        return c;
    }
};

/// A map from bytes to bytes, which any number of processes read and write. Every call is atomic for its
/// key. A call that writes fails with SHOAL_ERR_TOO_LARGE if key or value could never fit, and with
/// SHOAL_ERR_NO_SPACE if memory or the map is full; then the old value stays.
///
///     auto capitals = shoal::map::create("capitals");
///     capitals.set("Peru", "Lima");
///     for (const auto &[country, capital] : capitals)
///         std::cout << country << ": " << capital << "\n";
class map : public detail::openable<map, map_options, shoal_map, shoal_map_open, shoal_map_free,
                                    SHOAL_KIND_MAP> {
public:
    using openable::openable;

    /// Sets `key` to the value, whether or not it had one.
    void set(std::string_view key, std::string_view value) {
        detail::check(
            shoal_map_set(handle(), key.data(), key.size(), value.data(), value.size()));
    }

    /// The value of `key`, if it has one.
    [[nodiscard]] std::optional<std::string> get(std::string_view key) const {
        return detail::found([&](char *to, std::size_t capacity, std::size_t *len) {
            return shoal_map_get(handle(), key.data(), key.size(), to, capacity, len, nullptr);
        });
    }

    /// The values of many keys, in their order, with nothing for an absent key. Each part of the map is
    /// locked once; others may write between two keys.
    ///
    ///     const auto found = map.get_many({"Peru", "Chile"});
    ///     if (found[1]) std::cout << *found[1] << "\n";
    template <class Strings = std::initializer_list<std::string_view>>
    [[nodiscard]] std::vector<std::optional<std::string>> get_many(const Strings &keys) const {
        const std::vector<shoal_slice> slices = detail::slices_of(keys);
        std::vector<shoal_slice> found(slices.size());
        std::string buffer(4096, '\0');
        for (;;) {
            std::size_t len = 0;
            const shoal_status status =
                shoal_map_get_many(handle(), slices.data(), slices.size(), buffer.data(),
                                   buffer.size(), &len, found.data());
            if (status != SHOAL_ERR_BUFFER_TOO_SMALL) {
                detail::check(status);
                break;
            }
            buffer.resize(len);
        }
        std::vector<std::optional<std::string>> values(found.size());
        for (std::size_t i = 0; i < found.size(); ++i)
            if (found[i].data != nullptr)
                values[i].emplace(static_cast<const char *>(found[i].data), found[i].len);
        return values;
    }

    /// Sets many keys, given as pairs of key and value; of equal keys the last one counts. Each part of the
    /// map is locked once. The call is not atomic: after an error or a kill some keys are set. A pair that is
    /// too large is refused before anything is set.
    ///
    ///     map.set_many({{"Peru", "Lima"}, {"Chile", "Santiago"}});
    ///     map.set_many(std::map<std::string, std::string>{{"Cuba", "Havana"}});
    template <class Pairs =
                  std::initializer_list<std::pair<std::string_view, std::string_view>>>
    void set_many(const Pairs &pairs) {
        detail::require_lasting_items<Pairs>();
        std::vector<shoal_slice> keys, values;
        for (const auto &[key, value] : pairs) {
            keys.push_back(detail::slice_of(key));
            values.push_back(detail::slice_of(value));
        }
        detail::check(
            shoal_map_set_many(handle(), keys.data(), values.data(), keys.size()));
    }

    /// Removes `key` and returns its value, if it had one.
    std::optional<std::string> take(std::string_view key) {
        return detail::found([&](char *to, std::size_t capacity, std::size_t *len) {
            return shoal_map_take(handle(), key.data(), key.size(), to, capacity, len);
        });
    }

    /// Sets `key` to the value if it is absent. Returns whether it was.
    bool insert(std::string_view key, std::string_view value) {
        bool inserted = false;
        detail::check(shoal_map_insert(handle(), key.data(), key.size(), value.data(),
                                       value.size(), &inserted));
        return inserted;
    }

    /// Removes `key`. Returns whether it was present.
    bool remove(std::string_view key) {
        return detail::done_unless(SHOAL_ERR_NOT_FOUND,
                                   shoal_map_remove(handle(), key.data(), key.size()));
    }

    /// Whether the map has `key`.
    [[nodiscard]] bool contains(std::string_view key) const {
        bool contains = false;
        detail::check(shoal_map_contains(handle(), key.data(), key.size(), &contains));
        return contains;
    }

    /// Adds to the counter `key`, which counts as 0 if it is absent. Returns the sum. Fails with
    /// SHOAL_ERR_INVALID if the value does not have 8 bytes.
    std::int64_t add(std::string_view key, std::int64_t delta) {
        std::int64_t sum = 0;
        detail::check(shoal_map_add(handle(), key.data(), key.size(), delta, &sum));
        return sum;
    }

    /// Sets `key` to `desired` if its value is `expected`. Returns whether it was. An empty optional means
    /// that the key is absent, before or after.
    bool compare_swap(std::string_view key, std::optional<std::string_view> expected,
                      std::optional<std::string_view> desired) {
        bool swapped = false;
        detail::check(shoal_map_compare_swap(
            handle(), key.data(), key.size(), detail::data_of(expected), detail::size_of(expected),
            detail::data_of(desired), detail::size_of(desired), &swapped));
        return swapped;
    }

    /// A value and its version. Each later value of a key has a higher version.
    struct versioned {
        /// Its bytes.
        std::string value;
        /// Its version, which is never 0.
        std::uint64_t version;
    };

    /// The value of `key` and its version, if it has one.
    [[nodiscard]] std::optional<versioned> get_versioned(std::string_view key) const {
        std::uint64_t version = 0;
        auto value = detail::found([&](char *to, std::size_t capacity, std::size_t *len) {
            return shoal_map_get(handle(), key.data(), key.size(), to, capacity, len, &version);
        });
        if (!value) return std::nullopt;
        return versioned{std::move(*value), version};
    }

    /// A value that can be checked for being up to date.
    struct watched {
        /// Its bytes.
        std::string value;
        /// Whether no key in the same part of the map has changed since. One load, no call.
        [[nodiscard]] bool is_current() const noexcept {
            const volatile std::uint64_t *word = word_.word;
            return word != nullptr && *word == word_.seen;
        }

        /// A copy is current as long as the original is.
        watched(const watched &) = default;
        /// As the constructor.
        watched &operator=(const watched &) = default;
        /// What it was moved from is not current.
        watched(watched &&other) noexcept
            : value(std::move(other.value)), word_(std::exchange(other.word_, shoal_watched{})) {}
        /// As the constructor.
        watched &operator=(watched &&other) noexcept {
            value = std::move(other.value);
            word_ = std::exchange(other.word_, shoal_watched{});
            return *this;
        }

    private:
        friend class map;
        watched(std::string &&it, shoal_watched word) : value(std::move(it)), word_(word) {}
        shoal_watched word_;
    };

    /// The value of `key`, if it has one, to be cached while it is current. It is never current if a key in
    /// the same part of the map has an expiry time.
    [[nodiscard]] std::optional<watched> get_watched(std::string_view key) const {
        shoal_watched word{};
        auto value = detail::found([&](char *to, std::size_t capacity, std::size_t *len) {
            return shoal_map_get_watched(handle(), key.data(), key.size(), to, capacity, len,
                                         &word);
        });
        if (!value) return std::nullopt;
        return watched(std::move(*value), word);
    }

    /// The version of the value of `key`; 0 if it is absent.
    [[nodiscard]] std::uint64_t version(std::string_view key) const {
        std::uint64_t version = 0;
        detail::check(shoal_map_version(handle(), key.data(), key.size(), &version));
        return version;
    }

    /// Sets `key` to `desired`, or removes it, if its value still has this version. Returns whether it had.
    /// Version 0 means that the key is absent.
    bool compare_swap_version(std::string_view key, std::uint64_t version,
                              std::optional<std::string_view> desired) {
        bool swapped = false;
        detail::check(shoal_map_compare_swap_version(
            handle(), key.data(), key.size(), version, detail::data_of(desired),
            detail::size_of(desired), &swapped));
        return swapped;
    }

    /// As `add`, for a `double`.
    double add_f64(std::string_view key, double delta) {
        double sum = 0;
        detail::check(shoal_map_add_f64(handle(), key.data(), key.size(), delta, &sum));
        return sum;
    }

    /// Sets `key` to the value, which expires after `life`; then the key is absent. Time in which the
    /// machine is suspended does not count.
    void set_for(std::string_view key, std::string_view value, duration life) {
        detail::check(shoal_map_set_for(handle(), key.data(), key.size(), value.data(),
                                        value.size(), life.nanoseconds()));
    }

    /// Makes `key` expire after `life` from now, or never for `forever`. Returns whether it is present.
    bool expire(std::string_view key, duration life) {
        return detail::done_unless(
            SHOAL_ERR_NOT_FOUND,
            shoal_map_expire(handle(), key.data(), key.size(), life.nanoseconds()));
    }

    /// The time until `key` expires: `forever` if it never does, nothing if it is absent.
    [[nodiscard]] std::optional<duration> time_left(std::string_view key) const {
        std::int64_t left = 0;
        const shoal_status status =
            shoal_map_time_left(handle(), key.data(), key.size(), &left);
        if (!detail::done_unless(SHOAL_ERR_NOT_FOUND, status)) return std::nullopt;
        if (left == SHOAL_FOREVER) return forever;
        return duration(std::chrono::nanoseconds(left));
    }

    /// Removes every expired key. Returns how many there were.
    std::uint64_t purge() {
        std::uint64_t purged = 0;
        detail::check(shoal_map_purge(handle(), &purged));
        return purged;
    }

    /// Waits until `stat().changes` is not `seen`. Returns the new number, or nothing if there was no change
    /// in time.
    std::optional<std::uint64_t> wait_change(std::uint64_t seen,
                                             duration timeout = forever) const {
        return waited(timeout, [&](std::int64_t timeout_ns, std::uint64_t *now) {
            return shoal_map_wait_change(handle(), seen, timeout_ns, now);
        });
    }

    /// Waits until the version of the value of `key` is not `seen`. Returns the new version, 0 if the key is
    /// absent, or nothing if there was no change in time.
    std::optional<std::uint64_t> wait_key(std::string_view key, std::uint64_t seen,
                                          duration timeout = forever) const {
        return waited(timeout, [&](std::int64_t timeout_ns, std::uint64_t *now) {
            return shoal_map_wait_key(handle(), key.data(), key.size(), seen, timeout_ns, now);
        });
    }

    /// A locked key. Its destructor unlocks it.
    class key_lock {
    public:
        /// Takes over the lock; `other` has none then.
        key_lock(key_lock &&other) noexcept
            : map_(std::exchange(other.map_, nullptr)),
              key_(std::move(other.key_)),
              owner_died_(other.owner_died_) {}
        /// As the constructor. Unlocks the key that this object had locked.
        key_lock &operator=(key_lock &&other) noexcept {
            // The destructor of `taken` ends what this object had.
            key_lock taken(std::move(other));
            std::swap(map_, taken.map_);
            std::swap(key_, taken.key_);
            std::swap(owner_died_, taken.owner_died_);
            return *this;
        }
        ~key_lock() {
            // In a forked child this fails, because the parent holds the lock.
            if (map_ != nullptr) static_cast<void>(!unlock_status());
        }

        /// Unlocks it now. Fails with SHOAL_ERR_INVALID if this process does not hold it.
        void unlock() { detail::check(unlock_status()); }

        /// Whether the previous owner died while it held the lock: the guarded data may be half changed.
        [[nodiscard]] bool owner_died() const noexcept { return owner_died_; }

    private:
        friend class map;
        explicit key_lock(std::string_view key) : key_(key) {}

        shoal_status lock_status(shoal_map *map, duration timeout) {
            const auto attempt = [&](std::int64_t timeout_ns) {
                return shoal_map_lock_key(map, key_.data(), key_.size(), timeout_ns, &owner_died_);
            };
            const shoal_status status = detail::repeat(timeout, attempt, detail::is_interrupted);
            if (status == SHOAL_OK) map_ = map;
            return status;
        }

        shoal_status unlock_status() {
            return shoal_map_unlock_key(std::exchange(map_, nullptr), key_.data(), key_.size());
        }

        shoal_map *map_ = nullptr;
        std::string key_;
        bool owner_died_ = false;
    };

    /// Waits until `key`, which may be absent, is not locked by others, and locks it. A signal handler does
    /// not end the wait. Fails with SHOAL_ERR_INVALID if this thread has locked it already.
    ///
    /// Each part of the map has room for twelve locks and views. While they are taken, the call waits as for
    /// the lock; it fails with SHOAL_ERR_EXHAUSTED if this thread itself has all twelve locks. Locking
    /// several keys cannot deadlock if all processes lock them in the same order and hold few at a time.
    [[nodiscard]] key_lock lock_key(std::string_view key, duration timeout = forever) {
        key_lock lock(key);
        detail::check(lock.lock_status(handle(), timeout));
        return lock;
    }

    /// As `lock_key`; nothing if it was not free in time.
    [[nodiscard]] std::optional<key_lock> try_lock_key(std::string_view key,
                                                       duration timeout = nowait) {
        key_lock lock(key);
        const shoal_status status = lock.lock_status(handle(), timeout);
        if (!detail::done_unless(SHOAL_ERR_TIMEOUT, status)) return std::nullopt;
        return lock;
    }

    /// A value that is read in place. It does not change while this object lives.
    class value_view {
    public:
        /// Takes over the view; `other` is empty then.
        value_view(value_view &&other) noexcept
            : map_(other.map_), view_(std::exchange(other.view_, shoal_view{})) {}
        /// As the constructor. Ends the view that this object had.
        value_view &operator=(value_view &&other) noexcept {
            // The destructor of `taken` ends what this object had.
            value_view taken(std::move(other));
            std::swap(map_, taken.map_);
            std::swap(view_, taken.view_);
            return *this;
        }
        ~value_view() {
            // In a forked child this fails, because the parent holds the view.
            if (view_.data != nullptr) static_cast<void>(!shoal_map_view_end(map_, &view_));
        }

        /// Its bytes, valid while this object lives.
        [[nodiscard]] std::string_view value() const noexcept {
            return {static_cast<const char *>(view_.data), view_.len};
        }
        /// Its version. Each later value of the key has a higher one.
        [[nodiscard]] std::uint64_t version() const noexcept { return view_.version; }

    private:
        friend class map;
        value_view(shoal_map *map, const shoal_view &view) : map_(map), view_(view) {}

        shoal_map *map_;
        shoal_view view_;
    };

    /// The value of `key` without a copy, if it has one. Fails with SHOAL_ERR_EXHAUSTED if there are too
    /// many views; see `shoal_map_view`.
    [[nodiscard]] std::optional<value_view> view(std::string_view key) const {
        shoal_view view{};
        const shoal_status status = shoal_map_view(handle(), key.data(), key.size(), &view);
        if (!detail::done_unless(SHOAL_ERR_NOT_FOUND, status)) return std::nullopt;
        return value_view(handle(), view);
    }

    /// How many keys there are. Exact if no process writes meanwhile.
    [[nodiscard]] std::uint64_t size() const {
        std::uint64_t len = 0;
        detail::check(shoal_map_len(handle(), &len));
        return len;
    }

    /// Whether there are no keys. Exact if no process writes meanwhile.
    [[nodiscard]] bool empty() const { return size() == 0; }

    /// Statistics.
    [[nodiscard]] shoal_map_stats stat() const {
        return detail::stats_of<shoal_map_stats, shoal_map_stat>(handle());
    }

    /// Removes every key. One that another process sets meanwhile may stay.
    void clear() { detail::check(shoal_map_clear(handle())); }

    /// A key and its value, valid until the next increment of the iterator.
    struct entry {
        /// The bytes of the key.
        std::string_view key;
        /// The bytes of the value.
        std::string_view value;
    };

    /// Iterates over all entries while others may write, in no order unless the map is ordered. A key that is
    /// present during the whole iteration comes exactly once. It keeps the map open. One thread at a time
    /// may use it.
    class iterator {
    public:
        /// It goes through the entries once.
        using iterator_category = std::input_iterator_tag;
        /// A key and its value.
        using value_type = entry;
        /// Required by the standard; two iterators have no difference.
        using difference_type = std::ptrdiff_t;
        /// A pointer to an entry.
        using pointer = const entry *;
        /// A reference to an entry.
        using reference = const entry &;

        /// The end.
        iterator() = default;

        /// The entry; valid until the next increment.
        const entry &operator*() const noexcept { return entry_; }
        /// As `*it`.
        const entry *operator->() const noexcept { return &entry_; }

        /// Moves to the next entry; after the last one it is the end.
        iterator &operator++() {
            const void *key = nullptr, *value = nullptr;
            std::size_t key_len = 0, value_len = 0;
            const shoal_status status =
                shoal_map_iter_next(walk_.get(), &key, &key_len, &value, &value_len);
            if (!detail::done_unless(SHOAL_ERR_END, status)) {
                walk_.reset();
                return *this;
            }
            entry_ = {{static_cast<const char *>(key), key_len},
                      {static_cast<const char *>(value), value_len}};
            return *this;
        }

        /// `*it++` is the entry before the increment. It is valid only within its expression.
        class previous {
        public:
            /// The entry; valid as long as this object.
            entry operator*() const noexcept { return {key_, value_}; }

        private:
            friend class iterator;
            explicit previous(const entry &it) : key_(it.key), value_(it.value) {}
            std::string key_, value_;
        };

        /// As `++it`. `*it++` is the entry before.
        previous operator++(int) {
            previous before(**this);
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
        friend class map;

        explicit iterator(shoal_map *map) {
            shoal_map_iter *walk = nullptr;
            detail::check(shoal_map_iter_new(map, &walk));
            walk_.reset(walk, shoal_map_iter_free);
            ++*this;
        }

        // Shared, because copies of an input iterator share their position.
        std::shared_ptr<shoal_map_iter> walk_;
        entry entry_;
    };

    /// An iterator at the first entry; the end if there is none.
    iterator begin() const { return iterator(handle()); }
    /// The iterator behind the last entry.
    iterator end() const { return iterator(); }

private:
    template <class Wait>
    static std::optional<std::uint64_t> waited(duration timeout, Wait wait) {
        std::uint64_t now = 0;
        const shoal_status status = detail::wait(
            timeout, [&](std::int64_t timeout_ns) { return wait(timeout_ns, &now); });
        if (!detail::done_unless(SHOAL_ERR_TIMEOUT, status)) return std::nullopt;
        return now;
    }
};

SHOAL_END

#endif
