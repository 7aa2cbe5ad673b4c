/*-------------------------------------------------------------------------
 *
 * test_storage_shortage.c
 *	  Every call of the I/O vtable fails once, reading ones included, and so
 *	  does every allocation: nothing is lost, nothing leaks, the error is right,
 *	  and the next open finds a state that the log once had.
 *
 * The disk's functions are wrapped; malloc() and its like are replaced for the
 * whole program, but fail only outside of the disk.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 * IDENTIFICATION
 *	  test/unit/test_storage_shortage.c
 *
 *-------------------------------------------------------------------------
 */
#include "pgraft/platform.h"

#include "storage_fixture.h"
#include "tap.h"

/* a sanitizer brings its own malloc(), and other C libraries other names */
#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SANITIZED
#endif
#endif
#if defined(__SANITIZE_ADDRESS__) || !defined(__GLIBC__)
#define SANITIZED
#endif

typedef enum Shortage
{
	NO_CALL,					/* a call of the vtable fails */
	NO_MEMORY					/* an allocation returns NULL */
} Shortage;

static Fixture f;
static PgraftIo real;			/* functions of the disk */
static unsigned long fail_call; /* the n-th from now; 0 = none */
static int	call_errno;
static unsigned long fail_memory;
static int	in_disk;
static bool fired;

/* ----------------------------------------------------------------
 * Memory
 * ----------------------------------------------------------------
 */
#ifndef SANITIZED
extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t n, size_t size);
extern void *__libc_realloc(void *pointer, size_t size);

static bool
memory_fails(void)
{
	if (in_disk > 0 || fail_memory == 0 || --fail_memory > 0)
		return false;
	fired = true;
	errno = ENOMEM;
	return true;
}

void *
malloc(size_t size)
{
	return memory_fails() ? NULL : __libc_malloc(size);
}

void *
calloc(size_t n, size_t size)
{
	return memory_fails() ? NULL : __libc_calloc(n, size);
}

void *
realloc(void *pointer, size_t size)
{
	return memory_fails() ? NULL : __libc_realloc(pointer, size);
}
#endif

/* ----------------------------------------------------------------
 * Calls
 * ----------------------------------------------------------------
 */

/* False: the call is to fail.  Otherwise leave() must follow. */
static bool
enter(void)
{
	if (fail_call > 0 && --fail_call == 0)
	{
		fired = true;
		errno = call_errno;
		return false;
	}
	in_disk++;
	return true;
}

static int
leave(int result)
{
	in_disk--;
	return result;
}

static int
flaky_open(PgraftIo *io, const char *path, int flags)
{
	return enter() ? leave(real.open(io, path, flags)) : -1;
}

/* The descriptor is gone also when close() complains. */
static int
flaky_close(PgraftIo *io, int fd)
{
	bool		good = enter();
	int			result = real.close(io, fd);

	return good ? leave(result) : -1;
}

static ssize_t
flaky_pread(PgraftIo *io, int fd, void *buffer, size_t n, off_t offset)
{
	ssize_t		done;

	if (!enter())
		return -1;
	done = real.pread(io, fd, buffer, n, offset);
	(void) leave(0);
	return done;
}

static ssize_t
flaky_pwrite(PgraftIo *io, int fd, const void *buffer, size_t n, off_t offset)
{
	ssize_t		done;

	if (!enter())
		return call_errno == ENOSPC ? 0 : -1;
	done = real.pwrite(io, fd, buffer, n, offset);
	(void) leave(0);
	return done;
}

static int
flaky_fdatasync(PgraftIo *io, int fd)
{
	return enter() ? leave(real.fdatasync(io, fd)) : -1;
}

static int
flaky_fsync(PgraftIo *io, int fd)
{
	return enter() ? leave(real.fsync(io, fd)) : -1;
}

static int
flaky_size(PgraftIo *io, int fd, off_t *size)
{
	return enter() ? leave(real.size(io, fd, size)) : -1;
}

static int
flaky_rename(PgraftIo *io, const char *from, const char *to)
{
	return enter() ? leave(real.rename(io, from, to)) : -1;
}

static int
flaky_unlink(PgraftIo *io, const char *path)
{
	return enter() ? leave(real.unlink(io, path)) : -1;
}

static int
flaky_mkdir(PgraftIo *io, const char *path)
{
	return enter() ? leave(real.mkdir(io, path)) : -1;
}

typedef struct Visit
{
	void		(*visit) (void *arg, const char *name);
	void	   *arg;
} Visit;

/* What is called back is not the disk. */
static void
visit_outside(void *arg, const char *name)
{
	Visit	   *visit = arg;
	int			depth = in_disk;

	in_disk = 0;
	visit->visit(visit->arg, name);
	in_disk = depth;
}

static int
flaky_list(PgraftIo *io, const char *path,
		   void (*visit) (void *arg, const char *name), void *arg)
{
	Visit		outside;

	outside.visit = visit;
	outside.arg = arg;
	return enter() ? leave(real.list(io, path, visit_outside, &outside)) : -1;
}

static int
flaky_identify(PgraftIo *io, const char *path, unsigned long *device,
			   unsigned long *inode)
{
	return enter() ? leave(real.identify(io, path, device, inode)) : -1;
}

static int
flaky_lock(PgraftIo *io, int fd)
{
	return enter() ? leave(real.lock(io, fd)) : -1;
}

static void
wrap(FaultyDisk *disk)
{
	PgraftIo   *io = faulty_disk_io(disk);

	if (io->open != flaky_open)
		real = *io;
	io->open = flaky_open;
	io->close = flaky_close;
	io->pread = flaky_pread;
	io->pwrite = flaky_pwrite;
	io->fdatasync = flaky_fdatasync;
	io->fsync = flaky_fsync;
	io->size = flaky_size;
	io->rename = flaky_rename;
	io->unlink = flaky_unlink;
	io->mkdir = flaky_mkdir;
	io->list = flaky_list;
	io->identify = flaky_identify;
	io->lock = flaky_lock;
}

static void
arm(Shortage shortage, unsigned long n, int failure)
{
	fired = false;
	call_errno = failure;
	fail_call = shortage == NO_CALL ? n : 0;
	fail_memory = shortage == NO_MEMORY ? n : 0;
}

static void
disarm(void)
{
	fail_call = 0;
	fail_memory = 0;
}

/* Is this what a call may return after that failure? */
static bool
right_code(PgraftErrorCode code, Shortage shortage)
{
	if (code == PGRAFT_OK)
		return true;
	if (f.error.code != code || f.error.message[0] == '\0')
		return false;
	if (shortage == NO_MEMORY)
		return code == PGRAFT_ERR_NOMEM;
	if (call_errno == ENOSPC && code == PGRAFT_ERR_NO_SPACE)
		return true;
	if (call_errno == ENOMEM && code == PGRAFT_ERR_NOMEM)
		return true;
	return code == PGRAFT_ERR_IO;
}

static void
report(unsigned long n, const char *what)
{
	ok(0, "failure %lu: %s (last error: %s)", n, what, f.error.message);
}

/* ----------------------------------------------------------------
 * A whole life, from creation on
 * ----------------------------------------------------------------
 */

/* Runs the script; *done counts steps that were durable when it ended. */
static PgraftErrorCode
live(int *done, int *tried)
{
	PgraftErrorCode code;
	int			synced;
	int			i;

	*done = *tried = 0;
	code = fixture_create(&f);
	if (code == PGRAFT_OK)
		code = fixture_open(&f);
	for (i = 0; code == PGRAFT_OK && i < f.n_steps; i++)
	{
		*tried = i + 1;
		code = fixture_step(&f, i, 0, &synced);
		if (code == PGRAFT_OK && synced)
			*done = i + 1;
		if (code == PGRAFT_OK && i % 4 == 3)
			code = pgraft_storage_make_ready(f.storage, &f.error);
	}
	return code;
}

/* What the shortage left: nothing at all, or a state of the log. */
static const char *
check_remains(PgraftErrorCode code, Shortage shortage, int done, int tried)
{
	PgraftErrorCode opened;

	if (!right_code(code, shortage))
		return "wrong error";
	if (code == PGRAFT_OK)
		fixture_close(&f);
	else
		fixture_drop(&f);
	if (faulty_disk_open_files(f.disk) != 0)
		return "a descriptor is left open";
	faulty_disk_restart(f.disk, FAULTY_KILL);
	opened = fixture_open(&f);
	if (opened == PGRAFT_ERR_NOT_FOUND)
	{
		if (tried > 0)
			return "an opened storage is gone";
		if (fixture_create(&f) != PGRAFT_OK || fixture_open(&f) != PGRAFT_OK)
			return "creating cannot be repeated";
	}
	else if (opened != PGRAFT_OK)
		return "what is left cannot be opened";
	if (f.wrong != 0 || fixture_find(&f, done, tried) < 0)
		return "what is left is no state of the log";
	if (fixture_check_read_back(&f, &f.seen) != 0 ||
		fixture_check_snapshot(&f, &f.seen) != 0)
		return "what is left cannot be read";
	fixture_close(&f);
	return NULL;
}

static void
life(const char *name, const Step *steps, int n_steps, Shortage shortage,
	 int failure, unsigned long step)
{
	unsigned long n = 1;
	unsigned long reported = 0;

	for (;; n += step)
	{
		PgraftErrorCode code;
		const char *wrong;
		int			done;
		int			tried;
		bool		happened;

		fixture_init(&f, faulty_disk_create(n), steps, n_steps);
		wrap(f.disk);
		arm(shortage, n, failure);
		code = live(&done, &tried);
		happened = fired;
		disarm();
		wrong = check_remains(code, shortage, done, tried);
		if (wrong != NULL && reported++ < 5)
			report(n, wrong);
		fixture_drop(&f);
		faulty_disk_destroy(f.disk);
		if (!happened)
			break;
	}
	ok(reported == 0 && n > 20, "%s: each of %lu", name, n - 1);
}

/* ----------------------------------------------------------------
 * Opening and reading what is there
 * ----------------------------------------------------------------
 */
static FaultyDisk *
full_log(void)
{
	int			synced;
	int			i;
	bool		good;

	fixture_init(&f, faulty_disk_create(3), fixture_long_script, fixture_long_steps);
	good = fixture_create(&f) == PGRAFT_OK && fixture_open(&f) == PGRAFT_OK;
	for (i = 0; good && i < f.n_steps; i++)
		good = fixture_step(&f, i, 0, &synced) == PGRAFT_OK;
	ok(good, "a log to read");
	fixture_close(&f);
	faulty_disk_restart(f.disk, FAULTY_KILL);
	return f.disk;
}

static const char *
read_chunks(void)
{
	const unsigned char *data;
	raft_u64	total = 1;
	raft_u64	offset;
	size_t		n;

	for (offset = 0; offset < total; offset += n)
		if (pgraft_storage_read_snapshot(f.storage, f.seen.snapshot, offset, 40, &data,
										 &n, &total) != RAFT_OK)
			return "chunks of the snapshot cannot be read";
	return NULL;
}

static const char *
open_and_read(Shortage shortage)
{
	const LogModel *model = &f.history[f.n_steps];
	PgraftErrorCode code = fixture_open(&f);
	bool		good;

	if (code == PGRAFT_OK)
	{
		good = fixture_check_read_back(&f, model) == 0 &&
			fixture_check_snapshot(&f, model) == 0 && read_chunks() == NULL;
		if (!good && !fired)
			return "reading fails for no reason";

		/* a failed read is not the end */
		disarm();
		if (fixture_check_read_back(&f, model) != 0 ||
			fixture_check_snapshot(&f, model) != 0 || read_chunks() != NULL)
			return "reading does not recover";
	}
	disarm();
	if (!right_code(code, shortage))
		return "wrong error";
	fixture_close(&f);
	if (faulty_disk_open_files(f.disk) != 0)
		return "a descriptor is left open";
	if (fixture_open(&f) != PGRAFT_OK || !fixture_same(&f.seen, model))
		return "the next open finds something else";
	fixture_close(&f);
	return NULL;
}

static const char *
scan(Shortage shortage)
{
	PgraftErrorCode code = pgraft_log_scan(faulty_disk_io(f.disk), FIXTURE_DIRECTORY,
										   NULL, NULL, NULL, &f.error);

	disarm();
	if (!right_code(code, shortage))
		return "wrong error";
	if (faulty_disk_open_files(f.disk) != 0)
		return "a descriptor is left open";
	return pgraft_log_scan(faulty_disk_io(f.disk), FIXTURE_DIRECTORY, NULL, NULL, NULL,
						   &f.error) == PGRAFT_OK ? NULL : "the next scan fails, too";
}

static void
reading(const char *name, const FaultyDisk *whole, const char *(*work) (Shortage shortage),
		Shortage shortage)
{
	unsigned long n = 0;
	unsigned long reported = 0;
	bool		happened;

	do
	{
		const char *wrong;

		f.disk = faulty_disk_copy(whole);
		wrap(f.disk);
		arm(shortage, ++n, EIO);
		wrong = work(shortage);
		happened = fired;
		disarm();
		if (wrong != NULL && reported++ < 5)
			report(n, wrong);
		fixture_drop(&f);
		faulty_disk_destroy(f.disk);
	} while (happened);
	ok(reported == 0 && n > 5, "%s: each of %lu", name, n - 1);
}

int
main(void)
{
	FaultyDisk *whole;

	life("a call fails", fixture_short_script, fixture_short_steps, NO_CALL, EIO, 1);
	life("a call fails, longer log", fixture_long_script, fixture_long_steps, NO_CALL,
		 EIO, 7);
	life("no space, nothing written", fixture_short_script, fixture_short_steps, NO_CALL,
		 ENOSPC, 1);
	life("no memory in the kernel", fixture_short_script, fixture_short_steps, NO_CALL,
		 ENOMEM, 1);
	whole = full_log();
	reading("a call fails while opening and reading", whole, open_and_read, NO_CALL);
	reading("a call fails while scanning", whole, scan, NO_CALL);
#ifndef SANITIZED
	life("no memory", fixture_short_script, fixture_short_steps, NO_MEMORY, ENOMEM, 1);
	life("no memory, longer log", fixture_long_script, fixture_long_steps, NO_MEMORY,
		 ENOMEM, 3);
	reading("no memory while opening and reading", whole, open_and_read, NO_MEMORY);
	reading("no memory while scanning", whole, scan, NO_MEMORY);
#endif
	faulty_disk_destroy(whole);
	return tap_done();
}
