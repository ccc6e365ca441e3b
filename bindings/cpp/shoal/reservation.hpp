// SPDX-License-Identifier: MIT OR Apache-2.0

#ifndef SHOAL_RESERVATION_HPP
#define SHOAL_RESERVATION_HPP

#include <cstddef>
#include <utility>

#include "error.hpp"

namespace shoal {

/// Room for one message in a queue or a pipe, written in place. Discarded unless it is committed. It
/// must not outlive what it is in, and a forked child must not use its parent's.
///
///     auto room = frames.reserve(frame_size);
///     room.commit(grab_frame(room.data(), room.size()));
template <class Handle, auto Reserve, auto Commit, auto Discard>
class basic_reservation {
public:
    /// As `reserve` of a `queue` or `pipe`.
    basic_reservation(Handle *in, std::size_t len, timeout wait) : in_(in), loan_{} {
        detail::check(Reserve(in, len, &loan_, wait.nanoseconds()));
    }
    basic_reservation(basic_reservation &&other) noexcept
        : in_(other.in_), loan_(std::exchange(other.loan_, shoal_loan{})) {}
    basic_reservation(const basic_reservation &) = delete;
    basic_reservation &operator=(basic_reservation) = delete;
    ~basic_reservation() {
        // Nothing to tell anybody: a discard fails only where there is nothing left to discard.
        if (loan_.data != nullptr) static_cast<void>(!Discard(in_, &loan_));
    }

    /// The bytes to write to; what they hold at first is what earlier messages left.
    [[nodiscard]] char *data() const noexcept { return static_cast<char *>(loan_.data); }
    [[nodiscard]] std::size_t size() const noexcept { return loan_.len; }

    /// Makes its first `used` bytes a message. After an error the room is still there.
    void commit(std::size_t used) { detail::check(Commit(in_, &loan_, used)); }
    /// Makes all of it a message.
    void commit() { commit(loan_.len); }
    /// Gives it back.
    void discard() { detail::check(Discard(in_, &loan_)); }

private:
    Handle *in_;
    shoal_loan loan_;
};

}  // namespace shoal

#endif
