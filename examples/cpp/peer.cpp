// One of several processes, in any language, that share a queue and a map.
//
//     peer <queue-in> <queue-out> <map> <name> <count>
//
// puts `count` messages "<name>:<i>" into the second queue, gets `count` messages from the first,
// and for each of them adds one to the counter "from:<sender>" of the map.

#include <iostream>
#include <string>

#include <shoal.hpp>

int main(int argc, char **argv) try {
    if (argc != 6) {
        std::cerr << "usage: peer <queue-in> <queue-out> <map> <name> <count>\n";
        return 2;
    }
    auto in = shoal::queue::open(argv[1]);
    auto out = shoal::queue::open(argv[2]);
    auto map = shoal::map::open(argv[3]);
    const std::string name = argv[4];
    const long count = std::stol(argv[5]);

    for (long i = 0; i < count; ++i) out.put(name + ":" + std::to_string(i));
    for (long i = 0; i < count; ++i) {
        const std::string message = in.get();
        map.add("from:" + message.substr(0, message.find(':')), 1);
    }
    std::cout << name << " (C++) put " << count << " messages and took " << count << "\n";
    return 0;
} catch (const std::exception &err) {
    std::cerr << "peer: " << err.what() << "\n";
    return 1;
}
