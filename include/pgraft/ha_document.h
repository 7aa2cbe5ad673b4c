/*-------------------------------------------------------------------------
 *
 * ha_document.h
 *	  The cluster document: which member is the PostgreSQL primary, and all
 *	  that is needed to replace it without losing an acknowledged transaction
 *	  (src/ha/document*.c).
 *
 * A replicated state machine: changed only by applying a PgraftHaCommand that
 * consensus has committed, in log order, alike on every member.  Pure: no
 * clock, no setting, no PostgreSQL server code, no allocation; compiled for
 * unit tests, too.  Times are in the commands.
 *
 * Words
 *	epoch		grows by one with each attempt to have a primary.  A server
 *				accepts writes only as the primary of the newest epoch.
 *	data member	a member with a PostgreSQL server that can become primary; it
 *				has announced itself (MEMBER).  Witnesses never do.
 *	sync set	(S, k): S are data members, the primary among them; an
 *				acknowledged commit is durable on the primary and on k others
 *				of S.  So whoever has the reports of |S| - k members of S has
 *				heard of every acknowledged commit.  While a set is being
 *				replaced two are in force, and both must be satisfied.
 *	mode		quorum: as above, k shrinks by committed steps when standbys are
 *				lost.  strict: it does not, commits wait.  async: k = 0, and when
 *				the primary is lost a member that lacks at most maximum_lag bytes
 *				of what the primary was last known to have may be chosen.
 *	report		what a sealed member says of its WAL: it has the WAL of primary
 *				epoch `wal_epoch` up to `lsn`, and will acknowledge nothing of
 *				an older epoch any more.
 *
 * The course of a failover: BEGIN_EPOCH -> phase SEALING, every data member
 * seals itself and sends REPORT -> applying the report that completes the
 * quorum chooses the primary (greatest wal_epoch, then lsn, then priority,
 * then smallest id): phase ASSIGNED -> the chosen one promotes and sends
 * PROMOTED -> phase STEADY.  Every step may be taken up by the next leader;
 * a command for another epoch or phase than the current one changes nothing.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGRAFT_HA_DOCUMENT_H
#define PGRAFT_HA_DOCUMENT_H

#include "pgraft/platform.h"
#include "pgraft/raft.h"

#define PGRAFT_HA_MAX_MEMBERS RAFT_MAX_MEMBERS
#define PGRAFT_HA_HISTORY 64	/* newest epochs that are kept */
#define PGRAFT_HA_HOST_SIZE 256 /* with the terminating NUL */
#define PGRAFT_HA_REASON_SIZE 128
#define PGRAFT_HA_COMMAND_MAX 2048	/* encoded bytes */
#define PGRAFT_HA_DOCUMENT_MAX 65536	/* encoded bytes */

typedef enum PgraftHaPhase
{
	PGRAFT_HA_NONE = 0,			/* no primary was ever assigned */
	PGRAFT_HA_SEALING,			/* reports are being collected */
	PGRAFT_HA_ASSIGNED,			/* document.primary must promote itself */
	PGRAFT_HA_STEADY,			/* document.primary is primary of the epoch */
	PGRAFT_HA_DRAINING			/* switchover: the primary stops writing, demotes
								 * itself and reports; still primary of the epoch */
} PgraftHaPhase;

/* "none", "sealing", "assigned", "steady", "draining" */
extern const char *pgraft_ha_phase_name(int phase);

typedef enum PgraftHaSyncMode
{
	PGRAFT_HA_QUORUM = 0,
	PGRAFT_HA_STRICT,
	PGRAFT_HA_ASYNC
} PgraftHaSyncMode;

/* "quorum", "strict", "async" */
extern const char *pgraft_ha_mode_name(int mode);

/*
 * A member of a sync set that was removed from the cluster, or came back under
 * another incarnation: its id with this bit.  It counts as a member of the set
 * and can never report again.
 */
#define PGRAFT_HA_GONE 0x80000000u

typedef struct PgraftHaSyncSet
{
	int			k;				/* standbys that must have a commit; < n */
	int			n;				/* 0 = no such set; k = 0: the primary alone */
	uint32		members[PGRAFT_HA_MAX_MEMBERS]; /* ids, ascending */
} PgraftHaSyncSet;

typedef enum PgraftHaMemberState
{
	PGRAFT_HA_MEMBER_NEW = 0,	/* announced; never seen to follow */
	PGRAFT_HA_MEMBER_STREAMING, /* follows the primary of the epoch */
	PGRAFT_HA_MEMBER_LAGGING,	/* known, not following now */
	PGRAFT_HA_MEMBER_REWIND,	/* has WAL that history does not: must be rewound */
	PGRAFT_HA_MEMBER_RECLONE	/* rewinding would not do */
} PgraftHaMemberState;

extern const char *pgraft_ha_member_state_name(int state);

typedef struct PgraftHaMember
{
	uint32		id;
	uint64		incarnation;	/* of the membership that announced it */
	int			state;			/* PgraftHaMemberState */
	int			priority;		/* pgraft.failover_priority: who is preferred among
								 * those that have equal WAL */
	uint32		port;			/* of PostgreSQL */
	char		host[PGRAFT_HA_HOST_SIZE];
	uint64		kept_lsn;		/* every server keeps WAL from here on for it; 0 =
								 * not said yet */
	/* its report for document.epoch */
	bool		reported;
	uint64		wal_epoch;
	uint32		timeline;
	uint64		lsn;
} PgraftHaMember;

typedef struct PgraftHaEpoch
{
	uint64		epoch;
	int64		began_at;		/* microseconds since the Unix epoch */
	int64		ended_at;		/* promoted, or given up; 0 = under way */
	uint32		old_primary;	/* 0 = none */
	uint32		new_primary;	/* 0 = none was chosen */
	bool		promoted;		/* false: this epoch came to nothing (yet) */
	uint32		timeline;		/* of the promotion */
	uint64		fork_lsn;		/* where that timeline begins */
	uint64		tag;			/* random; tells promotions of equal numbers apart */
	uint64		base_epoch;		/* whose WAL the new primary had when it was chosen */
	uint64		base_lsn;		/* and up to where; 0 = not known */
	bool		lagged;			/* chosen in mode async without enough reports */
	uint64		lag;			/* and how many bytes it then lacked of what the old
								 * primary was last known to have */
	char		reason[PGRAFT_HA_REASON_SIZE];
} PgraftHaEpoch;

/* Microseconds that a switchover may take unless somebody asks for another time. */
#define PGRAFT_HA_SWITCHOVER_PATIENCE INT64CONST(30000000)

typedef struct PgraftHaDocument
{
	uint64		system_identifier;	/* of the PostgreSQL cluster; 0 = none yet */
	uint64		epoch;
	int			phase;			/* PgraftHaPhase */
	uint32		primary;		/* of the epoch; 0 while sealing */
	uint32		old_primary;	/* of the newest epoch that had one */
	uint64		primary_epoch;	/* newest epoch that was promoted */
	bool		paused;			/* maintenance: nothing automatic */
	int			mode;			/* PgraftHaSyncMode */
	int			wanted_k;		/* that many standbys where there are so many */
	uint64		maximum_lag;	/* bytes; of mode async */
	uint64		primary_lsn;	/* the primary had so much WAL */
	int64		primary_lsn_at; /* when it said so */
	uint64		changes;		/* commands that changed the document */
	PgraftHaSyncSet sync;		/* in force */
	PgraftHaSyncSet next_sync;	/* n = 0, or in force as well */
	uint64		sync_generation;	/* grows with every change of the two */
	/* switchover */
	uint32		switchover_target;	/* 0 = best; with phase DRAINING or the
									 * SEALING that follows */
	uint32		switchover_from;	/* who demoted itself for it; 0 = no switchover */
	int64		switchover_patience;	/* microseconds from its begin, by the leader's
									 * monotonic clock; then it is given up */
	uint64		switchover_serial;	/* grows with each one; tells them apart */
	uint64		switchover_lsn; /* where the old primary stopped; 0 = not yet */
	int64		scheduled_at;	/* a switchover is to begin then; 0 = none is */
	uint32		scheduled_target;	/* 0 = best */
	uint32		force_target;	/* SEALING: becomes primary once it reported,
								 * whatever others have; 0 = no such thing */
	int			n_members;
	PgraftHaMember members[PGRAFT_HA_MAX_MEMBERS];	/* ascending id */
	int			n_history;
	PgraftHaEpoch history[PGRAFT_HA_HISTORY];	/* oldest first */
} PgraftHaDocument;

typedef enum PgraftHaCommandKind
{
	/*
	 * member, incarnation, host, port, priority, system_identifier: announces
	 * a data member or its new address.  The first one fixes the system
	 * identifier; another identifier is refused.
	 */
	PGRAFT_HA_MEMBER = 1,
	/* member: no longer one (removed).  Leaves sync sets only through SYNC_*. */
	PGRAFT_HA_FORGET,
	/* epoch (current), reason, time: begins epoch + 1.  Not while paused unless
	 * forced.  In phase NONE it needs no reports: member becomes the primary. */
	PGRAFT_HA_BEGIN_EPOCH,
	/* epoch, member, its incarnation, wal_epoch, tag of that epoch's promotion as
	 * far as the member knows it, timeline, lsn, time.  (All
	 * commands about a member that is known may carry its incarnation.) */
	PGRAFT_HA_REPORT,
	/* epoch, member, timeline, lsn = fork, tag, time */
	PGRAFT_HA_PROMOTED,
	/* epoch, member = primary, sync = next set, generation (current).  While
	 * another one is under way only k = 0. */
	PGRAFT_HA_SYNC_BEGIN,
	/* epoch, member = primary, generation, lsn = what the primary has: every
	 * walsender runs with the next, and after that k others of the next were seen
	 * to have everything that the primary had.  sync = the set that stays; n = 0 is
	 * the next one.  The old one gives the change up (then the same must hold of
	 * it). */
	PGRAFT_HA_SYNC_END,
	/* epoch, member, state: what the primary sees (STREAMING, LAGGING) or the
	 * member says of itself (REWIND, RECLONE) */
	PGRAFT_HA_MEMBER_STATE,
	/* epoch, member = target or 0, patience, generation = switchover_serial, time: a
	 * late copy of one that was given up begins no other */
	PGRAFT_HA_SWITCHOVER,
	/* epoch, member = primary: is a standby now, its WAL ends at lsn on timeline
	 * (which counts as its report); begins epoch + 1 like BEGIN_EPOCH.  In
	 * DRAINING only switchover_target (or, when 0, another than it) can be chosen
	 * from then on, and only with all WAL that was reported; in STEADY it was
	 * restarted. */
	PGRAFT_HA_DEMOTED,
	/* epoch, time: it takes too long; back to the old primary: in DRAINING
	 * to STEADY, after DEMOTED or DRAINED any member with all WAL may be chosen */
	PGRAFT_HA_SWITCHOVER_ABORT,
	PGRAFT_HA_PAUSE,
	PGRAFT_HA_RESUME,
	/* epoch, member, time: an operator accepts the loss: epoch + 1 with that
	 * primary as soon as it reported, whatever others may have */
	PGRAFT_HA_FORCE,
	/* epoch, member = primary, generation = switchover_serial, wal_epoch, tag,
	 * timeline, lsn: what DEMOTED says, said before the demotion by a primary that
	 * is fenced, has no session left and acknowledges nothing of this epoch any
	 * more unless the switchover is given up before this is applied.  Its WAL may
	 * grow beyond lsn by what nobody waits for. */
	PGRAFT_HA_DRAINED,
	/* epoch, member = primary, lsn = its WAL, sync.members with positions: where the
	 * WAL begins that each still needs, time */
	PGRAFT_HA_POSITIONS,
	/* epoch, member = primary, state = PgraftHaSyncMode, priority = wanted_k,
	 * generation = maximum_lag, lsn = what the primary has, time: as the primary's
	 * settings have it */
	PGRAFT_HA_MODE,
	/* epoch, time: mode async, and the leader waits for no more reports: the best of
	 * those that reported becomes primary if it is close enough */
	PGRAFT_HA_ACCEPT_LAG,
	/* epoch, member = target or 0, patience = after how long it is to begin, time: a
	 * switchover for later.  Replaces an earlier one. */
	PGRAFT_HA_SCHEDULE,
	/* reason: nothing is scheduled any more */
	PGRAFT_HA_CANCEL_SCHEDULE,
	/* epoch, member = target, generation = switchover_serial: the primary's choice
	 * for a switchover that named nobody */
	PGRAFT_HA_SWITCHOVER_TARGET
} PgraftHaCommandKind;

/* The reason of an epoch, where members do something else because of it. */
#define PGRAFT_HA_PROCESS_GONE "the primary's process is gone"

extern const char *pgraft_ha_command_name(int kind);

typedef struct PgraftHaCommand
{
	int			kind;
	uint64		epoch;
	uint32		member;
	uint64		incarnation;
	int			priority;
	int			state;
	uint32		port;
	uint32		timeline;
	uint64		wal_epoch;
	uint64		lsn;
	uint64		generation;
	uint64		tag;
	uint64		system_identifier;
	int64		time;			/* microseconds since the Unix epoch */
	int64		patience;		/* microseconds */
	bool		forced;
	PgraftHaSyncSet sync;
	uint64		positions[PGRAFT_HA_MAX_MEMBERS];	/* of sync.members, POSITIONS only */
	char		host[PGRAFT_HA_HOST_SIZE];
	char		reason[PGRAFT_HA_REASON_SIZE];
} PgraftHaCommand;

typedef enum PgraftHaVerdict
{
	PGRAFT_HA_DONE = 0,			/* the document changed */
	PGRAFT_HA_UNCHANGED,		/* it says so already */
	PGRAFT_HA_STALE,			/* for another epoch, phase or generation */
	PGRAFT_HA_REFUSED			/* contradicts the rules; see why */
} PgraftHaVerdict;

extern void pgraft_ha_document_init(PgraftHaDocument *document);

/*
 * Applies one committed command.  *why (static storage) says what became of
 * it, for the log: one line per transition, "" when there is nothing to tell.
 */
extern PgraftHaVerdict pgraft_ha_document_apply(PgraftHaDocument *document,
												const PgraftHaCommand *command,
												const char **why);

/* Whether the reports suffice for every sync set in force. */
extern bool pgraft_ha_reports_suffice(const PgraftHaDocument *document);
/* Whom the reports choose; 0 = nobody. */
extern uint32 pgraft_ha_choose(const PgraftHaDocument *document);

/*
 * Whether that member, if it streams from the old primary, may go on for a moment
 * before it seals and reports: the primary may have been shut down in order, and
 * then it sends the last of its WAL after its member's process has ended.
 */
extern bool pgraft_ha_last_wal_may_come(const PgraftHaDocument *document, uint32 id);

/*
 * Whom ACCEPT_LAG would choose, 0 = nobody, and how many bytes it lacks of what
 * the old primary was last known to have.
 */
extern uint32 pgraft_ha_choose_lagged(const PgraftHaDocument *document, uint64 *lag);

/*
 * Where a member whose newest WAL is of (wal_epoch, timeline, lsn) left the
 * history: STREAMING = it may follow the newest promoted epoch, REWIND or
 * RECLONE.  `tag` is that of the promotion it last followed, 0 = unknown.
 */
extern int	pgraft_ha_judge_wal(const PgraftHaDocument *document, uint64 wal_epoch,
								uint64 tag, uint32 timeline, uint64 lsn);

extern PgraftHaMember *pgraft_ha_find_member(PgraftHaDocument *document, uint32 id);
extern const PgraftHaEpoch *pgraft_ha_find_epoch(const PgraftHaDocument *document,
												 uint64 epoch);
extern bool pgraft_ha_set_contains(const PgraftHaSyncSet *set, uint32 id);

/* Returns NULL, or the text of the first invariant that does not hold. */
extern const char *pgraft_ha_document_check(const PgraftHaDocument *document);

/*
 * Bytes in log and snapshot, described at the top of document_codec.c.  encode
 * returns the length (the buffer has *_MAX bytes); decode returns false for
 * what encode cannot have written.
 */
extern size_t pgraft_ha_command_encode(const PgraftHaCommand *command, unsigned char *buffer);
extern bool pgraft_ha_command_decode(PgraftHaCommand *command, const unsigned char *data,
									 size_t length);
extern size_t pgraft_ha_document_encode(const PgraftHaDocument *document,
										unsigned char *buffer);
extern bool pgraft_ha_document_decode(PgraftHaDocument *document, const unsigned char *data,
									  size_t length);

#endif							/* PGRAFT_HA_DOCUMENT_H */
