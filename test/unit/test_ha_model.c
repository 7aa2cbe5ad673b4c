/*-------------------------------------------------------------------------
 *
 * test_ha_model.c
 *	  The cluster document against a small model of PostgreSQL's replication:
 *	  random schedules, in which nothing acknowledged may ever be missing from
 *	  a primary that was chosen later.
 *
 * The model.  WAL is an array of writes; a promotion is a write, too.  Each
 * member knows what a server knows, and looks at the document only now and
 * then: a deposed primary goes on for as long as the schedule likes, and
 * commands reach the log late, in another order, or twice.  A member
 *	- follows one primary at one epoch, or is sealed; it copies writes only
 *	  while it follows, and remembers the epoch of the newest WAL it has
 *	- as a primary acknowledges a write once k members of a set that it may use
 *	  have it; while two sets are in force the schedule chooses between them
 *	- crashes, comes back, is removed, comes back empty under another
 *	  incarnation, promotes itself and dies before anybody heard of it
 *
 * A primary of mode async acknowledges alone and says now and then how far it
 * is; a leader may accept a member that lags, and then what it lacks must lie
 * within the bound.
 *
 * Whether a member may follow is asked of pgraft_ha_judge_wal(); the model
 * knows the truth, because it can compare the arrays.
 *
 *	test_ha_model [SEED [SCHEDULES]]
 *
 * Copyright (c) 2026, pgraft contributors
 *
 *-------------------------------------------------------------------------
 */
#include "pgraft/platform.h"

#include "pgraft/ha_document.h"

#include "tap.h"

#define MAX_SERVERS 5
#define MAX_WAL 96
#define MAX_FLIGHT 12
#define MAX_WRITES 4096
#define STEPS 400
#define SYSTEM_IDENTIFIER 77

typedef struct Write
{
	uint64		epoch;			/* of the primary that wrote it */
	uint64		end;			/* position behind it */
	bool		acked;
} Write;

typedef struct Server
{
	bool		up;
	bool		blank;			/* has no data: must be cloned */
	uint64		incarnation;
	int			wal[MAX_WAL];	/* numbers of writes */
	int			length;
	uint64		wal_epoch;
	uint64		wal_tag;
	uint32		timeline;
	/* as a standby */
	uint64		open_epoch;		/* 0 = sealed */
	uint32		upstream;
	/* as a primary */
	uint64		running_epoch;	/* 0 = in recovery */
	uint64		running_tag;
	int			fork;			/* length before the promotion */
	bool		leased;			/* saw PROMOTED of that epoch */
	uint64		drained;		/* switchover for which it stopped; 0 = none */
	PgraftHaSyncSet current;	/* what it acknowledges by: either, while two */
	PgraftHaSyncSet next;		/* are in force here */
	bool		next_in_force;	/* walsenders run with it alone */
	uint64		generation;
} Server;

static PgraftHaDocument document;
static Server servers[MAX_SERVERS + 1];
static int	n_servers;
static Write writes[MAX_WRITES];
static int	n_writes;
static PgraftHaCommand flight[MAX_FLIGHT];
static int	n_flight;
static uint64 void_below;		/* acknowledgements of older epochs count no more */
static uint64 recorded;			/* newest position of the primary that was applied */
static bool mostly_async;		/* in this schedule */
static uint64 random_state;
static int64 model_time;
static const char *violation;
static uint64 total_steps;
static uint64 total_acked;
static uint64 total_promotions;
static uint64 total_silent;
static uint64 total_rewinds;
static uint64 total_switchovers;
static uint64 total_sync_changes;
static uint64 total_lagged;
static uint64 total_lagged_losses;

static uint64
next_random(void)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return random_state;
}

static int
below(int n)
{
	return (int) ((next_random() >> 20) % (uint64) n);
}

static bool
one_in(int n)
{
	return below(n) == 0;
}

static void
violated(const char *text)
{
	if (violation == NULL)
		violation = text;
}

/* ----------------------------------------------------------------
 * What the model knows
 * ----------------------------------------------------------------
 */

static bool
has_write(const Server *server, int write)
{
	int			i;

	for (i = 0; i < server->length; i++)
	{
		if (server->wal[i] == write)
			return true;
	}
	return false;
}

static uint64
position(const Server *server)
{
	return (uint64) server->length + 1;
}

static bool
is_prefix(const Server *shorter, const Server *longer)
{
	return shorter->length <= longer->length &&
		memcmp(shorter->wal, longer->wal, (size_t) shorter->length * sizeof(int)) == 0;
}

static void
check_has_all_acked(const Server *server)
{
	int			i;

	for (i = 0; i < n_writes; i++)
	{
		if (writes[i].acked && writes[i].epoch >= void_below && !has_write(server, i))
			violated("an acknowledged write is missing from a chosen primary");
	}
}

/* Mode async: what is missing must lie within the bound. */
static void
check_lag(const PgraftHaDocument *before, const Server *server)
{
	uint64		bound = recorded > before->maximum_lag ? recorded - before->maximum_lag : 0;
	bool		loses = false;
	int			i;

	if (before->mode != PGRAFT_HA_ASYNC || before->sync.k > 0 || before->next_sync.k > 0)
		violated("a member that lags was chosen where commits wait for standbys");
	for (i = 0; i < n_writes; i++)
	{
		if (!writes[i].acked || writes[i].epoch < void_below || has_write(server, i))
			continue;
		loses = true;
		if (writes[i].end <= bound)
			violated("a member that lags lacks more than the bound");
	}
	total_lagged++;
	total_lagged_losses += loses;
}

static void
append(Server *server, uint64 epoch)
{
	if (server->length == MAX_WAL || n_writes == MAX_WRITES)
		return;
	writes[n_writes].epoch = epoch;
	writes[n_writes].acked = false;
	writes[n_writes].end = position(server) + 1;
	server->wal[server->length++] = n_writes++;
}

/* ----------------------------------------------------------------
 * Commands
 * ----------------------------------------------------------------
 */

static void
apply(const PgraftHaCommand *command)
{
	PgraftHaDocument before;
	const char *why;
	const char *broken;
	PgraftHaVerdict verdict;
	static unsigned int applied = 0;
	bool		compare = ++applied % 64 == 0 || command->kind == PGRAFT_HA_ACCEPT_LAG;

	if (compare)
		before = document;
	verdict = pgraft_ha_document_apply(&document, command, &why);
	if (compare && verdict != PGRAFT_HA_DONE &&
		memcmp(&before, &document, sizeof(before)) != 0)
		violated("a command without effect changed the document");
	if (verdict != PGRAFT_HA_DONE)
		return;
	broken = pgraft_ha_document_check(&document);
	if (broken != NULL)
		violated(broken);
	if (command->kind == PGRAFT_HA_ACCEPT_LAG)
	{
		check_lag(&before, &servers[document.primary]);
		void_below = document.epoch;
	}
	if (document.phase == PGRAFT_HA_ASSIGNED &&
		(command->kind == PGRAFT_HA_REPORT || command->kind == PGRAFT_HA_DEMOTED ||
		 command->kind == PGRAFT_HA_DRAINED ||
		 command->kind == PGRAFT_HA_SWITCHOVER_ABORT || command->kind == PGRAFT_HA_FORGET ||
		 command->kind == PGRAFT_HA_MEMBER))
	{
		if (document.force_target != 0)
			void_below = document.epoch;	/* the loss was accepted */
		else
			check_has_all_acked(&servers[document.primary]);
	}
	if (command->kind == PGRAFT_HA_PROMOTED)
	{
		total_promotions++;
		recorded = 0;
	}
	if (command->kind == PGRAFT_HA_PROMOTED || command->kind == PGRAFT_HA_POSITIONS ||
		command->kind == PGRAFT_HA_MODE || command->kind == PGRAFT_HA_SYNC_END)
		recorded = Max(recorded, command->lsn);
	if (command->kind == PGRAFT_HA_SWITCHOVER)
		total_switchovers++;
	if (command->kind == PGRAFT_HA_SYNC_END)
		total_sync_changes++;
}

static void
prepare(PgraftHaCommand *command, int kind, uint32 member)
{
	memset(command, 0, sizeof(*command));
	command->kind = kind;
	command->member = member;
	command->incarnation = member <= (uint32) n_servers ? servers[member].incarnation : 0;
	command->epoch = document.epoch;
	command->generation = document.sync_generation;
	command->time = ++model_time;
}

/* Into the log now, or later, or never; sometimes twice. */
static void
send(const PgraftHaCommand *command)
{
	if (n_flight == MAX_FLIGHT || one_in(3))
		apply(command);
	else
	{
		flight[n_flight++] = *command;
		if (one_in(16))
			apply(command);
	}
}

static void
deliver_one(void)
{
	PgraftHaCommand command;
	int			i;

	if (n_flight == 0)
		return;
	i = below(n_flight);
	command = flight[i];
	flight[i] = flight[--n_flight];
	if (!one_in(20))
		apply(&command);
}

static void
announce(uint32 id)
{
	PgraftHaCommand command;

	prepare(&command, PGRAFT_HA_MEMBER, id);
	command.incarnation = servers[id].incarnation;
	command.system_identifier = SYSTEM_IDENTIFIER;
	command.port = 5432;
	command.priority = below(3);
	strcpy(command.host, "host");
	apply(&command);
}

static void
send_position(int kind, uint32 id)
{
	PgraftHaCommand command;

	prepare(&command, kind, id);
	command.wal_epoch = servers[id].wal_epoch;
	command.tag = servers[id].wal_tag;
	command.timeline = servers[id].timeline;
	command.lsn = position(&servers[id]);
	if (kind == PGRAFT_HA_DRAINED)
		command.generation = document.switchover_serial;
	send(&command);
}

/* ----------------------------------------------------------------
 * What a server does when it looks at the document
 * ----------------------------------------------------------------
 */

static void
promote(uint32 id)
{
	Server	   *server = &servers[id];
	PgraftHaCommand command;

	server->fork = server->length;
	server->running_epoch = document.epoch;
	server->running_tag = next_random() | 1;
	server->leased = false;
	server->drained = 0;
	server->timeline++;
	append(server, document.epoch);
	server->wal_epoch = document.epoch;
	server->wal_tag = server->running_tag;
	if (one_in(4))
	{
		/* nobody may ever hear of it */
		server->running_epoch = 0;
		server->up = one_in(3);
		total_silent++;
		return;
	}
	prepare(&command, PGRAFT_HA_PROMOTED, id);
	command.timeline = server->timeline;
	command.lsn = (uint64) server->fork + 1;
	command.tag = server->running_tag;
	send(&command);
}

static void
choose_target(void)
{
	PgraftHaCommand command;

	prepare(&command, PGRAFT_HA_SWITCHOVER_TARGET, 1 + (uint32) below(n_servers));
	command.generation = document.switchover_serial;
	send(&command);
}

static void
run_as_primary(uint32 id)
{
	Server	   *server = &servers[id];
	const PgraftHaEpoch *entry = pgraft_ha_find_epoch(&document, document.epoch);

	/* its word of an earlier promotion for this epoch came late */
	if (server->running_epoch == document.epoch && entry->tag != server->running_tag)
		server->running_epoch = 0;
	if (server->running_epoch != document.epoch)
	{
		send_position(PGRAFT_HA_DEMOTED, id);
		return;
	}
	if (document.phase == PGRAFT_HA_DRAINING && document.switchover_target == 0 && one_in(2))
	{
		choose_target();
		return;
	}
	if (document.phase == PGRAFT_HA_DRAINING && server->drained == document.switchover_serial)
	{
		/* WAL that nobody waits for comes all the same */
		if (one_in(8))
			append(server, server->running_epoch);
		send_position(PGRAFT_HA_DRAINED, id);
		return;
	}
	if (!server->leased || server->generation != document.sync_generation)
	{
		server->leased = true;
		server->generation = document.sync_generation;
		server->current = document.sync;
		server->next = document.next_sync;
		server->next_in_force = false;
	}
	server->drained = 0;
	if (document.phase == PGRAFT_HA_DRAINING && one_in(2))
	{
		server->drained = document.switchover_serial;
		send_position(PGRAFT_HA_DRAINED, id);
	}
	else if (document.phase == PGRAFT_HA_DRAINING)
	{
		server->running_epoch = 0;
		server->leased = false;
		send_position(PGRAFT_HA_DEMOTED, id);
	}
}

static void
follow_or_rewind(uint32 id)
{
	Server	   *server = &servers[id];
	Server	   *primary = &servers[document.primary];
	PgraftHaCommand command;
	int			verdict;
	const PgraftHaEpoch *entry = pgraft_ha_find_epoch(&document, document.epoch);
	Server		promoted = *primary;

	if (!primary->up || primary->running_epoch != document.epoch ||
		primary->running_tag != entry->tag)
		return;
	verdict = server->blank ? PGRAFT_HA_MEMBER_RECLONE :
		pgraft_ha_judge_wal(&document, server->wal_epoch, server->wal_tag,
							server->timeline, position(server));
	if (verdict == PGRAFT_HA_MEMBER_STREAMING)
	{
		if (!is_prefix(server, &promoted))
			violated("a member with WAL of its own was let follow");
		server->open_epoch = document.epoch;
		server->upstream = document.primary;
		return;
	}

	/* it sealed itself before it judged */
	server->open_epoch = 0;
	if (verdict == PGRAFT_HA_MEMBER_REWIND && server->timeline == primary->timeline &&
		server->wal_epoch != document.epoch)
		violated("pg_rewind would take two timelines for one");
	prepare(&command, PGRAFT_HA_MEMBER_STATE, id);
	command.state = verdict;
	send(&command);
	if (one_in(3))
	{
		/* the new copy is consistent once it has what the primary had */
		memcpy(server->wal, primary->wal, sizeof(server->wal));
		server->length = primary->length;
		server->wal_epoch = primary->wal_epoch;
		server->wal_tag = primary->wal_tag;
		server->timeline = primary->timeline;
		server->blank = false;
		server->open_epoch = 0;
		total_rewinds++;
	}
}

static void
seal_and_report(uint32 id)
{
	Server	   *server = &servers[id];

	server->open_epoch = 0;
	if (!server->blank)
		send_position(PGRAFT_HA_REPORT, id);
}

static void
look_at_document(uint32 id)
{
	Server	   *server = &servers[id];
	PgraftHaMember *member = pgraft_ha_find_member(&document, id);

	if (!server->up || member == NULL || member->incarnation != server->incarnation)
		return;
	if (server->running_epoch != 0 && server->running_epoch < document.epoch)
	{
		server->running_epoch = 0;
		server->leased = false;
	}
	if (server->open_epoch < document.epoch)
		server->open_epoch = 0;
	switch (document.phase)
	{
		case PGRAFT_HA_SEALING:
			seal_and_report(id);
			break;
		case PGRAFT_HA_ASSIGNED:
			server->open_epoch = 0;
			if (document.primary == id && server->running_epoch == 0 && !server->blank)
				promote(id);
			break;
		case PGRAFT_HA_STEADY:
		case PGRAFT_HA_DRAINING:
			if (document.primary == id)
				run_as_primary(id);
			else if (server->running_epoch == 0)
				follow_or_rewind(id);
			break;
		default:
			break;
	}
}

/* ----------------------------------------------------------------
 * Replication
 * ----------------------------------------------------------------
 */

static bool
is_connected(const Server *server, uint32 upstream)
{
	if (!server->up || server->open_epoch == 0 || server->upstream != upstream ||
		!servers[upstream].up)
		return false;
	return servers[upstream].running_epoch == server->open_epoch;
}

static void
replicate(uint32 id)
{
	Server	   *server = &servers[id];
	const Server *upstream = &servers[server->upstream];
	int			wanted;

	if (server->open_epoch == 0 || !is_connected(server, server->upstream))
		return;
	wanted = 1 + below(4);
	while (wanted-- > 0 && server->length < upstream->length)
	{
		int			write = upstream->wal[server->length];

		server->wal[server->length++] = write;
		if (writes[write].epoch > server->wal_epoch)
		{
			server->wal_epoch = writes[write].epoch;
			server->wal_tag = upstream->wal_tag;
			server->timeline = upstream->timeline;
		}
	}
}

/* Whether k standbys of the set have the first `length` writes of the primary. */
static bool
confirmed(uint32 primary, const PgraftHaSyncSet *set, int length)
{
	int			have = 0;
	int			i;

	for (i = 0; i < set->n; i++)
	{
		uint32		id = set->members[i];

		if (id != primary && (id & PGRAFT_HA_GONE) == 0 && is_connected(&servers[id], primary) &&
			servers[id].length >= length)
			have++;
	}
	return have >= set->k;
}

static void
acknowledge(uint32 id)
{
	Server	   *server = &servers[id];
	bool		by_current;
	int			i;

	if (!server->up || server->running_epoch == 0 || !server->leased || server->drained != 0)
		return;
	by_current = server->next.n == 0 || (!server->next_in_force && one_in(2));
	for (i = server->fork; i < server->length; i++)
	{
		int			write = server->wal[i];

		if (writes[write].acked || writes[write].epoch != server->running_epoch)
			continue;
		if (!confirmed(id, by_current ? &server->current : &server->next, i + 1))
			return;
		writes[write].acked = true;
		total_acked++;
		if (server->running_epoch < void_below)
			continue;
		if (document.primary != 0 && document.epoch > server->running_epoch &&
			!has_write(&servers[document.primary], write))
			violated("a deposed primary acknowledged what the new one does not have");
	}
}

/* The primary's word on the mode, and how far it is. */
static void
tell_mode_or_position(uint32 id)
{
	PgraftHaCommand command;

	prepare(&command, one_in(mostly_async && document.mode != PGRAFT_HA_ASYNC ? 2 : 4) ?
			PGRAFT_HA_MODE : PGRAFT_HA_POSITIONS, id);
	command.epoch = servers[id].running_epoch;
	command.lsn = position(&servers[id]);
	command.generation = 0;
	if (command.kind == PGRAFT_HA_MODE)
	{
		command.state = mostly_async && !one_in(6) ? PGRAFT_HA_ASYNC : below(3);
		command.priority = below(3);
		command.generation = (uint64) below(6);
	}
	send(&command);
}

static void
change_sync_set(uint32 id)
{
	Server	   *server = &servers[id];
	PgraftHaCommand command;
	int			i;

	if (!server->up || !server->leased || server->running_epoch == 0 ||
		server->generation != document.sync_generation)
		return;
	if (one_in(mostly_async ? 2 : 4))
	{
		tell_mode_or_position(id);
		return;
	}
	if (server->next.n > 0 && !one_in(8))
	{
		server->next_in_force = true;
		if (!confirmed(id, &server->next, server->length))
			return;
		prepare(&command, PGRAFT_HA_SYNC_END, id);
		command.epoch = server->running_epoch;
		command.sync = server->next;
		command.lsn = position(server);
		send(&command);
		return;
	}
	if (server->next.n > 0 && !server->next_in_force && one_in(2))
	{
		/* giving it up is the same with the sets exchanged */
		PgraftHaSyncSet dropped = server->next;

		server->next = server->current;
		server->current = dropped;
		server->next_in_force = true;
		if (confirmed(id, &server->next, server->length))
		{
			prepare(&command, PGRAFT_HA_SYNC_END, id);
			command.epoch = server->running_epoch;
			command.sync = server->next;
			command.lsn = position(server);
			send(&command);
			return;
		}
		server->current = server->next;
		server->next = dropped;
		server->next_in_force = false;
		return;
	}
	prepare(&command, PGRAFT_HA_SYNC_BEGIN, id);
	command.epoch = server->running_epoch;
	for (i = 0; i < document.n_members; i++)
	{
		if (document.members[i].id == id || one_in(2))
			command.sync.members[command.sync.n++] = document.members[i].id;
	}
	command.sync.k = document.mode == PGRAFT_HA_ASYNC ? 0 : below(command.sync.n);
	send(&command);
}

/* ----------------------------------------------------------------
 * Schedules
 * ----------------------------------------------------------------
 */

static void
leader_acts(void)
{
	PgraftHaCommand command;
	int			choice = below(10);

	prepare(&command, PGRAFT_HA_BEGIN_EPOCH, 0);
	if (document.phase == PGRAFT_HA_NONE)
		command.member = 1;
	else if (choice == 0)
	{
		command.kind = one_in(2) ? PGRAFT_HA_PAUSE : PGRAFT_HA_RESUME;
		apply(&command);
		return;
	}
	else if (document.phase == PGRAFT_HA_SEALING && document.mode == PGRAFT_HA_ASYNC &&
			 !one_in(4))
		command.kind = PGRAFT_HA_ACCEPT_LAG;
	else if (choice == 6 && one_in(4))
	{
		command.kind = one_in(3) ? PGRAFT_HA_CANCEL_SCHEDULE : PGRAFT_HA_SCHEDULE;
		command.member = (uint32) below(n_servers + 1);
		command.patience = 1 + below(3);
	}
	else if (choice < 3)
	{
		command.kind = PGRAFT_HA_SWITCHOVER;
		command.member = (uint32) below(n_servers + 1);
		command.patience = 5;
		command.generation = document.switchover_serial;
	}
	else if (choice < 5)
		command.kind = PGRAFT_HA_SWITCHOVER_ABORT;
	else if (choice == 5 && one_in(20))
	{
		command.kind = PGRAFT_HA_FORCE;
		command.member = (uint32) (1 + below(n_servers));
	}
	else if (document.phase == PGRAFT_HA_STEADY && servers[document.primary].up && !one_in(6))
		return;
	command.forced = document.paused || one_in(30);
	send(&command);
}

/* It leaves, or the same id comes back empty. */
static void
replace_server(uint32 id)
{
	Server	   *server = &servers[id];
	PgraftHaCommand command;

	if (document.primary == id || pgraft_ha_find_member(&document, id) == NULL ||
		document.n_members < 3)
		return;
	if (one_in(2))
	{
		prepare(&command, PGRAFT_HA_FORGET, id);
		apply(&command);
	}
	memset(server, 0, sizeof(*server));
	server->up = true;
	server->blank = true;
	server->incarnation = (uint64) (1000 + ++model_time);
	announce(id);
}

static void
crash_or_return(uint32 id)
{
	Server	   *server = &servers[id];

	server->up = !server->up;
	server->open_epoch = 0;
	server->running_epoch = 0;
	server->leased = false;
	server->drained = 0;
}

static void
one_step(void)
{
	uint32		id = (uint32) (1 + below(n_servers));
	int			choice = below(100);

	total_steps++;
	if (choice < 34)
		look_at_document(id);
	else if (choice < 52)
		replicate(id);
	else if (choice < 62)
		acknowledge(id);
	else if (choice < 74)
	{
		if (servers[id].up && servers[id].running_epoch != 0 && servers[id].leased)
			append(&servers[id], servers[id].running_epoch);
	}
	else if (choice < 86)
		deliver_one();
	else if (choice < 94)
		change_sync_set(id);
	else if (choice < 96)
	{
		if (!servers[id].up || one_in(2))
			crash_or_return(id);
	}
	else if (choice < (mostly_async && document.phase == PGRAFT_HA_SEALING ? 100 : 99))
		leader_acts();
	else if (one_in(4))
		replace_server(id);
}

static bool
can_settle(void)
{
	int			i;

	for (i = 0; i < 2; i++)
	{
		const PgraftHaSyncSet *set = i == 0 ? &document.sync : &document.next_sync;
		int			can = 0;
		int			j;

		for (j = 0; j < set->n; j++)
		{
			if ((set->members[j] & PGRAFT_HA_GONE) == 0 && !servers[set->members[j]].blank)
				can++;
		}
		if (can < set->n - set->k)
			return false;
	}
	return true;
}

/* With everybody there and nothing going wrong there is a primary soon. */
static void
check_liveness(void)
{
	PgraftHaCommand command;
	int			round;
	uint32		id;

	for (id = 1; id <= (uint32) n_servers; id++)
	{
		if (!servers[id].up)
			crash_or_return(id);
	}
	n_flight = 0;
	for (round = 0; round < 40 && violation == NULL; round++)
	{
		const Server *primary = &servers[document.primary];

		if (document.phase == PGRAFT_HA_STEADY && primary->running_epoch == document.epoch &&
			primary->leased)
			return;
		if (!can_settle())
			return;
		if (document.switchover_from != 0)
		{
			prepare(&command, PGRAFT_HA_SWITCHOVER_ABORT, 0);
			apply(&command);
		}
		if (document.force_target != 0 && round % 8 == 7)
		{
			/* a person takes back what cannot be */
			prepare(&command, PGRAFT_HA_BEGIN_EPOCH, 0);
			command.forced = true;
			apply(&command);
		}
		else if (document.primary != 0 && round % 8 == 7 &&
				 (document.phase == PGRAFT_HA_ASSIGNED ||
				  primary->running_epoch != document.epoch))
		{
			prepare(&command, PGRAFT_HA_BEGIN_EPOCH, document.primary);
			command.forced = true;
			apply(&command);
		}
		else if (document.phase == PGRAFT_HA_NONE)
		{
			prepare(&command, PGRAFT_HA_BEGIN_EPOCH, 1);
			apply(&command);
		}
		for (id = 1; id <= (uint32) n_servers; id++)
		{
			look_at_document(id);
			while (n_flight > 0)
				apply(&flight[--n_flight]);
			if (!servers[id].up)
				crash_or_return(id);
		}
	}
	if (violation == NULL && can_settle())
		violated("with all members there no primary appears");
}

static void
one_schedule(void)
{
	uint32		id;
	int			step;

	pgraft_ha_document_init(&document);
	memset(servers, 0, sizeof(servers));
	n_servers = 2 + below(MAX_SERVERS - 1);
	n_writes = 0;
	n_flight = 0;
	void_below = 0;
	recorded = 0;
	mostly_async = one_in(3);
	model_time = 0;
	for (id = 1; id <= (uint32) n_servers; id++)
	{
		servers[id].up = true;
		servers[id].incarnation = id;
		servers[id].timeline = 1;
		announce(id);
	}
	for (step = 0; step < STEPS && violation == NULL; step++)
		one_step();
	if (violation == NULL)
		check_liveness();
}

int
main(int argc, char **argv)
{
	uint64		seed = argc > 1 ? strtoull(argv[1], NULL, 10) : 1;
	int			schedules = argc > 2 ? atoi(argv[2]) : 20000;
	int			i;

	for (i = 0; i < schedules && violation == NULL; i++)
	{
		random_state = (seed + (uint64) i) * UINT64CONST(0x9E3779B97F4A7C15) + 1;
		one_schedule();
	}
	printf("# %llu steps, %llu acknowledged writes, %llu promotions (and %llu that nobody followed)\n",
		   (unsigned long long) total_steps, (unsigned long long) total_acked,
		   (unsigned long long) total_promotions, (unsigned long long) total_silent);
	printf("# %llu members that lagged were chosen, and %llu times something was lost\n",
		   (unsigned long long) total_lagged, (unsigned long long) total_lagged_losses);
	printf("# %llu switchovers, %llu changes of the sync set, %llu members rewound\n",
		   (unsigned long long) total_switchovers, (unsigned long long) total_sync_changes,
		   (unsigned long long) total_rewinds);
	ok(violation == NULL, "%d schedules%s%s", i, violation != NULL ? ": " : "",
	   violation != NULL ? violation : "");
	if (violation != NULL)
		printf("#   schedule: test_ha_model %llu 1\n", (unsigned long long) (seed + (uint64) i - 1));
	ok(total_acked > (uint64) schedules && total_promotions > (uint64) schedules / 4 &&
	   total_silent > 0 && total_rewinds > 0 && total_switchovers > 0 && total_sync_changes > 0 &&
	   total_lagged > total_lagged_losses && total_lagged_losses > 0,
	   "the schedules went everywhere");
	return tap_done();
}
