/* A preload library that writes down every write and flush of the database files, in order, below SQLite.
 *
 * POWERCUT_LOG names the log, POWERCUT_PREFIX the beginning of the paths that are watched. From the log the
 * test builds what a power cut would have left: of each file only what was flushed. Records:
 *   'W' path offset length data | 'T' path length | 'F' path | 'U' path
 * each as: kind (1 byte), path length (4), path, a (8), b (8), data (b bytes for 'W').
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

#define MOST_FILES 4096
static char *paths[MOST_FILES];
static int log_file = -1;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

#define REAL(name) ((__typeof__(&name))real(#name))
static void *real(const char *name) { return dlsym(RTLD_NEXT, name); }

static void note(char kind, const char *path, int64_t a, int64_t b, const void *data) {
    uint32_t length = strlen(path);
    struct iovec parts[6] = {{&kind, 1}, {&length, 4}, {(void *)path, length}, {&a, 8}, {&b, 8},
                             {(void *)data, data ? (size_t)b : 0}};
    pthread_mutex_lock(&lock);
    if (log_file < 0)
        log_file = REAL(open)(getenv("POWERCUT_LOG"), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    ssize_t ignored = REAL(writev)(log_file, parts, 6);
    (void)ignored;
    pthread_mutex_unlock(&lock);
}

static const char *watched(int fd) { return fd >= 0 && fd < MOST_FILES ? paths[fd] : NULL; }

static int opened(int fd, const char *path) {
    const char *prefix = getenv("POWERCUT_PREFIX");
    if (fd >= 0 && fd < MOST_FILES) {
        free(paths[fd]);
        /* the shared memory of the log is rebuilt from it: it need not survive */
        size_t n = strlen(path);
        int is_shared = n > 4 && !strcmp(path + n - 4, "-shm");
        paths[fd] = prefix && !is_shared && !strncmp(path, prefix, strlen(prefix)) ? strdup(path) : NULL;
    }
    return fd;
}

#define OPEN(name)                                                                       \
    int name(const char *path, int flags, ...) {                                         \
        va_list more; va_start(more, flags); mode_t mode = va_arg(more, mode_t); va_end(more); \
        return opened(REAL(name)(path, flags, mode), path);                              \
    }
OPEN(open)
OPEN(open64)

int close(int fd) {
    if (watched(fd)) { free(paths[fd]); paths[fd] = NULL; }
    return REAL(close)(fd);
}

#define PWRITE(name, offset_type)                                                        \
    ssize_t name(int fd, const void *data, size_t length, offset_type offset) {          \
        ssize_t done = REAL(name)(fd, data, length, offset);                             \
        if (done > 0 && watched(fd)) note('W', paths[fd], offset, done, data);           \
        return done;                                                                     \
    }
PWRITE(pwrite, off_t)
PWRITE(pwrite64, off64_t)

#define TRUNCATE(name, type)                                                             \
    int name(int fd, type length) {                                                      \
        int done = REAL(name)(fd, length);                                               \
        if (!done && watched(fd)) note('T', paths[fd], length, 0, NULL);                 \
        return done;                                                                     \
    }
TRUNCATE(ftruncate, off_t)
TRUNCATE(ftruncate64, off64_t)

#define FLUSH(name)                                                                      \
    int name(int fd) {                                                                   \
        int done = REAL(name)(fd);                                                       \
        if (!done && watched(fd)) note('F', paths[fd], 0, 0, NULL);                      \
        return done;                                                                     \
    }
FLUSH(fsync)
FLUSH(fdatasync)

int unlink(const char *path) {
    const char *prefix = getenv("POWERCUT_PREFIX");
    int done = REAL(unlink)(path);
    if (!done && prefix && !strncmp(path, prefix, strlen(prefix))) note('U', path, 0, 0, NULL);
    return done;
}
