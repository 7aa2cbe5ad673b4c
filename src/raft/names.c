/*-------------------------------------------------------------------------
 *
 * names.c
 *	  Texts for the engine's enumerations.
 *
 * Static English strings, never NULL, for logs, traces and views.  Nothing
 * else enters here: no state, no formatting, no allocation.  Anyone may call
 * these functions with any integer at any time.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 * IDENTIFICATION
 *	  src/raft/names.c
 *
 *-------------------------------------------------------------------------
 */
#include "internal.h"

const char *
raft_error_text(int error)
{
	switch (error)
	{
		case RAFT_OK:
			return "success";
		case RAFT_E_NOT_LEADER:
			return "this member is not the leader";
		case RAFT_E_BUSY:
			return "too much data is waiting to be replicated";
		case RAFT_E_TOO_LARGE:
			return "entry is larger than the limit";
		case RAFT_E_INVALID:
			return "malformed argument, message or entry";
		case RAFT_E_NOMEM:
			return "out of memory";
		case RAFT_E_CHANGE_PENDING:
			return "another membership change is in progress";
		case RAFT_E_NOT_READY:
			return "leader has not yet committed an entry of its term";
		case RAFT_E_UNKNOWN_MEMBER:
			return "member does not exist";
		case RAFT_E_MEMBER_EXISTS:
			return "member already exists";
		case RAFT_E_LAST_VOTER:
			return "change would leave the cluster without a voter";
		case RAFT_E_TOO_MANY_MEMBERS:
			return "too many members";
		case RAFT_E_TRANSFERRING:
			return "leadership is being transferred";
		case RAFT_E_IO:
			return "could not read or write the log";
		case RAFT_E_CORRUPT:
			return "stored state contradicts itself";
		case RAFT_E_COMPACTED:
			return "entry is older than the beginning of the log";
		case RAFT_E_UNAVAILABLE:
			return "entry is newer than the end of the log";
		case RAFT_E_UNSUPPORTED:
			return "operation is not supported";
		default:
			return "unrecognized error";
	}
}

const char *
raft_state_name(int state)
{
	switch (state)
	{
		case RAFT_FOLLOWER:
			return "follower";
		case RAFT_PRECANDIDATE:
			return "precandidate";
		case RAFT_CANDIDATE:
			return "candidate";
		case RAFT_LEADER:
			return "leader";
		default:
			return "?";
	}
}

const char *
raft_role_name(int role)
{
	switch (role)
	{
		case RAFT_ROLE_NONE:
			return "none";
		case RAFT_VOTER:
			return "voter";
		case RAFT_LEARNER:
			return "learner";
		case RAFT_WITNESS:
			return "witness";
		default:
			return "?";
	}
}

const char *
raft_message_name(int type)
{
	switch (type)
	{
		case RAFT_MSG_PREVOTE:
			return "prevote";
		case RAFT_MSG_PREVOTE_REPLY:
			return "prevote_reply";
		case RAFT_MSG_VOTE:
			return "vote";
		case RAFT_MSG_VOTE_REPLY:
			return "vote_reply";
		case RAFT_MSG_APPEND:
			return "append";
		case RAFT_MSG_APPEND_REPLY:
			return "append_reply";
		case RAFT_MSG_HEARTBEAT:
			return "heartbeat";
		case RAFT_MSG_HEARTBEAT_REPLY:
			return "heartbeat_reply";
		case RAFT_MSG_SNAPSHOT:
			return "snapshot";
		case RAFT_MSG_SNAPSHOT_REPLY:
			return "snapshot_reply";
		case RAFT_MSG_TIMEOUT_NOW:
			return "timeout_now";
		case RAFT_MSG_REMOVED:
			return "removed";
		default:
			return "?";
	}
}

const char *
raft_progress_name(int state)
{
	switch (state)
	{
		case RAFT_PROGRESS_PROBE:
			return "probe";
		case RAFT_PROGRESS_REPLICATE:
			return "replicate";
		case RAFT_PROGRESS_SNAPSHOT:
			return "snapshot";
		default:
			return "?";
	}
}
