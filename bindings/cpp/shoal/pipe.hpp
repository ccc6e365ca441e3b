// SPDX-License-Identifier: MIT OR Apache-2.0

#ifndef SHOAL_PIPE_HPP
#define SHOAL_PIPE_HPP

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "bytes.hpp"
#include "duration.hpp"
#include "error.hpp"
#include "message.hpp"
#include "object.hpp"

SHOAL_BEGIN

/// Options of a new pipe. Zeros are the defaults. Sizes apply to each direction.
struct pipe_options {
    /// Fails with SHOAL_ERR_EXISTS if the name is taken.
    bool exclusive = false;
    /// Stays until it is unlinked, even when no process has it open.
    bool persistent = false;
    /// It has one direction: the first end receives, and the second one sends.
    bool simplex = false;
    /// As in `queue_options`.
    std::uint64_t capacity = 0;
    /// As in `queue_options`.
    std::uint64_t max_capacity = 0;
    /// As in `queue_options`.
    std::uint64_t max_items = 0;

    /// As shoal.h represents it.
    [[nodiscard]] shoal_pipe_options c_options() const noexcept {
        auto c = detail::sized<shoal_pipe_options>();
        c.flags = detail::creating(exclusive, persistent, simplex ? SHOAL_SIMPLEX : 0);
        c.capacity = capacity;
        c.max_capacity = max_capacity;
        c.max_items = max_items;
        return c;
    }
};

/// One end of a connection between two sides. The connection is over once all holders of the other end have
/// freed it or died.
///
///     auto [here, there] = shoal::pipe::pair();
///     there.send("hello");
///     assert(here.recv() == "hello");
class pipe : public detail::object<shoal_pipe, shoal_pipe_free, SHOAL_KIND_PIPE> {
public:
    using object::object;

    /// An end of a pipe.
    enum class end : std::uint32_t {
        /// The end that receives, if the pipe has one direction.
        first = SHOAL_FIRST_END,
        /// The end that sends, if the pipe has one direction.
        second = SHOAL_SECOND_END,
    };

    /// Memory for one message, written in place.
    using reserved_message =
        detail::reserved_message<shoal_pipe, shoal_pipe_commit, shoal_pipe_discard>;

    /// A message that is read in place.
    using leased_message = detail::leased_message<shoal_pipe, shoal_pipe_ack, shoal_pipe_nack>;

    /// Opens an end of the pipe of this name. Fails with SHOAL_ERR_NOT_FOUND if there is none.
    [[nodiscard]] static pipe open(std::string_view name, end which) {
        return opened(name, which, nullptr);
    }

    /// Opens an end of the pipe of this name, or creates it. Either side may do so, and may send before the
    /// other end is open.
    [[nodiscard]] static pipe create(std::string_view name, end which,
                                     const pipe_options &options = {}) {
        const shoal_pipe_options c = options.c_options();
        return opened(name, which, &c);
    }

    /// Both ends of a new pipe with a generated name: the first and the second.
    [[nodiscard]] static std::pair<pipe, pipe> pair(const pipe_options &options = {}) {
        const shoal_pipe_options c = options.c_options();
        shoal_pipe *first = nullptr, *second = nullptr;
        detail::check(shoal_pipe_pair(&c, &first, &second));
        return {pipe(first, true), pipe(second)};
    }

    /// Waits for room and sends one message. Fails with SHOAL_ERR_CLOSED if the other end is closed, with
    /// SHOAL_ERR_UNSUPPORTED if this one only receives, and as `queue::put`; then nothing was sent.
    void send(std::string_view message, duration timeout = forever) {
        detail::check(send_status(message, timeout));
    }

    /// As `send`; false if there was no room in time.
    [[nodiscard]] bool try_send(std::string_view message, duration timeout = nowait) {
        return detail::done_unless(SHOAL_ERR_TIMEOUT, send_status(message, timeout));
    }

    /// Waits for a message and receives it. Fails with SHOAL_ERR_CLOSED once the other end is closed and all
    /// its messages are received, and with SHOAL_ERR_UNSUPPORTED if this one only sends.
    [[nodiscard]] std::string recv(duration timeout = forever) {
        std::string message;
        detail::check(recv_status(message, timeout));
        return message;
    }

    /// As `recv`; nothing if there was no message in time.
    [[nodiscard]] std::optional<std::string> try_recv(duration timeout = nowait) {
        return received_unless(SHOAL_ERR_TIMEOUT, timeout);
    }

    /// As `recv`; nothing once the connection is closed. For the loop of a receiver.
    [[nodiscard]] std::optional<std::string> next(duration timeout = forever) {
        return received_unless(SHOAL_ERR_CLOSED, timeout);
    }

    /// As `recv`, into the caller's memory. Returns the length. Fails with SHOAL_ERR_BUFFER_TOO_SMALL if the
    /// message does not fit; then it stays.
    ///
    ///     char line[256];
    ///     use(std::string_view(line, there.recv_into(line, sizeof line)));
    [[nodiscard]] std::size_t recv_into(void *buffer, std::size_t capacity,
                                        duration timeout = forever) {
        std::size_t len = 0;
        detail::check(detail::wait(timeout, [&](std::int64_t timeout_ns) {
            return shoal_pipe_recv(handle(), timeout_ns, buffer, capacity, &len);
        }));
        return len;
    }

    /// Waits for room and reserves a message of at most `len` bytes, which is written in place and sent by its
    /// commit. It is copied once less than by `send`. Fails as `send`.
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

    /// Waits for a message and leases it, to read it in place. A reserved message is never copied. Fails as
    /// `recv`, and with SHOAL_ERR_EXHAUSTED or SHOAL_ERR_NO_SPACE if there is no room for more leases.
    [[nodiscard]] leased_message lease(duration timeout = forever) {
        shoal_message message{};
        detail::check(lease_status(message, timeout));
        return {handle(), message};
    }

    /// As `lease`; nothing if there was no message in time.
    [[nodiscard]] std::optional<leased_message> try_lease(duration timeout = nowait) {
        return leased_unless(SHOAL_ERR_TIMEOUT, timeout);
    }

    /// As `lease`; nothing once the connection is closed.
    [[nodiscard]] std::optional<leased_message> next_lease(duration timeout = forever) {
        return leased_unless(SHOAL_ERR_CLOSED, timeout);
    }

    /// Waits for a message, or the end of the connection. Returns whether one came in time.
    [[nodiscard]] bool poll(duration timeout = nowait) const {
        bool ready = false;
        detail::check(detail::wait(timeout, [&](std::int64_t timeout_ns) {
            return shoal_pipe_poll(handle(), timeout_ns, &ready);
        }));
        return ready;
    }

    /// A descriptor for event loops; see `shoal_pipe_fd`. This object owns it.
    [[nodiscard]] int fd() const {
        int fd = -1;
        detail::check(shoal_pipe_fd(handle(), &fd));
        return fd;
    }

    /// Statistics.
    [[nodiscard]] shoal_pipe_stats stat() const {
        return detail::stats_of<shoal_pipe_stats, shoal_pipe_stat>(handle());
    }

private:
    static pipe opened(std::string_view name, end which, const shoal_pipe_options *options) {
        shoal_pipe *handle = nullptr;
        bool created = false;
        detail::check(shoal_pipe_open(detail::c_text(name).c_str(),
                                      static_cast<std::uint32_t>(which), options, &handle,
                                      &created));
        return pipe(handle, created);
    }

    shoal_status send_status(std::string_view message, duration timeout) {
        return detail::wait(timeout, [&](std::int64_t timeout_ns) {
            return shoal_pipe_send(handle(), message.data(), message.size(), timeout_ns);
        });
    }

    shoal_status recv_status(std::string &message, duration timeout) {
        return detail::fill(message, timeout,
                            [&](std::int64_t timeout_ns, char *to, std::size_t capacity,
                                std::size_t *len) {
                                return shoal_pipe_recv(handle(), timeout_ns, to, capacity, len);
                            });
    }

    std::optional<std::string> received_unless(shoal_status none, duration timeout) {
        std::string message;
        if (!detail::done_unless(none, recv_status(message, timeout))) return std::nullopt;
        return message;
    }

    shoal_status reserve_status(shoal_message &message, std::size_t len, duration timeout) {
        return detail::wait(timeout, [&](std::int64_t timeout_ns) {
            return shoal_pipe_reserve(handle(), len, timeout_ns, &message);
        });
    }

    shoal_status lease_status(shoal_message &message, duration timeout) {
        return detail::wait(timeout, [&](std::int64_t timeout_ns) {
            return shoal_pipe_lease(handle(), timeout_ns, &message);
        });
    }

    std::optional<leased_message> leased_unless(shoal_status none, duration timeout) {
        shoal_message message{};
        if (!detail::done_unless(none, lease_status(message, timeout))) return std::nullopt;
        return leased_message(handle(), message);
    }
};

SHOAL_END

#endif
