// SPDX-License-Identifier: MIT OR Apache-2.0

#ifndef SHOAL_QUEUE_HPP
#define SHOAL_QUEUE_HPP

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "bytes.hpp"
#include "duration.hpp"
#include "error.hpp"
#include "message.hpp"
#include "object.hpp"

SHOAL_BEGIN

/// Options of a new queue. Zeros are the defaults.
struct queue_options {
    /// Fails with SHOAL_ERR_EXISTS if the name is taken.
    bool exclusive = false;
    /// Stays until it is unlinked, even when no process has it open.
    bool persistent = false;
    /// Bytes of the ring at first; 0 for the default of `shoal_queue_options`.
    std::uint64_t capacity = 0;
    /// Bytes to which the ring may grow; 0 for the default of `shoal_queue_options`. Address space, not
    /// memory.
    std::uint64_t max_capacity = 0;
    /// The most messages that were put and not taken; 0 for as many as fit. Leased messages are not counted,
    /// nor those that were given back: with them it may hold more.
    std::uint64_t max_items = 0;
    /// How often a message is leased before it becomes a dead letter, at most 255; 0 for any number of
    /// times.
    std::uint64_t max_attempts = 0;

    /// As shoal.h represents it.
    [[nodiscard]] shoal_queue_options c_options() const noexcept {
        auto c = detail::sized<shoal_queue_options>();
        c.flags = detail::creating(exclusive, persistent);
        c.capacity = capacity;
        c.max_capacity = max_capacity;
        c.max_items = max_items;
        c.max_attempts = max_attempts;
        return c;
    }
};

/// A queue of messages, which any number of processes put and get.
///
///     auto numbers = shoal::queue::create("numbers");
///     numbers.put("one");
///     assert(numbers.get() == "one");
class queue : public detail::openable<queue, queue_options, shoal_queue, shoal_queue_open,
                                      shoal_queue_free, SHOAL_KIND_QUEUE> {
public:
    using openable::openable;

    /// Memory for one message, written in place.
    using reserved_message =
        detail::reserved_message<shoal_queue, shoal_queue_commit, shoal_queue_discard>;

    /// A message on which this process works. Another consumer gets it if it is not acked.
    ///
    ///     while (auto job = jobs.next_lease()) {
    ///         resize(job->view());
    ///         job->ack();
    ///     }
    class leased_message
        : public detail::leased_message<shoal_queue, shoal_queue_ack, shoal_queue_nack> {
    public:
        using detail::leased_message<shoal_queue, shoal_queue_ack,
                                     shoal_queue_nack>::leased_message;

        /// Sets the expiry of the lease to `visible` from now. Fails as `ack`.
        void extend(duration visible) {
            detail::check(shoal_queue_extend(of_, &message_, visible.nanoseconds()));
        }
    };

    /// Waits for room and puts one message at the end. Fails with SHOAL_ERR_CLOSED, SHOAL_ERR_TOO_LARGE or
    /// SHOAL_ERR_NO_SPACE; then nothing was put.
    void put(std::string_view message, duration timeout = forever) {
        detail::check(put_status(message, timeout));
    }

    /// As `put`; false if there was no room in time.
    [[nodiscard]] bool try_put(std::string_view message, duration timeout = nowait) {
        return detail::done_unless(SHOAL_ERR_TIMEOUT, put_status(message, timeout));
    }

    /// Puts messages in order, as many as fit in time. Returns how many were put: 0 if there was no room in
    /// time. Fails as `put` in all other cases in which not one was put.
    ///
    ///     jobs.put_many({"resize 17.png", "resize 18.png"});
    template <class Strings = std::initializer_list<std::string_view>>
    std::size_t put_many(const Strings &messages, duration timeout = forever) {
        const std::vector<shoal_slice> slices = detail::slices_of(messages);
        std::size_t done = 0;
        const shoal_status status = detail::wait(timeout, [&](std::int64_t timeout_ns) {
            return shoal_queue_put_many(handle(), slices.data(), slices.size(), timeout_ns, &done);
        });
        return detail::done_unless(SHOAL_ERR_TIMEOUT, status) ? done : 0;
    }

    /// Waits for a message and takes the first one. Fails with SHOAL_ERR_CLOSED once the queue is closed and
    /// empty.
    [[nodiscard]] std::string get(duration timeout = forever) {
        std::string message;
        detail::check(get_status(message, timeout));
        return message;
    }

    /// As `get`; nothing if there was no message in time.
    [[nodiscard]] std::optional<std::string> try_get(duration timeout = nowait) {
        return got_unless(SHOAL_ERR_TIMEOUT, timeout);
    }

    /// As `get`; nothing once the queue is closed and empty. For the loop of a worker.
    [[nodiscard]] std::optional<std::string> next(duration timeout = forever) {
        return got_unless(SHOAL_ERR_CLOSED, timeout);
    }

    /// As `get`, into the caller's memory. Returns the length. Fails with SHOAL_ERR_BUFFER_TOO_SMALL if the
    /// message does not fit; then it stays.
    [[nodiscard]] std::size_t get_into(void *buffer, std::size_t capacity,
                                       duration timeout = forever) {
        std::size_t len = 0;
        detail::check(detail::wait(timeout, [&](std::int64_t timeout_ns) {
            return shoal_queue_get(handle(), timeout_ns, buffer, capacity, &len);
        }));
        return len;
    }

    /// Copies a message without taking it; nothing if there are fewer. Index 0 is the next one to be taken.
    /// Leased and delayed messages are not included.
    [[nodiscard]] std::optional<std::string> peek(std::uint64_t index = 0) const {
        return detail::found([&](char *to, std::size_t capacity, std::size_t *len) {
            return shoal_queue_peek(handle(), index, to, capacity, len);
        });
    }

    /// Waits for a first message, then takes it and others that the queue has, at most `max` and as many as
    /// one step copies. None if no message came in time. Fails as `get`.
    [[nodiscard]] std::vector<std::string> get_many(std::size_t max, duration timeout = forever) {
        std::string buffer(64 * 1024, '\0');
        // No more of them fit, unless they are empty.
        std::vector<std::size_t> lens(std::min(max, buffer.size()));
        std::size_t n = 0;
        const auto attempt = [&](std::int64_t timeout_ns) {
            const shoal_status status = shoal_queue_get_many(
                handle(), timeout_ns, buffer.data(), buffer.size(), lens.data(), lens.size(), &n);
            if (status == SHOAL_ERR_BUFFER_TOO_SMALL) buffer.resize(lens[0]);
            return status;
        };
        std::vector<std::string> messages;
        const shoal_status end = detail::repeat(timeout, attempt, detail::goes_on_or_grows);
        if (!detail::done_unless(SHOAL_ERR_TIMEOUT, end)) return messages;
        const char *at = buffer.data();
        for (std::size_t i = 0; i < n; at += lens[i++]) messages.emplace_back(at, lens[i]);
        return messages;
    }

    /// Waits for room and reserves a message of at most `len` bytes, which is written in place. It is copied
    /// once less than by `put`. Fails as `put`.
    [[nodiscard]] reserved_message reserve(std::size_t len, duration timeout = forever) {
        shoal_message message{};
        detail::check(reserve_status(message, len, timeout));
        return {handle(), message};
    }

    /// As `reserve`; nothing if there was no room in time.
    [[nodiscard]] std::optional<reserved_message> try_reserve(std::size_t len,
                                                              duration timeout = nowait) {
        shoal_message message{};
        const shoal_status status = reserve_status(message, len, timeout);
        if (!detail::done_unless(SHOAL_ERR_TIMEOUT, status)) return std::nullopt;
        return reserved_message(handle(), message);
    }

    /// Waits for a message and leases the first one. Another consumer gets it if this process dies, or neither
    /// acks nor extends it within `visible`. Fails as `get`, and with SHOAL_ERR_EXHAUSTED or
    /// SHOAL_ERR_NO_SPACE if there is no room for more leases.
    [[nodiscard]] leased_message lease(duration visible = forever, duration timeout = forever) {
        shoal_message message{};
        detail::check(lease_status(message, visible, timeout));
        return {handle(), message};
    }

    /// As `lease`; nothing if there was no message in time.
    [[nodiscard]] std::optional<leased_message> try_lease(duration visible = forever,
                                                          duration timeout = nowait) {
        return leased_unless(SHOAL_ERR_TIMEOUT, visible, timeout);
    }

    /// As `lease`; nothing once the queue is closed and empty. For the loop of a worker.
    [[nodiscard]] std::optional<leased_message> next_lease(duration visible = forever,
                                                           duration timeout = forever) {
        return leased_unless(SHOAL_ERR_CLOSED, visible, timeout);
    }

    /// Waits until every message is finished: taken by `get`, acked, or moved to the dead letters.
    void join(duration timeout = forever) { detail::check(join_status(timeout)); }

    /// As `join`. Returns whether all were finished in time.
    [[nodiscard]] bool try_join(duration timeout = nowait) {
        return detail::done_unless(SHOAL_ERR_TIMEOUT, join_status(timeout));
    }

    /// The queue of the messages that were leased `max_attempts` times and not acked. Fails with
    /// SHOAL_ERR_NOT_FOUND if there is no `max_attempts`.
    [[nodiscard]] queue dead_letters() const {
        shoal_queue *dead = nullptr;
        detail::check(shoal_queue_dead_letters(handle(), &dead));
        return queue(dead);
    }

    /// How many messages wait. Exact while no process puts or gets.
    [[nodiscard]] std::uint64_t size() const {
        std::uint64_t len = 0;
        detail::check(shoal_queue_len(handle(), &len));
        return len;
    }

    /// Whether no message waits. Exact while no process puts or gets.
    [[nodiscard]] bool empty() const { return size() == 0; }

    /// Statistics.
    [[nodiscard]] shoal_queue_stats stat() const {
        return detail::stats_of<shoal_queue_stats, shoal_queue_stat>(handle());
    }

    /// Closes the queue for all processes: puts fail, and gets fail once it is empty.
    void close() { detail::check(shoal_queue_close(handle())); }

    /// A descriptor for event loops; see `shoal_queue_fd`. This object owns it.
    [[nodiscard]] int fd() const {
        int fd = -1;
        detail::check(shoal_queue_fd(handle(), &fd));
        return fd;
    }

private:
    shoal_status put_status(std::string_view message, duration timeout) {
        return detail::wait(timeout, [&](std::int64_t timeout_ns) {
            return shoal_queue_put(handle(), message.data(), message.size(), timeout_ns);
        });
    }

    shoal_status get_status(std::string &message, duration timeout) {
        return detail::fill(message, timeout,
                            [&](std::int64_t timeout_ns, char *to, std::size_t capacity,
                                std::size_t *len) {
                                return shoal_queue_get(handle(), timeout_ns, to, capacity, len);
                            });
    }

    std::optional<std::string> got_unless(shoal_status none, duration timeout) {
        std::string message;
        if (!detail::done_unless(none, get_status(message, timeout))) return std::nullopt;
        return message;
    }

    shoal_status reserve_status(shoal_message &message, std::size_t len, duration timeout) {
        return detail::wait(timeout, [&](std::int64_t timeout_ns) {
            return shoal_queue_reserve(handle(), len, timeout_ns, &message);
        });
    }

    shoal_status lease_status(shoal_message &message, duration visible, duration timeout) {
        return detail::wait(timeout, [&](std::int64_t timeout_ns) {
            return shoal_queue_lease(handle(), visible.nanoseconds(), timeout_ns, &message);
        });
    }

    std::optional<leased_message> leased_unless(shoal_status none, duration visible,
                                                duration timeout) {
        shoal_message message{};
        const shoal_status status = lease_status(message, visible, timeout);
        if (!detail::done_unless(none, status)) return std::nullopt;
        return leased_message(handle(), message);
    }

    shoal_status join_status(duration timeout) {
        return detail::wait(timeout, [&](std::int64_t timeout_ns) {
            return shoal_queue_join(handle(), timeout_ns);
        });
    }
};

SHOAL_END

#endif
