// Leases of devices in C++.

#include "check.hpp"

#include <cstdio>
#include <string>
#include <utility>
#include <vector>

using namespace std::chrono_literals;

int main() {
    watchdog();
    const std::vector<shoal::device::info> found = shoal::device::discover("cuda");
    CHECK(found.size() == 4 && found[3].index == 3 && found[3].memory == 24ull << 30);
    CHECK(found[0].utilisation == 15u && !found[0].logical);

    shoal::device::lease_options two;
    two.count = 2;
    two.order = "3,1";
    shoal::device::lease lease = shoal::device::lease::acquire(two);
    CHECK(lease.mask() == "3,1" && lease.devices()[0].logical == 3u);
    CHECK(lease.devices()[1].share == 1.0 && lease.devices()[1].id == found[1].id);
    CHECK(shoal::device::holders().size() == 1);
    CHECK(shoal::device::holders()[0].find(lease.id()) == 0);
    CHECK(lease.environment(1, 2)[0] == "CUDA_VISIBLE_DEVICES=1");
    CHECK(lease.fd() > 2);

    shoal::device::lease_options three;
    three.count = 3;
    CHECK(!shoal::device::lease::try_acquire(three));
    CHECK(!shoal::device::lease::try_acquire(three, 1ms));
    shoal::device::lease_options many;
    many.count = 99;
    THROWS(SHOAL_ERR_TOO_LARGE, shoal::device::lease::acquire(many));

    shoal::spawn_options options("sh");
    options.args({"-c", "test \"$CUDA_VISIBLE_DEVICES,$SHOAL_LEASE\" = 1,$0", lease.id()});
    shoal::process child = shoal::process::spawn(options.lease(lease, 1, 2));
    CHECK(child.join().code == 0);

    shoal::device::lease moved = std::move(lease);
    moved.keep_on_exec(false);
    moved = shoal::device::lease(nullptr);
    CHECK(shoal::device::lease::acquire(three).devices().size() == 3);
    std::puts("leases: ok");
}
