// A pool of worker processes: jobs go in by one queue, results come back in a map.
//
//     cargo build --release
//     c++ -std=c++17 -Iinclude -Ibindings/cpp examples/cpp/workers.cpp
//         target/release/libshoal.a -pthread -ldl -lm
//
// With the library installed, -lshoal replaces the last four arguments.

#include <chrono>
#include <iostream>
#include <string>
#include <vector>

#include <shoal.hpp>

using namespace std::chrono_literals;

int main() try {
    // Each has a unique name. shoal::queue::create("jobs") makes one that any program can open.
    auto jobs = shoal::queue::anonymous();
    auto results = shoal::map::anonymous();

    // Runs in each child. The objects of the parent work there too.
    const auto work = [&] {
        // Until the queue is closed and drained. If a worker dies, another one gets its job.
        while (auto job = jobs.next_lease()) {
            const auto word = job->view();
            results.set(word, std::string(word.rbegin(), word.rend()));
            results.add("done", 1);
            job->ack();
        }
        return 0;
    };
    std::vector<shoal::process> workers;
    for (int i = 0; i < 3; ++i) workers.push_back(shoal::process::fork(work));

    for (const char *job : {"queue", "map", "process", "device"}) jobs.put(job, 10s);
    jobs.close();

    for (auto &worker : workers)
        if (!worker.join().success()) throw std::runtime_error("a worker failed");

    for (const char *job : {"queue", "map", "process", "device"})
        std::cout << job << " backwards is " << results.get(job).value_or("missing") << "\n";
    std::cout << results.add("done", 0) << " jobs done\n";
    return 0;
} catch (const std::exception &err) {
    std::cerr << "workers: " << err.what() << "\n";
    return 1;
}
