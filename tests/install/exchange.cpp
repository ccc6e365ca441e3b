// A message goes through a queue, and data that a lock guards is changed by two threads.

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

    auto lock = shoal::mutex::anonymous();
    int guarded = 0;
    auto add = [&] {
        for (int i = 0; i < 1000; i++) {
            std::lock_guard<shoal::mutex> guard(lock);
            guarded++;
        }
    };
    std::thread thread(add);
    add();
    thread.join();
    std::cout << job << ", " << guarded << "\n";
}
