// SPDX-License-Identifier: MIT OR Apache-2.0
//
// Supervised workers. See the section "Supervisor" of shoal.h.

#ifndef SHOAL_SUPERVISOR_HPP
#define SHOAL_SUPERVISOR_HPP

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "duration.hpp"
#include "error.hpp"
#include "object.hpp"
#include "process.hpp"

SHOAL_BEGIN

/// Which workers are restarted when they have ended.
enum class restart : std::uint32_t {
    /// None.
    never = SHOAL_RESTART_NEVER,
    /// Those that failed: by an exit code other than 0, or a signal.
    on_failure = SHOAL_RESTART_ON_FAILURE,
    /// All, also after exit code 0.
    always = SHOAL_RESTART_ALWAYS,
};

namespace detail {
/// A duration for the options of shoal.h, where 0 would mean the default.
[[nodiscard]] constexpr std::int64_t given(duration length) noexcept {
    return length.nanoseconds() == 0 ? 1 : length.nanoseconds();
}

/// The number of a worker for shoal.h. One that no worker has may not become SHOAL_EVERY_WORKER.
[[nodiscard]] constexpr std::int64_t worker_number(std::size_t worker) noexcept {
    return worker > static_cast<std::size_t>(INT64_MAX) ? INT64_MAX
                                                         : static_cast<std::int64_t>(worker);
}
} // namespace detail

/// The description of workers to be started and supervised.
///
///     shoal::spawn_options program("python3");
///     program.args({"work.py"}).devices("cuda", "0-3");
///     shoal::supervisor four(shoal::workers(program, 4).restarts(shoal::restart::on_failure));
///     if (!four.wait().success()) ...
class workers {
public:
    /// `count` workers that run this program. Its devices, or those of its lease, are spread over them.
    workers(spawn_options program, std::size_t count) : program_(std::move(program)) {
        c_.size = sizeof c_;
        c_.workers = count;
    }

    /// Which workers are restarted. By default none is.
    workers &restarts(restart which) {
        c_.restart = static_cast<std::uint32_t>(which);
        return *this;
    }
    /// How many times in a row a worker is restarted without a run of `healthy_after` in between, at least
    /// 1; UINT32_MAX is without limit. One more short run is a crash loop: the worker has failed for good.
    /// Fails with SHOAL_ERR_INVALID for 0: `restart::never` restarts none.
    workers &max_restarts(std::uint32_t most) {
        detail::require_positive(most, "max_restarts (restart::never restarts none)");
        c_.max_restarts = most;
        return *this;
    }
    /// The first and the longest delay before a restart. Delays double in between.
    workers &backoff(duration first, duration longest) {
        c_.backoff_ns = detail::given(first);
        c_.max_backoff_ns = detail::given(longest);
        return *this;
    }
    /// A run of this length resets the count of restarts.
    workers &healthy_after(duration run) {
        c_.healthy_ns = detail::given(run);
        return *this;
    }
    /// How long workers have to end before they are killed, when another one has failed or the
    /// supervisor is destroyed.
    workers &grace(duration length) {
        c_.grace_ns = detail::given(length);
        return *this;
    }
    /// Keeps the other workers running when one has failed for good.
    workers &keep_going() {
        c_.flags |= SHOAL_SUPERVISOR_KEEP_GOING;
        return *this;
    }
    /// Passes on the output of workers without their numbers.
    workers &plain_output() {
        c_.flags |= SHOAL_SUPERVISOR_PLAIN;
        return *this;
    }

private:
    friend class supervisor;
    spawn_options program_;
    shoal_supervisor_options c_{};
};

/// How the workers have ended, all together.
struct outcome : shoal_outcome {
    /// Each ended with exit code 0.
    [[nodiscard]] bool success() const noexcept { return kind == SHOAL_OUTCOME_SUCCEEDED; }
};

/// Running, supervised workers. The destructor stops them and waits for their end.
class supervisor {
public:
    /// Takes ownership of a handle of shoal.h.
    explicit supervisor(shoal_supervisor *handle) noexcept : handle_(handle) {}

    /// Starts the workers, and returns once all of their programs run. Fails as `shoal_supervisor_start`.
    explicit supervisor(const workers &description) {
        const detail::c_spawn_options program(description.program_);
        shoal_supervisor_options c = description.c_;
        c.program = program.get();
        shoal_supervisor *handle = nullptr;
        detail::check(shoal_supervisor_start(&c, &handle));
        handle_.reset(handle);
    }

    /// Waits until all workers have ended for good.
    outcome wait(duration timeout = forever) {
        outcome end{};
        detail::check(wait_status(end, timeout));
        return end;
    }

    /// As `wait`; nothing if they have not ended in time.
    [[nodiscard]] std::optional<outcome> try_wait(duration timeout = nowait) {
        outcome end{};
        const shoal_status status = wait_status(end, timeout);
        if (!detail::done_unless(SHOAL_ERR_TIMEOUT, status)) return std::nullopt;
        return end;
    }

    /// Stops all workers by SIGTERM, and after `grace` by SIGKILL. Waits for their end.
    void stop(duration grace) {
        detail::check(shoal_supervisor_begin_stop(handle(), 15, grace.nanoseconds()));
        wait();
    }
    /// As `stop`, with another first signal, and without waiting.
    void begin_stop(int signal, duration grace) {
        detail::check(shoal_supervisor_begin_stop(handle(), signal, grace.nanoseconds()));
    }

    /// Sends a signal to the process group of each worker that runs.
    void signal(int signal) {
        detail::check(shoal_supervisor_signal(handle(), SHOAL_EVERY_WORKER, signal));
    }
    /// As `signal`, to one worker. Fails with SHOAL_ERR_INVALID if there is no such worker.
    void signal_worker(std::size_t worker, int signal) {
        const std::int64_t number = detail::worker_number(worker);
        detail::check(shoal_supervisor_signal(handle(), number, signal));
    }

    /// The state of a worker. Fails with SHOAL_ERR_INVALID if there is no such worker.
    [[nodiscard]] shoal_worker_status worker(std::size_t index) const {
        shoal_worker_status status{};
        status.size = sizeof status;
        const std::int64_t number = detail::worker_number(index);
        detail::check(shoal_supervisor_worker(handle(), number, &status));
        return status;
    }

    /// The next event; nothing once all workers have ended for good and every event was taken.
    [[nodiscard]] std::optional<shoal_worker_event> next_event(duration timeout = forever) {
        shoal_worker_event event{};
        event.size = sizeof event;
        const shoal_status status = detail::wait(timeout, [&](std::int64_t timeout_ns) {
            return shoal_supervisor_event(handle(), timeout_ns, &event);
        });
        if (!detail::done_unless(SHOAL_ERR_END, status)) return std::nullopt;
        return event;
    }

    /// Ends the waits of this process's threads; see `shoal_end_waits`. The workers continue.
    void end_waits() { detail::check(shoal_end_waits(handle())); }

    /// The handle, for functions of shoal.h. This object owns it.
    [[nodiscard]] shoal_supervisor *handle() const noexcept { return handle_.get(); }

private:
    shoal_status wait_status(outcome &end, duration timeout) const {
        return detail::wait(timeout, [&](std::int64_t timeout_ns) {
            return shoal_supervisor_wait(handle(), timeout_ns, &end);
        });
    }

    std::unique_ptr<shoal_supervisor, detail::freed_by<shoal_supervisor_free>> handle_;
};

SHOAL_END

#endif
