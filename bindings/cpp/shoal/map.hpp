// SPDX-License-Identifier: MIT OR Apache-2.0

#ifndef SHOAL_MAP_HPP
#define SHOAL_MAP_HPP

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

#include "error.hpp"

namespace shoal {

/// A named map from bytes to bytes that any number of processes read and write. Every call is
/// atomic for its key.
///
/// All members but the destructor and the moves may be called from any thread at any time;
/// an iterator serves one thread.
///
///     auto map = shoal::map::create("capitals");
///     map.set("Peru", "Lima");
///     for (const auto &[key, value] : map)
///         std::cout << key << ": " << value << "\n";
class map {
public:
    /// Opens the map of this name, as `how` says.
    static map open(std::string_view name, const options &how = {}) {
        return map(std::string(name).c_str(), how);
    }

    /// Opens the map of this name, or creates it with the defaults.
    static map create(std::string_view name) {
        options how;
        how.create = true;
        return open(name, how);
    }

    /// Creates a map under a name of its own; `name()` tells which.
    static map anonymous(const options &how = {}) { return map(nullptr, how); }

    /// Removes the name; who has the map open keeps it.
    static void unlink(std::string_view name) {
        detail::check(shoal_map_unlink(std::string(name).c_str()));
    }

    /// The name to open this map by.
    std::string name() const {
        const char *name = shoal_map_name(get_handle());
        if (name == nullptr) throw error(SHOAL_ERR_INVALID);
        return name;
    }

    /// Gives `key` the value, whether or not it had one.
    void set(std::string_view key, std::string_view value) {
        detail::check(
            shoal_map_set(get_handle(), key.data(), key.size(), value.data(), value.size()));
    }

    /// The value of `key`, if it has one.
    [[nodiscard]] std::optional<std::string> get(std::string_view key) const {
        return found([&](char *to, std::size_t room, std::size_t *len) {
            return shoal_map_get(get_handle(), key.data(), key.size(), to, room, len);
        });
    }

    /// The values of many keys, in their order, with nothing for one that is not there. Each part
    /// of the map is locked once, so others may write between two keys.
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
                shoal_map_get_many(get_handle(), slices.data(), slices.size(), buffer.data(),
                                   buffer.size(), found.data(), &len);
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

    /// Gives many keys their values, which come in pairs; of equal keys the last one counts. Each
    /// part of the map is locked once. The pairs are no unit: some are set before the others, and
    /// only some after an error or a kill. What is too large throws with SHOAL_ERR_TOO_LARGE before
    /// anything is set.
    ///
    ///     map.set_many({{"Peru", "Lima"}, {"Chile", "Santiago"}});
    ///     map.set_many(std::map<std::string, std::string>{{"Cuba", "Havana"}});
    template <class Pairs =
                  std::initializer_list<std::pair<std::string_view, std::string_view>>>
    void set_many(const Pairs &pairs) {
        detail::refuse_passing<Pairs>();
        std::vector<shoal_slice> keys, values;
        for (const auto &[key, value] : pairs) {
            keys.push_back(detail::slice_of(key));
            values.push_back(detail::slice_of(value));
        }
        detail::check(
            shoal_map_set_many(get_handle(), keys.data(), values.data(), keys.size()));
    }

    /// Removes `key` and returns its value, if it had one.
    std::optional<std::string> take(std::string_view key) {
        return found([&](char *to, std::size_t room, std::size_t *len) {
            return shoal_map_take(get_handle(), key.data(), key.size(), to, room, len);
        });
    }

    /// Gives `key` the value if it has none, and says whether it did.
    bool insert(std::string_view key, std::string_view value) {
        bool inserted = false;
        detail::check(shoal_map_insert(get_handle(), key.data(), key.size(), value.data(),
                                       value.size(), &inserted));
        return inserted;
    }

    /// Removes `key`, and says whether it was there.
    bool remove(std::string_view key) {
        const shoal_status status = shoal_map_remove(get_handle(), key.data(), key.size());
        if (status == SHOAL_ERR_NOT_FOUND) return false;
        detail::check(status);
        return true;
    }

    /// Whether the map has `key`.
    [[nodiscard]] bool contains(std::string_view key) const {
        bool contains = false;
        detail::check(shoal_map_contains(get_handle(), key.data(), key.size(), &contains));
        return contains;
    }

    /// Adds to the counter `key`, which counts as 0 if it is not there; returns the sum.
    std::int64_t add(std::string_view key, std::int64_t delta) {
        std::int64_t sum = 0;
        detail::check(shoal_map_add(get_handle(), key.data(), key.size(), delta, &sum));
        return sum;
    }

    /// Gives `key` the value `desired` if its value is `expected`, and says whether it did.
    /// Nothing stands for a key that is not there, before or after.
    bool compare_swap(std::string_view key, std::optional<std::string_view> expected,
                      std::optional<std::string_view> desired) {
        bool swapped = false;
        detail::check(shoal_map_compare_swap(
            get_handle(), key.data(), key.size(), expected ? detail::data_of(*expected) : nullptr,
            expected ? expected->size() : 0, desired ? detail::data_of(*desired) : nullptr,
            desired ? desired->size() : 0, &swapped));
        return swapped;
    }

    /// A value and its version. No two values of a key have the same; later ones have higher.
    struct versioned {
        std::string value;
        std::uint64_t version;
    };

    /// The value of `key` and its version, if it has one.
    [[nodiscard]] std::optional<versioned> get_versioned(std::string_view key) const {
        std::uint64_t version = 0;
        auto value = found([&](char *to, std::size_t room, std::size_t *len) {
            return shoal_map_get_versioned(get_handle(), key.data(), key.size(), to, room, len,
                                           &version);
        });
        if (!value) return std::nullopt;
        return versioned{std::move(*value), version};
    }

    /// A value, and a way to know for how long it is good.
    struct watched {
        std::string value;
        /// Whether nothing near the key has changed since. One load. Only as long as the map lives.
        [[nodiscard]] bool is_current() const noexcept {
            const volatile std::uint64_t *word = word_.word;
            return word != nullptr && *word == word_.seen;
        }

    private:
        friend class map;
        watched(std::string &&it, shoal_watched word) : value(std::move(it)), word_(word) {}
        shoal_watched word_;
    };

    /// The value of `key`, if it has one, to keep for as long as it is current. It never is where
    /// keys near it expire.
    [[nodiscard]] std::optional<watched> get_watched(std::string_view key) const {
        shoal_watched word{};
        auto value = found([&](char *to, std::size_t room, std::size_t *len) {
            return shoal_map_get_watched(get_handle(), key.data(), key.size(), to, room, len,
                                         &word);
        });
        if (!value) return std::nullopt;
        return watched(std::move(*value), word);
    }

    /// The version of `key`'s value, 0 if it has none.
    [[nodiscard]] std::uint64_t version_of(std::string_view key) const {
        std::uint64_t version = 0;
        detail::check(shoal_map_version_of(get_handle(), key.data(), key.size(), &version));
        return version;
    }

    /// Gives `key` the value `desired`, or removes it, if its value still has this version, and
    /// says whether it did. 0 stands for a key that is not there.
    bool compare_swap_version(std::string_view key, std::uint64_t version,
                              std::optional<std::string_view> desired) {
        bool swapped = false;
        detail::check(shoal_map_compare_swap_version(
            get_handle(), key.data(), key.size(), version,
            desired ? detail::data_of(*desired) : nullptr, desired ? desired->size() : 0,
            &swapped));
        return swapped;
    }

    /// Adds to the number `key`, a double, which counts as 0 if it is not there; the sum.
    double add_f64(std::string_view key, double delta) {
        double sum = 0;
        detail::check(shoal_map_add_f64(get_handle(), key.data(), key.size(), delta, &sum));
        return sum;
    }

    /// Gives `key` the value for as long as `life`; then it is as if it had been removed.
    void set_for(std::string_view key, std::string_view value, timeout life) {
        detail::check(shoal_map_set_for(get_handle(), key.data(), key.size(), value.data(),
                                        value.size(), life.nanoseconds()));
    }

    /// Lets `key` live for `life` from now on, or `forever`; whether it is there.
    bool expire(std::string_view key, timeout life) {
        const shoal_status status =
            shoal_map_expire(get_handle(), key.data(), key.size(), life.nanoseconds());
        if (status == SHOAL_ERR_NOT_FOUND) return false;
        detail::check(status);
        return true;
    }

    /// For how long `key` will still be there: `forever` for good, nothing if it is not there.
    [[nodiscard]] std::optional<timeout> time_left(std::string_view key) const {
        std::int64_t left = 0;
        const shoal_status status =
            shoal_map_time_left(get_handle(), key.data(), key.size(), &left);
        if (status == SHOAL_ERR_NOT_FOUND) return std::nullopt;
        detail::check(status);
        if (left == SHOAL_FOREVER) return forever;
        return timeout(std::chrono::nanoseconds(left));
    }

    /// Removes every key whose time is over, and says how many there were.
    std::uint64_t purge() {
        std::uint64_t purged = 0;
        detail::check(shoal_map_purge(get_handle(), &purged));
        return purged;
    }

    /// A number that grows with every change of the map.
    [[nodiscard]] std::uint64_t version() const {
        std::uint64_t version = 0;
        detail::check(shoal_map_version(get_handle(), &version));
        return version;
    }

    /// Waits until the version is not `seen`; what it is, or nothing after the timeout.
    std::optional<std::uint64_t> wait_change(std::uint64_t seen, timeout limit = forever) {
        return waited([&](std::uint64_t *now) {
            return shoal_map_wait_change(get_handle(), seen, now, limit.nanoseconds());
        });
    }

    /// Waits until the version of `key`'s value is not `seen`; what it is, 0 if it has none, or
    /// nothing after the timeout.
    std::optional<std::uint64_t> wait_key(std::string_view key, std::uint64_t seen,
                                          timeout limit = forever) {
        return waited([&](std::uint64_t *now) {
            return shoal_map_wait_key(get_handle(), key.data(), key.size(), seen, now,
                                      limit.nanoseconds());
        });
    }

    /// A locked key; unlocks at the end of its scope.
    class key_lock {
    public:
        key_lock(key_lock &&other) noexcept
            : map_(std::exchange(other.map_, nullptr)),
              key_(std::move(other.key_)),
              owner_died_(other.owner_died_) {}
        key_lock &operator=(key_lock &&) = delete;
        ~key_lock() {
            // It fails in a forked child, whose parent has the lock.
            if (map_ != nullptr) (void)!shoal_map_unlock_key(map_, key_.data(), key_.size());
        }

        /// Whether the process that had the lock before died with it.
        [[nodiscard]] bool owner_died() const noexcept { return owner_died_; }

    private:
        friend class map;
        key_lock(shoal_map *map, std::string_view key, bool owner_died)
            : map_(map), key_(key), owner_died_(owner_died) {}

        shoal_map *map_;
        std::string key_;
        bool owner_died_;
    };

    /// Locks `key`, which need not be there, against others who lock it; nothing after the
    /// timeout. The map has to outlive the lock.
    [[nodiscard]] std::optional<key_lock> lock_key(std::string_view key,
                                                   timeout limit = forever) {
        const shoal_status status =
            shoal_map_lock_key(get_handle(), key.data(), key.size(), limit.nanoseconds());
        if (status == SHOAL_ERR_TIMEOUT) return std::nullopt;
        if (status != SHOAL_ERR_OWNER_DIED) detail::check(status);
        return key_lock(get_handle(), key, status == SHOAL_ERR_OWNER_DIED);
    }

    /// A value that is read where it lies, and stays what it is as long as this lives.
    class view {
    public:
        view(view &&other) noexcept
            : map_(other.map_), view_(std::exchange(other.view_, shoal_view{})) {}
        view &operator=(view &&) = delete;
        ~view() {
            if (view_.data != nullptr) (void)!shoal_map_release(map_, &view_);
        }

        [[nodiscard]] std::string_view value() const noexcept {
            return {static_cast<const char *>(view_.data), view_.len};
        }
        [[nodiscard]] std::uint64_t version() const noexcept { return view_.version; }

    private:
        friend class map;
        view(shoal_map *map, const shoal_view &seen) : map_(map), view_(seen) {}

        shoal_map *map_;
        shoal_view view_;
    };

    /// The value of `key` without a copy, if it has one. The map has to outlive the view.
    [[nodiscard]] std::optional<view> look_at(std::string_view key) const {
        shoal_view seen{};
        const shoal_status status = shoal_map_view(get_handle(), key.data(), key.size(), &seen);
        if (status == SHOAL_ERR_NOT_FOUND) return std::nullopt;
        detail::check(status);
        return view(get_handle(), seen);
    }

    /// How many keys there are. Exact if nobody writes meanwhile.
    std::uint64_t size() const {
        std::uint64_t len = 0;
        detail::check(shoal_map_len(get_handle(), &len));
        return len;
    }

    /// Whether it was made with `options::ordered`.
    bool is_ordered() const {
        bool ordered = false;
        detail::check(shoal_map_is_ordered(get_handle(), &ordered));
        return ordered;
    }

    /// Whether there is no key.
    [[nodiscard]] bool empty() const { return size() == 0; }

    /// Removes every key. One that another process sets meanwhile may stay.
    void clear() { detail::check(shoal_map_clear(get_handle())); }

    /// A key and its value, valid until the iterator moves on.
    struct entry {
        std::string_view key;
        std::string_view value;
    };

    /// Walks through all entries, in no order, while others may write. A key that is there
    /// throughout is met exactly once.
    class iterator {
    public:
        using iterator_category = std::input_iterator_tag;
        using value_type = entry;
        using difference_type = std::ptrdiff_t;
        using pointer = const entry *;
        using reference = const entry &;

        /// The end.
        iterator() = default;

        const entry &operator*() const noexcept { return entry_; }
        const entry *operator->() const noexcept { return &entry_; }

        iterator &operator++() {
            const void *key = nullptr, *value = nullptr;
            std::size_t key_len = 0, value_len = 0;
            const shoal_status status =
                shoal_map_iter_next(walk_.get(), &key, &key_len, &value, &value_len);
            if (status == SHOAL_ERR_EMPTY) {
                walk_.reset();
                return *this;
            }
            detail::check(status);
            entry_ = {{static_cast<const char *>(key), key_len},
                      {static_cast<const char *>(value), value_len}};
            return *this;
        }

        void operator++(int) { ++*this; }

        friend bool operator==(const iterator &a, const iterator &b) noexcept {
            return a.walk_ == b.walk_;
        }
        friend bool operator!=(const iterator &a, const iterator &b) noexcept { return !(a == b); }

    private:
        friend class map;

        explicit iterator(shoal_map *map) {
            shoal_map_iter *walk = nullptr;
            detail::check(shoal_map_iter_new(map, &walk));
            walk_.reset(walk, shoal_map_iter_free);
            ++*this;
        }

        // Shared, as copies of an input iterator share their position.
        std::shared_ptr<shoal_map_iter> walk_;
        entry entry_;
    };

    iterator begin() const { return iterator(get_handle()); }
    iterator end() const { return iterator(); }

    /// The handle, for functions of shoal.h. It stays this object's.
    shoal_map *get_handle() const noexcept { return handle_.get(); }

private:
    struct deleter {
        void operator()(shoal_map *handle) const noexcept { shoal_map_free(handle); }
    };

    map(const char *name, const options &how) {
        detail::refuse_others(how, true);
        shoal_map_options c{};
        c.size = sizeof c;
        c.flags = how.flags();
        c.capacity = how.capacity;
        c.max_capacity = how.max_capacity;
        shoal_map *handle = nullptr;
        detail::check(shoal_map_open(name, &c, &handle));
        handle_.reset(handle);
    }

    template <class Fill>
    static std::optional<std::string> found(Fill fill) {
        std::string value;
        const shoal_status status = detail::fill_string(value, fill);
        if (status == SHOAL_ERR_NOT_FOUND) return std::nullopt;
        detail::check(status);
        return value;
    }

    template <class Wait>
    static std::optional<std::uint64_t> waited(Wait wait) {
        std::uint64_t now = 0;
        const shoal_status status = wait(&now);
        if (status == SHOAL_ERR_TIMEOUT) return std::nullopt;
        detail::check(status);
        return now;
    }

    std::unique_ptr<shoal_map, deleter> handle_;
};

}  // namespace shoal

#endif
