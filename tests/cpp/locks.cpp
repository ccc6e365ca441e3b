// Locks under the standard's guards, signal handlers, handles, and waits for many kinds of objects.

#include <poll.h>
#include <sys/time.h>
#include <sys/wait.h>

#include <array>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <shared_mutex>
#include <thread>

#include "check.hpp"

using namespace std::chrono_literals;
using clock_type = std::chrono::steady_clock;

template <class Guard, class Lock>
static void times_out(Lock &lock) {
    CHECK(!Guard(lock, std::try_to_lock) && !Guard(lock, 5ms));
    CHECK(!Guard(lock, clock_type::now() + 5ms) && !Guard(lock, clock_type::now() - 1h));
    CHECK(!Guard(lock, std::chrono::system_clock::now() + 5ms));
}

template <class Guard, class Lock>
static void is_taken_by(Lock &lock) {
    CHECK(Guard(lock, std::try_to_lock));
    CHECK(Guard(lock, 1h));
    CHECK(Guard(lock, clock_type::now() + 1h));
    CHECK(Guard(lock, clock_type::time_point::max()));
    Guard late(lock, std::defer_lock);
    CHECK(!late.owns_lock());
    late.lock();
    CHECK(late.owns_lock() && !lock.owner_died());
}

static void the_guards_of_the_standard_work() {
    auto one = shoal::mutex::anonymous(), other = shoal::mutex::anonymous();
    auto table = shoal::shared_mutex::anonymous();
    auto numbers = shoal::array<int>::anonymous(3);
    is_taken_by<std::unique_lock<shoal::mutex>>(one);
    is_taken_by<std::unique_lock<shoal::shared_mutex>>(table);
    is_taken_by<std::shared_lock<shoal::shared_mutex>>(table);
    is_taken_by<std::unique_lock<shoal::array<int>>>(numbers);
    {
        std::scoped_lock all(one, other, table, numbers);
        times_out<std::unique_lock<shoal::mutex>>(one);
        times_out<std::unique_lock<shoal::shared_mutex>>(table);
        times_out<std::shared_lock<shoal::shared_mutex>>(table);
        // The lock of an array is its thread's, by this object or another.
        auto same = shoal::array<int>::open(numbers.name());
        std::thread([&] { times_out<std::unique_lock<shoal::array<int>>>(same); }).join();
    }
    {
        std::shared_lock reads(table);
        times_out<std::unique_lock<shoal::shared_mutex>>(table);
        is_taken_by<std::shared_lock<shoal::shared_mutex>>(table);
    }
    // std::lock, and a condition variable of the standard, which needs no more than BasicLockable.
    std::lock(one, other);
    std::lock_guard first(one, std::adopt_lock), second(other, std::adopt_lock);
    std::condition_variable_any never;
    CHECK(never.wait_for(one, 1ms) == std::cv_status::timeout && !one.try_lock());
}

static void a_try_that_fails_leaves_the_flag_of_the_holder() {
    auto lock = shoal::mutex::anonymous();
    succeeds(shoal::process::fork([&] {
        lock.lock();
        return 0;
    }));
    std::unique_lock hold(lock);
    CHECK(lock.owner_died());
    std::thread([&] { CHECK(!lock.try_lock() && !lock.try_lock_for(1ms)); }).join();
    CHECK(lock.owner_died());
    hold.unlock();
    hold.lock();
    CHECK(!lock.owner_died());
}

static void a_condition_tells_that_the_owner_died_meanwhile() {
    auto lock = shoal::mutex::anonymous();
    auto changed = shoal::condition::anonymous();
    auto waiter = started([&](const checkpoint &point) {
        std::unique_lock hold(lock);
        CHECK(!lock.owner_died());
        point.reach();
        CHECK(changed.wait(hold) && lock.owner_died());
        lock.unlock();
        lock.lock();
        CHECK(!lock.owner_died() && !changed.wait(hold, 1ms) && !lock.owner_died());
    });
    succeeds(shoal::process::fork([&] {
        lock.lock();
        changed.notify();
        return 0;
    }));
    succeeds(std::move(waiter));
}

static void a_guard_does_not_own_what_a_wait_could_not_lock_again() {
    auto lock = shoal::mutex::anonymous();
    auto other = shoal::mutex::open(lock.name());
    auto changed = shoal::condition::anonymous();
    std::unique_lock hold(lock);
    std::thread ends([&] {
        other.lock();
        changed.notify();
        lock.end_waits();
    });
    THROWS(SHOAL_ERR_CLOSED, changed.wait(hold));
    ends.join();
    CHECK(!hold.owns_lock() && !lock.try_lock());
    other.unlock();

    // The waits through the condition are ended, and those through this handle of the lock are not: it is held
    // again.
    changed.end_waits();
    hold = std::unique_lock(other);
    THROWS(SHOAL_ERR_CLOSED, changed.wait(hold));
    CHECK(hold.owns_lock());
}

static void a_mutex_can_be_destroyed_while_a_thread_waits_with_it() {
    auto changed = shoal::condition::anonymous();
    auto lock = std::make_unique<shoal::mutex>(shoal::mutex::anonymous());
    std::thread waits([&changed, &lock = *lock] {
        std::unique_lock hold(lock);
        shoal_status status = SHOAL_OK;
        try {
            changed.wait(hold);
        } catch (const shoal::error &err) {
            status = err.status();
        }
        CHECK(status == SHOAL_ERR_CLOSED && !hold.owns_lock());
    });
    while (changed.stat().waiting == 0) std::this_thread::yield();
    lock.reset();
    waits.join();
    CHECK(changed.stat().waiting == 0);
}

/// A forked child leaves the scope of a guard, while this process waits inside it.
template <class Guard, class Lock>
static void stays_locked_when_a_child_leaves(Lock &lock, Lock &other) {
    pid_t child = 0;
    {
        const Guard hold(lock);
        child = ::fork();
        CHECK(child >= 0);
        if (child != 0) {
            int status = 1;
            CHECK(::waitpid(child, &status, 0) == child && status == 0);
            std::thread([&] { CHECK(!other.try_lock()); }).join();
        }
    }
    if (child == 0) ::_exit(0);
    CHECK(other.try_lock());
    other.unlock();
}

static void guards_of_the_parent_do_nothing_in_a_child() {
    auto plain = shoal::mutex::anonymous();
    auto same_plain = shoal::mutex::open(plain.name());
    stays_locked_when_a_child_leaves<std::lock_guard<shoal::mutex>>(plain, same_plain);
    shoal::mutex_options often;
    often.recursive = true;
    auto levels = shoal::mutex::anonymous(often);
    auto same_levels = shoal::mutex::open(levels.name());
    stays_locked_when_a_child_leaves<std::lock_guard<shoal::mutex>>(levels, same_levels);
    auto table = shoal::shared_mutex::anonymous();
    auto same_table = shoal::shared_mutex::open(table.name());
    stays_locked_when_a_child_leaves<std::unique_lock<shoal::shared_mutex>>(table, same_table);
    stays_locked_when_a_child_leaves<std::shared_lock<shoal::shared_mutex>>(table, same_table);
    auto numbers = shoal::array<int>::anonymous(3);
    auto same_numbers = shoal::array<int>::open(numbers.name());
    stays_locked_when_a_child_leaves<std::lock_guard<shoal::array<int>>>(numbers, same_numbers);
    // What this process itself does not have is still an error.
    THROWS(SHOAL_ERR_INVALID, table.unlock());
    THROWS(SHOAL_ERR_INVALID, table.unlock_shared());
}

/// A signal handler runs every few milliseconds.
class disturbance {
public:
    disturbance() {
        struct sigaction action {};
        action.sa_handler = [](int) {};
        CHECK(::sigaction(SIGALRM, &action, nullptr) == 0);
        itimerval every{{0, 3000}, {0, 3000}};
        CHECK(::setitimer(ITIMER_REAL, &every, nullptr) == 0);
    }
    ~disturbance() {
        itimerval never{};
        ::setitimer(ITIMER_REAL, &never, nullptr);
    }
};

static void a_signal_handler_ends_waits_but_no_lock() {
    auto lock = shoal::mutex::anonymous();
    auto table = shoal::shared_mutex::anonymous();
    auto map = shoal::map::anonymous();
    auto queue = shoal::queue::anonymous();
    auto owner = started([&](const checkpoint &point) {
        std::scoped_lock all(lock, table);
        const auto key = map.lock_key("k");
        point.reach();
        pause_for_ever();
    });
    const disturbance now;
    THROWS(SHOAL_ERR_INTERRUPTED, queue.get(60s));
    const auto began = clock_type::now();
    CHECK(!lock.try_lock_for(20ms) && !table.try_lock_shared_for(20ms));
    CHECK(!table.try_lock_for(20ms) && !map.try_lock_key("k", 20ms));
    CHECK(clock_type::now() - began >= 80ms);
    std::thread kills([&] {
        std::this_thread::sleep_for(30ms);
        owner.signal(SIGKILL);
    });
    lock.lock();
    table.lock();
    CHECK(lock.owner_died() && table.owner_died() && map.lock_key("k").owner_died());
    kills.join();
}

static void a_handle_is_lent_and_taken_over() {
    shoal_queue *raw = nullptr;
    CHECK(shoal_queue_open(nullptr, nullptr, &raw, nullptr) == SHOAL_OK);
    shoal::queue queue(raw);
    CHECK(queue.handle() == raw && !queue.created());
    CHECK(shoal_queue_put(queue.handle(), "x", 1, SHOAL_NOWAIT) == SHOAL_OK && queue.get() == "x");

    shoal_array_options options{};
    options.size = sizeof options;
    options.flags = SHOAL_CREATE;
    options.item_size = 4;
    options.count = 7;
    shoal_array *items = nullptr;
    CHECK(shoal_array_open(nullptr, &options, &items, nullptr) == SHOAL_OK);
    CHECK(shoal::array<std::uint32_t>(items).size() == 7);
    THROWS(SHOAL_ERR_INVALID, shoal::array<int>(nullptr));
    shoal::array_options typed;
    typed.format = "i";
    CHECK(shoal::array<int>::anonymous(1, typed).stat().format == std::string("i"));
    // A name is not cut at a NUL.
    try {
        static_cast<void>(shoal::queue::create(std::string_view("a\0b", 3)));
        CHECK(!"refused");
    } catch (const shoal::error &err) {
        CHECK(err.status() == SHOAL_ERR_INVALID);
    }
}

static void pipes_and_descriptors_are_waited_for() {
    auto jobs = shoal::queue::anonymous();
    auto [here, there] = shoal::pipe::pair();
    std::array<int, 2> ends{};
    CHECK(::pipe(ends.data()) == 0);
    const std::vector<shoal::waitable> things{jobs, here, shoal::waitable(ends[0])};
    CHECK(!shoal::try_wait_any(things, 1ms));
    CHECK(::write(ends[1], "!", 1) == 1 && shoal::wait_any(things) == 2);
    there.send("hello");
    CHECK(shoal::wait_any(things) == 1 && here.recv() == "hello");
    jobs.put("job");
    CHECK(shoal::wait_any(things) == 0 && jobs.get() == "job");
    const auto gone = std::move(jobs);
    // A moved-from object is not taken for a descriptor.
    THROWS(SHOAL_ERR_INVALID, shoal::try_wait_any({jobs}));
    ::close(ends[0]);
    ::close(ends[1]);
    THROWS(SHOAL_ERR_INVALID, shoal::try_wait_any({shoal::waitable(ends[0])}));
}

static void a_get_that_begins_again_keeps_its_deadline() {
    // Each message is too long for the first attempt, and usually gone at the second one.
    auto queue = shoal::queue::anonymous();
    auto thief = started([&](const checkpoint &point) {
        point.reach();
        for (;;) {
            queue.put(std::string(2000, 'x'));
            static_cast<void>(queue.try_get());
        }
    });
    const auto began = clock_type::now();
    for (int i = 0; i < 20; ++i) static_cast<void>(queue.try_get(2ms));
    CHECK(clock_type::now() - began < 30s);
    kill(std::move(thief));
    CHECK(shoal::until(clock_type::now() - 1s) == shoal::nowait);
    CHECK(shoal::until(clock_type::now() + 1h).nanoseconds() > 3500000000000);
}

int main() {
    watchdog();
    the_guards_of_the_standard_work();
    a_try_that_fails_leaves_the_flag_of_the_holder();
    a_condition_tells_that_the_owner_died_meanwhile();
    a_guard_does_not_own_what_a_wait_could_not_lock_again();
    a_mutex_can_be_destroyed_while_a_thread_waits_with_it();
    guards_of_the_parent_do_nothing_in_a_child();
    a_signal_handler_ends_waits_but_no_lock();
    a_handle_is_lent_and_taken_over();
    pipes_and_descriptors_are_waited_for();
    a_get_that_begins_again_keeps_its_deadline();
    std::cout << "locks: ok\n";
}
