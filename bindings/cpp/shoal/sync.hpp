// SPDX-License-Identifier: MIT OR Apache-2.0
//
// Semaphores, events, conditions and barriers.

#ifndef SHOAL_SYNC_HPP
#define SHOAL_SYNC_HPP

#include <cstdint>
#include <mutex>
#include <string_view>

#include "bytes.hpp"
#include "duration.hpp"
#include "error.hpp"
#include "mutex.hpp"
#include "object.hpp"
#include "shoal_bindings.h"

SHOAL_BEGIN

/// Options of a new semaphore.
struct semaphore_options {
    /// Fails with SHOAL_ERR_EXISTS if the name is taken.
    bool exclusive = false;
    /// Stays until it is unlinked, even when no process has it open.
    bool persistent = false;
    /// It never has more permits than at first: a release beyond that fails with SHOAL_ERR_INVALID.
    bool bounded = false;
};

/// Permits that processes acquire and release. Those of a dead process are released.
class semaphore
    : public detail::object<shoal_semaphore, shoal_semaphore_free, SHOAL_KIND_SEMAPHORE> {
public:
    using object::object;

    /// Opens an existing semaphore. Fails with SHOAL_ERR_NOT_FOUND if there is none.
    [[nodiscard]] static semaphore open(std::string_view name) {
        return opened(detail::c_text(name).c_str(), nullptr);
    }
    /// Opens an existing semaphore, or creates one with `count` permits.
    [[nodiscard]] static semaphore create(std::string_view name, std::uint64_t count,
                                          const semaphore_options &options = {}) {
        const shoal_sync_options c = c_options(count, options);
        return opened(detail::c_text(name).c_str(), &c);
    }
    /// Creates a semaphore with `count` permits and a generated name.
    [[nodiscard]] static semaphore anonymous(std::uint64_t count,
                                             const semaphore_options &options = {}) {
        const shoal_sync_options c = c_options(count, options);
        return opened(nullptr, &c);
    }

    /// Waits for a permit and acquires it.
    void acquire(duration timeout = forever) { detail::check(acquire_status(timeout)); }
    /// As `acquire`. Returns whether there was a permit in time.
    [[nodiscard]] bool try_acquire(duration timeout = nowait) {
        return detail::done_unless(SHOAL_ERR_TIMEOUT, acquire_status(timeout));
    }
    /// Releases permits: this process's own first, then those of others, then new ones.
    void release(std::uint32_t count = 1) {
        detail::check(shoal_semaphore_release(handle(), count));
    }
    /// Keeps the permits that this process holds acquired after its end, until they are released.
    void keep() { detail::check(shoal_semaphore_keep(handle())); }

    /// Statistics.
    [[nodiscard]] shoal_semaphore_stats stat() const {
        return detail::stats_of<shoal_semaphore_stats, shoal_semaphore_stat>(handle());
    }

private:
    static shoal_sync_options c_options(std::uint64_t count, const semaphore_options &options) {
        auto c = detail::sized<shoal_sync_options>();
        c.flags = detail::creating(options.exclusive, options.persistent,
                                   options.bounded ? SHOAL_BOUNDED : 0);
        c.count = count;
        return c;
    }

    static semaphore opened(const char *name, const shoal_sync_options *options) {
        shoal_semaphore *handle = nullptr;
        bool created = false;
        detail::check(shoal_semaphore_open(name, options, &handle, &created));
        return semaphore(handle, created);
    }

    shoal_status acquire_status(duration timeout) {
        return detail::wait(timeout, [&](std::int64_t timeout_ns) {
            return shoal_semaphore_acquire(handle(), timeout_ns);
        });
    }
};

/// A flag that is set or not, and that processes wait for. A new event is not set.
class event : public detail::openable<event, sync_options, shoal_event, shoal_event_open,
                                      shoal_event_free, SHOAL_KIND_EVENT> {
public:
    using openable::openable;

    /// Sets it and wakes all waiters.
    void set() { detail::check(shoal_event_set(handle())); }
    /// Clears it.
    void clear() { detail::check(shoal_event_clear(handle())); }
    /// Whether it is set.
    [[nodiscard]] bool is_set() const {
        bool set = false;
        detail::check(shoal_event_is_set(handle(), &set));
        return set;
    }
    /// Waits until it is set. Returns whether it was set in time.
    bool wait(duration timeout = forever) {
        const shoal_status status = detail::wait(timeout, [&](std::int64_t timeout_ns) {
            return shoal_event_wait(handle(), timeout_ns);
        });
        return detail::done_unless(SHOAL_ERR_TIMEOUT, status);
    }
};

/// A condition variable. All waiters use the same mutex.
///
///     std::unique_lock hold(lock);
///     while (!*ready && !lock.owner_died()) changed.wait(hold);
class condition
    : public detail::openable<condition, sync_options, shoal_condition, shoal_condition_open,
                              shoal_condition_free, SHOAL_KIND_CONDITION> {
public:
    using openable::openable;

    /// Unlocks `lock`, waits for a notification, and locks it again, without a timeout. Returns whether it
    /// was notified in time. An owner of the lock may have died meanwhile: check `lock.owner_died()`.
    /// `shoal_condition_wait` documents whether the lock is held after a failure; a std::lock_guard would
    /// unlock it in any case. Without exceptions it returns true after a signal handler has run, also without
    /// a notification.
    bool wait(mutex &lock, duration timeout = forever) {
        return was_notified(wait_status(lock, timeout));
    }
    /// The same for a lock that a std::unique_lock holds. If the lock is not held after a failure, `lock` does
    /// not own it any more.
    bool wait(std::unique_lock<mutex> &lock, duration timeout = forever) {
        shoal_lock *const locked = lock.mutex()->handle();
        const shoal_status status = wait_status(*lock.mutex(), timeout);
        if (status == SHOAL_ERR_CLOSED) {
            // The waits of the condition or those of the lock were ended. In the second case it is not held, and
            // the mutex may have been destroyed.
            const error closed(status);
            shoal_lock_stats stats{};
            stats.size = sizeof stats;
            if (shoal_lock_stat(locked, &stats) != SHOAL_OK || stats.depth == 0) lock.release();
            detail::fail(closed);
        }
        return was_notified(status);
    }
    /// Wakes at most `count` waiters, the longest waiting first. Call it with the lock held.
    void notify(std::uint32_t count = 1) { detail::check(shoal_condition_notify(handle(), count)); }
    /// Wakes all waiters. Call it with the lock held.
    void notify_all() { notify(SHOAL_ALL); }

    /// Statistics.
    [[nodiscard]] shoal_condition_stats stat() const {
        return detail::stats_of<shoal_condition_stats, shoal_condition_stat>(handle());
    }

private:
    shoal_status wait_status(mutex &lock, duration timeout) {
        bool died = false;
        const shoal_status status =
            shoal_condition_wait(handle(), lock.handle(), timeout.nanoseconds(), &died);
        if (status == SHOAL_OK || status == SHOAL_ERR_TIMEOUT) lock.owner_died_.set(died);
        return status;
    }

    static bool was_notified(shoal_status status) {
        // The caller has to check its condition, which may have become true before the lock was taken again.
        if (detail::goes_on(status)) return true;
        return detail::done_unless(SHOAL_ERR_TIMEOUT, status);
    }
};

/// A barrier for a fixed number of processes or threads. If the wait of one times out, or one dies, the barrier
/// is broken until it is reset.
class barrier : public detail::object<shoal_barrier, shoal_barrier_free, SHOAL_KIND_BARRIER> {
public:
    using object::object;

    /// Opens an existing barrier. Fails with SHOAL_ERR_NOT_FOUND if there is none.
    [[nodiscard]] static barrier open(std::string_view name) {
        return opened(detail::c_text(name).c_str(), nullptr);
    }
    /// Opens an existing barrier, or creates one for 1 to 512 parties.
    [[nodiscard]] static barrier create(std::string_view name, std::uint32_t parties,
                                        const sync_options &options = {}) {
        const shoal_sync_options c = c_options(parties, options);
        return opened(detail::c_text(name).c_str(), &c);
    }
    /// Creates a barrier for 1 to 512 parties with a generated name.
    [[nodiscard]] static barrier anonymous(std::uint32_t parties,
                                           const sync_options &options = {}) {
        const shoal_sync_options c = c_options(parties, options);
        return opened(nullptr, &c);
    }

    /// Waits until all parties have arrived. Returns how many arrived before the caller. Fails with
    /// SHOAL_ERR_POISONED if the barrier is broken; a timeout breaks it. See `shoal_barrier_wait`.
    std::uint32_t wait(duration timeout = forever) {
        std::uint32_t index = 0;
        detail::check(detail::wait(timeout, [&](std::int64_t timeout_ns) {
            return shoal_barrier_wait(handle(), timeout_ns, &index);
        }));
        return index;
    }
    /// Breaks it for present waiters and for threads that arrive later.
    void abort() { detail::check(shoal_barrier_abort(handle())); }
    /// Makes it usable again. Present waiters fail with SHOAL_ERR_POISONED.
    void reset() { detail::check(shoal_barrier_reset(handle())); }

    /// Statistics.
    [[nodiscard]] shoal_barrier_stats stat() const {
        return detail::stats_of<shoal_barrier_stats, shoal_barrier_stat>(handle());
    }

private:
    static shoal_sync_options c_options(std::uint32_t parties, const sync_options &options) {
        shoal_sync_options c = options.c_options();
        c.count = parties;
        return c;
    }

    static barrier opened(const char *name, const shoal_sync_options *options) {
        shoal_barrier *handle = nullptr;
        bool created = false;
        detail::check(shoal_barrier_open(name, options, &handle, &created));
        return barrier(handle, created);
    }
};

SHOAL_END

#endif
