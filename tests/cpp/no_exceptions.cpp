// The wrapper in a program without exceptions: a failure calls a handler, and nothing else aborts. It is
// linked with throwing.cpp, which has exceptions.

#include <sys/time.h>

#include <array>
#include <mutex>
#include <vector>

#include "check.hpp"

#if defined(__cpp_exceptions) || defined(__cpp_rtti)
#error "to be compiled with -fno-exceptions -fno-rtti"
#endif

using namespace std::chrono_literals;

bool an_error_is_caught_elsewhere(const std::string &closed_queue);

/// What a child printed to its standard error, and how it ended.
template <class Work>
static std::pair<std::string, shoal::exit_status> last_words(const Work &work) {
    std::array<int, 2> ends{};
    CHECK(::pipe(ends.data()) == 0);
    auto child = shoal::process::fork([&] {
        ::dup2(ends[1], 2);
        work();
        return 0;
    });
    ::close(ends[1]);
    std::string words(1000, '\0');
    const auto n = ::read(ends[0], words.data(), words.size());
    words.resize(n > 0 ? static_cast<std::size_t>(n) : 0);
    ::close(ends[0]);
    return {words, child.join()};
}

static void a_failure_aborts_with_its_sentence() {
    const auto [words, end] =
        last_words([] { static_cast<void>(shoal::queue::open("no-such-queue-anywhere")); });
    CHECK(end.signaled() && end.code == SIGABRT);
    CHECK(words.find("shoal: ") == 0 && words.find("no-such-queue-anywhere") != words.npos);
    CHECK(words.find("SHOAL_ERR_NOT_FOUND") != words.npos);
}

static void a_failure_calls_the_handler_of_the_program() {
    const auto own = [](const shoal::error &err) { ::_exit(err.status()); };
    const auto returns = [](const shoal::error &err) { std::cerr << "told: " << err.what(); };
    CHECK(shoal::set_failure_handler(own) == nullptr);
    const auto fails = [] {
        auto queue = shoal::queue::anonymous();
        queue.close();
        queue.put("x");
    };
    CHECK(last_words(fails).second.code == SHOAL_ERR_CLOSED);
    CHECK(shoal::set_failure_handler(returns) == own);
    const auto [words, end] = last_words(fails);
    CHECK(end.signaled() && end.code == SIGABRT && words.find("told: ") == 0);
    CHECK(shoal::set_failure_handler(nullptr) == returns);
}

static void what_is_an_answer_needs_no_exception() {
    shoal::queue_options tiny;
    tiny.capacity = tiny.max_capacity = 4096;
    auto queue = shoal::queue::anonymous(tiny);
    CHECK(!queue.try_get() && !queue.try_lease() && queue.try_join() && !queue.try_get(1ms));
    const std::string longest(queue.stat().max_message, 'x');
    CHECK(queue.try_put(longest) && !queue.try_put(longest) && queue.get() == longest);
    queue.close();
    CHECK(!queue.next() && !queue.next_lease());

    auto map = shoal::map::anonymous();
    CHECK(!map.get("k") && !map.view("k") && !map.expire("k", 1s) && !map.wait_key("k", 0, 1ms));
    map.set("k", "v");
    for (const auto &[key, value] : map) CHECK(key == "k" && value == "v");
    auto list = shoal::list::anonymous();
    list.extend({"bb", "a"});
    list.sort([](auto a, auto b) { return a.size() < b.size(); });
    CHECK(list.slice() == std::vector<std::string>{"a", "bb"} && !list.get(2));
    auto lock = shoal::mutex::anonymous();
    std::lock_guard hold(lock);
    CHECK(!lock.try_lock() && shoal::try_wait_any({queue}) == 0u);
}

static void what_may_fail_is_called_by_its_name_in_c() {
    shoal_queue *handle = nullptr;
    CHECK(shoal_queue_open("no-such-queue-anywhere", nullptr, &handle, nullptr) ==
          SHOAL_ERR_NOT_FOUND);
    CHECK(handle == nullptr && std::string(shoal_last_error()) != "");
    auto queue = shoal::queue::anonymous();
    queue.close();
    CHECK(shoal_queue_put(queue.handle(), "x", 1, SHOAL_FOREVER) == SHOAL_ERR_CLOSED);
    CHECK(an_error_is_caught_elsewhere(queue.name()));
}

static void a_signal_handler_ends_no_wait() {
    struct sigaction action {};
    action.sa_handler = [](int) {};
    CHECK(::sigaction(SIGALRM, &action, nullptr) == 0);
    itimerval every{{0, 3000}, {0, 3000}};
    CHECK(::setitimer(ITIMER_REAL, &every, nullptr) == 0);
    auto queue = shoal::queue::anonymous();
    auto [here, there] = shoal::pipe::pair();
    auto event = shoal::event::anonymous();
    auto permits = shoal::semaphore::anonymous(0);
    const auto began = std::chrono::steady_clock::now();
    CHECK(!queue.try_get(20ms) && !queue.try_lease(shoal::forever, 20ms) && !here.poll(20ms));
    CHECK(!event.wait(20ms) && !permits.try_acquire(20ms));
    CHECK(!shoal::try_wait_any({queue, here}, 20ms));
    CHECK(std::chrono::steady_clock::now() - began >= 120ms);
    // A wait for a condition cannot be resumed by itself, and ends as if notified.
    auto lock = shoal::mutex::anonymous();
    auto changed = shoal::condition::anonymous();
    std::unique_lock hold(lock);
    CHECK(changed.wait(hold, 60s) && !lock.try_lock());
    itimerval never{};
    CHECK(::setitimer(ITIMER_REAL, &never, nullptr) == 0);
}

int main() {
    watchdog();
    a_failure_aborts_with_its_sentence();
    a_failure_calls_the_handler_of_the_program();
    what_is_an_answer_needs_no_exception();
    what_may_fail_is_called_by_its_name_in_c();
    a_signal_handler_ends_no_wait();
    std::cout << "no_exceptions: ok\n";
}
