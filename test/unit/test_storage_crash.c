/*-------------------------------------------------------------------------
 *
 * test_storage_crash.c
 *	  The storage loses its process, its power, its space and its disk at every
 *	  single call.
 *
 * Red when any fdatasync, directory fsync or temporary file is left out, when
 * a job is not atomic, or when a full disk is taken for the end.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 * IDENTIFICATION
 *	  test/unit/test_storage_crash.c
 *
 *-------------------------------------------------------------------------
 */
#include "pgraft/platform.h"

#include "storage_fixture.h"
#include "tap.h"

#define DISK_ROUNDS 6

static Fixture f;

/* What happened before the lights went out. */
typedef struct Progress
{
	int			created;		/* create() had returned PGRAFT_OK */
	int			acknowledged;	/* steps whose effects were said to be durable */
	int			begun;			/* steps that may have left traces */
	PgraftErrorCode code;
} Progress;

/*
 * From whatever state the disk is in: opens and goes through the script from
 * step `from` on.
 */
static void
run_script(Progress *p, int from, int retry_no_space)
{
	int			synced;
	int			i;

	p->acknowledged = p->begun = from;
	for (i = from; i < f.n_steps; i++)
	{
		p->begun = i + 1;
		p->code = fixture_step(&f, i, retry_no_space, &synced);
		if (p->code != PGRAFT_OK)
			return;
		if (synced)
			p->acknowledged = i + 1;
	}
}

static void
run_all(Progress *p)
{
	memset(p, 0, sizeof(*p));
	p->code = fixture_create(&f);
	if (p->code != PGRAFT_OK)
		return;
	p->created = 1;
	p->code = fixture_open(&f);
	if (p->code == PGRAFT_OK)
		run_script(p, 0, 0);
}

/*
 * After a restart: the storage opens with everything acknowledged, and the
 * script can be taken to its end from there.  Returns what is wrong, or NULL.
 */
static const char *
check_after_restart(const Progress *p, FaultyCrash crash)
{
	PgraftIdentity identity;
	PgraftErrorCode code;
	Progress	rest;
	int			at;

	code = pgraft_storage_read_identity(faulty_disk_io(f.disk), FIXTURE_DIRECTORY,
										&identity, &f.error);
	if (code != PGRAFT_OK)
	{
		if (p->created)
			return "identity is gone";
		if (code != PGRAFT_ERR_NOT_FOUND)
			return "interrupted creation is not blank";
		if (fixture_create(&f) != PGRAFT_OK)
			return "cannot be created again";
	}
	if (fixture_open(&f) != PGRAFT_OK)
		return f.error.message;
	at = fixture_find(&f, p->acknowledged, p->begun);
	if (f.wrong > 0)
		return "wrong entry";
	if (at < 0)
		return "state is none of the possible ones";

	/* what was delivered is durable from now on, whatever happens */
	fixture_drop(&f);
	faulty_disk_restart(f.disk, crash == FAULTY_KILL ? FAULTY_POWER_LOSS_ALL : crash);
	if (fixture_open(&f) != PGRAFT_OK)
		return f.error.message;
	if (!fixture_same(&f.seen, &f.history[at]))
		return "a delivered state is lost by the next crash";
	if (fixture_check_read_back(&f, &f.history[at]) != 0)
		return "wrong entry read back";
	if (fixture_check_snapshot(&f, &f.history[at]) != 0)
		return "wrong snapshot";

	memset(&rest, 0, sizeof(rest));
	run_script(&rest, at, 0);
	if (rest.code != PGRAFT_OK)
		return f.error.message;
	fixture_close(&f);
	if (fixture_open(&f) != PGRAFT_OK)
		return f.error.message;
	if (f.wrong > 0 || !fixture_same(&f.seen, &f.history[f.n_steps]))
		return "final state is wrong";
	if (fixture_check_read_back(&f, &f.history[f.n_steps]) != 0)
		return "wrong entry read back at the end";
	if (fixture_check_snapshot(&f, &f.history[f.n_steps]) != 0)
		return "wrong snapshot at the end";
	fixture_close(&f);
	if (faulty_disk_open_files(f.disk) != 0)
		return "descriptor leaked";
	return NULL;
}

static void
crash_at_every_call(FaultyCrash crash, unsigned long seed, const char *name)
{
	const char *wrong = NULL;
	unsigned long n;
	int			finished = 0;

	for (n = 1; !finished && wrong == NULL; n++)
	{
		Progress	p;

		fixture_init(&f, faulty_disk_create(seed * 100000 + n),
					 fixture_long_script, fixture_long_steps);
		faulty_disk_crash_at(f.disk, n);
		run_all(&p);
		finished = !faulty_disk_crashed(f.disk);
		if (finished && p.code != PGRAFT_OK)
			wrong = f.error.message;
		fixture_drop(&f);
		faulty_disk_restart(f.disk, crash);
		if (wrong == NULL)
			wrong = check_after_restart(&p, crash);
		fixture_drop(&f);
		faulty_disk_destroy(f.disk);
	}
	ok(wrong == NULL, "%s at each of %lu calls: %s", name, n - 1,
	   wrong == NULL ? "nothing acknowledged is lost" : wrong);
}

/* The same, but the crash hits while an earlier crash is being repaired. */
static void
crash_during_recovery(FaultyCrash crash, unsigned long seed, const char *name)
{
	const char *wrong = NULL;
	unsigned long first;
	unsigned long runs = 0;

	for (first = 20; wrong == NULL && first < 1000; first += 17)
	{
		unsigned long n;
		int			finished = 0;

		for (n = 1; !finished && wrong == NULL; n++)
		{
			Progress	p;

			fixture_init(&f, faulty_disk_create(seed * 100000 + first),
						 fixture_long_script, fixture_long_steps);
			faulty_disk_crash_at(f.disk, first);
			run_all(&p);
			if (!faulty_disk_crashed(f.disk))
				first = 1000;
			fixture_drop(&f);
			faulty_disk_restart(f.disk, crash);
			faulty_disk_reseed(f.disk, seed * 100000 + n);
			faulty_disk_crash_at(f.disk, n);
			if (p.created && fixture_open(&f) == PGRAFT_OK)
				finished = !faulty_disk_crashed(f.disk);
			else if (!faulty_disk_crashed(f.disk))
				finished = 1;
			fixture_drop(&f);
			faulty_disk_restart(f.disk, crash);
			wrong = check_after_restart(&p, crash);
			fixture_drop(&f);
			faulty_disk_destroy(f.disk);
			runs++;
		}
	}
	ok(wrong == NULL, "%s during recovery, %lu runs: %s", name, runs,
	   wrong == NULL ? "nothing acknowledged is lost" : wrong);
}

/* Every call that needs space finds none, once; the same job succeeds later. */
static void
full_disk_at_every_call(void)
{
	const char *wrong = NULL;
	unsigned long n;
	int			fired = 1;

	for (n = 1; fired && wrong == NULL; n++)
	{
		Progress	p;
		PgraftErrorCode code;

		memset(&p, 0, sizeof(p));
		fixture_init(&f, faulty_disk_create(n), fixture_long_script,
					 fixture_long_steps);
		faulty_disk_fail_at(f.disk, FAULTY_TAKES_SPACE, n, ENOSPC);
		code = fixture_create(&f);
		if (code == PGRAFT_ERR_NO_SPACE)
			code = fixture_create(&f);
		if (code == PGRAFT_OK)
			code = fixture_open(&f);
		if (code == PGRAFT_ERR_NO_SPACE)
			code = fixture_open(&f);
		if (code == PGRAFT_OK)
			run_script(&p, 0, 1);
		if (code != PGRAFT_OK || p.code != PGRAFT_OK)
			wrong = f.error.message;
		fired = faulty_disk_fault_fired(f.disk);
		fixture_drop(&f);
		faulty_disk_restart(f.disk, FAULTY_POWER_LOSS);
		if (wrong == NULL)
		{
			p.created = 1;
			wrong = check_after_restart(&p, FAULTY_POWER_LOSS);
		}
		fixture_drop(&f);
		faulty_disk_destroy(f.disk);
	}
	ok(wrong == NULL, "no space at each of %lu calls: %s", n - 1,
	   wrong == NULL ? "the same job succeeds later" : wrong);
}

/* A disk that really is full until somebody makes room. */
static void
full_disk(void)
{
	Progress	p;
	size_t		capacity;
	int			refused = 0;
	const char *wrong = NULL;

	for (capacity = 8 * 4096; wrong == NULL && capacity < 40 * 4096; capacity += 1536)
	{
		memset(&p, 0, sizeof(p));
		fixture_init(&f, faulty_disk_create(capacity), fixture_long_script,
					 fixture_long_steps);
		if (fixture_create(&f) != PGRAFT_OK || fixture_open(&f) != PGRAFT_OK)
			wrong = f.error.message;
		faulty_disk_set_capacity(f.disk, capacity);
		if (wrong == NULL)
			run_script(&p, 0, 0);
		if (p.code == PGRAFT_ERR_NO_SPACE)
			refused++;
		else if (p.code != PGRAFT_OK)
			wrong = f.error.message;
		fixture_drop(&f);
		faulty_disk_restart(f.disk, FAULTY_POWER_LOSS);
		p.created = 1;

		/* it must open as it is, then there is room again */
		if (wrong == NULL && fixture_open(&f) != PGRAFT_OK)
			wrong = f.error.message;
		fixture_drop(&f);
		faulty_disk_restart(f.disk, FAULTY_POWER_LOSS);
		faulty_disk_set_capacity(f.disk, 0);
		if (wrong == NULL)
			wrong = check_after_restart(&p, FAULTY_POWER_LOSS);
		fixture_drop(&f);
		faulty_disk_destroy(f.disk);
	}
	ok(refused > 0, "the disk was full in %d runs", refused);
	ok(wrong == NULL, "a full disk loses nothing: %s", wrong == NULL ? "yes" : wrong);
}

/* A failed flush is final, and what it left in the cache is not believed. */
static void
failed_flush_at_every_call(void)
{
	const char *wrong = NULL;
	unsigned long n;
	int			fired = 1;
	int			refused = 0;

	for (n = 1; fired && wrong == NULL; n++)
	{
		Progress	p;

		fixture_init(&f, faulty_disk_create(n), fixture_long_script,
					 fixture_long_steps);
		faulty_disk_fail_at(f.disk, FAULTY_FDATASYNC | FAULTY_FSYNC |
							FAULTY_FSYNC_DIRECTORY, n, EIO);
		run_all(&p);
		fired = faulty_disk_fault_fired(f.disk);
		if (fired && p.code == PGRAFT_OK)
			wrong = "failed flush went unnoticed";
		if (fired && p.code != PGRAFT_ERR_IO)
			wrong = "failed flush has another error code";
		if (fired && p.begun > 0 && f.storage != NULL &&
			f.steps[p.begun - 1].kind == STEP_APPEND)
		{
			struct raft_update update;

			memset(&update, 0, sizeof(update));
			update.must_sync = 1;
			update.hard_state_changed = 1;
			update.hard_state.term = 1000;
			if (fixture_write(&f, &update, 0) == PGRAFT_OK)
				wrong = "storage writes on after a failed flush";
			refused++;
		}
		fixture_drop(&f);
		faulty_disk_restart(f.disk, FAULTY_KILL);
		if (wrong == NULL)
			wrong = check_after_restart(&p, FAULTY_KILL);
		fixture_drop(&f);
		faulty_disk_destroy(f.disk);
	}
	ok(wrong == NULL, "failed flush at each of %lu calls: %s", n - 1,
	   wrong == NULL ? "final, nothing lost" : wrong);
	ok(refused > 0, "later jobs were refused in %d runs", refused);
}

int
main(void)
{
	unsigned long seed;

	crash_at_every_call(FAULTY_KILL, 1, "kill");
	crash_at_every_call(FAULTY_POWER_LOSS_ALL, 1, "power loss, nothing unflushed kept");
	for (seed = 1; seed <= DISK_ROUNDS; seed++)
		crash_at_every_call(FAULTY_POWER_LOSS, seed, "power loss, any subset kept");
	crash_during_recovery(FAULTY_POWER_LOSS, 5, "power loss");
	crash_during_recovery(FAULTY_KILL, 6, "kill");
	full_disk_at_every_call();
	full_disk();
	failed_flush_at_every_call();
	return tap_done();
}
