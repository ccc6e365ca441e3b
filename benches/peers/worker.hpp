// A worker of the benchmark in C++: the part that all transports share.
//
// The harness starts `PROGRAM ROLE STAGE WORKER PRODUCERS CONSUMERS SIZE DEPTH THERE BACK [RATE]`,
// where STAGE is an inherited descriptor of the page in ../harness/stage.rs, WORKER the index
// of this one's tally, and THERE and BACK name two channels with room for DEPTH messages.
// ROLE is `put` or `take`, one end of THERE, or `call` or `echo`, one end of both. `pace` and `due` are
// `put` and `take` of messages at a fixed rate, RATE a second; 0 is as fast as possible.
//
// A transport is two classes that are made from a Job and a channel's name:
//   Sender    room(): the memory for the next message, of SIZE bytes
//             send(): puts that message
//             send(from): puts a message that is in other memory
//             finish(): no producer will send more; the last producer calls it
//   Receiver  take(): waits for a message and returns it, valid until the next call; null at the
//             end
//
// Every worker writes and reads each message completely, as the workers of Shoal do. In round trips
// the clock runs meanwhile.
#pragma once

#include <linux/futex.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

struct alignas(128) Word {
    std::atomic<uint32_t> value;
};

struct alignas(128) Tally {
    std::atomic<uint64_t> messages;
    std::atomic<uint64_t> sum;
};

/// The page that all workers share.
struct Page {
    Word ready;
    Word phase;
    Word turn;
    Word result;
    std::atomic<uint64_t> answers[16];
    Tally tallies[128];
    std::atomic<uint64_t> times[30 << 7];
};
static_assert(offsetof(Page, phase) == 128 && offsetof(Page, turn) == 256);
static_assert(offsetof(Page, result) == 384 && offsetof(Page, answers) == 512);
static_assert(offsetof(Page, tallies) == 640 && offsetof(Page, times) == 17024);
static_assert(std::atomic<uint64_t>::is_always_lock_free);

enum Phase : uint32_t { GATHER, WARM, MEASURE, STOP, END };

struct Job {
    std::string role;
    Page *page;
    size_t worker, producers, consumers, size, depth;
    std::string there, back;
    double rate = 0;

    explicit Job(char **args)
        : role(args[1]), page(map(std::stoi(args[2]))), worker(std::stoul(args[3])),
          producers(std::stoul(args[4])), consumers(std::stoul(args[5])),
          size(std::stoul(args[6])), depth(std::stoul(args[7])), there(args[8]), back(args[9]) {
        if (producers + consumers > 128 || worker >= producers + consumers || size % 8 != 0) {
            throw std::runtime_error("there is no such worker");
        }
    }

    static Page *map(int fd) {
        void *at = mmap(nullptr, sizeof(Page), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        if (at == MAP_FAILED) {
            throw std::runtime_error("the page cannot be mapped");
        }
        return static_cast<Page *>(at);
    }

    Phase phase() const {
        return static_cast<Phase>(page->phase.value.load(std::memory_order_acquire));
    }

    void wait_for_start() const {
        page->ready.value.fetch_add(1);
        // Sleeps, as the workers of Shoal do: those that are not ready yet may need the core.
        while (phase() == GATHER) {
            syscall(SYS_futex, &page->phase.value, FUTEX_WAIT, GATHER, nullptr);
        }
    }

    /// Whether every message was taken and no producer will put another one.
    bool is_over() const {
        if (page->turn.value.load() < producers && phase() != END) {
            return false;
        }
        // No process puts any more, so the first sum is final. Callers count nothing.
        uint64_t put = 0, taken = 0;
        for (size_t other = 0; other < producers + consumers; other++) {
            (other < producers ? put : taken) += page->tallies[other].messages.load();
        }
        return put == taken;
    }

    /// Counts a producer that has ended; returns whether it was the last one.
    bool leave() const { return page->turn.value.fetch_add(1) + 1 == producers; }

    void count(uint64_t messages) const {
        page->tallies[worker].messages.store(messages, std::memory_order_release);
    }
};

/// Writes a message as ../harness/payload.rs does, and returns its sum.
inline uint64_t write(void *message, size_t size, uint64_t seed) {
    auto *words = static_cast<uint64_t *>(message);
    const uint64_t count = size / 8;
    for (uint64_t index = 0; index < count; index++) {
        words[index] = seed + index;
    }
    return seed * count + count * (count - 1) / 2;
}

/// Reads a message and returns its sum.
inline uint64_t read(const void *message, size_t size) {
    const auto *words = static_cast<const uint64_t *>(message);
    uint64_t sum = 0;
    for (size_t index = 0; index < size / 8; index++) {
        sum += words[index];
    }
    return sum;
}

/// Times in nanoseconds, to three digits: the first 11 bits of each and the number of the rest.
class Stopwatch {
    std::vector<uint64_t> counts = std::vector<uint64_t>(56 * 1024);
    uint64_t all = 0;

  public:
    void record(uint64_t ns) {
        const int dropped = ns < 2048 ? 0 : 53 - __builtin_clzll(ns);
        counts[dropped * 1024 + (ns >> dropped)]++;
        all++;
    }

    double at(double quantile) const {
        const auto wanted = static_cast<uint64_t>(quantile * static_cast<double>(all));
        uint64_t seen = 0;
        for (uint64_t place = 0; place < counts.size(); place++) {
            seen += counts[place];
            if (seen > wanted) {
                const uint64_t dropped = place < 2048 ? 0 : place / 1024 - 1;
                return static_cast<double>((place - dropped * 1024) << dropped);
            }
        }
        return 0;
    }

    void report(Page *page) const {
        const double answers[3] = {at(0.5), at(0.99), static_cast<double>(all)};
        for (size_t index = 0; index < 3; index++) {
            uint64_t bits;
            std::memcpy(&bits, &answers[index], sizeof bits);
            page->answers[index].store(bits);
        }
    }
};

/// Nanoseconds of the clock that all processes share.
inline uint64_t now() {
    timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return static_cast<uint64_t>(time.tv_sec) * 1000000000 + static_cast<uint64_t>(time.tv_nsec);
}

/// Waits until a time, or until the workers are stopped, as ../harness/pace.rs does.
inline void wait_until(uint64_t due, const Job &job) {
    for (;;) {
        const uint64_t time = now();
        if (time >= due || job.phase() >= STOP) {
            return;
        }
        if (due - time >= 100000) {
            const timespec then = {static_cast<time_t>(due / 1000000000),
                                   static_cast<long>(due % 1000000000)};
            clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &then, nullptr);
        }
    }
}

/// Ends a producer. Messages that were not delivered when their sender ends may be lost, so it stays.
template <class Sender> void stay(const Job &job, Sender &out) {
    if (job.leave()) {
        out.finish();
    }
    while (!job.is_over()) {
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
}

/// The first word of each message is the time at which it was due.
template <class Sender> void pace(const Job &job) {
    Sender out(job, job.there);
    prctl(PR_SET_TIMERSLACK, 1);
    job.wait_for_start();
    const uint64_t began = now();
    for (uint64_t number = 0;; number++) {
        uint64_t due = now();
        if (job.rate > 0) {
            due = began + static_cast<uint64_t>(static_cast<double>(number) / job.rate * 1e9);
            wait_until(due, job);
        }
        if (job.phase() >= STOP) {
            break;
        }
        write(out.room(), job.size, due);
        out.send();
        job.count(number + 1);
    }
    stay(job, out);
}

template <class Receiver> void due(const Job &job) {
    Receiver in(job, job.there);
    std::vector<uint64_t> expected(job.size / 8), counts(30 << 7);
    uint64_t messages = 0;
    job.wait_for_start();
    while (const void *message = in.take()) {
        const uint64_t sum = read(message, job.size), time = now();
        const uint64_t due = *static_cast<const uint64_t *>(message);
        if (sum != write(expected.data(), job.size, due)) {
            throw std::runtime_error("a message arrived changed");
        }
        job.count(++messages);
        if (job.phase() >= MEASURE) {
            // The bucket of a length, as in ../harness/times.rs.
            const uint64_t late = time > due ? time - due : 1;
            const int shift = late < 128 ? 0 : 56 - __builtin_clzll(late);
            const uint64_t place = (static_cast<uint64_t>(shift) << 7) + (late >> shift);
            counts[place < counts.size() ? place : counts.size() - 1]++;
            job.page->result.value.store(1);
        }
    }
    for (size_t place = 0; place < counts.size(); place++) {
        job.page->times[place].fetch_add(counts[place]);
    }
}

template <class Sender> void put(const Job &job) {
    Sender out(job, job.there);
    uint64_t messages = 0, sum = 0, seed = static_cast<uint64_t>(job.worker) << 48;
    job.wait_for_start();
    while (job.phase() < STOP) {
        sum += write(out.room(), job.size, seed++);
        out.send();
        job.count(++messages);
    }
    job.page->tallies[job.worker].sum.store(sum);
    stay(job, out);
}

template <class Receiver> void take(const Job &job) {
    Receiver in(job, job.there);
    uint64_t messages = 0, sum = 0;
    job.wait_for_start();
    while (const void *message = in.take()) {
        sum += read(message, job.size);
        job.count(++messages);
    }
    job.page->tallies[job.worker].sum.store(sum);
}

template <class Sender, class Receiver> void call(const Job &job) {
    Sender out(job, job.there);
    Receiver in(job, job.back);
    Stopwatch stopwatch;
    job.wait_for_start();
    for (uint64_t seed = 0; job.phase() < STOP; seed++) {
        const auto start = std::chrono::steady_clock::now();
        const uint64_t sum = write(out.room(), job.size, seed);
        out.send();
        const void *came = in.take();
        const bool same = came && read(came, job.size) == sum;
        const auto took = std::chrono::steady_clock::now() - start;
        if (!same) {
            throw std::runtime_error("a message came back changed");
        }
        if (job.phase() == MEASURE) {
            stopwatch.record(static_cast<uint64_t>(
                std::chrono::duration_cast<std::chrono::nanoseconds>(took).count()));
            job.page->result.value.store(1);
        }
    }
    stopwatch.report(job.page);
    out.finish();
}

template <class Sender, class Receiver> void echo(const Job &job) {
    Receiver in(job, job.there);
    Sender out(job, job.back);
    volatile uint64_t sum = 0;
    job.wait_for_start();
    while (const void *message = in.take()) {
        sum = sum + read(message, job.size);
        out.send(message);
    }
}

/// Runs the role of the command line.
template <class Sender, class Receiver> int work(int count, char **args) {
    try {
        if (count != 10 && count != 11) {
            throw std::runtime_error("this is a part of `cargo xtask bench`");
        }
        Job job(args);
        if (count == 11) {
            job.rate = std::stod(args[10]);
        }
        if (job.role == "put") {
            put<Sender>(job);
        } else if (job.role == "take") {
            take<Receiver>(job);
        } else if (job.role == "pace") {
            pace<Sender>(job);
        } else if (job.role == "due") {
            due<Receiver>(job);
        } else if (job.role == "call") {
            call<Sender, Receiver>(job);
        } else {
            echo<Sender, Receiver>(job);
        }
        return 0;
    } catch (const std::exception &why) {
        std::fprintf(stderr, "%s: %s\n", args[0], why.what());
        return 1;
    }
}
