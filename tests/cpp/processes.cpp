// Waits in one process that another process ends, or does not end: changes, kills, deadlines.

#include <sys/syscall.h>

#include <mutex>
#include <optional>
#include <shared_mutex>
#include <thread>
#include <vector>

#include "check.hpp"

using namespace std::chrono_literals;

static pid_t this_thread() { return static_cast<pid_t>(::syscall(SYS_gettid)); }

static void a_wait_for_a_key_ends_when_another_process_changes_it() {
    auto map = shoal::map::anonymous();
    map.set("k", "old");
    const auto wait_for = [&](std::string_view key) {
        const auto seen = map.version(key);
        return sleeping([&, seen](const checkpoint &point) {
            point.reach();
            const auto now = map.wait_key(key, seen);
            CHECK(now && *now != seen && *now == map.version(key));
        });
    };
    auto changed = wait_for("k");
    map.set("other", "v");
    CHECK(!changed.try_join(10ms));
    map.set("k", "new");
    succeeds(std::move(changed));
    auto removed = wait_for("k");
    CHECK(map.remove("k"));
    succeeds(std::move(removed));
    auto appears = wait_for("not yet");
    map.set_many({{"x", "v"}, {"not yet", "v"}});
    succeeds(std::move(appears));

    // An expired key counts as removed.
    map.set_for("brief", "v", 1000s);
    auto expires = sleeping([&](const checkpoint &point) {
        point.reach();
        while (const auto seen = map.version("brief")) CHECK(map.wait_key("brief", seen));
    });
    map.expire("brief", 20ms);
    succeeds(std::move(expires));
    CHECK(!map.contains("brief"));
}

static void a_wait_for_any_key_ends_when_another_process_changes_one() {
    auto map = shoal::map::anonymous();
    const auto seen = map.stat().changes;
    auto waiter = sleeping([&](const checkpoint &point) {
        point.reach();
        const auto now = map.wait_change(seen);
        CHECK(now && *now > seen && map.get("any") == "v");
    });
    CHECK(!waiter.try_join(10ms));
    map.set("any", "v");
    succeeds(std::move(waiter));
}

static void a_wait_ends_when_another_thread_changes_the_key() {
    auto map = shoal::map::anonymous();
    const pid_t waiter = this_thread();
    std::thread changes([&] {
        until_asleep(waiter);
        map.set("k", "v");
    });
    const auto now = map.wait_key("k", 0);
    changes.join();
    CHECK(now && *now == map.version("k"));
    const auto before = map.stat().changes;
    std::thread removes([&] {
        until_asleep(waiter);
        map.remove("k");
    });
    CHECK(map.wait_change(before) > before);
    removes.join();
}

static void a_deadline_runs_out_whatever_else_changes() {
    auto map = shoal::map::anonymous();
    map.set("k", "v");
    const auto seen = map.version("k");
    CHECK(!map.wait_change(map.stat().changes, 20ms) && !map.wait_key("k", seen, 20ms));
    auto busy = started([&](const checkpoint &point) {
        point.reach();
        for (;;) map.add("n", 1);
    });
    CHECK(!map.wait_key("k", seen, 50ms) && !map.wait_key("none", 0, 50ms));
    kill(std::move(busy));
    CHECK(map.version("k") == seen && map.get("k") == "v");
}

static void a_view_ends_with_its_holder() {
    shoal::map_options how;
    how.capacity = how.max_capacity = 8 << 20;
    auto map = shoal::map::anonymous(how);
    const std::string large(3 << 20, 'x');
    map.set("k", large);
    constexpr int dozen = 12;
    auto holder = started([&](const checkpoint &point) {
        std::vector<shoal::map::value_view> views;
        for (int i = 0; i < dozen; ++i) views.push_back(std::move(*map.view("k")));
        CHECK(views[0].value() == large);
        point.reach();
        pause_for_ever();
    });
    // No more views fit, and no more values while the old one stays.
    THROWS(SHOAL_ERR_EXHAUSTED, map.view("k"));
    map.set("k", large);
    THROWS(SHOAL_ERR_NO_SPACE, map.set("k", large));
    kill(std::move(holder));
    map.set("k", large);
    {
        std::vector<shoal::map::value_view> views;
        for (int i = 0; i < dozen; ++i) views.push_back(std::move(*map.view("k")));
        CHECK(views[dozen - 1].value() == large);
        THROWS(SHOAL_ERR_EXHAUSTED, map.view("k"));
    }
    for (int i = 0; i < 5; ++i) map.set("k", large);
}

static void a_key_lock_says_that_its_owner_was_killed() {
    auto map = shoal::map::anonymous();
    auto owner = started([&](const checkpoint &point) {
        const auto lock = map.lock_key("k");
        CHECK(!lock.owner_died());
        point.reach();
        pause_for_ever();
    });
    CHECK(!map.try_lock_key("k", 1ms) && map.try_lock_key("other"));
    auto waiter = sleeping([&](const checkpoint &point) {
        point.reach();
        const auto lock = map.lock_key("k");
        CHECK(lock.owner_died());
    });
    kill(std::move(owner));
    succeeds(std::move(waiter));
    // The waiter unlocked it, and left no incomplete change.
    CHECK(!map.lock_key("k").owner_died());
}

static void a_notified_condition_wakes_one_of_its_waiters() {
    auto lock = shoal::mutex::anonymous();
    auto changed = shoal::condition::anonymous();
    auto woken = shoal::semaphore::anonymous(0);
    const auto waits = [&](const checkpoint &point) {
        std::unique_lock hold(lock);
        point.reach();
        CHECK(changed.wait(lock) && !lock.try_lock());
        woken.release();
    };
    std::vector<shoal::process> waiters;
    for (int i = 0; i < 3; ++i) waiters.push_back(started(waits));
    while (changed.stat().waiting < 3) std::this_thread::yield();
    {
        std::lock_guard hold(lock);
        changed.notify();
        CHECK(changed.stat().waiting == 2);
        // No waiter continues before the lock is free.
        CHECK(!woken.try_acquire(10ms));
    }
    woken.acquire();
    CHECK(!woken.try_acquire(10ms) && changed.stat().waiting == 2);
    changed.notify_all();
    for (auto &waiter : waiters) succeeds(std::move(waiter));
}

static void a_barrier_opens_for_two_processes() {
    auto start = shoal::barrier::anonymous(2);
    CHECK(start.stat().parties == 2 && start.stat().waiting == 0);
    for (int round = 0; round < 3; ++round) {
        auto other = sleeping([&](const checkpoint &point) {
            point.reach();
            CHECK(start.wait() == 0);
        });
        CHECK(!other.try_join() && start.stat().waiting == 1);
        CHECK(start.wait() == 1);
        succeeds(std::move(other));
    }
}

static void a_barrier_breaks_when_a_waiting_process_is_killed() {
    auto start = shoal::barrier::anonymous(3);
    const auto waits = [&](const checkpoint &point) {
        point.reach();
        THROWS(SHOAL_ERR_POISONED, start.wait());
    };
    auto victim = sleeping(waits), survivor = sleeping(waits);
    while (start.stat().waiting < 2) std::this_thread::yield();
    kill(std::move(victim));
    succeeds(std::move(survivor));
    CHECK(start.stat().broken);
    THROWS(SHOAL_ERR_POISONED, start.wait());
    start.reset();
    CHECK(!start.stat().broken && start.stat().waiting == 0);
    THROWS(SHOAL_ERR_POISONED, start.wait(1ms));
    CHECK(start.stat().broken);
}

static void a_lock_says_that_its_owner_was_killed() {
    auto lock = shoal::mutex::anonymous();
    auto owner = started([&](const checkpoint &point) {
        lock.lock();
        point.reach();
        pause_for_ever();
    });
    auto waiter = sleeping([&](const checkpoint &point) {
        point.reach();
        std::lock_guard hold(lock);
        CHECK(lock.owner_died());
    });
    kill(std::move(owner));
    succeeds(std::move(waiter));
    CHECK(lock.try_lock() && !lock.owner_died());
    lock.unlock();
}

static void a_shared_lock_says_that_a_writer_was_killed() {
    auto table = shoal::shared_mutex::anonymous();
    auto writer = started([&](const checkpoint &point) {
        table.lock();
        point.reach();
        pause_for_ever();
    });
    CHECK(!table.try_lock() && !table.try_lock_shared());
    kill(std::move(writer));
    {
        // owner_died() is true for all readers until the next writer.
        std::shared_lock one(table), two(table);
        CHECK(table.owner_died());
    }
    table.lock();
    CHECK(table.owner_died());
    table.unlock();
    table.lock_shared();
    CHECK(!table.owner_died());
    table.unlock_shared();

    // A reader leaves no incomplete change.
    auto reader = started([&](const checkpoint &point) {
        table.lock_shared();
        point.reach();
        pause_for_ever();
    });
    CHECK(!table.try_lock());
    kill(std::move(reader));
    table.lock();
    CHECK(!table.owner_died());
    table.unlock();
}

static void the_permits_of_the_dead_return() {
    shoal::semaphore_options bounded;
    bounded.bounded = true;
    auto permits = shoal::semaphore::anonymous(3, bounded);
    auto holder = started([&](const checkpoint &point) {
        for (int i = 0; i < 3; ++i) permits.acquire();
        point.reach();
        pause_for_ever();
    });
    CHECK(!permits.try_acquire() && permits.stat().value == 0);
    auto waiter = sleeping([&](const checkpoint &point) {
        point.reach();
        permits.acquire();
        permits.release();
    });
    kill(std::move(holder));
    succeeds(std::move(waiter));
    for (int i = 0; i < 3; ++i) CHECK(permits.try_acquire());
    CHECK(!permits.try_acquire() && permits.stat().value == 0);
    permits.release(3);
    THROWS(SHOAL_ERR_INVALID, permits.release());
}

static void an_event_wakes_all_processes_that_wait() {
    auto ready = shoal::event::anonymous();
    const auto waits = [&](const checkpoint &point) {
        point.reach();
        CHECK(ready.wait() && ready.is_set());
    };
    auto one = sleeping(waits), two = sleeping(waits);
    CHECK(!one.try_join(10ms) && !two.try_join());
    ready.set();
    succeeds(std::move(one));
    succeeds(std::move(two));
    // It stays set until it is cleared.
    succeeds(started(waits));
    ready.clear();
    CHECK(!ready.wait(1ms));
}

static void a_pipe_ends_when_the_other_side_is_killed() {
    auto ends = shoal::pipe::pair();
    auto here = std::move(ends.first);
    std::optional<shoal::pipe> there(std::move(ends.second));
    auto side = started([&](const checkpoint &point) {
        {
            const auto gone = std::move(here);
        }
        there->send("from here");
        there->send("last");
        point.reach();
        pause_for_ever();
    });
    there.reset();
    char memory[9];
    CHECK(here.recv_into(memory, sizeof memory) == 9);
    CHECK(std::string_view(memory, sizeof memory) == "from here");
    here.send("you live");

    // It dies after it has sent, while this side sleeps.
    const pid_t waiter = this_thread();
    CHECK(here.next() == "last");
    std::thread kills([&] {
        until_asleep(waiter);
        side.signal(SIGKILL);
    });
    const auto end = here.next();
    kills.join();
    CHECK(!end && side.join().signaled());
    CHECK(here.poll(shoal::forever) && !here.next());
    THROWS(SHOAL_ERR_CLOSED, here.recv_into(memory, sizeof memory));
    THROWS(SHOAL_ERR_CLOSED, here.recv());
    THROWS(SHOAL_ERR_CLOSED, here.send("?"));
}

int main() {
    watchdog();
    a_wait_for_a_key_ends_when_another_process_changes_it();
    a_wait_for_any_key_ends_when_another_process_changes_one();
    a_wait_ends_when_another_thread_changes_the_key();
    a_deadline_runs_out_whatever_else_changes();
    a_view_ends_with_its_holder();
    a_key_lock_says_that_its_owner_was_killed();
    a_notified_condition_wakes_one_of_its_waiters();
    a_barrier_opens_for_two_processes();
    a_barrier_breaks_when_a_waiting_process_is_killed();
    a_lock_says_that_its_owner_was_killed();
    a_shared_lock_says_that_a_writer_was_killed();
    the_permits_of_the_dead_return();
    an_event_wakes_all_processes_that_wait();
    a_pipe_ends_when_the_other_side_is_killed();
    std::cout << "processes: ok\n";
}
