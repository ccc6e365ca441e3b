// SPDX-License-Identifier: MIT OR Apache-2.0
//
// Errors, with and without exceptions.

#ifndef SHOAL_ERROR_HPP
#define SHOAL_ERROR_HPP

// All other headers include this one. A missing file ends the compilation, which would report hundreds of errors.
#if !defined(__cplusplus) || __cplusplus < 201703L
#error "shoal.hpp needs C++17 or later: compile with -std=c++17. For C, and for C++11 and later, there is shoal.h."
#include "C++17"
#endif

#include <atomic>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <stdexcept>
#include <string>

#include "shoal.h"

// `fail` is an inline function that throws in some files of a program and aborts in others. The linker
// would merge both; the inline namespace keeps them apart.
#if defined(__cpp_exceptions)
#define SHOAL_EXCEPTIONS 1
#define SHOAL_BEGIN        \
    namespace shoal {      \
    inline namespace throwing {
#else
#define SHOAL_EXCEPTIONS 0
#define SHOAL_BEGIN        \
    namespace shoal {      \
    inline namespace aborting {
#endif
#define SHOAL_END \
    }             \
    }

SHOAL_BEGIN

/// The failure of a call. `what()` is the error message of the library.
class error : public std::runtime_error {
public:
    /// The error of the calling thread's last failed call, which returned `status`.
    explicit error(shoal_status status)
        : std::runtime_error(shoal_last_error()), status_(status) {}

    /// An error that was found before the library was called.
    error(shoal_status status, const std::string &what)
        : std::runtime_error(what), status_(status) {}

    /// The code to act on: SHOAL_ERR_NOT_FOUND, SHOAL_ERR_CLOSED, ...
    [[nodiscard]] shoal_status status() const noexcept { return status_; }

private:
    shoal_status status_;
};

#if !SHOAL_EXCEPTIONS

/// A function that is called in the place of throwing. The program is aborted when it returns.
using failure_handler = void (*)(const error &);

namespace detail {
/// The handler of all threads; null if none is set.
inline std::atomic<failure_handler> on_failure{nullptr};
}

/// Sets the handler of all threads; null prints the error to stderr. Returns the previous handler.
inline failure_handler set_failure_handler(failure_handler handler) noexcept {
    return detail::on_failure.exchange(handler);
}

#endif

namespace detail {

/// Throws the error; without exceptions, calls the failure handler or prints the error, and aborts.
[[noreturn]] inline void fail(const error &err) {
#if SHOAL_EXCEPTIONS
    throw err;
#else
    if (const failure_handler handler = on_failure.load())
        handler(err);
    else
        std::fprintf(stderr, "shoal: %s (%s)\n", err.what(), shoal_status_name(err.status()));
    std::abort();
#endif
}

/// Fails with the error of the last call unless its status is SHOAL_OK.
inline void check(shoal_status status) {
    if (status != SHOAL_OK) fail(error(status));
}

/// Whether a call succeeded; false if its status is `expected`, which is no failure here.
[[nodiscard]] inline bool done_unless(shoal_status expected, shoal_status status) {
    if (status == expected) return false;
    check(status);
    return true;
}

/// Refuses a 0 that shoal.h would replace by a default.
inline void require_positive(std::uint64_t number, const char *what) {
    if (number == 0) fail(error(SHOAL_ERR_INVALID, std::string("invalid ") + what + ": it is 0"));
}

}  // namespace detail

SHOAL_END

#endif
