// The promises of the C++ headers beyond shoal.h.

#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <iostream>
#include <mutex>
#include <set>
#include <shared_mutex>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "check.hpp"

using namespace std::chrono_literals;
using namespace std::string_literals;

static_assert(!std::is_copy_constructible_v<shoal::queue>);
static_assert(!std::is_copy_assignable_v<shoal::map>);
static_assert(std::is_nothrow_move_constructible_v<shoal::process>);
static_assert(std::is_nothrow_move_assignable_v<shoal::queue>);

// A deadline that has passed does not wait forever.
static_assert(shoal::duration(-5s).nanoseconds() == 0);
static_assert(shoal::duration(1.5ms).nanoseconds() == 1500000);
static_assert(shoal::duration(std::chrono::hours::max()).nanoseconds() == INT64_MAX);
static_assert(shoal::forever.nanoseconds() == SHOAL_FOREVER);
static_assert(shoal::nowait.nanoseconds() == SHOAL_NOWAIT);

static void leases() {
    shoal::queue_options how;
    how.max_attempts = 3;
    auto queue = shoal::queue::anonymous(how);
    CHECK(queue.stat().max_attempts == 3 && !queue.try_lease() &&
          !queue.try_lease(shoal::forever, 1ms));
    THROWS(SHOAL_ERR_TIMEOUT, queue.lease(shoal::forever, shoal::nowait));
    THROWS(SHOAL_ERR_NOT_FOUND, queue.dead_letters().dead_letters());
    queue.put("job");
    queue.put("next");
    {
        auto job = queue.lease();
        auto moved = std::move(job);
        CHECK(job.data() == nullptr && moved.view() == "job" && moved.attempts() == 1);
        CHECK(queue.stat().leased == 1 && queue.stat().unfinished == 2 && queue.size() == 1);
        THROWS(SHOAL_ERR_TIMEOUT, queue.join(1ms));
        CHECK(!queue.try_join());
    }
    CHECK(queue.stat().leased == 0);
    {
        // Returned only when the other message is gone: its time may be over at once.
        auto job = queue.lease();
        queue.lease().ack();
        job.nack(1ms);
    }
    THROWS(SHOAL_ERR_INVALID, [&] {
        auto job = queue.lease(1h, 60s);
        CHECK(job.view() == "job" && job.attempts() == 3);
        job.extend(1us);
        while (queue.dead_letters().empty()) CHECK(!queue.try_lease(shoal::forever, 1ms));
        THROWS(SHOAL_ERR_EXPIRED, job.extend(1s));
        CHECK(job.view() == "job");
        THROWS(SHOAL_ERR_EXPIRED, job.ack());
        job.ack();
    }());
    CHECK(queue.dead_letters().get() == "job");
    queue.join();
    queue.put("last");
    queue.close();
    while (auto job = queue.next_lease()) job->ack();
    CHECK(queue.stat().unfinished == 0 && queue.try_join());
}

static void queues(const std::string &unused) {
    THROWS(SHOAL_ERR_NOT_FOUND, shoal::queue::open(unused));
    auto queue = shoal::queue::create(unused);
    auto same = shoal::queue::open(unused);
    CHECK(same.name() == unused && queue.created() && !same.created());
    CHECK(!shoal::queue::create(unused).created());
    shoal::queue_options fresh;
    fresh.exclusive = true;
    THROWS(SHOAL_ERR_EXISTS, shoal::queue::create(unused, fresh));
    THROWS(SHOAL_ERR_WRONG_KIND, shoal::map::create(unused));

    queue.put("text");
    queue.put("with\0NUL"s, 1s);
    queue.put(std::string(100000, 'x'));
    CHECK(queue.size() == 3 && queue.stat().bytes == 100012 && !queue.empty());
    CHECK(same.peek() == "text" && same.peek(2)->size() == 100000 && !same.peek(3));
    CHECK(same.get() == "text");
    CHECK(queue.stat().put == 3 && queue.stat().taken == 1);
    CHECK(same.try_get() == "with\0NUL"s);
    char small[4];
    THROWS(SHOAL_ERR_BUFFER_TOO_SMALL, same.get_into(small, sizeof small));
    CHECK(same.get(1s).size() == 100000);
    CHECK(!same.try_get() && !same.try_get(1ms));
    THROWS(SHOAL_ERR_TIMEOUT, same.get(shoal::nowait));
    THROWS(SHOAL_ERR_TIMEOUT, same.get(1ms));

    {
        auto first = queue.reserve(1000);
        auto moved = std::move(first);
        CHECK(first.data() == nullptr && moved.size() == 1000);
        auto dropped = queue.reserve(10, shoal::nowait);
        queue.put("before");
        CHECK(same.get() == "before");
        std::copy_n("in place", 8, moved.data());
        THROWS(SHOAL_ERR_TOO_LARGE, moved.commit(1001));
        moved.commit(8);
        THROWS(SHOAL_ERR_INVALID, moved.commit(8));
        CHECK(same.get() == "in place" && !same.try_get());
    }
    queue.reserve(3).discard();
    CHECK(!same.try_get());
    leases();

    const std::vector<std::string> batch = {"a", "", std::string(200000, 'b'), "c"};
    CHECK(queue.put_many(batch) == 4);
    std::vector<std::string> taken;
    while (taken.size() < 4)
        for (auto &message : same.get_many(3)) taken.push_back(message);
    CHECK(taken == batch);
    CHECK(queue.put_many({"d", "e"}) == 2 && same.get() == "d" && same.get() == "e");

    queue.put("last");
    queue.close();
    CHECK(same.stat().closed);
    THROWS(SHOAL_ERR_CLOSED, same.put("x"));
    THROWS(SHOAL_ERR_CLOSED, static_cast<void>(same.try_put("x")));
    CHECK(same.next() == "last");
    CHECK(!same.next());

    THROWS(SHOAL_ERR_WRONG_KIND, shoal::map::unlink(unused));
    shoal::queue::unlink(unused);
    THROWS(SHOAL_ERR_NOT_FOUND, shoal::queue::unlink(unused));
    THROWS(SHOAL_ERR_NOT_FOUND, shoal::unlink(unused));

    shoal::queue_options tiny;
    tiny.capacity = tiny.max_capacity = 4096;
    auto full = shoal::queue::anonymous(tiny);
    CHECK(full.stat().capacity == 4096 && full.stat().max_capacity == 4096);
    full.put(std::string(full.stat().max_message, 'x'));
    CHECK(!full.try_put("x") && !full.try_put("x", 1ms));
    THROWS(SHOAL_ERR_TIMEOUT, full.put("x", shoal::nowait));
    CHECK(full.put_many(std::vector<std::string>{"x"}, shoal::nowait) == 0);
    CHECK(!full.try_reserve(1));

    // A moved-from object has no handle.
    auto moved = std::move(full);
    CHECK(moved.size() == 1);
    THROWS(SHOAL_ERR_INVALID, full.size());
    full = std::move(moved);
    CHECK(full.size() == 1);
}

static void maps() {
    auto map = shoal::map::anonymous();
    auto same = shoal::map::open(map.name());
    map.set("k", "v");
    map.set("long", std::string(100000, 'x'));
    CHECK(same.get("k") == "v" && same.get("long")->size() == 100000 && !same.get("none"));
    CHECK(!same.insert("k", "other") && same.insert("empty", ""));
    CHECK(same.contains("empty") && same.get("empty") == "");
    CHECK(!map.compare_swap("empty", std::nullopt, "x"));
    CHECK(map.compare_swap("empty", "", "full"));
    CHECK(map.compare_swap("empty", "full", std::nullopt));
    CHECK(map.compare_swap("empty", std::nullopt, std::string_view()));
    CHECK(map.take("empty") == "" && !map.take("empty"));
    CHECK(map.remove("long") && !map.remove("long"));
    CHECK(map.add("n", 5) == 5 && map.add("n", -7) == -2);
    THROWS(SHOAL_ERR_INVALID, map.add("k", 1));
    CHECK(map.size() == 2);

    std::set<std::string> keys;
    for (const auto &[key, value] : map) {
        CHECK(keys.insert(std::string(key)).second);
        CHECK(value.size() == (key == "n" ? 8 : 1));
    }
    CHECK(keys == std::set<std::string>{"k", "n"});
    map.clear();
    CHECK(same.empty() && same.begin() == same.end());

    shoal::map_options how;
    how.ordered = how.compact = true;
    auto ordered = shoal::map::anonymous(how);
    CHECK(ordered.stat().ordered && !map.stat().ordered);
    CHECK(ordered.stat().compact && !map.stat().compact);
    std::string walked;
    for (const char *key : {"z", "a", "m", "z"}) ordered.set(key, key);
    for (const auto &[key, value] : ordered) walked += key;
    CHECK(walked == "zam");
}

static void keys() {
    using namespace std::chrono_literals;
    auto map = shoal::map::anonymous();
    CHECK(!map.get_versioned("k") && map.version("k") == 0);
    CHECK(!map.get_watched("w"));
    map.set("w", "old");
    const auto watched = map.get_watched("w");
    CHECK(watched->value == "old" && watched->is_current());
    map.set("w", "new");
    CHECK(!watched->is_current());
    map.remove("w");
    CHECK(map.compare_swap_version("k", 0, "one"));
    const auto one = map.get_versioned("k");
    CHECK(one && one->value == "one" && one->version == map.version("k"));
    CHECK(map.wait_key("k", 0) == one->version && !map.wait_key("k", one->version, 1ms));
    CHECK(!map.compare_swap_version("k", one->version + 1, std::nullopt));
    CHECK(map.compare_swap_version("k", one->version, std::nullopt));
    CHECK(map.add_f64("x", 1.5) == 1.5);
    const auto before = map.stat().changes;
    CHECK(!map.wait_change(before, shoal::nowait));
    map.set_for("t", "v", 1000s);
    CHECK(map.wait_change(before) > before);
    CHECK(map.expire("t", shoal::forever) && map.expire("t", 0s) && !map.expire("t", 1s));
    CHECK(map.purge() <= 1);  // changes of nearby keys may have removed it already
    {
        const auto lock = map.lock_key("k");
        CHECK(!lock.owner_died());
        THROWS(SHOAL_ERR_INVALID, map.lock_key("k"));
    }
    CHECK(map.try_lock_key("k"));
    {
        auto lock = map.lock_key("k"), moved = std::move(lock);
        CHECK(!map.try_lock_key("other")->owner_died());
        moved.unlock();
        CHECK(map.try_lock_key("k"));
        THROWS(SHOAL_ERR_INVALID, moved.unlock());
    }
    map.set("v", "in place");
    const auto view = map.view("v");
    map.remove("v");
    CHECK(view && view->value() == "in place" && view->version() > 0 && !map.view("v"));
}

static void pipes() {
    auto [here, there] = shoal::pipe::pair();
    CHECK(!here.poll());
    there.send("hello");
    const std::string large(100000, 'x');
    there.send(large);
    CHECK(here.poll(shoal::forever) && here.recv() == "hello" && here.recv() == large);
    THROWS(SHOAL_ERR_TIMEOUT, here.recv(shoal::nowait));
    CHECK(!here.try_recv() && !here.try_lease() && there.try_send("tried"));
    CHECK(here.try_recv() == "tried" && here.stat().receives && here.stat().len == 0);
    {
        auto room = there.reserve(100);
        auto other = there.reserve(100);
        other.discard();
        std::memcpy(room.data(), "in place", 8);
        room.commit(8);
        const auto lost = there.reserve(100);
    }
    {
        const auto given_back = here.lease();
        CHECK(given_back.view() == "in place" && given_back.attempts() == 1);
    }
    auto lease = here.lease();
    CHECK(lease.view() == "in place" && lease.attempts() == 2);
    lease.ack();
    CHECK(!here.poll());
    auto again = shoal::pipe::open(here.name(), shoal::pipe::end::second);
    {
        auto gone = std::move(there);
    }
    again.send("last");
    {
        auto gone = std::move(again);
    }
    CHECK(here.fd() > 2 && here.next() == "last" && !here.next());
    THROWS(SHOAL_ERR_CLOSED, here.send("?"));
    shoal::pipe_options one_way;
    one_way.simplex = true;
    auto [receiver, sender] = shoal::pipe::pair(one_way);
    THROWS(SHOAL_ERR_UNSUPPORTED, receiver.send("?"));
    THROWS(SHOAL_ERR_UNSUPPORTED, receiver.reserve(1));
    sender.send("one way");
    CHECK(receiver.recv() == "one way");
}

static void lists_and_arrays() {
    auto list = shoal::list::anonymous();
    auto same = shoal::list::open(list.name());
    list.append("b");
    list.insert(0, "a");
    list.extend(std::vector<std::string>{"d", "c"});
    CHECK(same.size() == 4 && same.get(-1) == "c" && !same.get(4));
    list.sort();
    CHECK(same.get(2) == "c" && same.get(3) == "d");
    list.reverse();
    list.swap(0, -1);
    CHECK(list.pop() == "d" && list.pop(0) == "a" && list.size() == 2);
    list.set(0, std::string(100000, 'x'));
    CHECK(same.get(0)->size() == 100000);
    THROWS(SHOAL_ERR_NOT_FOUND, list.set(9, "x"));
    CHECK(!list.compare_swap(1, "x", "y") && list.compare_swap(1, "b", ""));
    list.splice(0, 1, std::vector<std::string_view>{"1", "2"});
    CHECK(list.size() == 3 && list.get(2) == "");
    list.erase(0, 2);
    CHECK(list.size() == 1);
    list.clear();
    CHECK(list.empty() && !list.pop());

    auto samples = shoal::array<double>::anonymous(100);
    auto other = shoal::array<double>::open(samples.name());
    {
        std::scoped_lock hold(samples);
        samples[99] = 1.5;
        CHECK(!other.try_lock() && samples.try_lock() && !samples.owner_died());
        samples.unlock();
    }
    CHECK(other.size() == 100 && other[99] == 1.5 && *other.begin() == 0);
    THROWS(SHOAL_ERR_INVALID, shoal::array<int>::open(samples.name()));
    auto child = shoal::process::fork([&] {
        other.lock();
        return 0;
    });
    CHECK(child.join().success());
    CHECK(samples.try_lock() && samples.owner_died());
    samples.unlock();
}

// Each kind of object has only the options that apply to it.
template <class Options, class = void>
constexpr bool has_max_items = false;
template <class Options>
constexpr bool has_max_items<Options, std::void_t<decltype(Options::max_items)>> = true;
template <class Options, class = void>
constexpr bool has_max_attempts = false;
template <class Options>
constexpr bool has_max_attempts<Options, std::void_t<decltype(Options::max_attempts)>> = true;
template <class Options, class = void>
constexpr bool has_capacity = false;
template <class Options>
constexpr bool has_capacity<Options, std::void_t<decltype(Options::capacity)>> = true;
template <class Options, class = void>
constexpr bool has_ordered = false;
template <class Options>
constexpr bool has_ordered<Options, std::void_t<decltype(Options::ordered)>> = true;

static_assert(has_max_items<shoal::queue_options> && has_max_attempts<shoal::queue_options>);
static_assert(has_capacity<shoal::map_options> && has_ordered<shoal::map_options>);
static_assert(!has_max_items<shoal::map_options> && !has_max_attempts<shoal::list_options>);
static_assert(!has_max_items<shoal::mutex_options> && !has_capacity<shoal::sync_options>);
static_assert(!has_ordered<shoal::queue_options>);

#if __cplusplus >= 202002L
// Later standards allow designated initialisers for the options.
static_assert(shoal::queue_options{.max_items = 3}.max_items == 3);
static_assert(shoal::mutex_options{.recursive = true}.recursive);
#endif

static void primitives() {
    using namespace std::chrono_literals;
    auto lock = shoal::mutex::anonymous();
    {
        std::lock_guard hold(lock);
        std::unique_lock other(lock, std::defer_lock);
        CHECK(!lock.try_lock() && !lock.try_lock_for(1ms) && !lock.owner_died());
    }
    auto same = shoal::mutex::open(lock.name());
    auto child = shoal::process::fork([&] {
        same.lock();
        return 0;
    });
    CHECK(child.join().success());
    same.lock();
    CHECK(same.owner_died());
    same.unlock();
    THROWS(SHOAL_ERR_INVALID, same.unlock());
    shoal::mutex_options recursive;
    recursive.recursive = true;
    auto again = shoal::mutex::anonymous(recursive);
    std::scoped_lock twice(again);
    CHECK(again.try_lock());
    again.unlock();

    auto table = shoal::shared_mutex::anonymous();
    {
        std::shared_lock one(table), two(table);
        CHECK(!table.try_lock());
    }
    CHECK(table.try_lock());
    table.unlock();
    shoal::semaphore_options bounded;
    bounded.bounded = true;
    auto permits = shoal::semaphore::anonymous(1, bounded);
    permits.acquire();
    CHECK(!permits.try_acquire() && !permits.try_acquire(1ms) && permits.stat().value == 0);
    permits.release();
    THROWS(SHOAL_ERR_INVALID, permits.release());
    permits.acquire();
    CHECK(permits.stat().held == 1);
    permits.keep();
    CHECK(permits.stat().held == 0 && permits.stat().value == 0);
    permits.release();
    auto ready = shoal::event::anonymous();
    CHECK(!ready.wait(1ms) && !ready.is_set());
    ready.set();
    CHECK(ready.wait() && ready.is_set());
    ready.clear();
    auto changed = shoal::condition::anonymous();
    std::lock_guard hold(lock);
    changed.notify();
    changed.notify_all();
    CHECK(!changed.wait(lock, 1ms));
    auto start = shoal::barrier::anonymous(1);
    CHECK(start.wait() == 0 && !start.stat().broken);
    start.abort();
    THROWS(SHOAL_ERR_POISONED, start.wait());
    start.reset();
    CHECK(start.wait(1s) == 0);
}

static int returns_three() { return 3; }

static void processes() {
    int n = 40;
    auto child = shoal::process::fork([&] { return n + 2; });
    CHECK(child.pid() > 0 && child.fd() > 2);
    const auto end = child.join();
    CHECK(end.exited() && end.code == 42 && !end.success());
    auto thrown = shoal::process::fork([]() -> int { throw std::runtime_error("as it should"); });
    CHECK(thrown.join().code == 101);
    CHECK(shoal::process::fork(returns_three).join().code == 3);
    CHECK(shoal::process::fork(&returns_three).join().code == 3);
    CHECK(shoal::process::fork([] {}).join().success());
    const auto constant = [] { return 4; };
    CHECK(shoal::process::fork(constant).join().code == 4);

    shoal::spawn_options options("sh");
    options.args({"-c", "cat; echo $A$B >&2"}).env("A", "1").env("B", "2").env_remove("B");
    options.in(shoal::stdio::pipe()).out(shoal::stdio::null()).err(shoal::stdio::pipe());
    auto shell = shoal::process::spawn(options);
    CHECK(!shell.try_join());
    const int err = shell.take_stderr();
    THROWS(SHOAL_ERR_NOT_FOUND, shell.take_stderr());
    THROWS(SHOAL_ERR_NOT_FOUND, shell.take_stdout());
    CHECK(::close(shell.take_stdin()) == 0);
    char text[8];
    CHECK(::read(err, text, sizeof text) == 2 && text[0] == '1');
    ::close(err);
    CHECK(shell.join(60s).success());

    shoal::spawn_options sleep("sleep");
    sleep.arg("600").new_group().die_with_parent();
    auto sleeper = shoal::process::spawn(sleep);
    THROWS(SHOAL_ERR_TIMEOUT, sleeper.join(1ms));
    sleeper.signal_group(SIGTERM);
    CHECK(sleeper.join().signaled() && sleeper.join().code == SIGTERM);
    THROWS(SHOAL_ERR_NOT_FOUND, shoal::process::spawn(shoal::spawn_options("no-such-program")));
    shoal::spawn_options clean("/bin/sh");
    clean.args({"-c", "test -z \"$HOME\""}).env_clear().cwd("/");
    CHECK(shoal::process::spawn(clean).join().success());
}

static bool readable(int fd, int wait_ms) {
    pollfd polled{fd, POLLIN, 0};
    return ::poll(&polled, 1, wait_ms) == 1;
}

static void waiting() {
    auto jobs = shoal::queue::anonymous(), stop = shoal::queue::anonymous();
    CHECK(jobs.fd() > 2 && jobs.fd() != stop.fd() && !readable(jobs.fd(), 0));
    CHECK(!shoal::try_wait_any({jobs, stop}));
    CHECK(!shoal::try_wait_any({jobs, stop}, 1ms));
    THROWS(SHOAL_ERR_TIMEOUT, shoal::wait_any({stop, jobs}, 1ms));
    THROWS(SHOAL_ERR_INVALID, shoal::wait_any(std::vector<shoal::waitable>{}));

    auto child = shoal::process::fork([&] {
        jobs.put("a job");
        return 0;
    });
    CHECK(shoal::wait_any({stop, jobs}) == 1);
    CHECK(readable(jobs.fd(), -1) && jobs.try_get() == "a job" && !readable(jobs.fd(), 0));
    const std::vector<shoal::waitable> things{stop, jobs, child};
    CHECK(shoal::wait_any(things, 60s) == 2 && shoal::try_wait_any(things) == 2u);
    CHECK(child.join(shoal::nowait).success());
    stop.close();
    CHECK(readable(stop.fd(), -1) && shoal::wait_any({jobs, stop}) == 1);
    const auto moved = std::move(stop);
    THROWS(SHOAL_ERR_INVALID, shoal::wait_any({moved, stop}, shoal::nowait));
    THROWS(SHOAL_ERR_INVALID, stop.fd());
}

static void waits_that_are_ended() {
    auto jobs = shoal::queue::anonymous();
    shoal_status status = SHOAL_OK;
    std::thread consumer([&] {
        try {
            static_cast<void>(jobs.get());
        } catch (const shoal::error &err) {
            status = err.status();
        }
    });
    std::this_thread::sleep_for(30ms);
    jobs.end_waits();
    consumer.join();
    CHECK(status == SHOAL_ERR_CLOSED);
    auto event = shoal::event::anonymous();
    event.end_waits();
    THROWS(SHOAL_ERR_CLOSED, event.wait());
    const auto moved = std::move(jobs);
    THROWS(SHOAL_ERR_INVALID, jobs.end_waits());
}

static void devices() {
    namespace device = shoal::device;
    CHECK(device::families().size() > 5 && device::families()[0] == "cuda");
    CHECK(device::variable("cuda") == "CUDA_VISIBLE_DEVICES");
    CHECK(device::resolve("cuda", "2,3", "1") == "3");
    THROWS(SHOAL_ERR_INVALID, device::resolve("cuda", "", "0"));
    CHECK(!device::set_visible("cuda", "0,3"));
    CHECK(device::visible("cuda") == "0,3");
    CHECK(device::resolve("cuda", std::nullopt, "1") == "3");
}

int main(int argc, char **argv) {
    CHECK(argc == 2);  // a name that is not in use
    CHECK(shoal::version() == shoal_version());
    queues(argv[1]);
    maps();
    keys();
    pipes();
    lists_and_arrays();
    primitives();
    processes();
    waiting();
    waits_that_are_ended();
    devices();
    std::cout << "wrapper: ok\n";
}
