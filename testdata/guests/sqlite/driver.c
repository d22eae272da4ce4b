// SQLite as a guest: three workloads, on a database in memory or in a preopened
// directory.
//
// Usage: sqlite [idx|sort|agg|all [ROUNDS [DATABASE]]]. One line a round. Every
// workload is also an export, bench_NAME(i32 rounds) -> i64 checksum, which
// needs no _start before it.
#include "sqlite3.h"
#include "../c/guest.h"
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

// The VFS: plain files by offset, no locks (one process has the database), and
// a random sequence that is the same in every run.

typedef struct {
  sqlite3_file base;
  int fd, remove;
  char path[256];
} file;

static int file_close(sqlite3_file *f) {
  file *p = (file *)f;
  int bad = close(p->fd);
  if (p->remove)
    bad |= unlink(p->path);
  return bad ? SQLITE_IOERR_CLOSE : SQLITE_OK;
}

static int file_read(sqlite3_file *f, void *data, int n, sqlite3_int64 offset) {
  ssize_t got = pread(((file *)f)->fd, data, n, offset);
  if (got == n)
    return SQLITE_OK;
  if (got < 0)
    return SQLITE_IOERR_READ;
  memset((char *)data + got, 0, n - got);
  return SQLITE_IOERR_SHORT_READ;
}

static int file_write(sqlite3_file *f, const void *data, int n, sqlite3_int64 offset) {
  return pwrite(((file *)f)->fd, data, n, offset) == n ? SQLITE_OK : SQLITE_IOERR_WRITE;
}

static int file_truncate(sqlite3_file *f, sqlite3_int64 size) {
  return ftruncate(((file *)f)->fd, size) ? SQLITE_IOERR_TRUNCATE : SQLITE_OK;
}

static int file_sync(sqlite3_file *f, int flags) {
  (void)flags;
  return fsync(((file *)f)->fd) ? SQLITE_IOERR_FSYNC : SQLITE_OK;
}

static int file_size(sqlite3_file *f, sqlite3_int64 *size) {
  struct stat st;
  if (fstat(((file *)f)->fd, &st))
    return SQLITE_IOERR_FSTAT;
  *size = st.st_size;
  return SQLITE_OK;
}

static int file_lock(sqlite3_file *f, int level) {
  (void)f, (void)level;
  return SQLITE_OK;
}

static int file_reserved(sqlite3_file *f, int *out) {
  (void)f;
  *out = 0;
  return SQLITE_OK;
}

static int file_control(sqlite3_file *f, int op, void *arg) {
  (void)f, (void)op, (void)arg;
  return SQLITE_NOTFOUND;
}

static int file_sector(sqlite3_file *f) {
  (void)f;
  return 4096;
}

static int file_traits(sqlite3_file *f) {
  (void)f;
  return 0;
}

static const sqlite3_io_methods methods = {
    .iVersion = 1,
    .xClose = file_close,
    .xRead = file_read,
    .xWrite = file_write,
    .xTruncate = file_truncate,
    .xSync = file_sync,
    .xFileSize = file_size,
    .xLock = file_lock,
    .xUnlock = file_lock,
    .xCheckReservedLock = file_reserved,
    .xFileControl = file_control,
    .xSectorSize = file_sector,
    .xDeviceCharacteristics = file_traits,
};

static int vfs_open(sqlite3_vfs *vfs, const char *path, sqlite3_file *f, int flags, int *out) {
  (void)vfs;
  file *p = (file *)f;
  memset(p, 0, sizeof *p);
  static int temporary;
  if (path)
    snprintf(p->path, sizeof p->path, "%s", path);
  else
    snprintf(p->path, sizeof p->path, "/temporary-%d", ++temporary);
  int mode = flags & SQLITE_OPEN_READONLY ? O_RDONLY : O_RDWR;
  if (flags & SQLITE_OPEN_CREATE)
    mode |= O_CREAT;
  if (flags & SQLITE_OPEN_EXCLUSIVE)
    mode |= O_EXCL;
  p->fd = open(p->path, mode, 0644);
  if (p->fd < 0)
    return SQLITE_CANTOPEN;
  p->remove = (flags & SQLITE_OPEN_DELETEONCLOSE) != 0;
  p->base.pMethods = &methods;
  if (out)
    *out = flags;
  return SQLITE_OK;
}

static int vfs_delete(sqlite3_vfs *vfs, const char *path, int sync) {
  (void)vfs, (void)sync;
  if (unlink(path) == 0)
    return SQLITE_OK;
  return errno == ENOENT ? SQLITE_IOERR_DELETE_NOENT : SQLITE_IOERR_DELETE;
}

static int vfs_access(sqlite3_vfs *vfs, const char *path, int flags, int *out) {
  (void)vfs, (void)flags;
  struct stat st;
  *out = stat(path, &st) == 0;
  return SQLITE_OK;
}

static int vfs_full(sqlite3_vfs *vfs, const char *path, int n, char *out) {
  (void)vfs;
  sqlite3_snprintf(n, out, "%s", path);
  return SQLITE_OK;
}

static int vfs_random(sqlite3_vfs *vfs, int n, char *out) {
  (void)vfs;
  static uint64_t seed = 47;
  for (int i = 0; i < n; i++)
    out[i] = (char)next(&seed);
  return n;
}

static int vfs_sleep(sqlite3_vfs *vfs, int microseconds) {
  (void)vfs;
  usleep(microseconds);
  return microseconds;
}

static int vfs_now(sqlite3_vfs *vfs, double *julian) {
  (void)vfs;
  *julian = 2460000.5; // a fixed day
  return SQLITE_OK;
}

int sqlite3_os_init(void) {
  static sqlite3_vfs vfs = {
      .iVersion = 1,
      .szOsFile = sizeof(file),
      .mxPathname = 255,
      .zName = "plain",
      .xOpen = vfs_open,
      .xDelete = vfs_delete,
      .xAccess = vfs_access,
      .xFullPathname = vfs_full,
      .xRandomness = vfs_random,
      .xSleep = vfs_sleep,
      .xCurrentTime = vfs_now,
  };
  return sqlite3_vfs_register(&vfs, 1);
}

int sqlite3_os_end(void) { return SQLITE_OK; }

// The workloads.

static sqlite3 *db;
static const char *where = ":memory:";
static int quiet;

static void check(int result, const char *what) {
  if (result == SQLITE_OK || result == SQLITE_DONE || result == SQLITE_ROW)
    return;
  say("%s: %s\n", what, db ? sqlite3_errmsg(db) : sqlite3_errstr(result));
  exit(1);
}

static void run(const char *sql) { check(sqlite3_exec(db, sql, NULL, NULL, NULL), sql); }

static sqlite3_stmt *prepare(const char *sql) {
  sqlite3_stmt *s;
  check(sqlite3_prepare_v2(db, sql, -1, &s, NULL), sql);
  return s;
}

// query runs sql and continues h with the text of every column of every row.
static uint64_t query(uint64_t h, const char *sql) {
  sqlite3_stmt *s = prepare(sql);
  int result;
  while ((result = sqlite3_step(s)) == SQLITE_ROW)
    for (int i = 0; i < sqlite3_column_count(s); i++) {
      const char *text = (const char *)sqlite3_column_text(s, i);
      h = digest(h, text ? text : "NULL", text ? strlen(text) + 1 : 5);
    }
  check(result, sql);
  sqlite3_finalize(s);
  return h;
}

static void begin(void) {
  check(sqlite3_open(where, &db), "open");
  run("PRAGMA cache_size=256; DROP TABLE IF EXISTS t; DROP TABLE IF EXISTS u");
}

static void fill(uint64_t *seed, int rows) {
  run("CREATE TABLE t(id INTEGER PRIMARY KEY, name TEXT, value REAL, kind INTEGER); BEGIN");
  sqlite3_stmt *s = prepare("INSERT INTO t(name, value, kind) VALUES(?, ?, ?)");
  for (int i = 0; i < rows; i++) {
    uint64_t v = next(seed);
    char name[32];
    snprintf(name, sizeof name, "n%llx", (unsigned long long)(v >> 36));
    sqlite3_bind_text(s, 1, name, -1, SQLITE_TRANSIENT);
    sqlite3_bind_double(s, 2, (double)(int64_t)v / 1048576);
    sqlite3_bind_int(s, 3, (int)(v % 37));
    check(sqlite3_step(s), "insert");
    check(sqlite3_reset(s), "reset");
  }
  sqlite3_finalize(s);
  run("COMMIT");
}

// line prints the state of a round, unless a benchmark runs.
static uint64_t line(const char *name, uint32_t round, uint64_t h) {
  if (!quiet)
    say("%s %u %016llx\n", name, round, (unsigned long long)h);
  return h;
}

static uint64_t idx(uint32_t rounds) {
  uint64_t h = DIGEST_START, seed = 53;
  begin();
  for (uint32_t round = 0; round < rounds; round++) {
    fill(&seed, 1500);
    run("CREATE INDEX by_name ON t(name); CREATE INDEX by_kind ON t(kind, value)");
    sqlite3_stmt *s = prepare("SELECT id, value FROM t WHERE name >= ? ORDER BY name LIMIT 3");
    sqlite3_stmt *u = prepare("UPDATE t SET value = value / 2, name = name || 'x' WHERE id = ?");
    run("BEGIN");
    for (int i = 0; i < 500; i++) {
      char name[32];
      snprintf(name, sizeof name, "n%llx", (unsigned long long)(next(&seed) >> 36));
      sqlite3_bind_text(s, 1, name, -1, SQLITE_TRANSIENT);
      int64_t id = 1;
      while (sqlite3_step(s) == SQLITE_ROW) {
        id = sqlite3_column_int64(s, 0);
        h = digest(h, &id, sizeof id);
      }
      sqlite3_reset(s);
      sqlite3_bind_int64(u, 1, id);
      check(sqlite3_step(u), "update");
      sqlite3_reset(u);
    }
    sqlite3_finalize(s);
    sqlite3_finalize(u);
    run("DELETE FROM t WHERE kind % 3 = 1; COMMIT");
    h = query(h, "SELECT count(*), min(name), max(name), sum(value) FROM t");
    h = query(h, "PRAGMA integrity_check");
    line("idx", round, h);
    run("DROP TABLE t");
  }
  sqlite3_close(db);
  return h;
}

static uint64_t sort(uint32_t rounds) {
  uint64_t h = DIGEST_START, seed = 59;
  begin();
  for (uint32_t round = 0; round < rounds; round++) {
    fill(&seed, 2000);
    h = query(h, "SELECT name, value FROM t ORDER BY value DESC, name");
    h = query(h, "SELECT id, row_number() OVER (PARTITION BY kind ORDER BY name), sum(value) OVER (ORDER BY id ROWS 5 PRECEDING) FROM t ORDER BY kind, 2 LIMIT 400");
    h = query(h, "SELECT DISTINCT substr(name, 2, 2) AS p FROM t UNION SELECT hex(kind) FROM t ORDER BY p COLLATE NOCASE");
    h = query(h, "SELECT upper(replace(name, 'a', 'é')), length(name), printf('%08.3f', value) FROM t ORDER BY 1 LIMIT 300");
    line("sort", round, h);
    run("DROP TABLE t");
  }
  sqlite3_close(db);
  return h;
}

static uint64_t agg(uint32_t rounds) {
  uint64_t h = DIGEST_START, seed = 61;
  begin();
  for (uint32_t round = 0; round < rounds; round++) {
    fill(&seed, 2000);
    run("CREATE TABLE u AS SELECT kind, avg(value) AS mean, count(*) AS n FROM t GROUP BY kind");
    h = query(h, "SELECT * FROM u ORDER BY kind");
    h = query(h, "SELECT u.kind, count(*), max(t.value - u.mean), group_concat(substr(t.name, 1, 3), '|') FROM t JOIN u ON t.kind = u.kind AND t.value > u.mean GROUP BY u.kind HAVING count(*) > 3");
    h = query(h, "WITH RECURSIVE c(x, y) AS (SELECT 1, 1 UNION ALL SELECT x + 1, (y * 1103515245 + 12345) % 2147483648 FROM c WHERE x < 3000) SELECT count(*), sum(y), total(y * 0.5), max(y) FROM c");
    h = query(h, "SELECT json_group_array(json_object('k', kind, 'n', n)) FROM u WHERE n IN (SELECT count(*) FROM t GROUP BY kind)");
    line("agg", round, h);
    run("DROP TABLE t; DROP TABLE u");
  }
  sqlite3_close(db);
  return h;
}

#define BENCH(name)                                                                        \
  __attribute__((export_name("bench_" #name))) uint64_t bench_##name(uint32_t rounds) {    \
    quiet = 1;                                                                             \
    return name(rounds);                                                                   \
  }
BENCH(idx)
BENCH(sort)
BENCH(agg)

int main(int argc, char **argv) {
  const char *name = argc > 1 ? argv[1] : "all";
  uint32_t rounds = argc > 2 ? (uint32_t)strtoul(argv[2], NULL, 10) : 20;
  if (argc > 3)
    where = argv[3];
  int all = strcmp(name, "all") == 0, found = 0;
  if (all || strcmp(name, "idx") == 0)
    found++, idx(rounds);
  if (all || strcmp(name, "sort") == 0)
    found++, sort(rounds);
  if (all || strcmp(name, "agg") == 0)
    found++, agg(rounds);
  if (!found)
    fprintf(stderr, "sqlite: no workload %s\n", name);
  return found ? 0 : 2;
}
