// Settings that worker processes watch. Each of them sleeps until the setting that it needs
// changes, and acts on it. None of them polls, and each wait has a deadline.
//
//     cargo build --release
//     c++ -std=c++17 -Iinclude -Ibindings/cpp examples/cpp/settings.cpp
//         target/release/libshoal.a -pthread -ldl -lm
//
// With the library installed, -lshoal replaces the last four arguments.

#include <chrono>
#include <cstdint>
#include <iostream>
#include <stdexcept>
#include <string>
#include <vector>

#include <shoal.hpp>

using namespace std::chrono_literals;

constexpr int count = 3;
constexpr auto deadline = 60s;

void claim(bool so, const char *what) {
    if (!so) throw std::runtime_error(std::string("false: ") + what);
}

int main() try {
    auto settings = shoal::map::anonymous();
    auto acted = shoal::map::anonymous();  // how often a level was acted on
    // All workers and this process: each change is seen before the next.
    auto taken = shoal::barrier::anonymous(count + 1);

    const auto work = [&] {
        // Version 0 is that of a missing key, so the first value is a change too.
        for (std::uint64_t seen = 0;;) {
            if (!settings.wait_key("level", seen, deadline))
                return 2;  // no change for a minute: the parent is gone
            // The key may have changed again since the wait: this is the version of the value read.
            const auto level = settings.get_versioned("level").value();
            seen = level.version;
            acted.add(level.value, 1);  // a real worker would act here
            taken.wait(deadline);
            if (level.value == "stop") return 0;
        }
    };
    std::vector<shoal::process> workers;
    for (int i = 0; i < count; ++i) workers.push_back(shoal::process::fork(work));

    for (const char *level : {"calm", "busy", "stop"}) {
        settings.set("colour", level);  // another setting; that ends no wait for the level
        settings.set("level", level);
        taken.wait(deadline);
        claim(acted.add(level, 0) == count, "each worker acted on it once");
        std::cout << "all " << count << " are " << level << "\n";
    }
    for (auto &worker : workers) claim(worker.join().success(), "a worker saw every change");

    // Without a change a wait ends at its deadline.
    claim(!settings.wait_key("level", settings.version("level"), 1ms), "it does not change");
    std::cout << "nobody changes it any more\n";
    return 0;
} catch (const std::exception &err) {
    std::cerr << "settings: " << err.what() << "\n";
    return 1;
}
