/* The promises of the functions of a map. */

#include "check.h"

int main(void)
{
    shoal_map *m = new_map();
    shoal_map_iter *it;
    char buf[16], key[16];
    const void *k, *v;
    size_t len = 0, k_len, v_len;
    int64_t sum = 0;
    uint64_t count;
    bool yes;

    yes = map_stats(m).ordered;
    CHECK(!yes);
    SAYS(SHOAL_ERR_NOT_FOUND, "\"k\"", shoal_map_get(m, "k", 1, buf, sizeof buf, &len, NULL));
    OK(shoal_map_set(m, "k", 1, "old", 3));
    OK(shoal_map_set(m, "k", 1, "value", 5));
    OK(shoal_map_get(m, "k", 1, buf, sizeof buf, &len, NULL));
    CHECK(len == 5 && memcmp(buf, "value", 5) == 0);
    OK(shoal_map_contains(m, "k", 1, &yes));
    CHECK(yes);

    /* With a buffer that is too small the size is returned, and nothing is taken. */
    len = 0;
    GIVES(SHOAL_ERR_BUFFER_TOO_SMALL, shoal_map_get(m, "k", 1, buf, 4, &len, NULL));
    CHECK(len == 5);
    len = 0;
    GIVES(SHOAL_ERR_BUFFER_TOO_SMALL, shoal_map_take(m, "k", 1, NULL, 0, &len));
    CHECK(len == 5);
    OK(shoal_map_take(m, "k", 1, buf, 5, &len));
    CHECK(len == 5 && memcmp(buf, "value", 5) == 0);
    GIVES(SHOAL_ERR_NOT_FOUND, shoal_map_take(m, "k", 1, buf, 5, &len));
    GIVES(SHOAL_ERR_NOT_FOUND, shoal_map_remove(m, "k", 1));

    OK(shoal_map_insert(m, "k", 1, "first", 5, &yes));
    CHECK(yes);
    OK(shoal_map_insert(m, "k", 1, "second", 6, &yes));
    CHECK(!yes);

    /* NULL stands for a missing key; an empty value is different. */
    OK(shoal_map_compare_swap(m, "k", 1, "second", 6, "x", 1, &yes));
    CHECK(!yes);
    OK(shoal_map_compare_swap(m, "k", 1, NULL, 0, "x", 1, &yes));
    CHECK(!yes);
    OK(shoal_map_compare_swap(m, "k", 1, "first", 5, "", 0, &yes));
    CHECK(yes);
    OK(shoal_map_get(m, "k", 1, buf, 0, &len, NULL));
    CHECK(len == 0);
    OK(shoal_map_compare_swap(m, "k", 1, "", 0, NULL, 0, &yes));
    CHECK(yes);
    OK(shoal_map_compare_swap(m, "k", 1, "", 0, "x", 1, &yes));
    CHECK(!yes);
    OK(shoal_map_compare_swap(m, "k", 1, NULL, 0, "new", 3, &yes));
    CHECK(yes);

    OK(shoal_map_add(m, "n", 1, 40, NULL));
    OK(shoal_map_add(m, "n", 1, 2, &sum));
    CHECK(sum == 42);
    SAYS(SHOAL_ERR_INVALID, "8", shoal_map_add(m, "k", 1, 1, &sum));
    CHECK(sum == 42);
    OK(shoal_map_len(m, &count));
    CHECK(count == 2);

    OK(shoal_map_clear(m));
    for (int i = 0; i < 1000; i++) {
        int n = snprintf(key, sizeof key, "key %d", i);
        OK(shoal_map_set(m, key, (size_t)n, &i, sizeof i));
    }
    /* Any byte is allowed, NUL too. */
    OK(shoal_map_set(m, "key\0 5", 6, "x", 1));
    OK(shoal_map_remove(m, "key\0 5", 6));

    static char seen[1000];
    OK(shoal_map_iter_new(m, &it));
    shoal_status status;
    while ((status = shoal_map_iter_next(it, &k, &k_len, &v, &v_len)) == SHOAL_OK) {
        int i;
        CHECK(v_len == sizeof i);
        memcpy(&i, v, sizeof i);
        CHECK((size_t)snprintf(key, sizeof key, "key %d", i) == k_len);
        CHECK(memcmp(key, k, k_len) == 0 && !seen[i]);
        seen[i] = 1;
    }
    CHECK(status == SHOAL_ERR_END);
    CHECK(memchr(seen, 0, sizeof seen) == NULL);
    GIVES(SHOAL_ERR_END, shoal_map_iter_next(it, &k, &k_len, &v, &v_len));
    GIVES(SHOAL_ERR_INVALID, shoal_map_iter_next(it, NULL, &k_len, &v, &v_len));
    shoal_map_iter_free(it);
    shoal_map_free(m);

    /* Iteration follows the order of insertion. */
    shoal_map_options ordered = {.size = sizeof ordered, .flags = SHOAL_CREATE | SHOAL_ORDERED};
    OK(shoal_map_open(NULL, &ordered, &m, NULL));
    yes = map_stats(m).ordered;
    CHECK(yes);
    for (const char *c = "shoal"; *c; c++)
        OK(shoal_map_set(m, c, 1, "", 0));
    OK(shoal_map_set(m, "s", 1, "again", 5));
    OK(shoal_map_iter_new(m, &it));
    for (const char *c = "shoal"; *c; c++) {
        OK(shoal_map_iter_next(it, &k, &k_len, &v, &v_len));
        CHECK(k_len == 1 && memcmp(k, c, 1) == 0);
    }
    GIVES(SHOAL_ERR_END, shoal_map_iter_next(it, &k, &k_len, &v, &v_len));
    shoal_map_iter_free(it);
    OK(shoal_map_last_key(m, key, sizeof key, &len));
    CHECK(len == 1 && key[0] == 'l');
    GIVES(SHOAL_ERR_BUFFER_TOO_SMALL, shoal_map_last_key(m, NULL, 0, &len));
    CHECK(len == 1);
    OK(shoal_map_clear(m));
    GIVES(SHOAL_ERR_NOT_FOUND, shoal_map_last_key(m, key, sizeof key, &len));
    shoal_map_free(m);
    m = new_map();
    SAYS(SHOAL_ERR_INVALID, "ordered", shoal_map_last_key(m, key, sizeof key, &len));
    shoal_map_free(m);
    puts("map: ok");
    return 0;
}
