// Puts a message into a queue that all languages share, and gets one.
//
//     c++ -std=c++17 exchange.cpp $(pkg-config --cflags --libs shoal) -o exchange
//     ./exchange [NAME]

#include <iostream>

#include <shoal.hpp>

int main(int argc, char **argv) try {
    auto queue = shoal::queue::create(argc > 1 ? argv[1] : "jobs");
    queue.put("hello from C++");
    std::cout << "C++ got: " << queue.get() << "\n";
} catch (const shoal::error &err) {
    std::cerr << err.what() << "\n";
    return 1;
}
