// The part of the program no_exceptions.cpp that has exceptions.

#include <shoal.hpp>

bool an_error_is_caught_elsewhere(const std::string &closed_queue);

bool an_error_is_caught_elsewhere(const std::string &closed_queue) {
    auto queue = shoal::queue::open(closed_queue);
    try {
        queue.put("x");
    } catch (const shoal::error &err) {
        return err.status() == SHOAL_ERR_CLOSED;
    }
    return false;
}
