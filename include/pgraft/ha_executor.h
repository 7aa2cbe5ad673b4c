/*-------------------------------------------------------------------------
 *
 * ha_executor.h
 *	  What the files of the "pgraft ha" worker share: executor.c, promote.c,
 *	  demote.c, switchover.c, seal.c, sync_quorum.c, slots.c, local_state.c,
 *	  hook.c.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGRAFT_HA_EXECUTOR_H
#define PGRAFT_HA_EXECUTOR_H

#include "access/xlogdefs.h"
#include "pgraft/compat.h"
#include "pgraft/ha.h"

/* ---- local_state.c: whose WAL this data directory has; survives a crash ---- */
typedef struct PgraftHaWal
{
	uint64		epoch;			/* 0 = not known */
	uint64		tag;
	uint32		timeline;
} PgraftHaWal;

/* False when there is none, or it cannot be read (reported). */
extern bool pgraft_ha_read_wal(PgraftHaWal *wal);
/* Durable when it returns; raises ERROR. */
extern void pgraft_ha_write_wal(const PgraftHaWal *wal);
/*
 * For pgraftctl rejoin: REWIND or RECLONE of PgraftHaMemberState, given against the
 * primary of `epoch` to a server whose WAL ends on `timeline`; anything else removes
 * it; raises ERROR.
 */
extern void pgraft_ha_write_verdict(int state, uint64 epoch, uint32 timeline);
/* Creates or removes a file of the consensus directory, durably; raises ERROR. */
extern void pgraft_ha_create_file(const char *path, const char *contents);
extern void pgraft_ha_remove_file(const char *path);

/* ---- position.c: how far the WAL of this data directory once went ---- */
/* The WAL on disk goes up to there; written now and then, or at once (raises ERROR). */
extern void pgraft_ha_note_position(XLogRecPtr lsn, bool at_once);
extern void pgraft_ha_note_primary_position(void);
/* On a server that is not in recovery: where the last record of WAL ends. */
extern XLogRecPtr pgraft_ha_end_of_records(void);
/* What was noted last, also in an earlier life of the server; Invalid = nothing. */
extern XLogRecPtr pgraft_ha_noted_position(void);
extern void pgraft_ha_forget_position(void);

/* ---- seal.c ---- */

/*
 * Closes the way for WAL and acknowledgements and ends the receiver.  Returns
 * true once the end of the local WAL is known (*lsn on *timeline); until then it
 * is to be called again.
 */
extern bool pgraft_ha_seal(XLogRecPtr *lsn, TimeLineID *timeline);
/* Whether a receiver is connected to the server that it was opened for. */
extern bool pgraft_ha_receives(void);
/* Lets the receiver follow that server for that epoch. */
extern void pgraft_ha_open(uint64 epoch, const char *host, uint32 port);

/* ---- promote.c ---- */

/* Asks for the promotion; true once this server is out of recovery. */
extern bool pgraft_ha_promote(uint64 epoch, uint64 tag);
/* Where the timeline of this server, which is not in recovery, began. */
extern void pgraft_ha_find_fork(TimeLineID *timeline, XLogRecPtr *fork);
/*
 * Goes on with the checkpoint after a promotion; true when there is none (left).
 * anybodys: also one that this server's worker did not ask for.
 */
extern bool pgraft_ha_finish_promotion(bool anybodys);

/* ---- demote.c ---- */

/*
 * Tells sessions of clients to end, and background workers that have written
 * something.  Returns how many there are; their process ids go to pids, which
 * has room for MaxBackends.
 */
extern int	pgraft_ha_signal_sessions(pid_t *pids);
/* How many of them have not ended. */
extern int	pgraft_ha_count_sessions(const pid_t *pids, int n);
/* Signals whoever is there and waits for all to end, for a moment. */
extern void pgraft_ha_end_sessions(void);
/* Does not return: the server is reinitialised and starts as a standby. */
extern void pgraft_ha_demote(const char *reason) pg_attribute_noreturn();

/* ---- switchover.c ---- */
typedef enum PgraftHaHandover
{
	PGRAFT_HA_HANDOVER_PREPARES,	/* this server goes on as the primary */
	PGRAFT_HA_HANDOVER_CHOOSES, /* nobody was named, *target is to take over */
	PGRAFT_HA_HANDOVER_STOPS,	/* must be fenced from now on */
	PGRAFT_HA_HANDOVER_DONE,	/* the target has everything up to *end: DRAINED */
	PGRAFT_HA_HANDOVER_DEMOTES, /* sessions do not end: demotion first */
	PGRAFT_HA_HANDOVER_GIVEN_UP /* no target is there in time */
} PgraftHaHandover;

/* In phase DRAINING, on the primary. */
extern PgraftHaHandover pgraft_ha_hand_over(const PgraftHaDocument *document, XLogRecPtr *end,
											uint32 *target);

/* ---- sync_quorum.c ---- */

/* Brings synchronous_standby_names to what the document wants; true = in force. */
extern bool pgraft_ha_apply_sync(const PgraftHaDocument *document);
/* On the primary: changes of the sync set. */
extern void pgraft_ha_watch_sync(const PgraftHaDocument *document);
/* Flush position of the walsender of that member; Invalid = it does not stream. */
extern XLogRecPtr pgraft_ha_standby_flush(uint32 member);
/* Ends all walsenders of that member but the newest: half-open connections. */
extern void pgraft_ha_end_older_walsenders(uint32 member);

/* ---- slots.c ---- */
#define PGRAFT_HA_SLOT_PREFIX "pgraft_node" /* all such names are ours */
/* Writes NAMEDATALEN bytes. */
extern void pgraft_ha_slot_name(uint32 member, char *name);
/* On a primary that serves and on a standby that follows, each turn. */
extern void pgraft_ha_watch_slots(PgraftHaDocument *document);

/* ---- hook.c ---- */

/*
 * Runs the command of pgraft.on_role_change if this server's role is another one
 * than it was told last, and logs how the last one ended.  Does not wait.
 */
extern void pgraft_ha_tell_role(const PgraftHaLocal *local, const PgraftHaDocument *document);

/* executor.c: proposes; false when that failed (reported, to be tried again) */
extern bool pgraft_ha_try_propose(PgraftHaCommand *command);

#endif							/* PGRAFT_HA_EXECUTOR_H */
