/* For LD_PRELOAD: the wall clock of a program is ahead of the machine's by the milliseconds that stand,
   as 8 bytes, in the file that CLOCK_FILE names. Other clocks are left alone. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static volatile long long *ahead;

__attribute__((constructor)) static void open_file(void) {
	const char *name = getenv("CLOCK_FILE");
	int fd = name ? open(name, O_RDONLY) : -1;
	if (fd < 0)
		return;
	void *at = mmap(NULL, 8, PROT_READ, MAP_SHARED, fd, 0);
	if (at != MAP_FAILED)
		ahead = at;
	close(fd);
}

int clock_gettime(clockid_t id, struct timespec *ts) {
	static int (*real)(clockid_t, struct timespec *);
	if (!real)
		real = dlsym(RTLD_NEXT, "clock_gettime");
	int failed = real(id, ts);
	if (failed || !ahead || (id != CLOCK_REALTIME && id != CLOCK_REALTIME_COARSE))
		return failed;
	long long ns = ts->tv_nsec + *ahead % 1000 * 1000000;
	ts->tv_sec += *ahead / 1000;
	while (ns < 0) {
		ns += 1000000000;
		ts->tv_sec--;
	}
	ts->tv_sec += ns / 1000000000;
	ts->tv_nsec = ns % 1000000000;
	return 0;
}

int gettimeofday(struct timeval *restrict tv, void *restrict zone) {
	struct timespec ts;
	if (clock_gettime(CLOCK_REALTIME, &ts))
		return -1;
	tv->tv_sec = ts.tv_sec;
	tv->tv_usec = ts.tv_nsec / 1000;
	return 0;
}

time_t time(time_t *to) {
	struct timespec ts;
	if (clock_gettime(CLOCK_REALTIME, &ts))
		return -1;
	if (to)
		*to = ts.tv_sec;
	return ts.tv_sec;
}
