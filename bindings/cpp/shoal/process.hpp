// SPDX-License-Identifier: MIT OR Apache-2.0

#ifndef SHOAL_PROCESS_HPP
#define SHOAL_PROCESS_HPP

#include <cstdint>
#include <cstdio>
#include <exception>
#include <initializer_list>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "bytes.hpp"
#include "duration.hpp"
#include "error.hpp"
#include "lease.hpp"
#include "object.hpp"

SHOAL_BEGIN

/// One of a child's standard streams.
class stdio {
public:
    /// The stream of this process.
    static constexpr stdio inherit() { return stdio(SHOAL_STDIO_INHERIT); }
    /// The null device.
    static constexpr stdio null() { return stdio(SHOAL_STDIO_NULL); }
    /// A pipe, whose other end `process::take_stdin`, `take_stdout` or `take_stderr` returns.
    static constexpr stdio pipe() { return stdio(SHOAL_STDIO_PIPE); }
    /// A descriptor, which the caller continues to own. The start fails with SHOAL_ERR_INVALID if it is not
    /// open.
    static constexpr stdio fd(int n) { return stdio(SHOAL_STDIO_FD(n)); }

    /// As shoal.h represents it.
    constexpr std::int32_t code() const noexcept { return code_; }

private:
    explicit constexpr stdio(std::int32_t code) : code_(code) {}
    std::int32_t code_;
};

namespace detail {
class c_spawn_options;
}

/// A child to be started: the program, its arguments, and everything that it inherits.
///
///     shoal::spawn_options child("python3");
///     child.args({"work.py", "--fast"}).env("LEVEL", "3").devices("cuda", "0");
///     auto process = shoal::process::spawn(child);
class spawn_options {
public:
    /// A child that runs `program`, which is searched in PATH if it has no '/'.
    explicit spawn_options(std::string_view program)
        : file_(detail::c_text(program)), argv_{file_} {}

    /// Adds an argument.
    spawn_options &arg(std::string_view arg) {
        argv_.push_back(detail::c_text(arg));
        return *this;
    }
    /// Adds arguments.
    spawn_options &args(std::initializer_list<std::string_view> args) {
        for (const std::string_view each : args) arg(each);
        return *this;
    }
    /// Sets an environment variable. Fails with SHOAL_ERR_INVALID for a name that is empty or contains '='.
    spawn_options &env(std::string_view name, std::string_view value) {
        if (name.empty() || name.find('=') != std::string_view::npos)
            detail::fail(error(SHOAL_ERR_INVALID,
                               "invalid environment variable: \"" + std::string(name) +
                                   "\" is not a name: it is empty or contains \"=\""));
        env_set_.push_back(detail::c_text(name) + "=" + detail::c_text(value));
        return *this;
    }
    /// Removes an environment variable, even if `env` sets it.
    spawn_options &env_remove(std::string_view name) {
        env_unset_.push_back(detail::c_text(name));
        return *this;
    }
    /// Starts from an empty environment, to which `env` adds.
    spawn_options &env_clear() {
        env_clear_ = true;
        return *this;
    }
    /// The directory in which it starts.
    spawn_options &cwd(std::string_view directory) {
        cwd_ = detail::c_text(directory);
        return *this;
    }
    /// Its standard input.
    spawn_options &in(stdio from) { return stream(0, from); }
    /// Its standard output.
    spawn_options &out(stdio to) { return stream(1, to); }
    /// Its standard error.
    spawn_options &err(stdio to) { return stream(2, to); }
    /// Gives it the descriptor `from` as its descriptor `to`, 3 to 1023.
    spawn_options &fd(int from, int to) {
        fds_.push_back({from, to});
        return *this;
    }
    /// Makes it the leader of a process group of its own, for `process::signal_group`.
    spawn_options &new_group() { return flag(SHOAL_SPAWN_NEW_GROUP); }
    /// Makes it the leader of a session of its own.
    spawn_options &new_session() { return flag(SHOAL_SPAWN_NEW_SESSION); }
    /// Lets the kernel kill it when this process ends, and when this process executes another program. Its
    /// own children are not covered, nor a program that changes its user.
    spawn_options &die_with_parent() { return flag(SHOAL_SPAWN_DIE_WITH_PARENT); }
    /// Leaves ignored and blocked signals as they are.
    spawn_options &keep_signals() { return flag(SHOAL_SPAWN_KEEP_SIGNALS); }
    /// The devices of a family that it sees, numbered as in this process; "" hides all.
    spawn_options &devices(std::string_view family, std::string_view mask) {
        device_family_ = detail::c_text(family);
        device_mask_ = detail::c_text(mask);
        return *this;
    }
    /// A lease that it holds too, and whose devices it sees as worker `worker` of `workers`, at least 1. The
    /// lease must exist until the child is spawned.
    spawn_options &lease(const device::lease &lease, std::uint32_t worker = 0,
                         std::uint32_t workers = 1, device::mode mode = device::mode::exclusive) {
        detail::require_positive(workers, "number of workers that share a lease");
        lease_ = lease.handle();
        worker_ = worker;
        workers_ = workers;
        lease_mode_ = mode;
        return *this;
    }

private:
    friend class detail::c_spawn_options;

    spawn_options &stream(int which, stdio where) {
        stdio_[which] = where.code();
        return *this;
    }

    spawn_options &flag(std::uint64_t flag) {
        flags_ |= flag;
        return *this;
    }

    using pointers = std::vector<const char *>;

    static pointers pointers_of(const std::vector<std::string> &strings) {
        pointers each;
        for (const std::string &string : strings) each.push_back(string.c_str());
        each.push_back(nullptr);
        return each;
    }

    static const char *c_str(const std::optional<std::string> &string) {
        return string ? string->c_str() : nullptr;
    }

    std::string file_;
    std::vector<std::string> argv_, env_set_, env_unset_;
    bool env_clear_ = false;
    std::optional<std::string> cwd_, device_family_, device_mask_;
    std::int32_t stdio_[3] = {SHOAL_STDIO_INHERIT, SHOAL_STDIO_INHERIT, SHOAL_STDIO_INHERIT};
    std::vector<shoal_fd_map> fds_;
    std::uint64_t flags_ = 0;
    shoal_lease *lease_ = nullptr;
    std::uint32_t worker_ = 0, workers_ = 0;
    device::mode lease_mode_ = device::mode::exclusive;
};

namespace detail {

/// The struct of shoal.h for a child. It must not outlive the options from which it is made.
class c_spawn_options {
public:
    /// Represents these options, and points into them.
    explicit c_spawn_options(const spawn_options &options)
        : argv_(spawn_options::pointers_of(options.argv_)),
          env_set_(spawn_options::pointers_of(options.env_set_)),
          env_unset_(spawn_options::pointers_of(options.env_unset_)) {
        static const char *const empty[] = {nullptr};
        c_.size = sizeof c_;
        c_.file = options.file_.c_str();
        c_.argv = argv_.data();
        c_.envp = options.env_clear_ ? empty : nullptr;
        c_.env_set = env_set_.data();
        c_.env_unset = env_unset_.data();
        c_.cwd = spawn_options::c_str(options.cwd_);
        for (int i = 0; i < 3; ++i) c_.stdio[i] = options.stdio_[i];
        c_.n_fds = static_cast<std::uint32_t>(options.fds_.size());
        c_.fds = options.fds_.data();
        c_.flags = options.flags_;
        c_.device_family = spawn_options::c_str(options.device_family_);
        c_.device_mask = spawn_options::c_str(options.device_mask_);
        c_.lease = options.lease_;
        c_.lease_mode = static_cast<std::uint32_t>(options.lease_mode_);
        c_.worker = options.worker_;
        c_.workers = options.workers_;
    }

    c_spawn_options(const c_spawn_options &) = delete;
    c_spawn_options &operator=(const c_spawn_options &) = delete;

    /// The struct. This object owns it.
    [[nodiscard]] const shoal_spawn_options *get() const noexcept { return &c_; }

private:
    std::vector<const char *> argv_, env_set_, env_unset_;
    shoal_spawn_options c_{};
};

}  // namespace detail

/// How a process ended. If neither `exited` nor `signaled`, its exit is unknown: see SHOAL_EXIT_UNKNOWN.
struct exit_status : shoal_exit {
    /// It exited; `code` is its exit code.
    [[nodiscard]] bool exited() const noexcept { return kind == SHOAL_EXIT_EXITED; }
    /// A signal killed it; `code` is the signal.
    [[nodiscard]] bool signaled() const noexcept { return kind == SHOAL_EXIT_SIGNALED; }
    /// It exited with code 0.
    [[nodiscard]] bool success() const noexcept { return exited() && code == 0; }
};

/// A child process. The destructor does not end it.
class process {
public:
    /// Takes ownership of a handle of shoal.h.
    explicit process(shoal_process *handle) noexcept : handle_(handle) {}

    /// Starts a program, and returns once it runs. Fails as `shoal_process_spawn`.
    static process spawn(const spawn_options &options) {
        const detail::c_spawn_options c(options);
        shoal_process *handle = nullptr;
        detail::check(shoal_process_spawn(c.get(), &handle));
        return process(handle);
    }

    /// Forks this process. The child runs `entry()` and exits with the low 8 bits of its result, with 0 if that
    /// is void, or with 101 if it throws. If other threads run, `entry` must not use anything that they may
    /// have locked. See `shoal_process_fork`.
    template <class Entry>
    static process fork(Entry &&entry) {
        // The address of a function is no `void *`; that of an object which calls it is.
        auto call = [&entry]() -> int {
            if constexpr (std::is_void_v<std::invoke_result_t<Entry &>>) {
                entry();
                return 0;
            } else {
                return entry();
            }
        };
        shoal_process *handle = nullptr;
        detail::check(shoal_process_fork(&run<decltype(call)>, &call, nullptr, &handle));
        return process(handle);
    }

    /// Waits until it has ended, and returns how. Later calls return the same at once.
    exit_status join(duration timeout = forever) {
        exit_status exit{};
        detail::check(join_status(exit, timeout));
        return exit;
    }

    /// As `join`; nothing if it still runs.
    [[nodiscard]] std::optional<exit_status> try_join(duration timeout = nowait) {
        exit_status exit{};
        const shoal_status status = join_status(exit, timeout);
        if (!detail::done_unless(SHOAL_ERR_TIMEOUT, status)) return std::nullopt;
        return exit;
    }

    /// Its process id. After a join another process may have the same.
    [[nodiscard]] std::int32_t pid() const {
        std::int32_t pid = 0;
        detail::check(shoal_process_pid(handle(), &pid));
        return pid;
    }

    /// Its descriptor, which is readable once it has ended. This object owns it.
    [[nodiscard]] int fd() const {
        int fd = -1;
        detail::check(shoal_process_fd(handle(), &fd));
        return fd;
    }

    /// Sends a signal, unless it has ended. Fails with SHOAL_ERR_INVALID (no such signal) or
    /// SHOAL_ERR_PERMISSION.
    void signal(int signal) { detail::check(shoal_process_signal(handle(), signal, false)); }
    /// As `signal`, to its process group: it and its descendants that stayed in the group. It must have been
    /// started with `new_group` or `new_session`.
    void signal_group(int signal) { detail::check(shoal_process_signal(handle(), signal, true)); }

    /// Ends the waits of this process's threads for it; see `shoal_end_waits`.
    void end_waits() { detail::check(shoal_end_waits(handle())); }

    /// The writable end of the pipe to its standard input; the caller closes it. This and the next two fail
    /// with SHOAL_ERR_NOT_FOUND if the stream is no pipe, or was taken already.
    [[nodiscard]] int take_stdin() { return take(0); }
    /// The readable end of the pipe from its standard output; the caller closes it.
    [[nodiscard]] int take_stdout() { return take(1); }
    /// The readable end of the pipe from its standard error; the caller closes it.
    [[nodiscard]] int take_stderr() { return take(2); }

    /// The handle, for functions of shoal.h. This object owns it.
    [[nodiscard]] shoal_process *handle() const noexcept { return handle_.get(); }

private:
    shoal_status join_status(exit_status &exit, duration timeout) const {
        return detail::wait(timeout, [&](std::int64_t timeout_ns) {
            return shoal_process_join(handle(), timeout_ns, &exit);
        });
    }

    int take(int which) {
        int fd = -1;
        detail::check(shoal_process_stdio(handle(), which, &fd));
        return fd;
    }

    /// No exception may leave this function, which the library calls.
    template <class Function>
    static int run(void *entry) noexcept {
#if SHOAL_EXCEPTIONS
        try {
            return (*static_cast<Function *>(entry))();
        } catch (const std::exception &err) {
            std::fprintf(stderr, "forked process: %s\n", err.what());
        } catch (...) {
            std::fputs("forked process: unknown exception\n", stderr);
        }
        return 101;
#else
        return (*static_cast<Function *>(entry))();
#endif
    }

    std::unique_ptr<shoal_process, detail::freed_by<shoal_process_free>> handle_;
};

SHOAL_END

#endif
