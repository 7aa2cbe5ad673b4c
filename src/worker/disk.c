/*-------------------------------------------------------------------------
 *
 * disk.c
 *	  What the member does about a disk that is full or does not answer.
 *
 * Event loop only.  The flush thread (flush.h) does the waiting; this file says
 * so in the server log, once, decides which commands may still enter the log,
 * and gives leadership away when there is no space.  A leader whose disk stalls
 * gives it away by itself (src/raft/stall.c).
 *
 * Nothing here survives a crash, and nothing needs to.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "pgraft/settings.h"
#include "pgraft/worker.h"

#define OPEN_RETRY_MS 1000		/* while there is no space to open the log */

static void say_full(PgraftNode *node, bool full);
static void say_stalled(PgraftNode *node, raft_time waiting);
static void say_handing_over(PgraftNode *node, raft_time waiting);
static void hand_over(PgraftNode *node);
static bool others_can_lead(const PgraftNode *node);

void
pgraft_node_watch_disk(PgraftNode *node)
{
	raft_time	waiting;

	if (node->open_again_at != 0 && node->now >= node->open_again_at)
		pgraft_node_begin(node);
	if (node->flush == NULL || node->raft == NULL)
		return;
	waiting = pgraft_flush_waiting_ms(node->flush);
	say_full(node, pgraft_flush_no_space(node->flush));
	say_stalled(node, waiting);
	if (node->disk_full)
		hand_over(node);
	else
	{
		node->hand_over_at = 0;
		node->disk_probed = 0;
	}
	say_handing_over(node, waiting);
}

/* The log could not be opened: failed for the moment, said once. */
void
pgraft_node_open_again(PgraftNode *node, const PgraftError *error)
{
	if (node->open_again_at == 0)
	{
		pgraft_report(LOG, error);
		ereport(LOG,
				(errcode(ERRCODE_DISK_FULL),
				 errmsg("pgraft member %u cannot open its log without some space",
						node->identity.node_id),
				 errhint("Free some space in the file system of \"%s\"; the member tries again every second.",
						 node->directory)));
	}
	node->state = PGRAFT_WORKER_FAILED;
	strlcpy(node->failure, error->message, sizeof(node->failure));
	node->open_again_at = node->now + OPEN_RETRY_MS;
}

/*
 * What would be a new member's log could not be made or not be opened.  Without
 * an identity on disk the member is as blank as before, and whoever asked will
 * ask again: the leader invites at each new connection, a user by pgraft_init().
 * With one it is a member whose log needs space to be opened.
 */
void
pgraft_node_not_yet(PgraftNode *node, const PgraftError *error)
{
	PgraftIdentity identity;
	PgraftError ignored;

	memset(&ignored, 0, sizeof(ignored));
	if (pgraft_storage_read_identity(&node->io, node->directory, &identity,
									 &ignored) == PGRAFT_OK)
	{
		node->identity = identity;
		pgraft_node_open_again(node, error);
		return;
	}
	memset(&node->identity, 0, sizeof(node->identity));
	if (!node->join_full)
	{
		pgraft_report(LOG, error);
		ereport(LOG,
				(errcode(ERRCODE_DISK_FULL),
				 errmsg("pgraft member %d cannot join without some space", pgraft_node_id),
				 errhint("Free some space in the file system of \"%s\"; the member joins when it is invited again.",
						 node->directory)));
	}
	node->join_full = true;
	node->state = PGRAFT_WORKER_BLANK;
	strlcpy(node->failure, error->message, sizeof(node->failure));
}

/* Only changes are worth a line. */
static void
say_full(PgraftNode *node, bool full)
{
	if (full && !node->disk_full)
		ereport(LOG,
				(errcode(ERRCODE_DISK_FULL),
				 errmsg("no space is left for the consensus log of pgraft member %u",
						node->identity.node_id),
				 errdetail("The member refuses commands and tries to write again every second."),
				 errhint("Free some space in the file system of \"%s\"; the member goes on by itself.",
						 node->directory)));
	else if (!full && node->disk_full)
		ereport(LOG,
				(errmsg("pgraft member %u has space for its consensus log again",
						node->identity.node_id)));
	node->disk_full = full;
}

static void
say_stalled(PgraftNode *node, raft_time waiting)
{
	/* what waited for space is no stall, also when it goes on being written */
	if (node->disk_full)
		node->waited_for_space = true;
	else if (waiting < (raft_time) pgraft_election_timeout)
		node->waited_for_space = false;

	if (!node->disk_stalled && !node->waited_for_space &&
		waiting >= (raft_time) pgraft_election_timeout)
	{
		node->disk_stalled = true;
		node->disk_stalled_since = node->now - Min(waiting, node->now);
		ereport(LOG,
				(errmsg("pgraft member %u has been waiting for its disk for %lu ms",
						node->identity.node_id, waiting),
				 errhint("Other members go on without it.  pg_stat_pgraft_storage says what is usual here.")));
	}
	else if (node->disk_stalled && waiting < (raft_time) pgraft_election_timeout)
	{
		node->disk_stalled = false;
		ereport(LOG,
				(errmsg("the disk of pgraft member %u answers again after %lu ms",
						node->identity.node_id, node->now - node->disk_stalled_since)));
	}
}

/* Once for each time that the disk is in trouble, however often it is tried. */
static void
say_handing_over(PgraftNode *node, raft_time waiting)
{
	bool		trouble = node->disk_full || waiting >= (raft_time) pgraft_election_timeout / 2;
	struct raft_status status;

	raft_status(node->raft, &status);
	if (trouble && !node->handing_over && status.state == RAFT_LEADER &&
		status.transfer_target != 0)
	{
		node->handing_over = true;
		ereport(LOG,
				(errmsg("pgraft member %u hands leadership over to member %u because %s",
						status.id, status.transfer_target,
						node->disk_full ? "no space is left for its log" :
						"its disk does not answer")));
	}
	else if (!trouble)
		node->handing_over = false;
}

/*
 * A full leader that does not know yet whether the others can write lets
 * commands wait for it; when there is nothing by which they could show it, one
 * batch goes through.
 */
PgraftResult
pgraft_node_disk_accepts(PgraftNode *node)
{
	struct raft_status status;

	if (!pgraft_flush_no_space(node->flush))
		return pgraft_flush_full(node->flush) ? PGRAFT_RESULT_BUSY : PGRAFT_RESULT_OK;
	raft_status(node->raft, &status);
	if (status.state != RAFT_LEADER || !others_can_lead(node))
		return PGRAFT_RESULT_NO_SPACE;
	hand_over(node);
	raft_status(node->raft, &status);
	if (status.transfer_target != 0)
		return PGRAFT_RESULT_BUSY;
	if (status.last_index == status.durable_index)
	{
		node->disk_probed = node->now;
		return PGRAFT_RESULT_OK;
	}
	if (node->disk_probed == 0)
		node->disk_probed = node->now;
	return node->now - node->disk_probed < (raft_time) pgraft_election_timeout ?
		PGRAFT_RESULT_BUSY : PGRAFT_RESULT_NO_SPACE;
}

/*
 * A leader that cannot write lets somebody lead who can.  That a majority can
 * is shown by what it has committed without us.
 */
static void
hand_over(PgraftNode *node)
{
	struct raft_status status;

	raft_status(node->raft, &status);
	if (node->now >= node->hand_over_at && status.state == RAFT_LEADER &&
		status.commit_index > status.durable_index &&
		raft_transfer(node->raft, 0) == RAFT_OK)
		node->hand_over_at = node->now + 2 * (raft_time) pgraft_election_timeout;
}

/* Is there a majority without this member, which cannot vote now? */
static bool
others_can_lead(const PgraftNode *node)
{
	const struct raft_config *config = raft_get_config(node->raft);
	int			votes[RAFT_MAX_MEMBERS];
	int			i;

	for (i = 0; i < config->n_members; i++)
		votes[i] = config->members[i].id == node->identity.node_id ?
			RAFT_VOTE_NO : RAFT_VOTE_YES;
	return raft_vote_result(config, votes) == RAFT_VOTE_WON;
}
