/*-------------------------------------------------------------------------
 *
 * change_members.c
 *	  Several changes of membership as one, carried out on the leader.
 *
 * Called by members.c, once per turn and operation.  Two steps:
 *
 *	JOINING		those to be added enter together, as learners that stay
 *				learners: this changes no majority.  The leader waits until
 *				each answers and has caught up; if not, all are taken out
 *				again (UNDOING) and nothing has changed.
 *	COMMITTING	one joint configuration (diss. 4.3) makes them what they shall
 *				be and removes, demotes and promotes the others; the engine
 *				leaves it by itself.  Ends when that is committed.
 *
 * No majority ever depends on a server that has not caught up, and between the
 * old set of voters and the new one there is none in between.  A leader that
 * shall lead no more hands over to a voter that stays before the second step
 * (MOVING); the new leader, asked again, skips what has been done already.  The
 * member that a client asked does the asking, whether the client is still there
 * or not; only when that member's worker ends before, learners may be left.
 * If no present voter stays, the leader goes when the change is complete.
 *
 * On the wire, per change (all integers little-endian):
 *
 *	 0	1	type (enum raft_change_type)
 *	 1	1	role (enum raft_role)
 *	 2	1	bytes of the address
 *	 3	1	bytes of the name
 *	 4	4	node id
 *	 8	4	port
 *	12		address, then name
 *
 * Copyright (c) 2026, pgraft contributors
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/memutils.h"

#include "pgraft/bytes.h"
#include "pgraft/settings.h"
#include "pgraft/worker.h"

#define RETRY_MS 10
#define CHANGE_HEADER_BYTES 12

static bool check_changes(PgraftNode *node, PgraftOperation *op);
static bool shares_address(const PgraftOperation *op, int number);
static const char *objection(const struct raft_config *config,
							 const struct raft_change *change, PgraftResult *result);
static int	try_changes(const struct raft_config *config, const PgraftOperation *op);
static int	missing_members(const struct raft_config *config, const PgraftOperation *op,
							struct raft_change *changes);
static int	final_changes(const struct raft_config *config, const PgraftOperation *op,
						  struct raft_change *changes);
static bool anybody_silent(PgraftNode *node, const PgraftOperation *op, char *detail,
						   size_t size);
static bool caught_up(PgraftNode *node, PgraftOperation *op, const struct raft_status *status,
					  char *detail, size_t size);
static void begin_undo(PgraftOperation *op, PgraftResult result, const char *detail);
static void begin_final(PgraftNode *node, PgraftOperation *op,
						const struct raft_status *status);
static bool leader_goes(const PgraftOperation *op, raft_id leader);
static raft_id best_heir(PgraftNode *node, const PgraftOperation *op,
						 const struct raft_status *status);
static bool hand_over(PgraftNode *node, PgraftOperation *op, const struct raft_status *status);

static struct raft_change scratch[RAFT_MAX_MEMBERS];

/* ----------------------------------------------------------------
 * The list of changes
 * ----------------------------------------------------------------
 */

size_t
pgraft_changes_bytes(const struct raft_change *changes, int n)
{
	size_t		bytes = 0;
	int			i;

	for (i = 0; i < n; i++)
		bytes += CHANGE_HEADER_BYTES + strlen(changes[i].member.address) +
			strlen(changes[i].member.name);
	return bytes;
}

void
pgraft_changes_encode(const struct raft_change *changes, int n, unsigned char *buffer)
{
	int			i;

	for (i = 0; i < n; i++)
	{
		const struct raft_member *member = &changes[i].member;
		size_t		address_bytes = strlen(member->address);
		size_t		name_bytes = strlen(member->name);

		buffer[0] = (unsigned char) changes[i].type;
		buffer[1] = (unsigned char) member->role;
		buffer[2] = (unsigned char) address_bytes;
		buffer[3] = (unsigned char) name_bytes;
		pgraft_put_u32(buffer + 4, member->id);
		pgraft_put_u32(buffer + 8, member->port);
		buffer += CHANGE_HEADER_BYTES;
		memcpy(buffer, member->address, address_bytes);
		memcpy(buffer + address_bytes, member->name, name_bytes);
		buffer += address_bytes + name_bytes;
	}
}

/* The number of changes, at most RAFT_MAX_MEMBERS; 0 when the bytes are none. */
int
pgraft_changes_decode(struct raft_change *changes, const unsigned char *data, size_t length)
{
	int			n = 0;

	while (length > 0)
	{
		struct raft_member *member;
		size_t		address_bytes;
		size_t		name_bytes;

		if (n == RAFT_MAX_MEMBERS || length < CHANGE_HEADER_BYTES)
			return 0;
		memset(&changes[n], 0, sizeof(changes[n]));
		member = &changes[n].member;
		changes[n].type = data[0];
		member->role = data[1];
		address_bytes = data[2];
		name_bytes = data[3];
		member->id = pgraft_get_u32(data + 4);
		member->port = pgraft_get_u32(data + 8);
		data += CHANGE_HEADER_BYTES;
		length -= CHANGE_HEADER_BYTES;
		if (length < address_bytes + name_bytes || name_bytes >= RAFT_NAME_SIZE)
			return 0;
		memcpy(member->address, data, address_bytes);
		memcpy(member->name, data + address_bytes, name_bytes);
		data += address_bytes + name_bytes;
		length -= address_bytes + name_bytes;
		n++;
	}
	return n;
}

/* The copy is freed with the operation. */
void
pgraft_changes_keep(PgraftOperation *op, const struct raft_change *changes, int n)
{
	op->changes = MemoryContextAlloc(TopMemoryContext, sizeof(struct raft_change) * n);
	memcpy(op->changes, changes, sizeof(struct raft_change) * n);
	op->n_changes = n;
}

bool
pgraft_changes_remove(const PgraftOperation *op, raft_id id)
{
	int			i;

	for (i = 0; i < op->n_changes; i++)
		if (op->changes[i].type == RAFT_CHANGE_REMOVE && op->changes[i].member.id == id)
			return true;
	return false;
}

/* ----------------------------------------------------------------
 * Beginning
 * ----------------------------------------------------------------
 */

void
pgraft_changes_begin(PgraftNode *node, PgraftOperation *op)
{
	const struct raft_config *config = raft_get_config(node->raft);
	int			n;
	int			i;

	if (config->joint || !raft_config_committed(node->raft))
	{
		op->retry_at = node->now + RETRY_MS;
		return;
	}
	if (!check_changes(node, op))
		return;
	op->started = node->now;
	op->goal = 0;
	n = missing_members(config, op, scratch);
	if (n == 0)
	{
		if (pgraft_operation_may_act(op))
			op->phase = PGRAFT_PHASE_JOINING;
		else
			op->retry_at = node->now + RETRY_MS;
		return;
	}
	pgraft_member_begun(node, op, pgraft_member_change(node, op, scratch, n),
						PGRAFT_PHASE_JOINING);
	if (!op->used || op->phase != PGRAFT_PHASE_JOINING)
		return;
	for (i = 0; i < n; i++)
	{
		PgraftPeerContact *contact = pgraft_contact(node, scratch[i].member.id);

		/* what was known about an earlier member of that id says nothing */
		contact->up = false;
		contact->refused = false;
	}
}

/* Answers, and is false, when the changes cannot be made of this configuration. */
static bool
check_changes(PgraftNode *node, PgraftOperation *op)
{
	const struct raft_config *config = raft_get_config(node->raft);
	int			error;
	int			i;

	for (i = 0; !op->again && i < op->n_changes; i++)
	{
		PgraftResult result = PGRAFT_RESULT_INVALID;
		const char *detail = objection(config, &op->changes[i], &result);

		if (detail == NULL && shares_address(op, i))
			detail = "Two of the members to be added have the same address.";
		if (detail != NULL)
		{
			pgraft_operation_answer(node, op, result, detail);
			return false;
		}
	}
	error = try_changes(config, op);
	if (error == RAFT_OK)
		return true;
	pgraft_operation_answer(node, op, pgraft_result_of_raft(error), NULL);
	return false;
}

/* Is another one that is to be added at the same place? */
static bool
shares_address(const PgraftOperation *op, int number)
{
	const struct raft_change *change = &op->changes[number];
	int			i;

	for (i = 0; i < number; i++)
		if (op->changes[i].type == RAFT_CHANGE_ADD && change->type == RAFT_CHANGE_ADD &&
			op->changes[i].member.port == change->member.port &&
			strcmp(op->changes[i].member.address, change->member.address) == 0)
			return true;
	return false;
}

/* Why one of the changes makes no sense; NULL = it does. */
static const char *
objection(const struct raft_config *config, const struct raft_change *change,
		  PgraftResult *result)
{
	const struct raft_member *known = raft_config_find(config, change->member.id);
	static char detail[64 + RAFT_ADDRESS_SIZE];
	int			i;

	if (change->type == RAFT_CHANGE_ADD)
	{
		for (i = 0; i < config->n_members; i++)
		{
			const struct raft_member *member = &config->members[i];

			if (member->id != change->member.id &&
				(member->port != change->member.port ||
				 strcmp(member->address, change->member.address) != 0))
				continue;
			snprintf(detail, sizeof(detail), "Member %u has the address %s:%u.",
					 member->id, member->address, member->port);
			*result = PGRAFT_RESULT_MEMBER_EXISTS;
			return detail;
		}
		return NULL;
	}
	if (known == NULL)
	{
		snprintf(detail, sizeof(detail), "There is no member %u.", change->member.id);
		*result = PGRAFT_RESULT_UNKNOWN_MEMBER;
		return detail;
	}
	if (change->type == RAFT_CHANGE_PROMOTE && known->role != RAFT_LEARNER)
	{
		snprintf(detail, sizeof(detail), "Member %u is not a learner.", known->id);
		return detail;
	}
	if (change->type == RAFT_CHANGE_DEMOTE && known->role == RAFT_LEARNER)
	{
		snprintf(detail, sizeof(detail), "Member %u is a learner already.", known->id);
		return detail;
	}
	return NULL;
}

/* Both steps, on a copy: nothing is begun that cannot be ended. */
static int
try_changes(const struct raft_config *config, const PgraftOperation *op)
{
	struct raft_config *copy = palloc(sizeof(struct raft_config));
	int			error = RAFT_OK;
	int			n;

	*copy = *config;
	n = missing_members(copy, op, scratch);
	if (n > 0)
		error = raft_config_enter_joint(copy, scratch, (size_t) n, config->index + 1);
	if (n > 0 && error == RAFT_OK)
		error = raft_config_leave_joint(copy);
	if (error == RAFT_OK)
	{
		n = final_changes(copy, op, scratch);
		if (n > 0)
			error = raft_config_enter_joint(copy, scratch, (size_t) n, config->index + 2);
	}
	pfree(copy);
	return error;
}

/* The first step: those that are to be added and are not members yet. */
static int
missing_members(const struct raft_config *config, const PgraftOperation *op,
				struct raft_change *changes)
{
	int			n = 0;
	int			i;

	for (i = 0; i < op->n_changes; i++)
	{
		if (op->changes[i].type != RAFT_CHANGE_ADD ||
			raft_config_find(config, op->changes[i].member.id) != NULL)
			continue;
		changes[n] = op->changes[i];
		changes[n++].member.role = RAFT_LEARNER;
	}
	return n;
}

/* The second step, as far as it has not been made. */
static int
final_changes(const struct raft_config *config, const PgraftOperation *op,
			  struct raft_change *changes)
{
	int			n = 0;
	int			i;

	for (i = 0; i < op->n_changes; i++)
	{
		const struct raft_change *wanted = &op->changes[i];
		const struct raft_member *known = raft_config_find(config, wanted->member.id);
		bool		learns = known != NULL && known->role == RAFT_LEARNER;
		int			type = wanted->type;

		if (type == RAFT_CHANGE_ADD)
			type = RAFT_CHANGE_PROMOTE;
		if (known == NULL || (type == RAFT_CHANGE_DEMOTE && learns) ||
			(type == RAFT_CHANGE_PROMOTE && (!learns || wanted->member.role == RAFT_LEARNER)))
			continue;
		changes[n].type = type;
		changes[n].member = *known;
		changes[n++].member.role = wanted->member.role;
	}
	return n;
}

/* ----------------------------------------------------------------
 * Joining
 * ----------------------------------------------------------------
 */

/* Six tenths of the time to answer, nine tenths to catch up. */
void
pgraft_changes_watch(PgraftNode *node, PgraftOperation *op, const struct raft_status *status)
{
	char		detail[64 + RAFT_ADDRESS_SIZE];
	raft_time	elapsed = node->now - op->started;

	if (raft_get_config(node->raft)->joint || !raft_config_committed(node->raft))
		return;
	if (anybody_silent(node, op, detail, sizeof(detail)))
	{
		if (elapsed >= op->timeout * 6 / 10)
			begin_undo(op, PGRAFT_RESULT_UNREACHABLE, detail);
	}
	else if (!caught_up(node, op, status, detail, sizeof(detail)))
	{
		if (elapsed >= op->timeout * 9 / 10)
			begin_undo(op, PGRAFT_RESULT_BEHIND, detail);
	}
	else if (!hand_over(node, op, status))
		begin_final(node, op, status);
}

static bool
anybody_silent(PgraftNode *node, const PgraftOperation *op, char *detail, size_t size)
{
	const struct raft_config *config = raft_get_config(node->raft);
	int			i;

	for (i = 0; i < op->n_changes; i++)
	{
		const struct raft_member *known = raft_config_find(config, op->changes[i].member.id);

		if (op->changes[i].type != RAFT_CHANGE_ADD || known == NULL ||
			known->role != RAFT_LEARNER || pgraft_contact(node, known->id)->up)
			continue;
		snprintf(detail, size, "Nobody suitable answered at %s:%u.", known->address,
				 known->port);
		return true;
	}
	return false;
}

/*
 * Those who are about to vote have everything that existed when a round began,
 * and the round took no longer than an election timeout: what they lack now is
 * not more than the cluster can wait for.
 */
static bool
caught_up(PgraftNode *node, PgraftOperation *op, const struct raft_status *status,
		  char *detail, size_t size)
{
	int			n = final_changes(raft_get_config(node->raft), op, scratch);
	raft_id		behind = 0;
	raft_id		last = 0;
	int			i;

	for (i = 0; i < n; i++)
	{
		struct raft_peer_status peer;

		if (scratch[i].type != RAFT_CHANGE_PROMOTE)
			continue;
		last = scratch[i].member.id;
		if (raft_peer_status(node->raft, scratch[i].member.id, &peer) != RAFT_OK ||
			peer.progress != RAFT_PROGRESS_REPLICATE || peer.match_index == 0 ||
			peer.match_index < op->goal)
			behind = scratch[i].member.id;
	}
	if (last == 0)
		return true;
	snprintf(detail, size, "Member %u did not catch up with the log in time.",
			 behind != 0 ? behind : last);
	if (op->goal != 0 && behind != 0)
		return false;
	if (op->goal != 0 && node->now - op->round_started <= (raft_time) pgraft_election_timeout)
		return true;
	op->goal = status->last_index;
	op->round_started = node->now;
	return false;
}

static void
begin_undo(PgraftOperation *op, PgraftResult result, const char *detail)
{
	op->phase = PGRAFT_PHASE_UNDOING;
	op->undo_result = result;
	strlcpy(op->undo_detail, detail, sizeof(op->undo_detail));
}

/* All that were to be added are taken out again. */
void
pgraft_changes_undo(PgraftNode *node, PgraftOperation *op)
{
	const struct raft_config *config = raft_get_config(node->raft);
	int			n = 0;
	int			i;

	if (config->joint || !raft_config_committed(node->raft))
		return;
	for (i = 0; i < op->n_changes; i++)
	{
		const struct raft_member *known = raft_config_find(config, op->changes[i].member.id);

		if (op->changes[i].type != RAFT_CHANGE_ADD || known == NULL ||
			known->role != RAFT_LEARNER)
			continue;
		scratch[n].type = RAFT_CHANGE_REMOVE;
		scratch[n++].member = *known;
	}
	if (n > 0)
	{
		/* when it cannot be begun now it is tried again at the next turn */
		(void) pgraft_member_change(node, op, scratch, n);
		return;
	}
	op->index = 0;
	pgraft_operation_answer(node, op, op->undo_result, op->undo_detail);
}

/* ----------------------------------------------------------------
 * The joint configuration
 * ----------------------------------------------------------------
 */

static bool
leader_goes(const PgraftOperation *op, raft_id leader)
{
	int			i;

	for (i = 0; i < op->n_changes; i++)
		if (op->changes[i].member.id == leader &&
			(op->changes[i].type == RAFT_CHANGE_REMOVE ||
			 op->changes[i].type == RAFT_CHANGE_DEMOTE))
			return true;
	return false;
}

/* The voter that stays one and has the most of the log; 0 = there is none. */
static raft_id
best_heir(PgraftNode *node, const PgraftOperation *op, const struct raft_status *status)
{
	const struct raft_config *config = raft_get_config(node->raft);
	raft_id		best = 0;
	raft_index	best_match = 0;
	int			i;

	for (i = 0; i < config->n_members; i++)
	{
		const struct raft_member *member = &config->members[i];
		struct raft_peer_status peer;

		if (member->role == RAFT_VOTER && member->id != status->id &&
			!leader_goes(op, member->id) && pgraft_contact(node, member->id)->up &&
			raft_peer_status(node->raft, member->id, &peer) == RAFT_OK &&
			(best == 0 || peer.match_index > best_match))
		{
			best = member->id;
			best_match = peer.match_index;
		}
	}
	return best;
}

/* True while leadership must move first. */
static bool
hand_over(PgraftNode *node, PgraftOperation *op, const struct raft_status *status)
{
	raft_id		heir;

	if (!leader_goes(op, status->id))
		return false;
	heir = best_heir(node, op, status);
	if (heir == 0)
		return false;
	if (raft_transfer(node->raft, heir) == RAFT_OK)
	{
		op->phase = PGRAFT_PHASE_MOVING;
		op->again = true;
	}
	return true;
}

static void
begin_final(PgraftNode *node, PgraftOperation *op, const struct raft_status *status)
{
	const struct raft_config *config = raft_get_config(node->raft);
	int			n = final_changes(config, op, scratch);

	if (n == 0)
		pgraft_changes_commit(node, op, status);
	else
	{
		int			result = pgraft_member_change(node, op, scratch, n);

		if (result == RAFT_OK || pgraft_result_of_raft(result) == PGRAFT_RESULT_BUSY ||
			result == RAFT_E_CHANGE_PENDING)
			pgraft_member_begun(node, op, result, PGRAFT_PHASE_COMMITTING);
		else					/* somebody changed the members meanwhile */
			begin_undo(op, pgraft_result_of_raft(result), "");
	}
}

/* COMMITTING ends when the joint configuration is left, and that is committed. */
void
pgraft_changes_commit(PgraftNode *node, PgraftOperation *op, const struct raft_status *status)
{
	const struct raft_config *config = raft_get_config(node->raft);

	if (config->joint || !raft_config_committed(node->raft) ||
		status->applied_index < config->index)
		return;
	op->index = config->index;
	pgraft_operation_answer(node, op, PGRAFT_RESULT_OK, NULL);
}
