// What the tests in C++ share: checks, and children that do not outlive them.

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
            std::cerr << __FILE__ << ":" << __LINE__ << ": not so: " << #__VA_ARGS__ << "\n"; \
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

/// A program that runs this long hangs; its children go with it.
inline void watchdog() { ::alarm(100); }

/// By it a child tells its parent that it has come so far. It is no object of the library, as that
/// is what is tested.
class bell {
public:
    bell() { CHECK(::pipe(fds_) == 0); }
    bell(const bell &) = delete;
    bell &operator=(const bell &) = delete;
    ~bell() {
        ::close(fds_[0]);
        ::close(fds_[1]);
    }

    void ring() const { CHECK(::write(fds_[1], "!", 1) == 1); }
    void hear() const {
        char rung = 0;
        CHECK(::read(fds_[0], &rung, 1) == 1);
    }

private:
    int fds_[2];
};

/// Never returns: for a process that has what others are to find after its death.
[[noreturn]] inline void stay() {
    for (;;) ::pause();
}

/// A forked child that has run `work(bell)` up to where it rang the bell.
template <class Work>
shoal::process started(const Work &work) {
    bell come;
    const pid_t parent = ::getpid();
    auto child = shoal::process::fork([&] {
        ::prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (::getppid() != parent) return 1;
        work(come);
        return 0;
    });
    come.hear();
    return child;
}

/// Waits until a process or a thread sleeps: after a child has rung the bell, in what it does then.
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

/// A forked child that rings and then waits in `work(bell)`, which is where it sleeps.
template <class Work>
shoal::process sleeping(const Work &work) {
    auto child = started(work);
    until_asleep(child.pid());
    return child;
}

/// Kills a child, and returns when it is dead.
inline void killed(shoal::process child) {
    child.signal(SIGKILL);
    const auto end = child.join();
    CHECK(end.signaled() && end.code == SIGKILL);
}

/// Waits for a child that finds all as it should be.
inline void content(shoal::process child) { CHECK(child.join().success()); }

#endif
