/* The promises of the functions of an array. */

#include "check.h"

#include <sys/wait.h>
#include <unistd.h>

int main(int count, char **args)
{
    shoal_array_options o = {.size = sizeof o, .flags = SHOAL_CREATE};
    shoal_array *a, *same;
    void *data = NULL;
    size_t bytes = 0;
    int status;

    CHECK(count == 2);
    SAYS(SHOAL_ERR_INVALID, "item", shoal_array_open(args[1], &o, &a, NULL));
    o.item_size = sizeof(double);
    o.count = 100;
    o.format = "d";
    OK(shoal_array_open(args[1], &o, &a, NULL));
    CHECK(strcmp(shoal_name(a), args[1]) == 0);
    OK(shoal_array_open(args[1], NULL, &same, NULL));
    o.item_size = 4;
    SAYS(SHOAL_ERR_INVALID, "not 4", shoal_array_open(args[1], &o, &(shoal_array *){NULL}, NULL));
    shoal_array_stats stats = array_stats(same);
    CHECK(stats.item_size == 8 && stats.count == 100 && strcmp(stats.format, "d") == 0);
    OK(shoal_array_data(a, &data, &bytes));
    CHECK(bytes == 800 && ((double *)data)[99] == 0);

    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        LOCKS(false, shoal_array_lock, a, SHOAL_FOREVER);
        ((double *)data)[99] = 1.5;
        _exit(0);
    }
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    LOCKS(true, shoal_array_lock, same, SHOAL_FOREVER);
    LOCKS(false, shoal_array_lock, same, SHOAL_NOWAIT);
    GIVES(SHOAL_ERR_TIMEOUT, shoal_array_lock(a, SHOAL_NOWAIT, NULL));
    OK(shoal_array_data(same, &data, &bytes));
    CHECK(((double *)data)[99] == 1.5);
    OK(shoal_array_unlock(same));
    OK(shoal_array_unlock(same));
    SAYS(SHOAL_ERR_INVALID, "not held", shoal_array_unlock(same));
    OK(shoal_unlink(args[1], SHOAL_KIND_ARRAY));
    GIVES(SHOAL_ERR_NOT_FOUND, shoal_array_open(args[1], NULL, &(shoal_array *){NULL}, NULL));
    shoal_array_free(same);
    shoal_array_free(a);
    puts("array: ok");
    return 0;
}
