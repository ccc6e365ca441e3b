// Counters that several processes add to at once, while one of them is killed. No addition whose
// call had returned is lost; at most the one that the kill interrupted is counted as well.
//
//     cargo build --release
//     c++ -std=c++17 -Iinclude -Ibindings/cpp examples/cpp/counters.cpp
//         target/release/libshoal.a -pthread -ldl -lm
//
// With the library installed, -lshoal replaces the last four arguments.

#include <csignal>
#include <cstdint>
#include <iostream>
#include <stdexcept>
#include <string>
#include <vector>

#include <shoal.hpp>

constexpr int count = 4;
constexpr int rounds = 30000;
constexpr const char *colours[] = {"red", "green", "blue"};

void claim(bool so, const char *what) {
    if (!so) throw std::runtime_error(std::string("false: ") + what);
}

int main() try {
    auto counters = shoal::map::anonymous();
    // The calls of each worker that returned.
    auto added = shoal::array<std::int64_t>::anonymous(count);
    auto midway = shoal::event::anonymous();

    // The first continues until it is killed; the others stop by themselves.
    const auto work = [&](int me) {
        volatile std::int64_t &mine = added[me];
        for (int round = 0; me == 0 || round < rounds; ++round) {
            for (const char *colour : colours) {
                counters.add(colour, 1);
                mine = mine + 1;
            }
            if (me == 0 && round == rounds / 2) midway.set();
        }
        return 0;
    };
    std::vector<shoal::process> workers;
    for (int me = 0; me < count; ++me)
        workers.push_back(shoal::process::fork([&] { return work(me); }));

    midway.wait();
    workers[0].signal(SIGKILL);  // at any instruction
    std::int64_t known = 0, counted = 0;
    for (auto &worker : workers) {
        const auto end = worker.join();
        if (&worker == &workers[0])
            claim(end.signaled() && end.code == SIGKILL, "the first was killed");
        else
            claim(end.success(), "the others came to their end");
    }
    for (std::int64_t each : added) known += each;
    for (const char *colour : colours) {
        const std::int64_t sum = counters.add(colour, 0);
        claim(sum > std::int64_t{count - 1} * rounds, "every worker added to every counter");
        counted += sum;
    }
    std::cout << "the workers know of " << known << " additions, the counters of " << counted
              << "\n";
    claim(counted == known || counted == known + 1, "no addition is missing, or was made up");
    std::cout << "one worker was killed, and no addition is missing\n";
    return 0;
} catch (const std::exception &err) {
    std::cerr << "counters: " << err.what() << "\n";
    return 1;
}
