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

static void any_number_of_messages_is_asked_for() {
    auto queue = shoal::queue::anonymous();
    CHECK(queue.put_many({"a", "b", std::string_view()}) == 3);
    CHECK(queue.get_many(SIZE_MAX) == std::vector<std::string>({"a", "b", ""}));
    CHECK(queue.get_many(0, shoal::nowait).empty());
}

/// Whether it fails with SHOAL_ERR_INVALID in C++, before the library is called, and says this.
template <class Call>
static bool is_refused(const char *why, Call call) {
    try {
        call();
    } catch (const shoal::error &err) {
        return err.status() == SHOAL_ERR_INVALID &&
               std::string(err.what()).find(why) != std::string::npos;
    }
    return false;
}

static void a_zero_is_not_replaced_by_a_default() {
    const shoal::spawn_options program("true");
    CHECK(is_refused("max_restarts", [&] { shoal::workers(program, 1).max_restarts(0); }));
    shoal::device::lease_options none;
    none.count = 0;
    CHECK(is_refused("devices", [&] { shoal::device::lease::acquire(none, shoal::nowait); }));
    CHECK(is_refused("workers", [&] {
        shoal::spawn_options("true").lease(shoal::device::lease(nullptr), 0, 0);
    }));
}

static void a_name_of_a_variable_sets_no_other_variable() {
    shoal::spawn_options program("true");
    CHECK(is_refused("\"A=B\"", [&] { program.env("A=B", "c"); }));
    CHECK(is_refused("empty", [&] { program.env("", "c"); }));
    CHECK(shoal::process::spawn(program.env("A", "=b=")).join().success());
}

static void what_ends_by_itself_can_be_assigned() {
    auto queue = shoal::queue::anonymous();
    CHECK(queue.put_many({"a", "b"}) == 2);
    std::optional<shoal::queue::leased_message> job;
    for (const char *expected : {"a", "b"}) {
        job = queue.try_lease();
        CHECK(job && job->view() == expected);
        job->ack();
    }
    // What was assigned over is returned.
    queue.put("c");
    auto first = queue.lease();
    queue.put("d");
    first = queue.lease();
    CHECK(first.view() == "d" && queue.get() == "c");
    auto frame = queue.reserve(1);
    frame = queue.reserve(2);
    CHECK(frame.size() == 2);
    frame.discard();

    auto map = shoal::map::anonymous();
    map.set("k", "1");
    auto seen = map.view("k");
    map.set("k", "2");
    seen = map.view("k");
    CHECK(seen->value() == "2");
    std::optional<shoal::map::key_lock> lock;
    for (int i = 0; i < 2; ++i) {
        lock.reset();
        lock = map.try_lock_key("k");
        CHECK(lock);
    }
    lock = map.try_lock_key("other");
    CHECK(map.try_lock_key("k"));
}

static void iterators_are_those_of_the_standard() {
    auto list = shoal::list::anonymous();
    list.extend({"a", "b"});
    auto element = list.begin();
    const std::string before = *element++;
    CHECK(before == "a" && *element == "b" && *element++ == "b" && element == list.end());
    const std::vector<std::string> all(list.begin(), list.end());
    CHECK(all == list.slice());
    auto map = shoal::map::anonymous();
    map.set("key", "value");
    auto entry = map.begin();
    CHECK((*entry++).key == "key" && entry == map.end());
    entry = map.begin();
    CHECK((*entry++).value == "value");
}

static void looking_is_const() {
    auto queue = shoal::queue::anonymous();
    queue.put("a");
    const auto &same = queue;
    CHECK(same.peek() == "a");
    const auto ends = shoal::pipe::pair();
    CHECK(!ends.first.poll());
    const auto map = shoal::map::anonymous();
    CHECK(!map.wait_change(map.stat().changes, shoal::nowait) &&
          !map.wait_key("k", 0, shoal::nowait));
}

static void what_was_moved_from_is_empty() {
    auto numbers = shoal::array<int>::anonymous(4);
    numbers[3] = 7;
    auto moved = std::move(numbers);
    CHECK(numbers.data() == nullptr && numbers.size() == 0 && numbers.begin() == numbers.end());
    CHECK(moved.size() == 4 && moved[3] == 7);
    numbers = std::move(moved);
    CHECK(moved.data() == nullptr && moved.size() == 0 && numbers.size() == 4 && numbers[3] == 7);
    THROWS(SHOAL_ERR_INVALID, moved.lock());
    const std::lock_guard hold(numbers);

    auto map = shoal::map::anonymous();
    map.set("key", "value");
    auto seen = map.get_watched("key");
    CHECK(seen->is_current());
    const auto kept = std::move(*seen);
    CHECK(kept.value == "value" && kept.is_current() && !seen->is_current());
}

int main() {
    watchdog();
    a_descriptor_that_is_not_open_is_no_other_stream();
    any_number_of_messages_is_asked_for();
    a_zero_is_not_replaced_by_a_default();
    a_name_of_a_variable_sets_no_other_variable();
    what_was_moved_from_is_empty();
    what_ends_by_itself_can_be_assigned();
    iterators_are_those_of_the_standard();
    looking_is_const();
    std::cout << "arguments: ok\n";
}
