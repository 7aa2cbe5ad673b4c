/*-------------------------------------------------------------------------
 *
 * members.c
 *	  Requests that change membership or leadership, carried out on the leader.
 *
 * An operation is here while its phase is WAITING (not yet begun), COMMITTING,
 * JOINING, UNDOING or MOVING.  When this member stops leading, the operation
 * of another member is answered "not leader" and its sender asks the new
 * leader; an operation of our own backend is forwarded.  Both then carry the
 * mark "again", which makes an effect that is there already a success.
 *
 * Adding (JOINING): the new member enters as a learner, which cannot hurt the
 * quorum; the leader contacts it; the engine promotes it when it has caught
 * up.  Only then the command ends.  A server that does not answer is taken out
 * again (UNDOING) and the command fails.  When whoever asked goes away meanwhile,
 * the member that was asked sees it through all the same (pgraft_operation_orphan).
 *
 * Several changes at once are in change_members.c.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "pgraft/settings.h"
#include "pgraft/worker.h"

#define RETRY_MS 10

static void lost_leadership(PgraftNode *node, PgraftOperation *op,
							const struct raft_status *status);
static void begin_change(PgraftNode *node, PgraftOperation *op,
						 const struct raft_status *status);
static void begin_add(PgraftNode *node, PgraftOperation *op);
static void begin_remove(PgraftNode *node, PgraftOperation *op,
						 const struct raft_status *status);
static void begin_update(PgraftNode *node, PgraftOperation *op);
static void begin_promote(PgraftNode *node, PgraftOperation *op);
static void begin_transfer(PgraftNode *node, PgraftOperation *op,
						   const struct raft_status *status);
static int	change(PgraftNode *node, PgraftOperation *op, int type,
				   const struct raft_member *member);
static void watch_join(PgraftNode *node, PgraftOperation *op,
					   const struct raft_status *status);
static void undo_join(PgraftNode *node, PgraftOperation *op,
					  const struct raft_status *status);
static bool same_place(const struct raft_member *a, const struct raft_member *b);

/* A member on the wire: a configuration with nobody else in it. */
size_t
pgraft_member_encode(const struct raft_member *member, unsigned char *buffer)
{
	struct raft_config *config = palloc0(sizeof(struct raft_config));
	size_t		length;

	config->n_members = 1;
	config->members[0] = *member;

	/* what an update leaves open, a configuration may not; see begin_update() */
	if (member->role == RAFT_ROLE_NONE)
		config->members[0].role = RAFT_VOTER;
	if (member->priority < 0)
		config->members[0].priority = 0;
	config->members[0].incarnation = 1;
	config->members[0].target_role = config->members[0].role;
	length = raft_config_encode(config, buffer, RAFT_CONFIG_MAX_BYTES);
	pfree(config);
	return length;
}

bool
pgraft_member_decode(struct raft_member *member, const unsigned char *data, size_t length)
{
	struct raft_config *config = palloc0(sizeof(struct raft_config));
	bool		valid;

	valid = raft_config_decode(config, data, length) == RAFT_OK && config->n_members == 1;
	if (valid)
		*member = config->members[0];
	pfree(config);
	return valid;
}

void
pgraft_member_operation(PgraftNode *node, PgraftOperation *op)
{
	struct raft_status status;

	raft_status(node->raft, &status);
	if (op->phase == PGRAFT_PHASE_MOVING && status.state != RAFT_LEADER &&
		op->kind == PGRAFT_REQUEST_TRANSFER && status.leader != 0)
	{
		/* it was this member that led; now somebody else does */
		pgraft_operation_answer(node, op, PGRAFT_RESULT_OK, NULL);
		return;
	}
	if (status.state != RAFT_LEADER)
	{
		lost_leadership(node, op, &status);
		return;
	}
	switch (op->phase)
	{
		case PGRAFT_PHASE_WAITING:
			begin_change(node, op, &status);
			break;
		case PGRAFT_PHASE_COMMITTING:
			if (status.term != op->term)
				lost_leadership(node, op, &status);
			else if (op->kind == PGRAFT_REQUEST_CHANGE_MEMBERS)
				pgraft_changes_commit(node, op, &status);
			else if (status.commit_index >= op->index && status.applied_index >= op->index)
				pgraft_operation_answer(node, op, PGRAFT_RESULT_OK, NULL);
			break;
		case PGRAFT_PHASE_JOINING:
			if (op->kind == PGRAFT_REQUEST_CHANGE_MEMBERS)
				pgraft_changes_watch(node, op, &status);
			else
				watch_join(node, op, &status);
			break;
		case PGRAFT_PHASE_UNDOING:
			if (op->kind == PGRAFT_REQUEST_CHANGE_MEMBERS)
				pgraft_changes_undo(node, op);
			else
				undo_join(node, op, &status);
			break;
		case PGRAFT_PHASE_MOVING:
			if (status.transfer_target != 0)
				break;
			if (op->kind == PGRAFT_REQUEST_TRANSFER)
				pgraft_operation_answer(node, op, PGRAFT_RESULT_FAILED,
										"The transfer was given up because the target did not take over in time.");
			else
				pgraft_operation_wait(node, op, RETRY_MS);
			break;
		default:
			break;
	}
}

static void
lost_leadership(PgraftNode *node, PgraftOperation *op, const struct raft_status *status)
{
	/* a transfer that has not arrived yet: its target is about to be elected */
	if (op->phase == PGRAFT_PHASE_MOVING && op->kind == PGRAFT_REQUEST_TRANSFER &&
		status->leader == 0)
		return;
	op->again = op->again || op->phase != PGRAFT_PHASE_WAITING;
	if (pgraft_operation_is_remote(op))
		pgraft_operation_answer(node, op, PGRAFT_RESULT_NOT_LEADER, NULL);
	else
		pgraft_operation_wait(node, op, 0);
}

/* ----------------------------------------------------------------
 * Beginning
 * ----------------------------------------------------------------
 */

static void
begin_change(PgraftNode *node, PgraftOperation *op, const struct raft_status *status)
{
	switch (op->kind)
	{
		case PGRAFT_REQUEST_ADD_MEMBER:
			begin_add(node, op);
			break;
		case PGRAFT_REQUEST_REMOVE_MEMBER:
			begin_remove(node, op, status);
			break;
		case PGRAFT_REQUEST_UPDATE_MEMBER:
			begin_update(node, op);
			break;
		case PGRAFT_REQUEST_PROMOTE_MEMBER:
			begin_promote(node, op);
			break;
		case PGRAFT_REQUEST_CHANGE_MEMBERS:
			pgraft_changes_begin(node, op);
			break;
		case PGRAFT_REQUEST_TRANSFER:
			begin_transfer(node, op, status);
			break;
		case PGRAFT_REQUEST_STEP_DOWN:
			if (!pgraft_operation_may_act(op))
			{
				op->retry_at = node->now + RETRY_MS;
				break;
			}
			(void) raft_step_down(node->raft);
			op->index = 0;
			pgraft_operation_answer(node, op, PGRAFT_RESULT_OK, NULL);
			break;
		default:
			pgraft_operation_answer(node, op, PGRAFT_RESULT_INVALID, NULL);
			break;
	}
}

static int
change(PgraftNode *node, PgraftOperation *op, int type, const struct raft_member *member)
{
	struct raft_change *one = palloc0(sizeof(struct raft_change));
	int			result;

	one->type = type;
	one->member = *member;
	result = pgraft_member_change(node, op, one, 1);
	pfree(one);
	return result;
}

int
pgraft_member_change(PgraftNode *node, PgraftOperation *op,
					 const struct raft_change *changes, int n)
{
	int			result;

	/* its backend has gone: sweep_abandoned() decides what becomes of it */
	if (op->phase == PGRAFT_PHASE_WAITING && !pgraft_operation_may_act(op))
		return RAFT_E_BUSY;
	result = raft_change_membership(node->raft, changes, (size_t) n, &op->index);
	if (result != RAFT_OK && op->phase == PGRAFT_PHASE_WAITING)
		pgraft_operation_did_not_act(op);
	return result;
}

/* Goes on to `phase`, waits when it is not possible just now, or answers. */
void
pgraft_member_begun(PgraftNode *node, PgraftOperation *op, int result, PgraftPhase phase)
{
	struct raft_status status;

	switch (result)
	{
		case RAFT_OK:
			raft_status(node->raft, &status);
			op->term = status.term;
			op->phase = phase;
			break;
		case RAFT_E_BUSY:
		case RAFT_E_CHANGE_PENDING:
		case RAFT_E_NOT_READY:
		case RAFT_E_TRANSFERRING:
			op->retry_at = node->now + RETRY_MS;
			break;
		case RAFT_E_NOT_LEADER:
			if (pgraft_operation_is_remote(op))
				pgraft_operation_answer(node, op, PGRAFT_RESULT_NOT_LEADER, NULL);
			else
				pgraft_operation_wait(node, op, RETRY_MS);
			break;
		default:
			pgraft_operation_answer(node, op, pgraft_result_of_raft(result),
									NULL);
			break;
	}
}

static bool
same_place(const struct raft_member *a, const struct raft_member *b)
{
	return a->port == b->port && strcmp(a->address, b->address) == 0;
}

static void
begin_add(PgraftNode *node, PgraftOperation *op)
{
	const struct raft_config *config = raft_get_config(node->raft);
	int			i;

	for (i = 0; i < config->n_members; i++)
	{
		const struct raft_member *member = &config->members[i];
		char		detail[256 + RAFT_ADDRESS_SIZE];

		if (member->id == op->member.id && same_place(member, &op->member) && op->again)
		{
			/* our earlier attempt did it: see it through */
			op->index = config->index;
			pgraft_member_begun(node, op, RAFT_OK, PGRAFT_PHASE_JOINING);
			return;
		}
		if (member->id != op->member.id && !same_place(member, &op->member))
			continue;
		snprintf(detail, sizeof(detail), "Member %u has the address %s:%u.",
				 member->id, member->address, member->port);
		pgraft_operation_answer(node, op, PGRAFT_RESULT_MEMBER_EXISTS, detail);
		return;
	}
	pgraft_member_begun(node, op, change(node, op, RAFT_CHANGE_ADD, &op->member), PGRAFT_PHASE_JOINING);
	if (op->used && op->phase == PGRAFT_PHASE_JOINING)
	{
		PgraftPeerContact *contact = pgraft_contact(node, op->member.id);

		/* what was known about an earlier member of that id says nothing */
		contact->up = false;
		contact->refused = false;
		op->started = node->now;
	}
}

static void
begin_remove(PgraftNode *node, PgraftOperation *op, const struct raft_status *status)
{
	const struct raft_config *config = raft_get_config(node->raft);
	struct raft_member member;
	int			other_voters = 0;
	int			i;

	memset(&member, 0, sizeof(member));
	member.id = (raft_id) op->argument;
	if (raft_config_find(config, member.id) == NULL)
	{
		/* asked before: that attempt has removed it */
		pgraft_operation_answer(node, op, op->again ?
								PGRAFT_RESULT_OK : PGRAFT_RESULT_UNKNOWN_MEMBER, NULL);
		return;
	}
	for (i = 0; i < config->n_members; i++)
		if (config->members[i].id != status->id && config->members[i].role == RAFT_VOTER)
			other_voters++;
	if (member.id == status->id && other_voters > 0)
	{
		/* hand over first, then the new leader removes this member */
		if (!pgraft_operation_may_act(op))
		{
			op->retry_at = node->now + RETRY_MS;
			return;
		}
		if (raft_transfer(node->raft, 0) == RAFT_OK)
			op->phase = PGRAFT_PHASE_MOVING;
		else
		{
			pgraft_operation_did_not_act(op);
			op->retry_at = node->now + RETRY_MS;
		}
		return;
	}
	pgraft_member_begun(node, op, change(node, op, RAFT_CHANGE_REMOVE, &member), PGRAFT_PHASE_COMMITTING);
}

static void
begin_update(PgraftNode *node, PgraftOperation *op)
{
	const struct raft_config *config = raft_get_config(node->raft);
	int			i;

	for (i = 0; i < config->n_members; i++)
	{
		if (config->members[i].id != op->member.id &&
			same_place(&config->members[i], &op->member))
		{
			pgraft_operation_answer(node, op, PGRAFT_RESULT_MEMBER_EXISTS, NULL);
			return;
		}
	}
	op->member.priority = -1;	/* keep */
	pgraft_member_begun(node, op, change(node, op, RAFT_CHANGE_UPDATE, &op->member),
		  PGRAFT_PHASE_COMMITTING);
}

static void
begin_promote(PgraftNode *node, PgraftOperation *op)
{
	const struct raft_member *known;
	struct raft_member member;

	known = raft_config_find(raft_get_config(node->raft), (raft_id) op->argument);
	if (known == NULL)
	{
		pgraft_operation_answer(node, op, PGRAFT_RESULT_UNKNOWN_MEMBER, NULL);
		return;
	}
	if (known->role != RAFT_LEARNER)
	{
		if (op->again)
			pgraft_operation_answer(node, op, PGRAFT_RESULT_OK, NULL);
		else
			pgraft_operation_answer(node, op, PGRAFT_RESULT_INVALID,
									"The member is not a learner.");
		return;
	}
	member = *known;
	member.role = known->target_role == RAFT_LEARNER ? RAFT_VOTER : known->target_role;
	pgraft_member_begun(node, op, change(node, op, RAFT_CHANGE_PROMOTE, &member), PGRAFT_PHASE_COMMITTING);
}

static void
begin_transfer(PgraftNode *node, PgraftOperation *op, const struct raft_status *status)
{
	const struct raft_member *member;
	int			result;

	op->index = 0;
	if (op->argument == status->id || (op->again && op->argument == 0))
	{
		/* it leads already; a repeated wish for "anybody" has come true */
		pgraft_operation_answer(node, op, PGRAFT_RESULT_OK, NULL);
		return;
	}
	member = raft_config_find(raft_get_config(node->raft), (raft_id) op->argument);
	if (op->argument != 0 && member == NULL)
	{
		pgraft_operation_answer(node, op, PGRAFT_RESULT_UNKNOWN_MEMBER, NULL);
		return;
	}
	if (member != NULL && member->role != RAFT_VOTER)
	{
		pgraft_operation_answer(node, op, PGRAFT_RESULT_INVALID, "The member is not a voter.");
		return;
	}
	if (!pgraft_operation_may_act(op))
		result = RAFT_E_BUSY;	/* its backend has gone */
	else
		result = raft_transfer(node->raft, (raft_id) op->argument);
	if (result != RAFT_OK)
		pgraft_operation_did_not_act(op);
	switch (result)
	{
		case RAFT_OK:
			op->phase = PGRAFT_PHASE_MOVING;
			break;
		case RAFT_E_TRANSFERRING:
		case RAFT_E_NOT_READY:
		case RAFT_E_BUSY:
			op->retry_at = node->now + RETRY_MS;
			break;
		default:
			pgraft_operation_answer(node, op, PGRAFT_RESULT_INVALID,
									"There is no other voter to transfer leadership to.");
			break;
	}
}

/* ----------------------------------------------------------------
 * Joining
 * ----------------------------------------------------------------
 */

/*
 * Done when the new member has the role that it was added for.  One that has
 * answered but not caught up in nine tenths of the time stays, as a learner;
 * one that has not answered in six tenths is taken out again.
 */
static void
watch_join(PgraftNode *node, PgraftOperation *op, const struct raft_status *status)
{
	const struct raft_member *member;
	const PgraftPeerContact *contact = pgraft_contact(node, op->member.id);
	raft_time	elapsed = node->now - op->started;
	raft_time	limit = op->timeout;

	member = raft_config_find(raft_get_config(node->raft), op->member.id);
	if (member == NULL)
	{
		pgraft_operation_answer(node, op, PGRAFT_RESULT_FAILED,
								"The member was removed meanwhile.");
		return;
	}
	if (raft_config_committed(node->raft) &&
		((member->role == member->target_role &&
		  (contact->up || member->role != RAFT_LEARNER)) ||
		 (contact->up && elapsed >= limit * 9 / 10)))
	{
		op->index = status->commit_index;
		pgraft_operation_answer(node, op, PGRAFT_RESULT_OK, NULL);
		return;
	}
	if (!contact->up && member->role == RAFT_LEARNER && elapsed >= limit * 6 / 10)
	{
		op->phase = PGRAFT_PHASE_UNDOING;
		op->index = 0;
		undo_join(node, op, status);
	}
}

static void
undo_join(PgraftNode *node, PgraftOperation *op, const struct raft_status *status)
{
	char		detail[64 + RAFT_ADDRESS_SIZE];

	if (op->index == 0)
	{
		int			result = change(node, op, RAFT_CHANGE_REMOVE, &op->member);

		if (result != RAFT_OK)
		{
			op->index = 0;
			if (result == RAFT_E_UNKNOWN_MEMBER)
				op->index = status->commit_index;
			return;				/* tried again at the next turn */
		}
		return;
	}
	if (status->commit_index < op->index)
		return;
	snprintf(detail, sizeof(detail), "Nobody suitable answered at %s:%u.",
			 op->member.address, op->member.port);
	op->index = 0;
	pgraft_operation_answer(node, op, PGRAFT_RESULT_UNREACHABLE, detail);
}
