// Boost's unordered_map in a managed segment, under a named mutex: a store of the benchmark.
//
// The harness starts `PROGRAM ROLE STAGE WORKER WORKERS KEYS NAME`. ROLE is `fill`, which makes
// the segment and ends, or what ../harness/entries.rs calls an operation. Keys and values are of
// any length, as in Shoal. `set` creates the new value in other memory and swaps it in, as Shoal
// does; `overwrite` finds a present key and overwrites the old value: a process that is killed there
// leaves a torn value. A process that is killed in either leaves the mutex locked forever.
#include <boost/container_hash/hash.hpp>
#include <boost/interprocess/allocators/allocator.hpp>
#include <boost/interprocess/containers/string.hpp>
#include <boost/interprocess/managed_shared_memory.hpp>
#include <boost/interprocess/sync/named_mutex.hpp>
#include <boost/interprocess/sync/scoped_lock.hpp>
#include <boost/unordered_map.hpp>

#include <array>
#include <string_view>

#include "worker.hpp"

namespace ipc = boost::interprocess;

struct Key {
    uint64_t words[2];
};
using Value = std::array<char, 64>;

template <class T>
using Allocator = ipc::allocator<T, ipc::managed_shared_memory::segment_manager>;
using Bytes = boost::interprocess::basic_string<char, std::char_traits<char>, Allocator<char>>;

static std::string_view bytes(const Key &key) {
    return {reinterpret_cast<const char *>(&key), sizeof key};
}

// Both find keys by bytes outside the segment.
struct Hash {
    using is_transparent = void;
    size_t operator()(std::string_view key) const {
        return boost::hash_range(key.begin(), key.end());
    }
    size_t operator()(const Bytes &key) const {
        return (*this)(std::string_view(key.data(), key.size()));
    }
};
struct Equal {
    using is_transparent = void;
    static std::string_view view(std::string_view key) { return key; }
    static std::string_view view(const Bytes &key) { return {key.data(), key.size()}; }
    template <class One, class Other>
    bool operator()(const One &one, const Other &other) const {
        return view(one) == view(other);
    }
};

using Map = boost::unordered_map<Bytes, Bytes, Hash, Equal, Allocator<std::pair<const Bytes, Bytes>>>;

static Key key(uint64_t index) { return {{index * 0x9e3779b97f4a7c15u, index}}; }

static Value value(const Key &key) {
    Value value;
    value.fill(7);
    std::memcpy(value.data(), &key, sizeof key);
    return value;
}

static std::vector<Key> shuffled(uint64_t count, size_t worker, size_t workers) {
    std::vector<Key> keys;
    for (uint64_t index = 0; index < count; index++) {
        keys.push_back(key(index));
    }
    uint64_t state = 0x2545f4914f6cdd1du;
    for (size_t at = keys.size() - 1; at > 0; at--) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        std::swap(keys[at], keys[state % (at + 1)]);
    }
    std::rotate(keys.begin(), keys.begin() + static_cast<ptrdiff_t>(count / workers * worker),
                keys.end());
    return keys;
}

static void fill(const char *name, uint64_t count) {
    ipc::managed_shared_memory segment(ipc::create_only, name, (1 << 20) + count * 512);
    ipc::named_mutex mutex(ipc::create_only, (std::string(name) + "_mutex").c_str());
    const Allocator<char> room(segment.get_segment_manager());
    auto *map = segment.construct<Map>("map")(0, Hash(), Equal(), room);
    for (uint64_t index = 0; index < count; index++) {
        const Key fresh = key(index);
        const Value its = value(fresh);
        map->emplace(Bytes(bytes(fresh).data(), sizeof fresh, room),
                     Bytes(its.data(), its.size(), room));
    }
}

// Which operations write. It is parsed beforehand, because it is read for each operation.
enum class Writes { none, all, every_tenth, every_second };

static Writes writes_of(const std::string &role) {
    return role == "get"    ? Writes::none
           : role == "mix"  ? Writes::every_tenth
           : role == "half" ? Writes::every_second
                            : Writes::all;
}

static bool is_next(Writes writes, uint64_t done) {
    return writes == Writes::all || (writes == Writes::every_tenth && done % 10 == 0) ||
           (writes == Writes::every_second && done % 2 == 0);
}

static void work(const std::string &role, Page *page, size_t worker, size_t workers,
                 uint64_t count, const char *name) {
    ipc::managed_shared_memory segment(ipc::open_only, name);
    ipc::named_mutex mutex(ipc::open_only, (std::string(name) + "_mutex").c_str());
    auto *map = segment.find<Map>("map").first;
    const Allocator<char> room(segment.get_segment_manager());
    const bool overwrites = role == "overwrite";
    const Writes writes = writes_of(role);
    const auto keys = shuffled(count, worker, workers);
    auto phase = [&] { return page->phase.value.load(std::memory_order_acquire); };
    page->ready.value.fetch_add(1);
    while (phase() == GATHER) {
        sched_yield();
    }
    Value found;
    for (uint64_t done = 0, at = 0; phase() < STOP;) {
        for (int some = 0; some < 64; some++, done++) {
            const Key &key = keys[at];
            at = at + 1 < count ? at + 1 : 0;
            if (is_next(writes, done)) {
                const Value fresh = value(key);
                ipc::scoped_lock<ipc::named_mutex> lock(mutex);
                if (overwrites) {
                    map->find(bytes(key))->second.assign(fresh.data(), fresh.size());
                } else {
                    map->insert_or_assign(Bytes(bytes(key).data(), sizeof key, room),
                                          Bytes(fresh.data(), fresh.size(), room));
                }
                continue;
            }
            {
                ipc::scoped_lock<ipc::named_mutex> lock(mutex);
                const Bytes &there = map->find(bytes(key))->second;
                std::memcpy(found.data(), there.data(), there.size());
            }
            if (std::memcmp(found.data(), &key, sizeof key) != 0) {
                throw std::runtime_error("a key has another value than it was given");
            }
        }
        page->tallies[worker].messages.store(done, std::memory_order_release);
    }
}

int main(int count, char **args) {
    try {
        if (count != 7) {
            throw std::runtime_error("this is a part of `cargo xtask bench`");
        }
        const std::string role = args[1];
        const uint64_t keys = std::stoull(args[5]);
        if (role == "fill") {
            fill(args[6], keys);
        } else {
            work(role, Job::map(std::stoi(args[2])), std::stoul(args[3]), std::stoul(args[4]),
                 keys, args[6]);
        }
        return 0;
    } catch (const std::exception &why) {
        std::fprintf(stderr, "%s: %s\n", args[0], why.what());
        return 1;
    }
}
