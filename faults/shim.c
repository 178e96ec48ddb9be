/* What a process under this preload meets of its system: a wall clock that jumps, a clock that runs fast, a disk whose
 * flush fails or hangs, or that takes no writes, names that nobody resolves. Whoever inflicts it writes numbers into a
 * file that is mapped here, while the process runs; faults/shim.py has their order. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

struct control {
    volatile double wall_ahead, rate, began_wall, began_monotonic, flush_fails, flush_hangs, read_only, nameless;
};

static struct control *control;

__attribute__((constructor)) static void map_control(void) {
    const char *path = getenv("RELAY_FAULTS_CONTROL");
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    void *mapped = file < 0 ? MAP_FAILED : mmap(NULL, sizeof *control, PROT_READ, MAP_SHARED, file, 0);
    if (file >= 0)
        close(file);
    control = mapped == MAP_FAILED ? NULL : mapped;
}

#define REAL(name) __typeof__(name) *real = (__typeof__(name) *)dlsym(RTLD_NEXT, #name)

int clock_gettime(clockid_t clock, struct timespec *now) {
    REAL(clock_gettime);
    int failed = real(clock, now);
    int wall = clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE;
    if (failed || !control || !(wall || clock == CLOCK_MONOTONIC || clock == CLOCK_MONOTONIC_COARSE))
        return failed;
    double began = wall ? control->began_wall : control->began_monotonic;
    double seconds = (now->tv_sec - began) + now->tv_nsec / 1e9;
    seconds = seconds * control->rate + (wall ? control->wall_ahead : 0);
    double whole = (double)(long long)seconds;
    if (whole > seconds)
        whole -= 1;
    now->tv_sec = (time_t)(began + whole);
    now->tv_nsec = (long)((seconds - whole) * 1e9);
    return 0;
}

/* Redis asks for the time so. */
int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    struct timespec exact;
    (void)zone;
    if (clock_gettime(CLOCK_REALTIME, &exact))
        return -1;
    now->tv_sec = exact.tv_sec;
    now->tv_usec = exact.tv_nsec / 1000;
    return 0;
}

int epoll_wait(int epoll, struct epoll_event *events, int most, int timeout) {
    REAL(epoll_wait);
    return real(epoll, events, most, control && timeout > 0 ? (int)(timeout / control->rate) : timeout);
}

int epoll_pwait(int epoll, struct epoll_event *events, int most, int timeout, const sigset_t *signals) {
    REAL(epoll_pwait);
    return real(epoll, events, most, control && timeout > 0 ? (int)(timeout / control->rate) : timeout, signals);
}

static int flush_fails(void) {
    while (control && control->flush_hangs)
        usleep(5000);
    if (control && control->flush_fails)
        errno = EIO;
    return control && control->flush_fails;
}

int fsync(int file) {
    REAL(fsync);
    return flush_fails() ? -1 : real(file);
}

int fdatasync(int file) {
    REAL(fdatasync);
    return flush_fails() ? -1 : real(file);
}

static int takes_no_writes(void) {
    if (control && control->read_only)
        errno = EROFS;
    return control && control->read_only;
}

/* SQLite writes with these alone, and nothing else here uses them for what is no file. */
ssize_t pwrite(int file, const void *bytes, size_t size, off_t at) {
    REAL(pwrite);
    return takes_no_writes() ? -1 : real(file, bytes, size, at);
}

ssize_t pwrite64(int file, const void *bytes, size_t size, off64_t at) {
    REAL(pwrite64);
    return takes_no_writes() ? -1 : real(file, bytes, size, at);
}

/* An address in digits asks no resolver. */
int getaddrinfo(const char *name, const char *service, const struct addrinfo *hints, struct addrinfo **found) {
    REAL(getaddrinfo);
    struct addrinfo numeric = {0};
    if (!control || !control->nameless)
        return real(name, service, hints, found);
    if (hints)
        numeric = *hints;
    numeric.ai_flags |= AI_NUMERICHOST;
    return real(name, service, &numeric, found) ? EAI_AGAIN : 0;
}
