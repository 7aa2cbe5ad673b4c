/*-------------------------------------------------------------------------
 *
 * lag.c
 *	  When the leader's log grew, and by how many bytes: how far behind is who
 *	  has it up to some entry?
 *
 * Called by publish.c, once per turn; nothing here outlives a term of the
 * leader.  Samples (index, time, bytes) are kept in order.  When there is no
 * room, every other one goes: the further back, the fewer there are, so the
 * error stays in proportion to the lag.  What lies before the first sample is
 * not known.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "pgraft/worker.h"

#define LAG_SAMPLES 1024

typedef struct LagSample
{
	raft_index	index;			/* the log's last entry then */
	raft_time	at;
	uint64		bytes;			/* of commands proposed until then */
} LagSample;

static LagSample samples[LAG_SAMPLES];
static int	n_samples = 0;
static raft_term sampled_term = 0;

void
pgraft_lag_sample(PgraftNode *node, const struct raft_status *status, uint64 bytes)
{
	int			i;

	if (status->state != RAFT_LEADER || status->term != sampled_term)
		n_samples = 0;
	sampled_term = status->term;
	if (status->state != RAFT_LEADER ||
		(n_samples > 0 && samples[n_samples - 1].index >= status->last_index))
		return;
	if (n_samples == LAG_SAMPLES)
	{
		/* the newest stays, whichever the number */
		for (i = 1; i < LAG_SAMPLES; i += 2)
			samples[i / 2] = samples[i];
		n_samples = LAG_SAMPLES / 2;
	}
	samples[n_samples].index = status->last_index;
	samples[n_samples].at = node->now;
	samples[n_samples++].bytes = bytes;
}

/*
 * Of who has the log up to `index`: the bytes that it lacks, and since when it
 * has lacked the first of them (0: it lacks nothing).  -1 bytes when that is
 * not known.
 */
void
pgraft_lag_of(raft_index index, int64 *bytes, raft_time *since)
{
	int			low = 0;
	int			high = n_samples;

	*bytes = -1;
	*since = 0;

	/* the first sample that has more */
	while (low < high)
	{
		int			middle = (low + high) / 2;

		if (samples[middle].index <= index)
			low = middle + 1;
		else
			high = middle;
	}
	if (low == 0)
		return;
	*bytes = 0;
	if (low < n_samples)
	{
		*bytes = (int64) (samples[n_samples - 1].bytes - samples[low - 1].bytes);
		*since = samples[low].at;
	}
}
