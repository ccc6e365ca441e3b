// SPDX-License-Identifier: MIT OR Apache-2.0

#ifndef SHOAL_LEASE_HPP
#define SHOAL_LEASE_HPP

#include <chrono>
#include <cstddef>
#include <string_view>
#include <utility>

#include "error.hpp"

namespace shoal {

/// A message of a queue or a pipe, read where it is. Given back unless it is acked. It must not
/// outlive what it is of, and a forked child must not use its parent's.
template <class Handle, auto Ack, auto Nack>
class basic_lease {
public:
    basic_lease(Handle *of, shoal_loan loan) noexcept : of_(of), loan_(loan) {}
    basic_lease(basic_lease &&other) noexcept
        : of_(other.of_), loan_(std::exchange(other.loan_, shoal_loan{})) {}
    basic_lease(const basic_lease &) = delete;
    basic_lease &operator=(basic_lease) = delete;
    ~basic_lease() {
        // Nothing to tell anybody: whoever lost it has lost it already.
        if (loan_.data != nullptr) static_cast<void>(!Nack(of_, &loan_, 0));
    }

    /// The message.
    [[nodiscard]] const char *data() const noexcept {
        return static_cast<const char *>(loan_.data);
    }
    [[nodiscard]] std::size_t size() const noexcept { return loan_.len; }
    [[nodiscard]] std::string_view view() const noexcept { return {data(), size()}; }
    /// How often it was delivered, this time included; 255 for more.
    [[nodiscard]] unsigned attempts() const noexcept { return loan_.attempts; }

    /// It was read, or the work is done: the message is gone.
    /// Throws with SHOAL_ERR_EXPIRED if its time was over and another gets it.
    void ack() { detail::check(Ack(of_, &loan_)); }
    /// Gives it back, to be delivered again after `delay`. Throws as `ack`.
    void nack(std::chrono::nanoseconds delay = {}) {
        detail::check(Nack(of_, &loan_, delay.count()));
    }

protected:
    Handle *of_;
    shoal_loan loan_;
};

}  // namespace shoal

#endif
