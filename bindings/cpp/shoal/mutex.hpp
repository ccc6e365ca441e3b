// SPDX-License-Identifier: MIT OR Apache-2.0
//
// Locks. They satisfy the standard's requirements, so they work with std::lock_guard, std::scoped_lock,
// std::unique_lock and std::shared_lock. (A class named `lock` could not have a member function `lock`.)

#ifndef SHOAL_MUTEX_HPP
#define SHOAL_MUTEX_HPP

#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdint>

#include "duration.hpp"
#include "error.hpp"
#include "object.hpp"

SHOAL_BEGIN

/// Options of a new lock.
struct mutex_options {
    /// Fails with SHOAL_ERR_EXISTS if the name is taken.
    bool exclusive = false;
    /// Stays until it is unlinked, even when no process has it open.
    bool persistent = false;
    /// A thread that holds it may lock it again, and must unlock it as many times.
    bool recursive = false;

    /// As shoal.h represents it.
    [[nodiscard]] shoal_sync_options c_options() const noexcept {
        auto c = detail::sized<shoal_sync_options>();
        c.flags = detail::creating(exclusive, persistent, recursive ? SHOAL_RECURSIVE : 0);
        return c;
    }
};

/// Options of a new object that has no others.
struct sync_options {
    /// Fails with SHOAL_ERR_EXISTS if the name is taken.
    bool exclusive = false;
    /// Stays until it is unlinked, even when no process has it open.
    bool persistent = false;

    /// As shoal.h represents it.
    [[nodiscard]] shoal_sync_options c_options() const noexcept {
        auto c = detail::sized<shoal_sync_options>();
        c.flags = detail::creating(exclusive, persistent);
        return c;
    }
};

namespace detail {

/// Whether the last owner died. Atomic, because threads that share a lock for reading write it concurrently.
class owner_flag {
public:
    /// No owner has died.
    owner_flag() = default;
    /// A flag of the same value.
    owner_flag(const owner_flag &other) noexcept : died_(other.get()) {}
    /// Takes the value of the other flag.
    owner_flag &operator=(const owner_flag &other) noexcept {
        set(other.get());
        return *this;
    }

    /// Sets whether the last owner died.
    void set(bool died) noexcept { died_.store(died, std::memory_order_relaxed); }
    /// Whether the last owner died.
    bool get() const noexcept { return died_.load(std::memory_order_relaxed); }

private:
    std::atomic<bool> died_{false};
};

/// Calls `call(timeout_ns, &died)`, which takes a lock. Returns whether it was taken in time. A signal
/// handler does not end the wait.
template <class Call>
bool take(duration timeout, owner_flag &flag, Call call) {
    bool died = false;
    const auto attempt = [&](std::int64_t timeout_ns) { return call(timeout_ns, &died); };
    if (!done_unless(SHOAL_ERR_TIMEOUT, repeat(timeout, attempt, is_interrupted))) return false;
    flag.set(died);
    return true;
}

/// Calls `take_for(duration)` until it is true, or the deadline has passed by its own clock.
template <class Clock, class Length, class Take>
bool take_until(std::chrono::time_point<Clock, Length> deadline, Take take_for) {
    while (!take_for(until(deadline)))
        if (Clock::now() >= deadline) return false;
    return true;
}

/// The standard's requirements TimedLockable, for the class `Self` that has the handle.
template <class Self, auto Lock, auto Unlock>
class timed_lockable {
public:
    /// Waits until the lock is taken.
    void lock() { static_cast<void>(try_lock_for(forever)); }
    /// Whether the lock was taken, without waiting.
    [[nodiscard]] bool try_lock() { return try_lock_for(nowait); }
    /// Whether the lock was taken in time.
    [[nodiscard]] bool try_lock_for(duration timeout) {
        return take(timeout, owner_died_, [&](std::int64_t timeout_ns, bool *died) {
            return Lock(self().handle(), timeout_ns, died);
        });
    }
    /// Whether the lock was taken before the deadline.
    template <class Clock, class Length>
    [[nodiscard]] bool try_lock_until(std::chrono::time_point<Clock, Length> deadline) {
        return take_until(deadline, [&](duration timeout) { return try_lock_for(timeout); });
    }
    /// Fails with SHOAL_ERR_INVALID if the lock is not taken, or is not the caller's. In a forked child an object
    /// of the parent does nothing then: it does not have what the parent had locked, and the parent's guards are
    /// destroyed in the child too.
    void unlock() { check_unlock(Unlock(self().handle())); }

    /// Whether the previous owner had died with the lock when this object last took it: the guarded data may
    /// be half changed. Call it with the lock held.
    [[nodiscard]] bool owner_died() const noexcept { return owner_died_.get(); }

protected:
    /// What `owner_died` returns.
    owner_flag owner_died_;

    /// A guard unlocks in its destructor, which must not throw.
    void check_unlock(shoal_status status) const {
        if (status != SHOAL_OK && ::getpid() == process_) fail(error(status));
    }

private:
    /// The process that opened this object.
    pid_t process_ = ::getpid();

    Self &self() noexcept { return static_cast<Self &>(*this); }
};

}  // namespace detail

/// A lock between processes and threads. Any thread of the process that took it may unlock it, unless it is
/// recursive.
///
///     auto ledger = shoal::mutex::create("ledger");
///     std::lock_guard hold(ledger);
///     if (ledger.owner_died()) check_the_ledger();
class mutex : public detail::openable<mutex, mutex_options, shoal_lock, shoal_lock_open,
                                      shoal_lock_free, SHOAL_KIND_LOCK>,
              public detail::timed_lockable<mutex, shoal_lock_lock, shoal_lock_unlock> {
public:
    using openable::openable;

    /// Statistics.
    [[nodiscard]] shoal_lock_stats stat() const {
        return detail::stats_of<shoal_lock_stats, shoal_lock_stat>(handle());
    }

private:
    friend class condition;
};

/// A lock that many objects hold for reading, or one for writing. Its holder is this object, not a thread.
class shared_mutex
    : public detail::openable<shared_mutex, sync_options, shoal_rwlock, shoal_rwlock_open,
                              shoal_rwlock_free, SHOAL_KIND_RWLOCK>,
      public detail::timed_lockable<shared_mutex, shoal_rwlock_lock_write,
                                    shoal_rwlock_unlock_write> {
public:
    using openable::openable;

    /// Waits until the lock is taken for reading.
    void lock_shared() { static_cast<void>(try_lock_shared_for(forever)); }
    /// Whether the lock was taken for reading, without waiting.
    [[nodiscard]] bool try_lock_shared() { return try_lock_shared_for(nowait); }
    /// Whether the lock was taken for reading in time.
    [[nodiscard]] bool try_lock_shared_for(duration timeout) {
        return detail::take(timeout, owner_died_, [&](std::int64_t timeout_ns, bool *died) {
            return shoal_rwlock_lock_read(handle(), timeout_ns, died);
        });
    }
    /// Whether the lock was taken for reading before the deadline.
    template <class Clock, class Length>
    [[nodiscard]] bool try_lock_shared_until(std::chrono::time_point<Clock, Length> deadline) {
        return detail::take_until(
            deadline, [&](duration timeout) { return try_lock_shared_for(timeout); });
    }
    /// Fails with SHOAL_ERR_INVALID if this object does not hold it for reading. In a forked child, see
    /// `unlock`.
    void unlock_shared() { check_unlock(shoal_rwlock_unlock_read(handle())); }

    /// Statistics.
    [[nodiscard]] shoal_rwlock_stats stat() const {
        return detail::stats_of<shoal_rwlock_stats, shoal_rwlock_stat>(handle());
    }
};

SHOAL_END

#endif
