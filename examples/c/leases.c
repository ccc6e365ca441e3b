/*
 * Devices that no other program uses: two workers train on one device each. Whatever happens to this
 * program, each of them keeps its device until it ends, and the device is free at that moment.
 *
 *     cargo build --release
 *     cc -std=c99 -Iinclude examples/c/leases.c target/release/libshoal.a -pthread -ldl -lm
 *     SHOAL_FAKE_DEVICES=cuda:4:24G ./a.out
 *
 * With the library installed, -lshoal replaces the last four arguments.
 */

#define _POSIX_C_SOURCE 200809L

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <shoal.h>

#define TRY(call)                                                                \
    do {                                                                         \
        if ((call) != SHOAL_OK) {                                                \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, shoal_last_error()); \
            exit(1);                                                             \
        }                                                                        \
    } while (0)

enum { WORKERS = 2 };

int main(void)
{
    const char *argv[] = {"sh", "-c", "echo \"worker on device $CUDA_VISIBLE_DEVICES\"", NULL};
    shoal_lease_options options;
    shoal_lease *lease;
    shoal_process *workers[WORKERS];
    char text[4096];
    size_t len;
    uint32_t i;

    /* A machine without a GPU has nothing to lease; this example then declares some devices. */
    setenv("SHOAL_FAKE_DEVICES", "cuda:4:24G", 0);
    memset(&options, 0, sizeof options);
    options.size = sizeof options;
    options.count = WORKERS;
    options.min_free = UINT64_C(10) << 30;
    TRY(shoal_lease_acquire(&options, SHOAL_FOREVER, &lease));
    TRY(shoal_lease_mask(lease, text, sizeof text, &len));
    printf("leased %s\n", text);
    fflush(stdout);

    for (i = 0; i < WORKERS; i++) {
        shoal_spawn_options child;

        memset(&child, 0, sizeof child);
        child.size = sizeof child;
        child.argv = argv;
        child.lease = lease;
        child.worker = i;
        child.workers = WORKERS;
        TRY(shoal_process_spawn(&child, &workers[i]));
    }
    /* The workers have the lease now, and this program need not keep it. */
    shoal_lease_free(lease);
    TRY(shoal_lease_holders(text, sizeof text, &len));
    fputs(text, stdout);

    for (i = 0; i < WORKERS; i++) {
        shoal_exit end;

        TRY(shoal_process_join(workers[i], SHOAL_FOREVER, &end));
        shoal_process_free(workers[i]);
        if (end.kind != SHOAL_EXIT_EXITED || end.code != 0)
            return 1;
    }
    return 0;
}
