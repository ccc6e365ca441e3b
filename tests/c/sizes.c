/* Keys, values, messages and elements of no bytes, of as many as there can be, and of more. */

#include "check.h"

enum { MAX_KEY = 64 * 1024, SMALL = 1 << 20 };

static char bytes[2 * SMALL], copy[2 * SMALL];

/* The limit in the last SHOAL_ERR_TOO_LARGE of this thread. */
static size_t limit(void)
{
    unsigned long long most = 0;
    const char *said = strstr(shoal_last_error(), "limit of ");
    CHECK(said != NULL && sscanf(said, "limit of %llu", &most) == 1 && most > 0);
    return (size_t)most;
}

static shoal_map *small_map(void)
{
    shoal_map_options options = {.size = sizeof options, .flags = SHOAL_CREATE};
    shoal_map *m;
    options.max_capacity = SMALL;
    OK(shoal_map_open(NULL, &options, &m, NULL));
    return m;
}

static void no_bytes_are_a_key_and_a_value(void)
{
    shoal_map *m = new_map();
    shoal_map_iter *it;
    shoal_slice key = {NULL, 0}, value = {"many", 4}, found;
    shoal_view view;
    const void *k, *v;
    size_t len = 9, k_len = 9, v_len = 9;
    uint64_t version = 0, now = 0;
    int64_t sum = 0;
    bool yes = false;

    GIVES(SHOAL_ERR_NOT_FOUND, shoal_map_get(m, NULL, 0, copy, sizeof copy, &len, NULL));
    OK(shoal_map_insert(m, NULL, 0, NULL, 0, &yes));
    CHECK(yes);
    /* NULL or not, it is the same key, and not that of one zero byte. */
    OK(shoal_map_contains(m, "", 0, &yes));
    CHECK(yes);
    OK(shoal_map_contains(m, "", 1, &yes));
    CHECK(!yes);
    OK(shoal_map_get(m, "", 0, NULL, 0, &len, NULL));
    CHECK(len == 0);
    OK(shoal_map_version(m, NULL, 0, &version));
    CHECK(version != 0);
    OK(shoal_map_view(m, NULL, 0, &view));
    CHECK(view.data != NULL && view.len == 0 && view.version == version);
    OK(shoal_map_view_end(m, &view));
    LOCKS(false, shoal_map_lock_key, m, NULL, 0, SHOAL_NOWAIT);
    OK(shoal_map_unlock_key(m, "", 0));
    OK(shoal_map_iter_new(m, &it));
    OK(shoal_map_iter_next(it, &k, &k_len, &v, &v_len));
    CHECK(k_len == 0 && v_len == 0);
    GIVES(SHOAL_ERR_END, shoal_map_iter_next(it, &k, &k_len, &v, &v_len));
    shoal_map_iter_free(it);
    OK(shoal_map_set_many(m, &key, &value, 1));
    OK(shoal_map_wait_key(m, NULL, 0, version, SHOAL_NOWAIT, &now));
    CHECK(now > version);
    OK(shoal_map_get_many(m, &key, 1, copy, sizeof copy, &len, &found));
    CHECK(found.len == 4 && memcmp(found.data, "many", 4) == 0);
    OK(shoal_map_take(m, NULL, 0, copy, sizeof copy, &len));
    CHECK(len == 4);
    OK(shoal_map_add(m, NULL, 0, 7, &sum));
    CHECK(sum == 7);
    OK(shoal_map_remove(m, "", 0));
    GIVES(SHOAL_ERR_NOT_FOUND, shoal_map_remove(m, NULL, 0));
    /* NULL is valid only with a length of 0. */
    GIVES(SHOAL_ERR_INVALID, shoal_map_set(m, NULL, 1, "", 0));
    GIVES(SHOAL_ERR_INVALID, shoal_map_set(m, "", 0, NULL, 1));
    OK(shoal_map_len(m, &now));
    CHECK(now == 0);
    shoal_map_free(m);
}

static void the_longest_key_is_a_key_and_a_longer_one_is_refused(void)
{
    shoal_map *m = new_map();
    size_t len = 0;
    uint64_t count;
    int64_t sum;
    bool yes = true;

    OK(shoal_map_set(m, bytes, MAX_KEY, "long", 4));
    OK(shoal_map_get(m, bytes, MAX_KEY, copy, sizeof copy, &len, NULL));
    CHECK(len == 4 && memcmp(copy, "long", 4) == 0);
    LOCKS(false, shoal_map_lock_key, m, bytes, MAX_KEY, SHOAL_NOWAIT);
    OK(shoal_map_unlock_key(m, bytes, MAX_KEY));

    SAYS(SHOAL_ERR_TOO_LARGE, "key of 65537 bytes",
         shoal_map_set(m, bytes, MAX_KEY + 1, "", 0));
    CHECK(limit() == MAX_KEY);
    GIVES(SHOAL_ERR_TOO_LARGE, shoal_map_insert(m, bytes, MAX_KEY + 1, "", 0, &yes));
    GIVES(SHOAL_ERR_TOO_LARGE, shoal_map_add(m, bytes, MAX_KEY + 1, 1, &sum));
    GIVES(SHOAL_ERR_TOO_LARGE, shoal_map_set_for(m, bytes, MAX_KEY + 1, "", 0, SHOAL_FOREVER));
    GIVES(SHOAL_ERR_TOO_LARGE, shoal_map_lock_key(m, bytes, MAX_KEY + 1, SHOAL_NOWAIT, NULL));
    /* The only possible result is that it is missing. */
    GIVES(SHOAL_ERR_NOT_FOUND,
          shoal_map_get(m, bytes, MAX_KEY + 1, copy, sizeof copy, &len, NULL));
    GIVES(SHOAL_ERR_NOT_FOUND, shoal_map_remove(m, bytes, MAX_KEY + 1));
    OK(shoal_map_contains(m, bytes, MAX_KEY + 1, &yes));
    CHECK(!yes);

    /* Of many, one that is too long is refused before any is set. */
    shoal_slice keys[] = {{"a", 1}, {bytes, MAX_KEY + 1}}, values[] = {{"", 0}, {"", 0}};
    GIVES(SHOAL_ERR_TOO_LARGE, shoal_map_set_many(m, keys, values, 2));
    OK(shoal_map_len(m, &count));
    CHECK(count == 1);
    shoal_map_free(m);
}

static void the_largest_value_is_a_value_and_a_larger_one_is_refused(void)
{
    shoal_map *m = small_map();
    shoal_view view;
    size_t len = 0, most;
    bool yes;

    OK(shoal_map_set(m, "k", 1, "old", 3));
    SAYS(SHOAL_ERR_TOO_LARGE, "value of 2097152 bytes",
         shoal_map_set(m, "k", 1, bytes, sizeof bytes));
    most = limit();
    CHECK(most >= SMALL / 2 && most < sizeof bytes);
    GIVES(SHOAL_ERR_TOO_LARGE, shoal_map_set(m, "k", 1, bytes, most + 1));
    GIVES(SHOAL_ERR_TOO_LARGE, shoal_map_insert(m, "new", 3, bytes, most + 1, &yes));
    GIVES(SHOAL_ERR_TOO_LARGE,
          shoal_map_compare_swap(m, "k", 1, "old", 3, bytes, most + 1, &yes));
    GIVES(SHOAL_ERR_TOO_LARGE, shoal_map_set(m, "k", 1, bytes, SIZE_MAX / 2));
    OK(shoal_map_get(m, "k", 1, copy, sizeof copy, &len, NULL));
    CHECK(len == 3 && memcmp(copy, "old", 3) == 0);

    OK(shoal_map_set(m, "k", 1, bytes, most));
    GIVES(SHOAL_ERR_BUFFER_TOO_SMALL, shoal_map_get(m, "k", 1, copy, most - 1, &len, NULL));
    CHECK(len == most);
    OK(shoal_map_get(m, "k", 1, copy, most, &len, NULL));
    CHECK(len == most && memcmp(copy, bytes, most) == 0);
    OK(shoal_map_view(m, "k", 1, &view));
    CHECK(view.len == most && memcmp(view.data, bytes, most) == 0);
    OK(shoal_map_view_end(m, &view));

    /* A second one does not fit now, which is another error; later it fits. */
    GIVES(SHOAL_ERR_NO_SPACE, shoal_map_set(m, "second", 6, bytes, most));
    OK(shoal_map_remove(m, "k", 1));
    OK(shoal_map_set(m, "second", 6, bytes, most));
    shoal_map_free(m);
}

static void the_longest_message_passes_and_a_longer_one_is_refused_at_once(void)
{
    shoal_queue_options options = {.size = sizeof options, .flags = SHOAL_CREATE};
    shoal_queue *q;
    uint64_t most = 0, n;
    size_t len = 9;

    options.max_capacity = SMALL;
    OK(shoal_queue_open(NULL, &options, &q, NULL));
    OK(shoal_queue_put(q, NULL, 0, SHOAL_NOWAIT));
    OK(shoal_queue_len(q, &n));
    CHECK(n == 1);
    OK(shoal_queue_get(q, SHOAL_NOWAIT, NULL, 0, &len));
    CHECK(len == 0);

    most = queue_stats(q).max_message;
    CHECK(most > SMALL / 2 && most < SMALL);
    OK(shoal_queue_put(q, bytes, (size_t)most, SHOAL_NOWAIT));
    /* With any timeout. */
    GIVES(SHOAL_ERR_TOO_LARGE, shoal_queue_put(q, bytes, (size_t)most + 1, SHOAL_FOREVER));
    CHECK(limit() == most);
    GIVES(SHOAL_ERR_TOO_LARGE, shoal_queue_put(q, bytes, SIZE_MAX / 2, SHOAL_FOREVER));
    GIVES(SHOAL_ERR_TIMEOUT, shoal_queue_put(q, bytes, (size_t)most, SHOAL_NOWAIT));
    OK(shoal_queue_get(q, SHOAL_NOWAIT, copy, sizeof copy, &len));
    CHECK(len == most && memcmp(copy, bytes, len) == 0);
    GIVES(SHOAL_ERR_TIMEOUT, shoal_queue_get(q, SHOAL_NOWAIT, copy, sizeof copy, &len));
    shoal_queue_free(q);
}

static void the_two_ends_of_a_pipe_do_as_a_queue_does(void)
{
    shoal_pipe_options options = {.size = sizeof options, .flags = SHOAL_CREATE};
    shoal_pipe *first, *second;
    size_t len = 9, most;

    options.max_capacity = SMALL;
    OK(shoal_pipe_pair(&options, &first, &second));
    OK(shoal_pipe_send(second, NULL, 0, SHOAL_NOWAIT));
    OK(shoal_pipe_recv(first, SHOAL_NOWAIT, NULL, 0, &len));
    CHECK(len == 0);
    GIVES(SHOAL_ERR_TOO_LARGE, shoal_pipe_send(second, bytes, sizeof bytes, SHOAL_FOREVER));
    most = limit();
    GIVES(SHOAL_ERR_TOO_LARGE, shoal_pipe_send(second, bytes, most + 1, SHOAL_FOREVER));
    OK(shoal_pipe_send(second, bytes, most, SHOAL_NOWAIT));
    OK(shoal_pipe_recv(first, SHOAL_NOWAIT, copy, sizeof copy, &len));
    CHECK(len == most && memcmp(copy, bytes, len) == 0);
    shoal_pipe_free(second);
    shoal_pipe_free(first);
}

static void an_element_of_a_list_is_empty_or_large_but_not_too_large(void)
{
    shoal_list_options options = {.size = sizeof options, .flags = SHOAL_CREATE};
    shoal_list *l;
    uint64_t count = 0;
    size_t len = 9, most;

    options.max_capacity = SMALL;
    OK(shoal_list_open(NULL, &options, &l, NULL));
    OK(shoal_list_append(l, NULL, 0));
    OK(shoal_list_get(l, 0, NULL, 0, &len));
    CHECK(len == 0);
    GIVES(SHOAL_ERR_TOO_LARGE, shoal_list_append(l, bytes, sizeof bytes));
    most = limit();
    GIVES(SHOAL_ERR_TOO_LARGE, shoal_list_append(l, bytes, most + 1));
    OK(shoal_list_len(l, &count));
    CHECK(count == 1);
    OK(shoal_list_append(l, bytes, most));
    OK(shoal_list_get(l, 1, copy, sizeof copy, &len));
    CHECK(len == most && memcmp(copy, bytes, len) == 0);
    shoal_list_free(l);
}

int main(void)
{
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (char)(i * 31 + (i >> 8));
    no_bytes_are_a_key_and_a_value();
    the_longest_key_is_a_key_and_a_longer_one_is_refused();
    the_largest_value_is_a_value_and_a_larger_one_is_refused();
    the_longest_message_passes_and_a_longer_one_is_refused_at_once();
    the_two_ends_of_a_pipe_do_as_a_queue_does();
    an_element_of_a_list_is_empty_or_large_but_not_too_large();
    puts("sizes: ok");
    return 0;
}
