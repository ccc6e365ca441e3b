// SPDX-License-Identifier: MIT OR Apache-2.0

#ifndef SHOAL_SYNC_HPP
#define SHOAL_SYNC_HPP

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "error.hpp"

namespace shoal {

namespace detail {

/// A handle of one of the kinds below, opened by `Open` and freed by `Free`.
template <class Handle, auto Open, auto Free, auto Name, auto Unlink>
class sync_object {
public:
    /// Removes the name; who has it open keeps it.
    static void unlink(std::string_view name) { check(Unlink(std::string(name).c_str())); }

    /// The name to open it by.
    std::string name() const {
        const char *name = Name(get_handle());
        if (name == nullptr) throw error(SHOAL_ERR_INVALID);
        return name;
    }

    /// The handle, for functions of shoal.h. It stays this object's.
    Handle *get_handle() const noexcept { return handle_.get(); }

protected:
    sync_object(const char *name, const options &how, std::uint64_t flags = 0,
                std::uint64_t count = 0) {
        refuse_others(how, false);
        shoal_sync_options c{};
        c.size = sizeof c;
        c.flags = how.flags() | flags;
        c.count = count;
        Handle *handle = nullptr;
        check(Open(name, &c, &handle));
        handle_.reset(handle);
    }

private:
    struct deleter {
        void operator()(Handle *handle) const noexcept { Free(handle); }
    };

    std::unique_ptr<Handle, deleter> handle_;
};

/// Options that create.
inline options creating() {
    options how;
    how.create = true;
    return how;
}

/// Whether the wait succeeded; false at the end of its time.
inline bool in_time(shoal_status status) {
    if (status == SHOAL_ERR_TIMEOUT) return false;
    check(status);
    return true;
}

/// The same of a lock, which somebody may have died with.
inline bool locked(shoal_status status, bool &owner_died) {
    owner_died = status == SHOAL_ERR_OWNER_DIED;
    return owner_died || in_time(status);
}

using lock_object = sync_object<shoal_lock, shoal_lock_open, shoal_lock_free, shoal_lock_name,
                                shoal_lock_unlink>;
using rwlock_object = sync_object<shoal_rwlock, shoal_rwlock_open, shoal_rwlock_free,
                                  shoal_rwlock_name, shoal_rwlock_unlink>;
using semaphore_object = sync_object<shoal_semaphore, shoal_semaphore_open, shoal_semaphore_free,
                                     shoal_semaphore_name, shoal_semaphore_unlink>;
using event_object = sync_object<shoal_event, shoal_event_open, shoal_event_free,
                                 shoal_event_name, shoal_event_unlink>;
using condition_object =
    sync_object<shoal_condition, shoal_condition_open, shoal_condition_free, shoal_condition_name,
                shoal_condition_unlink>;
using barrier_object = sync_object<shoal_barrier, shoal_barrier_open, shoal_barrier_free,
                                   shoal_barrier_name, shoal_barrier_unlink>;

}  // namespace detail

/// A lock that any number of processes share; works with std::lock_guard and std::unique_lock.
///
/// If the process that had it dies, the next to take it has it, and is told by
/// `owner_died()`: what the lock guards may be half done.
///
///     shoal::mutex ledger("ledger");
///     std::lock_guard hold(ledger);
class mutex : public detail::lock_object {
public:
    /// Opens the lock of this name, or creates it. Without a name it is always created.
    explicit mutex(std::string_view name = {}, const options &how = detail::creating())
        : mutex(name, how, 0) {}

    void lock() { (void)try_lock_for(forever); }
    [[nodiscard]] bool try_lock() { return try_lock_for(nowait); }
    [[nodiscard]] bool try_lock_for(timeout wait) {
        return detail::locked(shoal_lock_lock(get_handle(), wait.nanoseconds()), owner_died_);
    }
    /// By any thread of any process.
    void unlock() { detail::check(shoal_lock_unlock(get_handle())); }

    /// Whether, when this object last took the lock, its holder had died with it.
    [[nodiscard]] bool owner_died() const noexcept { return owner_died_; }

protected:
    mutex(std::string_view name, const options &how, std::uint64_t flags)
        : detail::lock_object(name.empty() ? nullptr : std::string(name).c_str(), how, flags) {}

private:
    bool owner_died_ = false;
};

/// A lock that its thread may take again, and has to release as often.
class recursive_mutex : public mutex {
public:
    explicit recursive_mutex(std::string_view name = {},
                             const options &how = detail::creating())
        : mutex(name, how, SHOAL_RECURSIVE) {}
};

/// A lock that many processes have to read, or one to write; works with std::shared_lock.
class shared_mutex : public detail::rwlock_object {
public:
    explicit shared_mutex(std::string_view name = {}, const options &how = detail::creating())
        : detail::rwlock_object(name.empty() ? nullptr : std::string(name).c_str(), how) {}

    void lock() { (void)try_lock_for(forever); }
    [[nodiscard]] bool try_lock() { return try_lock_for(nowait); }
    [[nodiscard]] bool try_lock_for(timeout wait) {
        return detail::locked(shoal_rwlock_write(get_handle(), wait.nanoseconds()),
                              owner_died_);
    }
    void unlock() { detail::check(shoal_rwlock_release_write(get_handle())); }

    void lock_shared() { (void)try_lock_shared_for(forever); }
    [[nodiscard]] bool try_lock_shared() { return try_lock_shared_for(nowait); }
    [[nodiscard]] bool try_lock_shared_for(timeout wait) {
        return detail::locked(shoal_rwlock_read(get_handle(), wait.nanoseconds()),
                              owner_died_);
    }
    void unlock_shared() { detail::check(shoal_rwlock_release_read(get_handle())); }

    /// Whether, when this object last took the lock, a writer had died with it.
    [[nodiscard]] bool owner_died() const noexcept { return owner_died_; }

private:
    bool owner_died_ = false;
};

/// Permits that any number of processes share. Those of a dead process are free again.
class semaphore : public detail::semaphore_object {
public:
    /// Opens the semaphore of this name, or creates it with so many permits.
    explicit semaphore(std::uint64_t count, std::string_view name = {},
                       const options &how = detail::creating())
        : semaphore(count, name, how, 0) {}

    void acquire() { (void)try_acquire(forever); }
    [[nodiscard]] bool try_acquire(timeout wait = nowait) {
        return detail::in_time(shoal_semaphore_acquire(get_handle(), wait.nanoseconds()));
    }
    void release(std::uint32_t count = 1) {
        detail::check(shoal_semaphore_release(get_handle(), count));
    }
    [[nodiscard]] std::uint64_t value() const {
        std::uint64_t value = 0;
        detail::check(shoal_semaphore_value(get_handle(), &value));
        return value;
    }
    /// Leaves the permits that this process holds taken after its end, until they are released.
    void keep() { detail::check(shoal_semaphore_keep(get_handle())); }
    /// How many permits this process holds.
    [[nodiscard]] std::uint32_t held() const {
        std::uint32_t held = 0;
        detail::check(shoal_semaphore_held(get_handle(), &held));
        return held;
    }

protected:
    semaphore(std::uint64_t count, std::string_view name, const options &how, std::uint64_t flags)
        : detail::semaphore_object(name.empty() ? nullptr : std::string(name).c_str(), how, flags,
                                   count) {}
};

/// A semaphore that never has more permits than at first: to release too often throws.
class bounded_semaphore : public semaphore {
public:
    explicit bounded_semaphore(std::uint64_t count, std::string_view name = {},
                               const options &how = detail::creating())
        : semaphore(count, name, how, SHOAL_BOUNDED) {}
};

/// A flag that any number of processes set, clear, and wait for.
class event : public detail::event_object {
public:
    explicit event(std::string_view name = {}, const options &how = detail::creating())
        : detail::event_object(name.empty() ? nullptr : std::string(name).c_str(), how) {}

    void set() { detail::check(shoal_event_set(get_handle())); }
    void clear() { detail::check(shoal_event_clear(get_handle())); }
    [[nodiscard]] bool is_set() const {
        bool set = false;
        detail::check(shoal_event_is_set(get_handle(), &set));
        return set;
    }
    /// Whether it was set in time.
    bool wait(timeout limit = forever) {
        return detail::in_time(shoal_event_wait(get_handle(), limit.nanoseconds()));
    }
};

/// Lets processes wait until others say that something has changed, under a mutex.
class condition : public detail::condition_object {
public:
    explicit condition(std::string_view name = {}, const options &how = detail::creating())
        : detail::condition_object(name.empty() ? nullptr : std::string(name).c_str(), how) {}

    /// Lets go of `lock`, waits, and takes it again; whether it was notified in time. Throws with
    /// SHOAL_ERR_OWNER_DIED, the lock held, if its holder died with it meanwhile.
    bool wait(mutex &lock, timeout limit = forever) {
        return detail::in_time(
            shoal_condition_wait(get_handle(), lock.get_handle(), limit.nanoseconds()));
    }
    /// Wakes up to `count` of those who wait and live, the first first.
    void notify(std::uint32_t count = 1) {
        detail::check(shoal_condition_notify(get_handle(), count));
    }
    void notify_all() { detail::check(shoal_condition_notify_all(get_handle())); }
    /// How many wait and have not been notified.
    [[nodiscard]] std::uint64_t waiting() const {
        std::uint64_t waiting = 0;
        detail::check(shoal_condition_waiting(get_handle(), &waiting));
        return waiting;
    }
};

/// A place where a fixed number of processes wait for each other.
class barrier : public detail::barrier_object {
public:
    /// Opens the barrier of this name, or creates it for `parties`.
    explicit barrier(std::uint32_t parties, std::string_view name = {},
                     const options &how = detail::creating())
        : detail::barrier_object(name.empty() ? nullptr : std::string(name).c_str(), how, 0, parties) {}

    /// Waits until all have come; how many had come before. Throws with SHOAL_ERR_POISONED if
    /// somebody died or gave up, which the caller does at the end of its time.
    std::uint32_t wait(timeout limit = forever) {
        std::uint32_t index = 0;
        detail::check(shoal_barrier_wait(get_handle(), limit.nanoseconds(), &index));
        return index;
    }
    void abort() { detail::check(shoal_barrier_abort(get_handle())); }
    void reset() { detail::check(shoal_barrier_reset(get_handle())); }
    [[nodiscard]] bool is_broken() const {
        bool broken = false;
        detail::check(shoal_barrier_is_broken(get_handle(), &broken));
        return broken;
    }
    /// How many wait.
    [[nodiscard]] std::uint64_t waiting() const {
        std::uint64_t waiting = 0;
        detail::check(shoal_barrier_waiting(get_handle(), &waiting));
        return waiting;
    }
    /// How many meet here.
    [[nodiscard]] std::uint64_t parties() const {
        std::uint64_t parties = 0;
        detail::check(shoal_barrier_parties(get_handle(), &parties));
        return parties;
    }
};

}  // namespace shoal

#endif
