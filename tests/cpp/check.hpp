// Shared by the tests in C++: checks, and children that do not outlive them.

#ifndef CHECK_HPP
#define CHECK_HPP

#include <sys/prctl.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <string>
#include <thread>

#include <shoal.hpp>

#define CHECK(...)                                                                       \
    do {                                                                                 \
        if (!(__VA_ARGS__)) {                                                            \
            std::cerr << __FILE__ << ":" << __LINE__ << ": false: " << #__VA_ARGS__ << "\n"; \
            std::exit(1);                                                                \
        }                                                                                \
    } while (0)

// The expression throws this status.
#define THROWS(expected, ...)                                       \
    do {                                                            \
        shoal_status status = SHOAL_OK;                             \
        try {                                                       \
            static_cast<void>(__VA_ARGS__);                         \
        } catch (const shoal::error &err) {                         \
            status = err.status();                                  \
            CHECK(err.what() == std::string(shoal_last_error()));   \
        }                                                           \
        CHECK(status == expected);                                  \
    } while (0)

/// Ends a program that hangs.
inline void watchdog() { ::alarm(100); }

/// With this a child tells its parent that it has reached a point. It is a pipe of the system, as the
/// library itself is under test.
class checkpoint {
public:
    checkpoint() { CHECK(::pipe(fds_) == 0); }
    checkpoint(const checkpoint &) = delete;
    checkpoint &operator=(const checkpoint &) = delete;
    ~checkpoint() {
        ::close(fds_[0]);
        ::close(fds_[1]);
    }

    void reach() const { CHECK(::write(fds_[1], "!", 1) == 1); }
    void wait() const {
        char byte = 0;
        CHECK(::read(fds_[0], &byte, 1) == 1);
    }

private:
    int fds_[2];
};

/// Never returns: for a process that is killed while it holds objects.
[[noreturn]] inline void pause_for_ever() {
    for (;;) ::pause();
}

/// A forked child that has run `work(checkpoint)` up to the checkpoint.
template <class Work>
shoal::process started(const Work &work) {
    checkpoint point;
    const pid_t parent = ::getpid();
    auto child = shoal::process::fork([&] {
        ::prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (::getppid() != parent) return 1;
        work(point);
        return 0;
    });
    point.wait();
    return child;
}

/// Waits until a process or a thread sleeps: after the checkpoint of a child, in its next call.
inline void until_asleep(pid_t task) {
    for (;;) {
        std::ifstream file("/proc/" + std::to_string(task) + "/stat");
        std::string stat;
        CHECK(std::getline(file, stat));
        const auto name_end = stat.rfind(')');
        CHECK(name_end != std::string::npos && stat.size() > name_end + 2);
        if (stat[name_end + 2] == 'S') return;
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
}

/// A forked child that sleeps in `work(checkpoint)`, behind the checkpoint.
template <class Work>
shoal::process sleeping(const Work &work) {
    auto child = started(work);
    until_asleep(child.pid());
    return child;
}

/// Kills a child, and returns when it is dead.
inline void kill(shoal::process child) {
    child.signal(SIGKILL);
    const auto end = child.join();
    CHECK(end.signaled() && end.code == SIGKILL);
}

/// Waits for the end of a child whose checks all hold.
inline void succeeds(shoal::process child) { CHECK(child.join().success()); }

#endif
