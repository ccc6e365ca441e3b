// Maps, lists and pipes in C++: many keys, slices, iteration, limits.

#include <cstring>
#include <map>
#include <numeric>
#include <set>
#include <stdexcept>
#include <vector>

#include "check.hpp"

using namespace std::chrono_literals;
using namespace std::string_literals;

using strings = std::vector<std::string>;

static void many_keys_are_set_and_read_at_once() {
    auto map = shoal::map::anonymous();
    map.set_many({{"a", "1"}, {"", "of no key"}, {"empty", ""}, {"a", "2"}, {"n\0l"s, "\0"s}});
    const auto found = map.get_many({"empty", "none", "a", "", "n\0l"s, "a"});
    const std::vector<std::optional<std::string>> expected = {
        "", std::nullopt, "2", "of no key", "\0"s, "2"};
    CHECK(found == expected && map.size() == 4);
    map.set_many({});
    CHECK(map.get_many(strings()).empty() && map.size() == 4);

    // More than fits at first, from other kinds of ranges.
    std::map<std::string, std::string> more;
    strings keys;
    for (int i = 0; i < 1000; ++i) {
        keys.push_back("key " + std::to_string(i));
        more[keys.back()] = std::string(static_cast<std::size_t>(i), 'x');
    }
    map.set_many(more);
    keys.push_back("none");
    const auto values = map.get_many(keys);
    CHECK(values.size() == 1001 && !values[1000] && map.size() == 1004);
    for (std::size_t i = 0; i < 1000; ++i) CHECK(values[i] == more[keys[i]]);

    // Nothing is set if one of them can never be set.
    const std::string long_key(64 * 1024 + 1, 'k');
    THROWS(SHOAL_ERR_TOO_LARGE, map.set_many({{"first", "v"}, {long_key, "v"}}));
    CHECK(!map.contains("first"));
}

static void a_key_tells_for_how_long_it_stays() {
    auto map = shoal::map::anonymous();
    map.set("k", "v");
    CHECK(map.stat().expiring == 0);
    CHECK(map.time_left("k") == shoal::forever && !map.time_left("none"));
    map.set_for("k", "v", 1000s);
    const auto left = map.time_left("k");
    CHECK(map.stat().expiring == 1);
    CHECK(left && *left != shoal::forever);
    CHECK(left->nanoseconds() > 0 && *left != shoal::nowait);
    CHECK(left->nanoseconds() <= shoal::duration(1000s).nanoseconds());
    // `expire` takes what `time_left` returns.
    map.set("other", "v");
    CHECK(map.expire("other", *left));
    CHECK(map.time_left("other")->nanoseconds() <= left->nanoseconds());
    CHECK(map.expire("k", shoal::forever) && map.time_left("k") == shoal::forever);
    CHECK(map.expire("k", 0s) && !map.time_left("k"));
}

static void keys_and_values_have_the_documented_sizes() {
    shoal::map_options how;
    how.capacity = how.max_capacity = 8 << 20;
    auto map = shoal::map::anonymous(how);
    map.set("", "");
    CHECK(map.get("") == "" && map.contains("") && map.size() == 1);
    map.set({}, "of a key without an address");
    CHECK(map.get("") == "of a key without an address" && map.size() == 1);
    CHECK(map.compare_swap("", "of a key without an address", "") && map.take("") == "");
    CHECK(map.empty());

    const std::string longest(64 * 1024, 'k'), longer = longest + "k";
    map.set(longest, "v");
    CHECK(map.get(longest) == "v" && !map.get(longer) && !map.contains(longer));
    THROWS(SHOAL_ERR_TOO_LARGE, map.set(longer, "v"));
    THROWS(SHOAL_ERR_TOO_LARGE, map.add(longer, 1));
    THROWS(SHOAL_ERR_TOO_LARGE, map.lock_key(longer));
    CHECK(map.try_lock_key(longest) && map.remove(longest) && map.empty());

    const std::string largest(4 << 20, 'v'), larger = largest + "v";
    map.set("k", "old");
    THROWS(SHOAL_ERR_TOO_LARGE, map.set("k", larger));
    CHECK(map.get("k") == "old");
    map.set("k", largest);
    CHECK(map.get("k") == largest && map.get_many({"k"})[0] == largest);
    // If the new value does not fit, the old value stays.
    const std::string large(3 << 20, 'l');
    map.set("second", large);
    map.set("other", "old");
    THROWS(SHOAL_ERR_NO_SPACE, map.set("other", large));
    CHECK(map.get("other") == "old" && map.get("k") == largest);

    shoal::list_options small;
    small.capacity = small.max_capacity = 8 << 20;
    auto list = shoal::list::anonymous(small);
    list.extend({"", {}, "\0"s});
    CHECK(list.slice() == strings{"", "", "\0"s});
    THROWS(SHOAL_ERR_TOO_LARGE, list.append(larger));
    list.append(largest);
    CHECK(list.get(-1) == largest && list.slice(-1) == strings{largest} && list.size() == 4);
    list.set(0, large);
    THROWS(SHOAL_ERR_NO_SPACE, list.append(large));
    CHECK(list.size() == 4 && list.get(0) == large && list.get(-1) == largest);
}

static void a_slice_takes_bounds_from_both_ends() {
    auto list = shoal::list::anonymous();
    CHECK(list.slice().empty() && list.slice(-3, -1).empty());
    list.extend({"a", "b", "c", "d", "e"});
    CHECK(list.slice() == strings{"a", "b", "c", "d", "e"});
    CHECK(list.slice(1, 3) == strings{"b", "c"} && list.slice(3) == strings{"d", "e"});
    CHECK(list.slice(-2) == strings{"d", "e"} && list.slice(0, -4) == strings{"a"});
    CHECK(list.slice(-100, 2) == strings{"a", "b"} && list.slice(4, 100) == strings{"e"});
    CHECK(list.slice(-3, -1) == strings{"c", "d"} && list.slice(INT64_MIN, 1) == strings{"a"});
    CHECK(list.slice(3, 1).empty() && list.slice(2, 2).empty() && list.slice(5).empty());
    CHECK(list.slice(-1, 2).empty() && list.slice(shoal::list::npos).empty());
    CHECK(list.get_many(3, 1) == strings{"d"} && list.get_many(3, 9) == strings{"d", "e"});
    CHECK(list.get_many(0, 0).empty() && list.get_many(5, 9).empty());
}

static void a_long_list_is_walked_in_steps() {
    auto list = shoal::list::anonymous();
    CHECK(list.begin() == list.end());
    strings all;
    for (int i = 0; i < 10000; ++i) all.push_back("element " + std::to_string(i));
    all[500] = "";
    all[7000] = std::string(200000, 'x');
    list.extend(all);
    CHECK(list.slice() == all);
    CHECK(list.slice(-9000, -1) == strings(all.end() - 9000, all.end() - 1));
    CHECK(strings(list.begin(), list.end()) == all);

    strings in_parts;
    for (;;) {
        const auto part = list.get_many(in_parts.size(), all.size());
        if (part.empty()) break;
        CHECK(part.size() < all.size());
        in_parts.insert(in_parts.end(), part.begin(), part.end());
    }
    CHECK(in_parts == all);

    // Elements after the current step may change; iteration yields their new values.
    auto it = list.begin();
    CHECK(*it == "element 0" && it->size() == 9);
    list.set(-1, "changed");
    list.erase(1000, shoal::list::npos - 1);
    list.append("last");
    std::size_t count = 0;
    std::string last;
    for (; it != list.end(); it++, ++count) last = *it;
    CHECK(count == 1001 && last == "last");
}

static void a_slice_is_of_one_moment() {
    auto list = shoal::list::anonymous();
    const auto version = [](int n) {
        auto name = std::to_string(n);
        return strings(6000, name.insert(0, 20 - name.size(), '.'));
    };
    list.extend(version(0));
    auto writer = started([&](const checkpoint &point) {
        point.reach();
        for (int n = 1;; ++n) list.splice(0, shoal::list::npos, version(n));
    });
    std::set<std::string> seen;
    for (int turn = 0; seen.size() < 20; ++turn) {
        const auto elements = turn % 2 == 0 ? list.slice() : list.slice(-5999, -1);
        CHECK(elements.size() == (turn % 2 == 0 ? 6000 : 5998));
        CHECK(elements == strings(elements.size(), elements[0]));
        seen.insert(elements[0]);
    }
    kill(std::move(writer));
}

static void a_slice_counts_from_an_end_that_moves() {
    auto list = shoal::list::anonymous();
    list.append("last");
    auto writer = started([&](const checkpoint &point) {
        point.reach();
        for (;;) {
            list.splice(0, 0, {"a", "b", "c"});
            list.erase(0, 3);
        }
    });
    std::set<std::uint64_t> seen;
    while (seen.size() < 300) {
        const auto read = list.slice_versioned(-1);
        CHECK(read.elements == strings{"last"});
        seen.insert(read.version);
    }
    kill(std::move(writer));
}

static void a_change_by_version_is_made_once() {
    auto list = shoal::list::anonymous();
    list.extend({"a", "b", "c"});
    const auto before = list.slice_versioned(1);
    CHECK(before.elements == strings{"b", "c"} && before.version == list.version());
    CHECK(list.splice_if(before.version, 1, 2, {"x", "y"}));
    CHECK(!list.splice_if(before.version, 1, 2, {"z"}) && list.version() != before.version);
    CHECK(!list.rearrange_if(before.version, {0}));
    CHECK(list.slice() == strings{"a", "x", "y", "c"});
    CHECK(list.rearrange_if(list.version(), {3, 0, 1}));
    CHECK(list.slice() == strings{"c", "a", "x"});

    const auto seen = list.version();
    THROWS(SHOAL_ERR_INVALID, list.rearrange_if(seen, {1, 1}));
    THROWS(SHOAL_ERR_INVALID, list.rearrange_if(seen, std::vector<std::uint64_t>{3}));
    CHECK(list.version() == seen && list.slice() == strings{"c", "a", "x"});
    succeeds(started([&](const checkpoint &point) {
        list.append("of another process");
        point.reach();
    }));
    CHECK(!list.splice_if(seen, 0, shoal::list::npos, {}) && list.size() == 4);
    CHECK(list.splice_if(list.version(), 0, -1, {}));
    CHECK(list.slice() == strings{"of another process"});
    CHECK(list.rearrange_if(list.version(), {}) && list.empty());
}

static void a_list_is_sorted_as_its_user_says() {
    auto list = shoal::list::anonymous();
    list.extend({"ccc", "a", "bb", "b\0"s, "", "c", "\xff"});
    list.sort([](auto a, auto b) { return a.size() < b.size(); });
    // Elements of one length keep their order.
    CHECK(list.slice() == strings{"", "a", "c", "\xff", "bb", "b\0"s, "ccc"});
    list.sort([](std::string_view a, std::string_view b) { return a > b; });
    CHECK(list.slice() == strings{"\xff", "ccc", "c", "bb", "b\0"s, "a", ""});
    list.sort();
    const strings sorted = {"", "a", "b\0"s, "bb", "c", "ccc", "\xff"};
    CHECK(list.slice() == sorted);

    int calls = 0;
    try {
        list.sort([&](auto, auto) -> bool {
            ++calls;
            throw std::runtime_error("as it should");
        });
        CHECK(!"thrown");
    } catch (const std::runtime_error &err) {
        CHECK(err.what() == "as it should"s && calls == 1);
    }
    // It is unlocked, and has all its elements.
    list.sort();
    CHECK(list.slice() == sorted);
}

static void a_pipe_fills_the_memory_of_its_user() {
    auto [here, there] = shoal::pipe::pair();
    char memory[8] = "-------";
    THROWS(SHOAL_ERR_TIMEOUT, here.recv_into(memory, sizeof memory, shoal::nowait));
    THROWS(SHOAL_ERR_TIMEOUT, here.recv_into(memory, sizeof memory, 1ms));
    there.send("12345678");
    there.send("");
    there.send("a\0b"s);
    THROWS(SHOAL_ERR_BUFFER_TOO_SMALL, here.recv_into(memory, 7));
    CHECK(here.recv_into(memory, sizeof memory) == 8 && std::memcmp(memory, "12345678", 8) == 0);
    CHECK(here.recv_into(nullptr, 0) == 0);
    CHECK(here.recv_into(memory, sizeof memory) == 3);
    // The memory behind the message is not touched.
    CHECK(std::memcmp(memory, "a\0b45678", 8) == 0);
    {
        const auto gone = std::move(there);
    }
    THROWS(SHOAL_ERR_CLOSED, here.recv_into(memory, sizeof memory));
}

int main() {
    watchdog();
    many_keys_are_set_and_read_at_once();
    a_key_tells_for_how_long_it_stays();
    keys_and_values_have_the_documented_sizes();
    a_slice_takes_bounds_from_both_ends();
    a_long_list_is_walked_in_steps();
    a_slice_is_of_one_moment();
    a_slice_counts_from_an_end_that_moves();
    a_change_by_version_is_made_once();
    a_list_is_sorted_as_its_user_says();
    a_pipe_fills_the_memory_of_its_user();
    std::cout << "objects: ok\n";
}
