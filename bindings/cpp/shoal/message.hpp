// SPDX-License-Identifier: MIT OR Apache-2.0
//
// Messages in place, of a queue or a pipe. A forked child must not use its parent's.

#ifndef SHOAL_MESSAGE_HPP
#define SHOAL_MESSAGE_HPP

#include <cstddef>
#include <string_view>
#include <utility>

#include "duration.hpp"
#include "error.hpp"

SHOAL_BEGIN

namespace detail {

/// Room for one message, written in place. Its destructor discards it unless it was committed.
///
///     auto frame = frames.reserve(frame_size);
///     frame.commit(grab_frame(frame.data(), frame.size()));
template <class Handle, auto Commit, auto Discard>
class reserved_message {
public:
    /// Takes over what `of` has reserved.
    reserved_message(Handle *of, const shoal_message &message) noexcept
        : of_(of), message_(message) {}
    reserved_message(reserved_message &&other) noexcept
        : of_(other.of_), message_(std::exchange(other.message_, shoal_message{})) {}
    reserved_message(const reserved_message &) = delete;
    reserved_message &operator=(reserved_message) = delete;
    ~reserved_message() {
        // This fails only where there is nothing left to discard.
        if (message_.data != nullptr) static_cast<void>(!Discard(of_, &message_));
    }

    /// The bytes to write to; at first they are what earlier messages left. Null once it has ended.
    [[nodiscard]] char *data() const noexcept { return static_cast<char *>(message_.data); }
    [[nodiscard]] std::size_t size() const noexcept { return message_.len; }

    /// Makes its first `used` bytes a message. Fails with SHOAL_ERR_TOO_LARGE if it has fewer, and stays
    /// reserved then.
    void commit(std::size_t used) { check(Commit(of_, &message_, used)); }
    /// Makes all of it a message.
    void commit() { commit(message_.len); }
    /// Gives it back.
    void discard() { check(Discard(of_, &message_)); }

private:
    Handle *of_;
    shoal_message message_;
};

/// A message, read where it is. Its destructor gives it back, to be delivered again, unless it was acked.
template <class Handle, auto Ack, auto Nack>
class leased_message {
public:
    /// Takes over what `of` has leased.
    leased_message(Handle *of, const shoal_message &message) noexcept
        : of_(of), message_(message) {}
    leased_message(leased_message &&other) noexcept
        : of_(other.of_), message_(std::exchange(other.message_, shoal_message{})) {}
    leased_message(const leased_message &) = delete;
    leased_message &operator=(leased_message) = delete;
    ~leased_message() {
        // This fails where the lease is over already.
        if (message_.data != nullptr) static_cast<void>(!Nack(of_, &message_, 0));
    }

    /// Its bytes; null once it has ended.
    [[nodiscard]] const char *data() const noexcept {
        return static_cast<const char *>(message_.data);
    }
    [[nodiscard]] std::size_t size() const noexcept { return message_.len; }
    [[nodiscard]] std::string_view view() const noexcept { return {data(), size()}; }
    /// How often it was leased, this time included; 255 stands for more.
    [[nodiscard]] unsigned attempts() const noexcept { return message_.attempts; }

    /// It was read, or the work is done: the message is gone. Fails with SHOAL_ERR_EXPIRED if its time
    /// was over; another consumer gets it then. While no process has looked at the queue since its time
    /// was over, it succeeds.
    void ack() { check(Ack(of_, &message_)); }
    /// Gives it back, to be delivered again after `delay`. Fails as `ack`.
    void nack(duration delay = nowait) { check(Nack(of_, &message_, delay.nanoseconds())); }

protected:
    Handle *of_;
    shoal_message message_;
};

}  // namespace detail

SHOAL_END

#endif
