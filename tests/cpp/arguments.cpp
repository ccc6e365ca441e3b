// Arguments that mean what they say, or are refused; and objects that were moved from.

#include <fcntl.h>

#include <climits>

#include "check.hpp"

using namespace std::chrono_literals;

static void a_descriptor_that_is_not_open_is_no_other_stream() {
    for (const int fd : {::open("/no/such/file", O_RDONLY), -2, -3, INT_MAX, INT_MIN}) {
        shoal::spawn_options cat("cat");
        THROWS(SHOAL_ERR_INVALID, shoal::process::spawn(cat.in(shoal::stdio::fd(fd))));
        const std::string said = shoal_last_error();
        CHECK(fd == INT_MIN || said.find(std::to_string(fd)) != std::string::npos);
    }
    static_assert(shoal::stdio::fd(-1).code() != shoal::stdio::inherit().code());
}

int main() {
    watchdog();
    a_descriptor_that_is_not_open_is_no_other_stream();
    std::cout << "arguments: ok\n";
}
