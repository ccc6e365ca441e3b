// SPDX-License-Identifier: MIT OR Apache-2.0

#ifndef SHOAL_PIPE_HPP
#define SHOAL_PIPE_HPP

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "error.hpp"
#include "lease.hpp"
#include "reservation.hpp"

namespace shoal {

/// One end of a conversation of two sides. It is over when the other end is gone: all who held
/// that have destroyed it, or died.
///
/// All members but the destructor and the moves may be called from any thread at any time.
///
///     auto [here, there] = shoal::pipe::pair();
///     there.send("hello");
///     assert(here.recv() == "hello");
class pipe {
public:
    /// Which end: of a pipe of one way the first one receives, and the second one sends.
    enum class end : std::uint32_t { first = SHOAL_FIRST_END, second = SHOAL_SECOND_END };

    /// Opens an end of the pipe of this name, which exists.
    static pipe open(std::string_view name, end which) { return pipe(name, which, nullptr); }

    /// Opens an end of the pipe of this name, or creates it with the defaults. An end that nobody
    /// has opened yet is waited for.
    static pipe create(std::string_view name, end which, bool duplex = true) {
        const shoal_pipe_options how = with(duplex);
        return pipe(name, which, &how);
    }

    /// Both ends of a new pipe, which has a name of its own; of one way: who receives, who sends.
    static std::pair<pipe, pipe> pair(bool duplex = true) {
        const shoal_pipe_options how = with(duplex);
        shoal_pipe *first = nullptr, *second = nullptr;
        detail::check(shoal_pipe_pair(&how, &first, &second));
        return {pipe(first), pipe(second)};
    }

    /// Removes the name; who has the pipe open keeps it.
    static void unlink(std::string_view name) {
        detail::check(shoal_pipe_unlink(std::string(name).c_str()));
    }

    /// The name to open this pipe by.
    std::string name() const {
        const char *name = shoal_pipe_name(get_handle());
        if (name == nullptr) throw error(SHOAL_ERR_INVALID);
        return name;
    }

    /// Sends one message, waiting for room.
    /// Throws with SHOAL_ERR_CLOSED if the other end is gone; nothing was sent then.
    void send(std::string_view message, timeout wait = forever) {
        detail::check(
            shoal_pipe_send(get_handle(), message.data(), message.size(), wait.nanoseconds()));
    }

    using reservation = basic_reservation<shoal_pipe, shoal_pipe_reserve, shoal_pipe_commit,
                                          shoal_pipe_discard>;

    /// Reserves room for a message of `len` bytes, to be written in place and sent by its commit:
    /// large messages are copied once less. Throws as `send`.
    [[nodiscard]] reservation reserve(std::size_t len, timeout wait = forever) {
        return {get_handle(), len, wait};
    }

    /// Receives one message, waiting for it.
    /// Throws with SHOAL_ERR_EMPTY (nowait), SHOAL_ERR_TIMEOUT, or SHOAL_ERR_CLOSED once the
    /// other end is gone and nothing is left of what it sent.
    std::string recv(timeout wait = forever) {
        std::string message;
        detail::check(recv_status(message, wait));
        return message;
    }

    /// As `recv`; nothing once the other end is gone. For the loop of whoever listens.
    [[nodiscard]] std::optional<std::string> next(timeout wait = forever) {
        std::string message;
        const shoal_status status = recv_status(message, wait);
        if (status == SHOAL_ERR_CLOSED) return std::nullopt;
        detail::check(status);
        return message;
    }

    /// As `recv`, into the caller's memory; returns the length. A buffer that is too small is
    /// SHOAL_ERR_BUFFER_TOO_SMALL, and the message stays.
    ///
    ///     char line[256];
    ///     handle(std::string_view(line, there.recv_into(line, sizeof line)));
    [[nodiscard]] std::size_t recv_into(void *buffer, std::size_t capacity,
                                        timeout wait = forever) {
        std::size_t len = 0;
        detail::check(shoal_pipe_recv(get_handle(), buffer, capacity, &len, wait.nanoseconds()));
        return len;
    }

    using lease = basic_lease<shoal_pipe, shoal_pipe_ack, shoal_pipe_nack>;

    /// Receives one message to read it where it is: what was reserved is not copied at all. Throws
    /// as `recv`, and with SHOAL_ERR_EXHAUSTED if there is no room for more leases.
    [[nodiscard]] lease receive_lease(timeout wait = forever) {
        shoal_loan loan{};
        detail::check(shoal_pipe_lease(get_handle(), &loan, wait.nanoseconds()));
        return {get_handle(), loan};
    }

    /// Waits for something to receive or the end of the conversation: whether it came in time.
    [[nodiscard]] bool poll(timeout wait = nowait) {
        bool ready = false;
        detail::check(shoal_pipe_poll(get_handle(), wait.nanoseconds(), &ready));
        return ready;
    }

    /// A descriptor for an event loop; see `shoal_pipe_fd`. It stays this object's.
    [[nodiscard]] int fd() const {
        int fd = -1;
        detail::check(shoal_pipe_fd(get_handle(), &fd));
        return fd;
    }

    /// The handle, for functions of shoal.h. It stays this object's.
    shoal_pipe *get_handle() const noexcept { return handle_.get(); }

private:
    struct deleter {
        void operator()(shoal_pipe *handle) const noexcept { shoal_pipe_free(handle); }
    };

    explicit pipe(shoal_pipe *handle) noexcept : handle_(handle) {}

    pipe(std::string_view name, end which, const shoal_pipe_options *how) {
        shoal_pipe *handle = nullptr;
        detail::check(shoal_pipe_open(std::string(name).c_str(),
                                      static_cast<std::uint32_t>(which), how, &handle));
        handle_.reset(handle);
    }

    static shoal_pipe_options with(bool duplex) {
        shoal_pipe_options how{};
        how.size = sizeof how;
        how.flags = SHOAL_CREATE | (duplex ? 0 : SHOAL_SIMPLEX);
        return how;
    }

    shoal_status recv_status(std::string &message, timeout wait) {
        message.resize(1024);
        for (;;) {
            std::size_t len = 0;
            const shoal_status status = shoal_pipe_recv(get_handle(), message.data(),
                                                        message.size(), &len, wait.nanoseconds());
            if (status != SHOAL_OK && status != SHOAL_ERR_BUFFER_TOO_SMALL) return status;
            message.resize(len);
            if (status == SHOAL_OK) return status;
        }
    }

    std::unique_ptr<shoal_pipe, deleter> handle_;
};

}  // namespace shoal

#endif
