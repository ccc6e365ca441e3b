// One of several processes, in any language, that share a queue and a map.
//
//     peer <queue-in> <queue-out> <map> <who> <count>
//
// puts `count` messages "<who>:<i>" into the one queue, takes `count` messages from the other,
// and for each adds one to the counter "from:<sender>" of the map.

#include <iostream>
#include <string>

#include "shoal.hpp"

int main(int argc, char **argv) try {
    if (argc != 6) {
        std::cerr << "usage: peer <queue-in> <queue-out> <map> <who> <count>\n";
        return 2;
    }
    auto in = shoal::queue::open(argv[1]);
    auto out = shoal::queue::open(argv[2]);
    auto map = shoal::map::open(argv[3]);
    const std::string who = argv[4];
    const long count = std::stol(argv[5]);

    for (long i = 0; i < count; ++i) out.put(who + ":" + std::to_string(i));
    for (long i = 0; i < count; ++i) {
        const std::string message = in.get();
        map.add("from:" + message.substr(0, message.find(':')), 1);
    }
    std::cout << who << " (C++) put " << count << " messages and took " << count << "\n";
    return 0;
} catch (const std::exception &err) {
    std::cerr << "peer: " << err.what() << "\n";
    return 1;
}
