// Supervised workers in C++.

#include "check.hpp"

#include <csignal>
#include <cstdio>
#include <cstring>

using namespace std::chrono_literals;

static shoal::spawn_options sh(const char *script) {
    shoal::spawn_options program("sh");
    program.args({"-c", script});
    return program;
}

// A time of zero is used, and is not the default.
static_assert(shoal::detail::given(0ms) == 1 && shoal::detail::given(2ns) == 2);

int main() {
    {
        shoal::spawn_options program = sh("test \"$CUDA_VISIBLE_DEVICES\" = $SHOAL_WORKER");
        program.devices("cuda", "0,1");
        shoal::supervisor two(shoal::workers(program, 2));
        CHECK(two.wait().success());
        CHECK(two.try_wait().has_value());
    }
    {
        shoal::workers description(sh("exit 3"), 1);
        description.restarts(shoal::restart::on_failure).max_restarts(2).backoff(1ms, 2ms);
        shoal::supervisor one(description);
        const shoal::outcome end = one.wait();
        CHECK(end.kind == SHOAL_OUTCOME_FAILED && end.worker == 0 && end.exit_code == 3);
        bool gave_up = false;
        while (const auto event = one.next_event())
            gave_up |= event->kind == SHOAL_WORKER_EVENT_GAVE_UP && std::strstr(event->text, "crash loop");
        CHECK(gave_up);
        CHECK(one.worker(0).restarts == 2);
    }
    {
        shoal::workers description(sh("exec sleep 600"), 2);
        shoal::supervisor two(description.grace(1s).keep_going().plain_output());
        CHECK(!two.try_wait(1ms));
        THROWS(SHOAL_ERR_INVALID, two.signal_worker(2, SIGKILL));
        // It is not SHOAL_EVERY_WORKER.
        THROWS(SHOAL_ERR_INVALID, two.signal_worker(SIZE_MAX, SIGKILL));
        THROWS(SHOAL_ERR_INVALID, two.worker(SIZE_MAX));
        two.signal_worker(1, SIGKILL);
        while (two.worker(1).state == SHOAL_WORKER_RUNNING) {}
        CHECK(two.worker(0).state == SHOAL_WORKER_RUNNING && two.worker(0).pid > 0);
        two.stop(5s);
        CHECK(two.wait().worker == 1);
    }
    {
        // The destructor stops them.
        shoal::workers description(sh("trap '' TERM; exec sleep 600"), 2);
        const shoal::supervisor two(description.grace(0ms));
    }
    std::puts("supervisor: ok");
}
