/* tsc.c: prints the frequency of this CPU's time-stamp counter in kHz, measured against CLOCK_MONOTONIC_RAW. Exit code 1: too much
 * came in between, ten times. vm.sh compiles it and gives the figure to the guest's kernel. */
#include <stdint.h>
#include <stdio.h>
#include <time.h>
#include <x86intrin.h>

struct reading {
    uint64_t tsc;
    int64_t ns, width; /* the clock in the middle of two looks at it, and how far apart these were */
};

static int64_t now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC_RAW, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* best is the closest of 20 readings: one that was not interrupted is a microsecond wide. */
static struct reading best(void) {
    struct reading b = {.width = INT64_MAX};
    for (int i = 0; i < 20; i++) {
        int64_t before = now();
        uint64_t tsc = __rdtsc();
        int64_t after = now();
        if (after - before < b.width) b = (struct reading){tsc, before + (after - before) / 2, after - before};
    }
    return b;
}

int main(void) {
    for (int i = 0; i < 10; i++) {
        struct reading a = best(), b;
        nanosleep(&(struct timespec){.tv_nsec = 50000000}, NULL);
        b = best();
        if ((a.width + b.width) * 1000 > b.ns - a.ns || b.tsc <= a.tsc) continue; /* 0.1 % */
        printf("%.0f\n", (double)(b.tsc - a.tsc) * 1e6 / (double)(b.ns - a.ns));
        return 0;
    }
    return 1;
}
