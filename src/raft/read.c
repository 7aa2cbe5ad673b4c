/*-------------------------------------------------------------------------
 *
 * read.c
 *	  Linearizable reads without a log entry (diss. 6.4).
 *
 * ReadIndex: a read remembers the commit index, then waits until a majority has
 * answered a heartbeat that was sent after it came.  All reads that came since
 * the last round share the next one.
 *
 * Lease: with fast detection off, nobody votes within T/2 of hearing from the
 * leader; so until T/2 after the send time of a round that a majority answered,
 * less the drift of clocks, no other leader can exist and no round is needed.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 *-------------------------------------------------------------------------
 */
#include "internal.h"

static void finish_read(struct raft *raft, const struct raft_pending_read *read, int error);
static raft_u64 quorum_round(const struct raft *raft);

/* A new round of heartbeats begins now. */
void
raft_note_round(struct raft *raft)
{
	raft->round++;
	raft->round_due = 0;
	raft->round_sent[raft->round % RAFT_ROUND_HISTORY].round = raft->round;
	raft->round_sent[raft->round % RAFT_ROUND_HISTORY].sent = raft->now;
}

int
raft_read(struct raft *raft, raft_u64 token)
{
	struct raft_pending_read read;

	if (raft->state != RAFT_LEADER)
		return RAFT_E_NOT_LEADER;
	if (raft->commit < raft->term_start)
		return RAFT_E_NOT_READY;
	if (raft->n_reads + raft->n_read_results >= RAFT_MAX_PENDING_READS)
		return RAFT_E_BUSY;
	read.token = token;
	read.index = raft->commit;
	read.round = raft->round + 1;
	if ((raft->params.lease_reads && raft->now < raft_lease_until(raft)) ||
		quorum_round(raft) == ULONG_MAX)
	{
		finish_read(raft, &read, RAFT_OK);
		return RAFT_OK;
	}
	raft->reads[raft->n_reads++] = read;
	raft->round_due = 1;
	return RAFT_OK;
}

static void
finish_read(struct raft *raft, const struct raft_pending_read *read, int error)
{
	struct raft_read_result *result = &raft->read_results[raft->n_read_results++];

	RAFT_ASSERT(raft, raft->n_read_results <= RAFT_MAX_PENDING_READS);
	result->token = read->token;
	result->index = read->index;
	result->error = error;
}

/* The greatest round that a majority has answered; our own vote is always in,
 * so a leader that is its own majority gets ULONG_MAX. */
static raft_u64
quorum_round(const struct raft *raft)
{
	raft_index	acked[RAFT_MAX_MEMBERS];
	int			i;

	for (i = 0; i < raft->config.n_members; i++)
		acked[i] = raft->config.members[i].id == raft->params.id ?
			ULONG_MAX : raft->peers[i].acked_round;
	return raft_quorum_index(&raft->config, acked);
}

void
raft_release_reads(struct raft *raft)
{
	raft_u64	confirmed;
	size_t		kept = 0;
	size_t		i;

	if (raft->n_reads == 0)
		return;
	confirmed = quorum_round(raft);
	for (i = 0; i < raft->n_reads; i++)
	{
		if (raft->reads[i].round <= confirmed)
			finish_read(raft, &raft->reads[i], RAFT_OK);
		else
			raft->reads[kept++] = raft->reads[i];
	}
	raft->n_reads = kept;
}

/* Leadership is over: nobody may rely on what was to be confirmed. */
void
raft_fail_reads(struct raft *raft)
{
	size_t		i;

	for (i = 0; i < raft->n_reads; i++)
		finish_read(raft, &raft->reads[i], RAFT_E_NOT_LEADER);
	raft->n_reads = 0;
}

raft_time
raft_lease_until(const struct raft *raft)
{
	raft_index	sent[RAFT_MAX_MEMBERS];
	raft_time	length = raft->params.election_timeout_ms / 2;
	raft_time	begin;
	int			i;

	if (raft->transfer_target != 0 || raft->lease_void)
		return 0;
	for (i = 0; i < raft->config.n_members; i++)
	{
		raft_u64	round = raft->peers[i].acked_round;

		if (raft->config.members[i].id == raft->params.id)
			sent[i] = raft->now;
		else if (round == 0 || !raft->peers[i].connected ||
				 raft->round_sent[round % RAFT_ROUND_HISTORY].round != round)
			sent[i] = 0;		/* nothing, or too long ago to remember */
		else
			sent[i] = raft->round_sent[round % RAFT_ROUND_HISTORY].sent;
	}
	begin = raft_quorum_index(&raft->config, sent);
	if (begin == 0)
		return 0;
	return begin + length - length * raft->params.drift_bound_ppm / 1000000;
}
