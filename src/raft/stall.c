/*-------------------------------------------------------------------------
 *
 * stall.c
 *	  What a member does whose own disk does not answer.
 *
 * Nothing that may be said without the disk waits for it: heartbeats go on and
 * are answered, and a majority of other disks commits.  But a leader in that
 * state is of little use: it cannot become part of a majority, and whoever asks
 * it through a read of old entries or a snapshot waits.  So a leader whose oldest
 * write has been with the host for longer than T hands over to a voter that has
 * everything, and tries again every 2 T while it still leads and the disk is
 * still silent.  A follower in that state does not campaign: it could not make a
 * term or its own vote durable, and would only disturb those who can.
 *
 * The engine knows this by itself: each batch that must be flushed has an epoch,
 * and the host reports each epoch that is durable.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 * IDENTIFICATION
 *	  src/raft/stall.c
 *
 *-------------------------------------------------------------------------
 */
#include "internal.h"

/* When the oldest batch that waits for a flush was handed over; 0 = none waits. */
raft_time
raft_disk_waiting_since(const struct raft *raft)
{
	size_t		i;

	for (i = 0; i < raft->epochs_count; i++)
	{
		const struct raft_epoch *epoch =
			&raft->epochs[(raft->epochs_first + i) % raft->epochs_size];

		if (epoch->must_sync)
			return epoch->begun;
	}
	return 0;
}

int
raft_disk_is_stalled(const struct raft *raft)
{
	raft_time	since = raft_disk_waiting_since(raft);

	return since != 0 && raft->now - since > raft->params.election_timeout_ms;
}

/* At each heartbeat of a leader. */
void
raft_stalled_leader_hands_over(struct raft *raft)
{
	if (!raft_disk_is_stalled(raft) || raft->transfer_target != 0 ||
		raft->commit < raft->term_start || raft->now < raft->stall_retry_at)
		return;
	if (!raft_transfer_to_ready(raft))
		return;
	raft->stall_retry_at = raft->now + 2 * raft->params.election_timeout_ms;
	raft->stall_transfers++;
	raft_trace(raft, "disk stalled", raft->transfer_target, raft_disk_waiting_since(raft));
}
