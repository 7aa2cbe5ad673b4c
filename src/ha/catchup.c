/*-------------------------------------------------------------------------
 *
 * catchup.c
 *	  After a start: when this member's document is known to be as new as what
 *	  the cluster had committed.
 *
 * A member that sealed itself, reported and then crashed finds an older
 * document in its log.  If it believed that one it would open to the primary
 * against which it sealed, and its report would be worth nothing.  So before
 * "pgraft ha" may act (document_loaded), the leader says up to where the log is
 * committed, and that much has been applied here.
 *
 * Runs in the consensus worker.  The question is the linearizable read of the
 * request queue, with a token that belongs to no operation; it is asked until
 * it is answered.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 * IDENTIFICATION
 *	  src/ha/catchup.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "pgraft/ha.h"
#include "pgraft/ha_state.h"
#include "pgraft/question.h"
#include "pgraft/settings.h"
#include "pgraft/wire.h"

static bool caught_up = false;
static raft_index wanted = 0;	/* 0 = not told yet */
static raft_time asked_at = 0;	/* 0 = not under way */
static PgraftQuestion question; /* to the leader, which may be this member */

/* Returns when to look again. */
raft_time
pgraft_ha_catch_up(PgraftNode *node, const struct raft_status *status)
{
	raft_time	patience = (raft_time) pgraft_heartbeat_interval * 2;

	if (!caught_up && wanted > 0 && status->applied_index >= wanted)
	{
		caught_up = true;
		pgraft_ha_state_set_loaded(true);
	}
	if (caught_up)
		return node->now + 3600 * 1000;
	if (wanted == 0 && status->leader != 0 &&
		(asked_at == 0 || question.asked != status->leader ||
		 question.term != status->term || node->now >= asked_at + patience))
	{
		pgraft_question_ask(&question, status->leader, status->term, pgraft_random_u64());
		asked_at = pgraft_ha_ask_leader(node, status, question.token) ? node->now : 0;
	}
	return node->now + patience;
}

bool
pgraft_ha_ask_leader(PgraftNode *node, const struct raft_status *status, uint64 token)
{
	PgraftWireRequest request;
	unsigned char *buffer;
	size_t		length;

	if (status->state == RAFT_LEADER)
		return raft_read(node->raft, token) == RAFT_OK;
	if (node->net == NULL)
		return false;
	memset(&request, 0, sizeof(request));
	request.request = token;
	request.kind = PGRAFT_REQUEST_READ_BARRIER;
	length = pgraft_wire_request_bytes(&request);
	buffer = palloc(length);
	pgraft_wire_encode_request(buffer, &request);
	return pgraft_net_send_frame(node->net, status->leader, PGRAFT_FRAME_REQUEST, buffer,
								 length);
}

/* An answer, if it is one to our question. */
void
pgraft_ha_catch_up_answered(raft_id from, uint64 token, bool good, raft_index index)
{
	if (caught_up || wanted > 0 || !pgraft_question_answered(&question, from, token))
		return;
	if (good)
		wanted = Max(index, 1);
	else
		asked_at = 0;
}
