/*-------------------------------------------------------------------------
 *
 * propose.c
 *	  Commands for the cluster document from backends and "pgraft ha".
 *
 * Goes through the request queue like any other command: it reaches the leader
 * wherever that is, and returns when this member has applied it.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 * IDENTIFICATION
 *	  src/ha/propose.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "pgraft/command.h"
#include "pgraft/ha.h"
#include "pgraft/ha_state.h"
#include "pgraft/settings.h"
#include "pgraft/shmem.h"

/* Appends the encoded entry for the log. */
void
pgraft_ha_encode_entry(StringInfo buffer, const PgraftHaCommand *command)
{
	unsigned char value[PGRAFT_HA_COMMAND_MAX];
	PgraftCommand outer;

	memset(&outer, 0, sizeof(outer));
	outer.kind = PGRAFT_COMMAND_HA;
	outer.value = (const char *) value;
	outer.value_length = (uint32) pgraft_ha_command_encode(command, value);
	pgraft_command_encode(buffer, &outer);
}

int
pgraft_ha_propose(const PgraftHaCommand *command, int timeout_ms)
{
	PgraftHaCommand stamped = *command;
	StringInfoData buffer;
	PgraftCall	call;

	/* what this server says of itself is true of this membership only */
	if (stamped.member == (uint32) pgraft_node_id && stamped.incarnation == 0)
	{
		PgraftStatus status;

		pgraft_read_status(&status);
		stamped.incarnation = status.raft.incarnation;
	}
	initStringInfo(&buffer);
	pgraft_ha_encode_entry(&buffer, &stamped);
	memset(&call, 0, sizeof(call));
	call.kind = PGRAFT_REQUEST_PROPOSE;
	call.data = buffer.data;
	call.length = (size_t) buffer.len;
	call.timeout_ms = timeout_ms;
	pgraft_call(&call);
	pfree(buffer.data);
	return (int) call.value;
}
