// Two threads exchange data through each object that holds data, and change data that a lock guards.

#include <iostream>
#include <mutex>
#include <string>
#include <thread>

#include <shoal.hpp>

int main()
{
    auto queue = shoal::queue::anonymous();
    queue.put("resize 17.png");
    std::string job = queue.get();

    auto map = shoal::map::anonymous();
    auto list = shoal::list::anonymous();
    auto lock = shoal::mutex::anonymous();
    auto ends = shoal::pipe::pair();
    int guarded = 0;
    auto add = [&] {
        for (int i = 0; i < 1000; i++) {
            std::lock_guard<shoal::mutex> guard(lock);
            guarded++;
        }
    };
    // Long enough that the compiler copies it by a call.
    const std::string value(100, 'v');
    std::thread thread([&] {
        for (int i = 0; i < 100; i++) {
            map.set("key", value);
            list.append(value);
            queue.put(value);
            ends.second.send(value);
        }
        add();
    });
    for (int i = 0; i < 100; i++) {
        if (queue.get() != value || ends.first.recv() != value || map.get("key") != value ||
            map.get_watched("key")->value != value)
            return 1;
        for (const std::string &element : list)
            if (element != value) return 1;
    }
    add();
    thread.join();
    std::cout << job << ", " << guarded << "\n";
}
