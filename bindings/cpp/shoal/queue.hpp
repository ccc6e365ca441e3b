// SPDX-License-Identifier: MIT OR Apache-2.0

#ifndef SHOAL_QUEUE_HPP
#define SHOAL_QUEUE_HPP

#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "error.hpp"
#include "lease.hpp"
#include "reservation.hpp"

namespace shoal {

class lease;

/// A named queue of messages that any number of processes put into and take from.
///
/// All members but the destructor and the moves may be called from any thread at any time.
///
///     auto queue = shoal::queue::create("numbers");
///     queue.put("one");
///     assert(queue.get() == "one");
class queue {
public:
    /// Opens the queue of this name, as `how` says.
    static queue open(std::string_view name, const options &how = {}) {
        return queue(std::string(name).c_str(), how);
    }

    /// Opens the queue of this name, or creates it with the defaults.
    static queue create(std::string_view name) {
        options how;
        how.create = true;
        return open(name, how);
    }

    /// Creates a queue under a name of its own; `name()` tells which.
    static queue anonymous(const options &how = {}) { return queue(nullptr, how); }

    /// Removes the name; who has the queue open keeps it.
    static void unlink(std::string_view name) {
        detail::check(shoal_queue_unlink(std::string(name).c_str()));
    }

    /// The name to open this queue by.
    std::string name() const {
        const char *name = shoal_queue_name(get_handle());
        if (name == nullptr) throw error(SHOAL_ERR_INVALID);
        return name;
    }

    /// Puts one message at the end, waiting for room.
    /// Throws with SHOAL_ERR_FULL (nowait), SHOAL_ERR_TIMEOUT, SHOAL_ERR_CLOSED,
    /// SHOAL_ERR_TOO_LARGE, SHOAL_ERR_NO_SPACE; nothing was put then.
    void put(std::string_view message, timeout wait = forever) {
        detail::check(put_status(message, wait));
    }

    /// As `put`; false if there was no room in time.
    [[nodiscard]] bool try_put(std::string_view message, timeout wait = nowait) {
        const shoal_status status = put_status(message, wait);
        if (status == SHOAL_ERR_FULL || status == SHOAL_ERR_TIMEOUT) return false;
        detail::check(status);
        return true;
    }

    /// Puts messages in order, as many as there is room for in time, and returns how many. One
    /// lock and one wake-up for all that fit together. Throws only if not one was put.
    template <class Strings>
    std::size_t put_many(const Strings &messages, timeout wait = forever) {
        const std::vector<shoal_slice> slices = detail::slices_of(messages);
        std::size_t done = 0;
        detail::check(shoal_queue_put_many(get_handle(), slices.data(), slices.size(), &done,
                                           wait.nanoseconds()));
        return done;
    }

    /// Takes the first message, waiting for one.
    /// Throws with SHOAL_ERR_EMPTY (nowait), SHOAL_ERR_TIMEOUT, or SHOAL_ERR_CLOSED once the
    /// queue is closed and drained.
    std::string get(timeout wait = forever) {
        std::string message;
        detail::check(get_status(message, wait));
        return message;
    }

    /// As `get`; nothing if there was no message in time.
    [[nodiscard]] std::optional<std::string> try_get(timeout wait = nowait) {
        std::string message;
        const shoal_status status = get_status(message, wait);
        if (status == SHOAL_ERR_EMPTY || status == SHOAL_ERR_TIMEOUT) return std::nullopt;
        detail::check(status);
        return message;
    }

    /// As `get`; nothing once the queue is closed and drained. For the loop of a worker.
    [[nodiscard]] std::optional<std::string> next(timeout wait = forever) {
        std::string message;
        const shoal_status status = get_status(message, wait);
        if (status == SHOAL_ERR_CLOSED) return std::nullopt;
        detail::check(status);
        return message;
    }

    /// As `get`, into the caller's memory; returns the length. A buffer that is too small is
    /// SHOAL_ERR_BUFFER_TOO_SMALL, and the message stays.
    [[nodiscard]] std::size_t get_into(void *buffer, std::size_t capacity,
                                       timeout wait = forever) {
        std::size_t len = 0;
        detail::check(shoal_queue_get(get_handle(), buffer, capacity, &len, wait.nanoseconds()));
        return len;
    }

    /// Waits for a first message, then takes it and those that are there, at most `max`.
    std::vector<std::string> get_many(std::size_t max, timeout wait = forever) {
        std::vector<std::size_t> lens(max);
        std::string buffer(64 * 1024, '\0');
        std::size_t n = 0;
        for (;;) {
            const shoal_status status = shoal_queue_get_many(
                get_handle(), buffer.data(), buffer.size(), lens.data(), max, &n,
                wait.nanoseconds());
            if (status != SHOAL_ERR_BUFFER_TOO_SMALL) {
                detail::check(status);
                break;
            }
            buffer.resize(lens[0]);
        }
        std::vector<std::string> messages;
        const char *at = buffer.data();
        for (std::size_t i = 0; i < n; at += lens[i++]) messages.emplace_back(at, lens[i]);
        return messages;
    }

    using reservation = basic_reservation<shoal_queue, shoal_queue_reserve, shoal_queue_commit,
                                          shoal_queue_discard>;

    /// Reserves room for a message of `len` bytes, to be written in place: large messages are
    /// copied once less. It gets its place in the queue when it is committed; nobody waits for
    /// it before.
    [[nodiscard]] reservation reserve(std::size_t len, timeout wait = forever) {
        return {get_handle(), len, wait};
    }

    /// Takes the first message to work on it, waiting for one. Another consumer gets it if this
    /// process dies, or has neither acked nor extended it within `visible`.
    /// Throws as `get`, and with SHOAL_ERR_EXHAUSTED or SHOAL_ERR_NO_SPACE where there is no
    /// room for more leases.
    [[nodiscard]] shoal::lease lease(timeout wait = forever, timeout visible = forever);

    /// As `lease`; nothing if there was no message in time.
    [[nodiscard]] std::optional<shoal::lease> try_lease(timeout wait = nowait,
                                                        timeout visible = forever);

    /// As `lease`; nothing once the queue is closed and all its messages are finished, or are
    /// leased by this object. For the loop of a worker.
    [[nodiscard]] std::optional<shoal::lease> next_lease(timeout wait = forever,
                                                         timeout visible = forever);

    /// Waits until every message that was ever put is finished: taken or acked.
    /// Throws with SHOAL_ERR_TIMEOUT.
    void join(timeout wait = forever) {
        detail::check(shoal_queue_join(get_handle(), wait.nanoseconds()));
    }

    /// How many messages were put and are not finished.
    std::uint64_t unfinished() const { return tell(shoal_queue_unfinished); }
    /// How many messages are leased.
    std::uint64_t leased() const { return tell(shoal_queue_leased); }
    /// How often a message is delivered before it is a dead letter; 0 for any number of times.
    std::uint64_t max_attempts() const { return tell(shoal_queue_max_attempts); }

    /// The queue of the messages that were delivered too often.
    /// Throws with SHOAL_ERR_NOT_FOUND if there is no bound on deliveries.
    [[nodiscard]] queue dead_letters() const {
        shoal_queue *handle = nullptr;
        detail::check(shoal_queue_dead_letters(get_handle(), &handle));
        return queue(handle);
    }

    /// How many messages there are. Exact whenever nobody is putting or taking.
    std::uint64_t size() const { return tell(shoal_queue_len); }
    /// Whether there is no message.
    bool empty() const { return size() == 0; }
    /// The bytes of all messages.
    std::uint64_t bytes() const { return tell(shoal_queue_bytes); }
    /// The bytes of the ring as it is now.
    std::uint64_t capacity() const { return tell(shoal_queue_capacity); }
    /// The bytes the ring may grow to.
    std::uint64_t max_capacity() const { return tell(shoal_queue_max_capacity); }
    /// The most messages it holds at a time; 0 for as many as fit.
    std::uint64_t max_items() const { return tell(shoal_queue_max_items); }
    /// The longest message that can ever be put.
    std::uint64_t max_message() const { return tell(shoal_queue_max_message); }

    /// Closes the queue for all processes: puts fail from now on, gets once it is drained.
    void close() { detail::check(shoal_queue_close(get_handle())); }

    /// Whether somebody has closed it.
    bool closed() const {
        bool closed = false;
        detail::check(shoal_queue_is_closed(get_handle(), &closed));
        return closed;
    }

    /// A descriptor for an event loop: it polls readable while there is something to take, and
    /// once the queue is closed. It stays this object's. Take with `try_get`, as others may be
    /// faster; a forked child has to ask again.
    int fd() const {
        int fd = -1;
        detail::check(shoal_queue_fd(get_handle(), &fd));
        return fd;
    }

    /// The handle, for functions of shoal.h. It stays this object's.
    shoal_queue *get_handle() const noexcept { return handle_.get(); }

private:
    struct deleter {
        void operator()(shoal_queue *handle) const noexcept { shoal_queue_free(handle); }
    };

    explicit queue(shoal_queue *handle) : handle_(handle) {}

    queue(const char *name, const options &how) {
        shoal_queue_options c{};
        c.size = sizeof c;
        c.flags = how.flags();
        c.capacity = how.capacity;
        c.max_capacity = how.max_capacity;
        c.max_items = how.max_items;
        c.max_attempts = how.max_attempts;
        shoal_queue *handle = nullptr;
        detail::check(shoal_queue_open(name, &c, &handle));
        handle_.reset(handle);
    }

    shoal_status put_status(std::string_view message, timeout wait) {
        return shoal_queue_put(get_handle(), message.data(), message.size(), wait.nanoseconds());
    }

    shoal_status get_status(std::string &message, timeout wait) {
        return detail::fill_string(message, [&](char *to, std::size_t room, std::size_t *len) {
            return shoal_queue_get(get_handle(), to, room, len, wait.nanoseconds());
        });
    }

    shoal_status lease_status(shoal_loan &loan, timeout wait, timeout visible) {
        return shoal_queue_lease(get_handle(), visible.nanoseconds(), &loan, wait.nanoseconds());
    }

    std::uint64_t tell(shoal_status (*fact)(shoal_queue *, std::uint64_t *)) const {
        std::uint64_t value = 0;
        detail::check(fact(get_handle(), &value));
        return value;
    }

    std::unique_ptr<shoal_queue, deleter> handle_;
};

/// A message that this process works on. Given back unless it is acked, also when it goes
/// because of an exception. It must not outlive the queue, and a forked child must not use
/// its parent's.
///
///     while (auto job = jobs.next_lease()) {
///         resize(job->view());
///         job->ack();
///     }
class lease : public basic_lease<shoal_queue, shoal_queue_ack, shoal_queue_nack> {
public:
    /// Moves the end of the lease to `visible` from now, or sets one. Throws as `ack`.
    void extend(std::chrono::nanoseconds visible) {
        detail::check(shoal_queue_extend(of_, &loan_, visible.count()));
    }

private:
    friend class queue;
    using basic_lease::basic_lease;
};

inline lease queue::lease(timeout wait, timeout visible) {
    shoal_loan loan{};
    detail::check(lease_status(loan, wait, visible));
    return {get_handle(), loan};
}

inline std::optional<lease> queue::try_lease(timeout wait, timeout visible) {
    shoal_loan loan{};
    const shoal_status status = lease_status(loan, wait, visible);
    if (status == SHOAL_ERR_EMPTY || status == SHOAL_ERR_TIMEOUT) return std::nullopt;
    detail::check(status);
    return shoal::lease(get_handle(), loan);
}

inline std::optional<lease> queue::next_lease(timeout wait, timeout visible) {
    shoal_loan loan{};
    const shoal_status status = lease_status(loan, wait, visible);
    if (status == SHOAL_ERR_CLOSED) return std::nullopt;
    detail::check(status);
    return shoal::lease(get_handle(), loan);
}

}  // namespace shoal

#endif
