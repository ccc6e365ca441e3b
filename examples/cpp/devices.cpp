// Gives each child one of the devices that this process sees, and prints what the child sees.
//
//     devices [family]          such as CUDA_VISIBLE_DEVICES=2,3 devices cuda

#include <unistd.h>

#include <iostream>
#include <string>

#include <shoal.hpp>

/// Reads until the end of the descriptor's data and closes it.
static std::string read_all(int fd) {
    std::string text;
    char buffer[4096];
    for (ssize_t n; (n = ::read(fd, buffer, sizeof buffer)) > 0;) text.append(buffer, n);
    ::close(fd);
    return text;
}

int main(int argc, char **argv) try {
    const std::string family = argc > 1 ? argv[1] : "cuda";
    const std::string variable = shoal::device::variable(family);
    std::cout << "this process sees: " << shoal::device::visible(family) << "\n";

    for (const char *mask : {"0", "1", ""}) {
        shoal::spawn_options child("sh");
        child.args({"-c", "echo \"$" + variable + "\""}).devices(family, mask);
        child.out(shoal::stdio::pipe());
        auto process = shoal::process::spawn(child);
        std::cout << "given \"" << mask << "\" a child has " << variable << "="
                  << read_all(process.take_stdout());
        if (!process.join().success()) throw std::runtime_error("a child failed");
    }
    return 0;
} catch (const shoal::error &err) {
    // For example a device that does not exist.
    std::cerr << "devices: " << err.what() << " (" << shoal_status_name(err.status()) << ")\n";
    return 1;
} catch (const std::exception &err) {
    std::cerr << "devices: " << err.what() << "\n";
    return 1;
}
