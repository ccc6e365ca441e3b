// SPDX-License-Identifier: MIT OR Apache-2.0
//
// Messages in place, of a queue or a pipe. A forked child must not use those of its parent.

#ifndef SHOAL_MESSAGE_HPP
#define SHOAL_MESSAGE_HPP

#include <cstddef>
#include <string_view>
#include <utility>

#include "duration.hpp"
#include "error.hpp"

SHOAL_BEGIN

namespace detail {

/// Memory for one message, written in place. The destructor discards it unless it was committed.
///
///     auto frame = frames.reserve(frame_size);
///     frame.commit(grab_frame(frame.data(), frame.size()));
template <class Handle, auto Commit, auto Discard>
class reserved_message {
public:
    /// Takes ownership of a reservation of `of`.
    reserved_message(Handle *of, const shoal_message &message) noexcept
        : of_(of), message_(message) {}
    /// Takes over the reservation; `other` has none then.
    reserved_message(reserved_message &&other) noexcept
        : of_(other.of_), message_(std::exchange(other.message_, shoal_message{})) {}
    /// As the constructor. Discards the reservation that this object had.
    reserved_message &operator=(reserved_message &&other) noexcept {
        // The destructor of `taken` ends what this object had.
        reserved_message taken(std::move(other));
        std::swap(of_, taken.of_);
        std::swap(message_, taken.message_);
        return *this;
    }
    ~reserved_message() {
        // This fails only if there is nothing left to discard.
        if (message_.data != nullptr) static_cast<void>(!Discard(of_, &message_));
    }

    /// The bytes to write to. At first they hold data of earlier messages. Null after the end.
    [[nodiscard]] char *data() const noexcept { return static_cast<char *>(message_.data); }
    /// How many bytes there are; 0 after the end.
    [[nodiscard]] std::size_t size() const noexcept { return message_.len; }

    /// Publishes the first `used` bytes as a message. Fails with SHOAL_ERR_TOO_LARGE if fewer were reserved;
    /// then the reservation stays.
    void commit(std::size_t used) { check(Commit(of_, &message_, used)); }
    /// Publishes all bytes as a message.
    void commit() { commit(message_.len); }
    /// Ends the reservation without a message.
    void discard() { check(Discard(of_, &message_)); }

private:
    Handle *of_;
    shoal_message message_;
};

/// A message that is read in place. Unless it was acked, the destructor returns it, and it is delivered again.
template <class Handle, auto Ack, auto Nack>
class leased_message {
public:
    /// Takes ownership of a lease of `of`.
    leased_message(Handle *of, const shoal_message &message) noexcept
        : of_(of), message_(message) {}
    /// Takes over the lease; `other` has none then.
    leased_message(leased_message &&other) noexcept
        : of_(other.of_), message_(std::exchange(other.message_, shoal_message{})) {}
    /// As the constructor. Returns the message that this object had.
    leased_message &operator=(leased_message &&other) noexcept {
        // The destructor of `taken` ends what this object had.
        leased_message taken(std::move(other));
        std::swap(of_, taken.of_);
        std::swap(message_, taken.message_);
        return *this;
    }
    ~leased_message() {
        // This fails if the lease has ended already.
        if (message_.data != nullptr) static_cast<void>(!Nack(of_, &message_, 0));
    }

    /// Its bytes; null after the end.
    [[nodiscard]] const char *data() const noexcept {
        return static_cast<const char *>(message_.data);
    }
    /// How many bytes there are; 0 after the end.
    [[nodiscard]] std::size_t size() const noexcept { return message_.len; }
    /// Its bytes, valid until the end; empty after it.
    [[nodiscard]] std::string_view view() const noexcept { return {data(), size()}; }
    /// How often it was leased, including this time; 255 means 255 or more.
    [[nodiscard]] unsigned attempts() const noexcept { return message_.attempts; }

    /// Removes the message, because it was read or the work is done. Fails with SHOAL_ERR_EXPIRED if the
    /// lease has expired; then another consumer gets the message. It succeeds if no process has checked the
    /// queue since the expiry.
    void ack() { check(Ack(of_, &message_)); }
    /// Returns the message, which is delivered again after `delay`; never with `forever`, and a closed queue
    /// does not wait for that. Fails as `ack`.
    void nack(duration delay = nowait) { check(Nack(of_, &message_, delay.nanoseconds())); }

protected:
    /// The handle of the queue or pipe, which this object does not own.
    Handle *of_;
    /// The message; its `data` is null after the end.
    shoal_message message_;
};

}  // namespace detail

SHOAL_END

#endif
