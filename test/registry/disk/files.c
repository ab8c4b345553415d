/*
 * Stands between a process and its files below one folder (LD_PRELOAD): writes down what changes them, in order, and
 * makes calls fail or wait as the test says. Built by the test that uses it.
 *
 * KERNLOCK_FILES_ROOT    the folder
 * KERNLOCK_FILES_LOG     where the record goes; each entry is a struct entry, two paths, data
 * KERNLOCK_FILES_FAULTS  a file of one struct faults, read before every call
 *
 * A change is written down when it is done, the beginning of a sync before it begins, its end when it is done, and an
 * answer ("HTTP/1.1 ...", the first kilobyte) before it is sent: so the record never makes a change more durable than
 * it was when somebody was told of it.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum kind { OPEN = 1, WRITE, TRUNCATE, SYNC_BEGIN, SYNC_END, RENAME, UNLINK, MKDIR, ANSWER };

struct entry {
  uint32_t kind, fd;
  uint64_t at;
  uint32_t path, to, data, created;
};

struct faults {
  int32_t write, sync, change, read, sync_delay_ms;
};

#define MAX_FD 65536
static unsigned char ours[MAX_FD];
static const char *root;
static size_t root_length;
static int log_fd = -1;
static volatile struct faults *faults;
static pthread_mutex_t turn = PTHREAD_MUTEX_INITIALIZER;

static int (*real_open)(const char *, int, ...);
static int (*real_close)(int);
static ssize_t (*real_write)(int, const void *, size_t);
static ssize_t (*real_writev)(int, const struct iovec *, int);
static ssize_t (*real_pwrite)(int, const void *, size_t, off_t);
static ssize_t (*real_read)(int, void *, size_t);
static ssize_t (*real_pread)(int, void *, size_t, off_t);
static ssize_t (*real_sendfile)(int, int, off_t *, size_t);
static int (*real_ftruncate)(int, off_t);
static int (*real_fsync)(int);
static int (*real_fdatasync)(int);
static int (*real_rename)(const char *, const char *);
static int (*real_unlink)(const char *);
static int (*real_mkdir)(const char *, mode_t);
static long (*real_syscall)(long, ...);

__attribute__((constructor)) static void start(void) {
  if (real_open) return;
  real_close = dlsym(RTLD_NEXT, "close");
  real_write = dlsym(RTLD_NEXT, "write");
  real_writev = dlsym(RTLD_NEXT, "writev");
  real_pwrite = dlsym(RTLD_NEXT, "pwrite64");
  real_read = dlsym(RTLD_NEXT, "read");
  real_pread = dlsym(RTLD_NEXT, "pread64");
  real_sendfile = dlsym(RTLD_NEXT, "sendfile64");
  real_ftruncate = dlsym(RTLD_NEXT, "ftruncate64");
  real_fsync = dlsym(RTLD_NEXT, "fsync");
  real_fdatasync = dlsym(RTLD_NEXT, "fdatasync");
  real_rename = dlsym(RTLD_NEXT, "rename");
  real_unlink = dlsym(RTLD_NEXT, "unlink");
  real_mkdir = dlsym(RTLD_NEXT, "mkdir");
  real_syscall = dlsym(RTLD_NEXT, "syscall");
  real_open = dlsym(RTLD_NEXT, "open64");
  root = getenv("KERNLOCK_FILES_ROOT");
  root_length = root ? strlen(root) : 0;
  const char *log = getenv("KERNLOCK_FILES_LOG"), *page = getenv("KERNLOCK_FILES_FAULTS");
  if (log) log_fd = real_open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  if (page) {
    int fd = real_open(page, O_RDONLY | O_CLOEXEC);
    void *at = mmap(NULL, sizeof(struct faults), PROT_READ, MAP_SHARED, fd, 0);
    if (fd < 0 || at == MAP_FAILED) abort();
    faults = at;
    real_close(fd);
  }
}

static int under(const char *path) {
  return root && path && strncmp(path, root, root_length) == 0 && (path[root_length] == '/' || !path[root_length]);
}
static int mine(int fd) { return fd >= 0 && fd < MAX_FD && ours[fd]; }

static int failing(int which) {
  if (which == 0) return 0;
  errno = which;
  return 1;
}
#define FAIL(field) (faults && failing(faults->field))

static void note(enum kind kind, int fd, uint64_t at, const char *path, const char *to, const struct iovec *data,
                 int count, size_t length, int created) {
  if (log_fd < 0) return;
  int before = errno;
  struct entry entry = {kind, (uint32_t)fd, at, path ? strlen(path) : 0, to ? strlen(to) : 0, length, created};
  pthread_mutex_lock(&turn);
  char *whole = malloc(sizeof entry + entry.path + entry.to + length), *end = whole;
  if (!whole) abort();
  end = mempcpy(end, &entry, sizeof entry);
  end = mempcpy(end, path, entry.path);
  end = mempcpy(end, to, entry.to);
  for (int i = 0; i < count && length > 0; i++) {
    size_t part = data[i].iov_len < length ? data[i].iov_len : length;
    end = mempcpy(end, data[i].iov_base, part);
    length -= part;
  }
  for (char *from = whole; from < end;) {
    ssize_t done = real_write(log_fd, from, end - from);
    if (done < 0) abort();
    from += done;
  }
  free(whole);
  pthread_mutex_unlock(&turn);
  errno = before;
}

static void note_write(int fd, uint64_t at, const struct iovec *data, int count, ssize_t done) {
  if (done > 0) note(WRITE, fd, at, NULL, NULL, data, count, done, 0);
}

static int opened(const char *path, int flags, mode_t mode) {
  start();
  if (!under(path)) return real_open(path, flags, mode);
  int writes = (flags & O_ACCMODE) != O_RDONLY;
  if (writes && FAIL(change)) return -1;
  struct stat facts;
  int existed = stat(path, &facts) == 0;
  int fd = real_open(path, flags, mode);
  if (fd < 0 || fd >= MAX_FD) return fd;
  ours[fd] = 1;
  note(OPEN, fd, 0, path, NULL, NULL, 0, 0, (!existed && (flags & O_CREAT)) ? 1 : 0);
  if (existed && (flags & O_TRUNC)) note(TRUNCATE, fd, 0, NULL, NULL, NULL, 0, 0, 0);
  return fd;
}

#define MODE                        \
  mode_t mode = 0;                  \
  if (flags & (O_CREAT | O_TMPFILE)) { \
    va_list rest;                   \
    va_start(rest, flags);          \
    mode = va_arg(rest, mode_t);    \
    va_end(rest);                   \
  }
int open(const char *path, int flags, ...) { MODE return opened(path, flags, mode); }
int open64(const char *path, int flags, ...) { MODE return opened(path, flags | O_LARGEFILE, mode); }

int close(int fd) {
  start();
  if (mine(fd)) ours[fd] = 0;
  return real_close(fd);
}

/* libuv closes this way. */
long syscall(long number, ...) {
  start();
  va_list rest;
  va_start(rest, number);
  long a[6];
  for (int i = 0; i < 6; i++) a[i] = va_arg(rest, long);
  va_end(rest);
  if (number == SYS_close && mine(a[0])) ours[a[0]] = 0;
  return real_syscall(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}

static void note_answer(const struct iovec *data, int count) {
  if (count == 0 || data[0].iov_len < 9 || memcmp(data[0].iov_base, "HTTP/1.1 ", 9)) return;
  size_t length = 0;
  for (int i = 0; i < count; i++) length += data[i].iov_len;
  note(ANSWER, 0, 0, NULL, NULL, data, count, length < 1024 ? length : 1024, 0);
}

static off_t position(int fd) { return lseek(fd, 0, SEEK_CUR); }

ssize_t write(int fd, const void *bytes, size_t length) {
  start();
  struct iovec data = {(void *)bytes, length};
  if (!mine(fd)) {
    if (root) note_answer(&data, 1);
    return real_write(fd, bytes, length);
  }
  if (FAIL(write)) return -1;
  off_t at = position(fd);
  ssize_t done = real_write(fd, bytes, length);
  note_write(fd, at, &data, 1, done);
  return done;
}

ssize_t writev(int fd, const struct iovec *data, int count) {
  start();
  if (!mine(fd)) {
    if (root) note_answer(data, count);
    return real_writev(fd, data, count);
  }
  if (FAIL(write)) return -1;
  off_t at = position(fd);
  ssize_t done = real_writev(fd, data, count);
  note_write(fd, at, data, count, done);
  return done;
}

ssize_t pwrite64(int fd, const void *bytes, size_t length, off_t at) {
  start();
  if (mine(fd) && FAIL(write)) return -1;
  struct iovec data = {(void *)bytes, length};
  ssize_t done = real_pwrite(fd, bytes, length, at);
  if (mine(fd)) note_write(fd, at, &data, 1, done);
  return done;
}
ssize_t pwrite(int fd, const void *bytes, size_t length, off_t at) { return pwrite64(fd, bytes, length, at); }

/* Piece by piece: whoever calls this goes on after a short write. */
ssize_t pwritev64(int fd, const struct iovec *data, int count, off_t at) {
  return count > 0 ? pwrite64(fd, data[0].iov_base, data[0].iov_len, at) : 0;
}
ssize_t pwritev(int fd, const struct iovec *data, int count, off_t at) { return pwritev64(fd, data, count, at); }

ssize_t read(int fd, void *bytes, size_t length) {
  start();
  return mine(fd) && FAIL(read) ? -1 : real_read(fd, bytes, length);
}
ssize_t pread64(int fd, void *bytes, size_t length, off_t at) {
  start();
  return mine(fd) && FAIL(read) ? -1 : real_pread(fd, bytes, length, at);
}
ssize_t pread(int fd, void *bytes, size_t length, off_t at) { return pread64(fd, bytes, length, at); }

ssize_t sendfile64(int to, int from, off_t *at, size_t length) {
  start();
  return mine(from) && FAIL(read) ? -1 : real_sendfile(to, from, at, length);
}
ssize_t sendfile(int to, int from, off_t *at, size_t length) { return sendfile64(to, from, at, length); }

int ftruncate64(int fd, off_t length) {
  start();
  if (mine(fd) && FAIL(write)) return -1;
  int done = real_ftruncate(fd, length);
  if (done == 0 && mine(fd)) note(TRUNCATE, fd, length, NULL, NULL, NULL, 0, 0, 0);
  return done;
}
int ftruncate(int fd, off_t length) { return ftruncate64(fd, length); }

static int synced(int fd, int (*sync)(int)) {
  if (!mine(fd)) return sync(fd);
  if (faults && faults->sync_delay_ms > 0) {
    int ms = faults->sync_delay_ms;
    nanosleep(&(struct timespec){ms / 1000, ms % 1000 * 1000000L}, NULL);
  }
  if (FAIL(sync)) return -1;
  note(SYNC_BEGIN, fd, 0, NULL, NULL, NULL, 0, 0, 0);
  int done = sync(fd);
  if (done == 0) note(SYNC_END, fd, 0, NULL, NULL, NULL, 0, 0, 0);
  return done;
}
int fsync(int fd) { start(); return synced(fd, real_fsync); }
int fdatasync(int fd) { start(); return synced(fd, real_fdatasync); }

int rename(const char *from, const char *to) {
  start();
  if (under(from) && FAIL(change)) return -1;
  int done = real_rename(from, to);
  if (done == 0 && under(from)) note(RENAME, -1, 0, from, to, NULL, 0, 0, 0);
  return done;
}

int unlink(const char *path) {
  start();
  if (under(path) && FAIL(change)) return -1;
  int done = real_unlink(path);
  if (done == 0 && under(path)) note(UNLINK, -1, 0, path, NULL, NULL, 0, 0, 0);
  return done;
}

int mkdir(const char *path, mode_t mode) {
  start();
  if (under(path) && FAIL(change)) return -1;
  int done = real_mkdir(path, mode);
  if (done == 0 && under(path)) note(MKDIR, -1, 0, path, NULL, NULL, 0, 0, 0);
  return done;
}
