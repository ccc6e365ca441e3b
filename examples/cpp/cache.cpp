// A cache that worker processes share, whose entries expire. A process that finds a number missing
// computes it under that number's lock: none is computed twice, unless the first process is killed.
//
//     cargo build --release
//     c++ -std=c++17 -Iinclude -Ibindings/cpp examples/cpp/cache.cpp
//         target/release/libshoal.a -pthread -ldl -lm
//
// With the library installed, -lshoal replaces the last four arguments.

#include <chrono>
#include <csignal>
#include <iostream>
#include <stdexcept>
#include <string>
#include <vector>

#include <unistd.h>

#include <shoal.hpp>

using namespace std::chrono_literals;

constexpr auto life = 60s;
constexpr int numbers = 20;
constexpr int unlucky = 13;

// Ends a worker, and then the program, with an error.
void claim(bool so, const char *what) {
    if (!so) throw std::runtime_error(std::string("false: ") + what);
}

class squares {
public:
    // From the cache, or computed and stored there.
    std::string of(int number) {
        const std::string key = std::to_string(number);
        if (auto kept = cache_.get(key)) return *kept;

        // The lock of a dead process is free: the next process gets it, and `owner_died` is true. It is unlocked at
        // the end of the scope.
        const auto lock = cache_.lock_key(key);
        if (lock.owner_died()) counts_.add("inherited", 1);
        if (auto kept = cache_.get(key)) return *kept;  // another process was faster
        const std::string square = slow_square(number);
        cache_.set_for(key, square, life);
        counts_.add("computed", 1);
        return square;
    }

    // Lets the entry of a number expire soon, and waits until it is gone.
    void forget(int number) {
        const std::string key = std::to_string(number);
        claim(cache_.expire(key, 10ms), "the number is kept");
        auto version = cache_.version(key);
        while (version != 0) version = cache_.wait_key(key, version, life).value();
    }

    std::int64_t count(const char *what) { return counts_.add(what, 0); }

private:
    // Slow enough to be worth a cache. The first process to try the unlucky number is killed.
    std::string slow_square(int number) {
        long square = 0;
        for (int i = 0; i < number; ++i) square += number;
        if (number == unlucky && counts_.add("tried", 1) == 1) kill(getpid(), SIGKILL);
        return std::to_string(square);
    }

    shoal::map cache_ = shoal::map::anonymous();
    shoal::map counts_ = shoal::map::anonymous();
};

int main() try {
    squares shared;
    const auto work = [&] {
        for (int number = 0; number < numbers; ++number)
            claim(shared.of(number) == std::to_string(number * number), "a square is right");
        return 0;
    };
    std::vector<shoal::process> workers;
    for (int i = 0; i < 4; ++i) workers.push_back(shoal::process::fork(work));

    int killed = 0;
    for (auto &worker : workers) {
        const auto end = worker.join();
        claim(end.success() || end.signaled(), "a worker succeeds or is killed");
        if (end.signaled()) ++killed;
    }
    claim(killed == 1 && shared.count("inherited") == 1, "one was killed, and one told so");
    claim(shared.count("computed") == numbers, "each square was worked out once");
    std::cout << workers.size() << " workers wanted " << numbers << " squares each, and " << killed
              << " was killed\neach square was worked out once\n";

    shared.forget(7);
    claim(shared.of(7) == "49", "the square of 7 is 49");
    claim(shared.count("computed") == numbers + 1, "it was worked out again");
    std::cout << "the square of 7 was forgotten, and worked out again\n";
    return 0;
} catch (const std::exception &err) {
    std::cerr << "cache: " << err.what() << "\n";
    return 1;
}
